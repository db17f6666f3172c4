//! In what two starts of a process differ, as people may see it: without secrets.

use super::instance::StartSpec;
use super::pattern::PatternRevision;
use super::secret::{HIDDEN, Secret, names_a_secret};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// How much of the hash of an executable is shown: as much as git shows of a commit.
const DIGEST_SHOWN: usize = 12;

/// One field that differs between what runs and what is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// As it is written: `version` and the like of the manifest, `environment.NAME`, `config.NAME`; a slot's variables are
    /// among those of `config`.
    pub field: String,
    /// What runs has this; `None` where it is not set. `***` is what must not be shown, also where both are that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What is declared is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.as_deref().unwrap_or("(not set)").to_owned();
        write!(f, "{}: {} -> {}", self.field, shown(&self.before), shown(&self.after))
    }
}

impl StartSpec {
    /// In what another start would differ from this one. Each of them replaces the process.
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        if self == after {
            return Vec::new();
        }
        let Self { pattern, config, credentials } = self;
        let mut found = pattern.differences(&after.pattern);
        variables("config", config, &after.config, &mut found);
        let names: BTreeSet<&String> = credentials.keys().chain(after.credentials.keys()).collect();
        for name in names.into_iter().filter(|name| credentials.get(*name) != after.credentials.get(*name)) {
            // Where it is read is no secret.
            let shown = |path: Option<&PathBuf>| path.map(|path| path.display().to_string());
            let (before, after) = (shown(credentials.get(name)), shown(after.credentials.get(name)));
            found.push(Difference { field: format!("credentials.{name}"), before, after });
        }
        found
    }
}

impl PatternRevision {
    fn differences(&self, after: &Self) -> Vec<Difference> {
        let Self { version, folder, executable, digest, args, environment, preferred_port, privileges } = self;
        let path = |folder: &std::path::Path| Some(folder.display().to_string());
        let hash = |digest: &Option<String>| {
            digest.as_ref().map(|digest| digest.get(..DIGEST_SHOWN).unwrap_or(digest).to_owned())
        };
        let port = |port: Option<u16>| port.map(|port| port.to_string());
        let fields = [
            ("version", Some(version.clone()), Some(after.version.clone())),
            ("folder", path(folder), path(&after.folder)),
            ("executable", Some(executable.clone()), Some(after.executable.clone())),
            ("content of the executable", hash(digest), hash(&after.digest)),
            ("args", words(args), words(&after.args)),
            ("healthcheck.port", port(*preferred_port), port(after.preferred_port)),
        ];
        let mut found: Vec<Difference> = fields
            .into_iter()
            .filter(|(_, before, after)| before != after)
            .map(|(field, before, after)| Difference { field: field.to_owned(), before, after })
            .collect();
        if args != &after.args && words(args) == words(&after.args) {
            // They differ in what is hidden.
            found.push(Difference { field: "args".to_owned(), before: words(args), after: words(&after.args) });
        }
        variables("environment", environment, &after.environment, &mut found);
        let (before, after) = (privileges.fields(), after.privileges.fields());
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        found.extend(differing.map(|name| Difference {
            field: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        }));
        found
    }
}

/// Arguments as one text; those that follow a flag with the name of a secret are hidden.
fn words(args: &[String]) -> Option<String> {
    let mut hide = false;
    let shown = |arg: &String| {
        let hidden = std::mem::replace(&mut hide, arg.starts_with('-') && !arg.contains('=') && names_a_secret(arg));
        match arg.split_once('=') {
            _ if hidden => HIDDEN.to_owned(),
            Some((name, _)) if names_a_secret(name) => format!("{name}={HIDDEN}"),
            _ => Secret::new(arg.as_str()).shown("").into_owned(),
        }
    };
    let shown: Vec<String> = args.iter().map(shown).collect();
    (!shown.is_empty()).then(|| format!("{shown:?}"))
}

/// Variables that were added, removed or changed.
fn variables(
    whose: &str,
    before: &BTreeMap<String, Secret>,
    after: &BTreeMap<String, Secret>,
    found: &mut Vec<Difference>,
) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
        let shown = |value: Option<&Secret>| value.map(|value| value.shown(name).into_owned());
        let (before, after) = (shown(before.get(name)), shown(after.get(name)));
        found.push(Difference { field: format!("{whose}.{name}"), before, after });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Privileges, ProcessLimit, Protection};

    fn spec(version: &str, args: &[&str], environment: &[(&str, &str)], config: &[(&str, &str)]) -> StartSpec {
        let variables = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
        };
        StartSpec {
            pattern: PatternRevision {
                version: version.to_owned(),
                folder: "/patterns/p".into(),
                executable: "./p".to_owned(),
                digest: Some(version.repeat(64)),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                environment: variables(environment),
                preferred_port: None,
                privileges: Privileges::default(),
            },
            config: variables(config),
            credentials: BTreeMap::new(),
        }
    }

    fn shown(before: &StartSpec, after: &StartSpec) -> Vec<String> {
        before.differences(after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_field_that_differs_is_named_with_both_values() {
        let before = spec("1", &["-v"], &[("LEVEL", "info")], &[("A", "1"), ("B", "2")]);
        let mut after = spec("2", &[], &[("LEVEL", "debug")], &[("B", "3"), ("C", "4")]);
        after.pattern.preferred_port = Some(9_090);
        assert_eq!(shown(&before, &before), [""; 0]);
        let expected = [
            "version: 1 -> 2",
            "content of the executable: 111111111111 -> 222222222222",
            "args: [\"-v\"] -> (not set)",
            "healthcheck.port: (not set) -> 9090",
            "environment.LEVEL: info -> debug",
            "config.A: 1 -> (not set)",
            "config.B: 2 -> 3",
            "config.C: (not set) -> 4",
        ];
        assert_eq!(shown(&before, &after), expected);
    }

    #[test]
    fn a_secret_that_differs_is_named_and_not_shown() {
        let before = spec(
            "1",
            &["--token", "s3cr3t-1", "--password=s3cr3t-2", "x"],
            &[],
            &[("API_KEY", "s3cr3t-3"), ("URL", "db://u:s3cr3t-4@h")],
        );
        let after = spec(
            "1",
            &["--token", "s3cr3t-5", "--password=s3cr3t-2", "x"],
            &[],
            &[("API_KEY", "s3cr3t-6"), ("URL", "db://u:s3cr3t-7@h")],
        );
        let hidden = "[\"--token\", \"***\", \"--password=***\", \"x\"]";
        let expected = [
            format!("args: {hidden} -> {hidden}"),
            "config.API_KEY: *** -> ***".to_owned(),
            "config.URL: db://u:***@h -> db://u:***@h".to_owned(),
        ];
        assert_eq!(shown(&before, &after), expected);
    }

    #[test]
    fn a_credential_that_is_read_elsewhere_is_told_by_its_path() {
        let (mut before, mut after) = (spec("1", &[], &[], &[]), spec("1", &[], &[], &[]));
        before.credentials.insert("db".to_owned(), "a/db".into());
        after.credentials.insert("db".to_owned(), "b/db".into());
        assert_eq!(shown(&before, &after), ["credentials.db: a/db -> b/db"]);
    }

    #[test]
    fn who_it_runs_as_and_its_limits_are_told_as_they_are_written() {
        let (before, mut after) = (spec("1", &[], &[], &[]), spec("1", &[], &[], &[]));
        let limit = ProcessLimit { soft: Some(9), hard: None };
        after.pattern.privileges = Privileges {
            user: Some("www".to_owned()),
            umask: Some(0o27),
            rlimits: [(crate::model::LimitName::Nofile, limit)].into(),
            protection: [(Protection::OwnUser, false)].into(),
            ..Privileges::default()
        };
        let expected = [
            "protection.own_user: (not set) -> false",
            "rlimits.nofile: (not set) -> 9:unlimited",
            "umask: (not set) -> 0027",
            "user: (not set) -> www",
        ];
        assert_eq!(shown(&before, &after), expected);
    }
}
