//! What a process is besides its program: who it runs as, its limits, and what protects the machine and others from it.

use super::isolation::IsolationLevel;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// What a manifest says of it. A change replaces the processes of the pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Privileges {
    /// Whom it runs as: a name or a number of this machine. Needs a launcher that is root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With which group; that of `user` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Which permissions its new files do not get; 0 to 0o777. The launcher's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Its scheduling priority: -20, the most favoured, to 19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// How readily the kernel kills it when memory runs out: -1000, never, to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Limits of the process, as setrlimit has them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rlimits: BTreeMap<LimitName, ProcessLimit>,
    /// Protections that it gets, or does without, whatever is usual.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub protection: BTreeMap<Protection, bool>,
}

impl Privileges {
    /// Whether the manifest says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What the manifest says, field by field, as it is written.
    pub(super) fn fields(&self) -> BTreeMap<String, String> {
        let Self { user, group, umask, nice, oom_score_adj, rlimits, protection } = self;
        let single = [
            ("user", user.clone()),
            ("group", group.clone()),
            ("umask", umask.map(|mask| format!("{mask:04o}"))),
            ("nice", nice.map(|nice| nice.to_string())),
            ("oom_score_adj", oom_score_adj.map(|score| score.to_string())),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let limits = rlimits.iter().map(|(name, limit)| (format!("rlimits.{}", name.as_str()), limit.to_string()));
        let protections = protection.iter().map(|(one, wanted)| (format!("protection.{one}"), wanted.to_string()));
        single.chain(limits).chain(protections).collect()
    }

    /// The protections that a process is to get. `users` is whether the launcher can and should run tenants as users of
    /// their own.
    pub fn protections(&self, level: IsolationLevel, users: TenantUsers) -> BTreeSet<Protection> {
        let usual = users == TenantUsers::On && level != IsolationLevel::None && self.user.is_none();
        let own_user = self.protection.get(&Protection::OwnUser).copied().unwrap_or(usual);
        let usual = |protection| match protection {
            Protection::OwnSession
            | Protection::ClosedDescriptors
            | Protection::NoCoreDumps
            | Protection::NoNewPrivileges
            | Protection::KilledFirst => true,
            Protection::OwnUser | Protection::OwnFolders => own_user,
            Protection::NoCapabilities => own_user || self.user.is_some(),
        };
        Protection::ALL.into_iter().filter(|one| self.protection.get(one).copied().unwrap_or(usual(*one))).collect()
    }
}

/// Whether tenants get users of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantUsers {
    /// They do.
    On,
    /// They run as the launcher does, unless a manifest says otherwise.
    Off,
}

/// Something that keeps a process from the machine or from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// It has a session and a process group of its own. Always.
    OwnSession,
    /// It has no descriptor of the launcher's but its three standard ones. Always where there is a spawner.
    ClosedDescriptors,
    /// It leaves no core dump, which would hold its secrets: `RLIMIT_CORE` is 0.
    NoCoreDumps,
    /// Nothing that it executes has more rights than it has: set-user-id programs do not work.
    NoNewPrivileges,
    /// When memory runs out the kernel kills it before the launcher: its `oom_score_adj` is higher.
    KilledFirst,
    /// It has a user and a group that no other tenant has.
    OwnUser,
    /// It has no capability, nor can it get one.
    NoCapabilities,
    /// It has `STATE_DIR`, `RUNTIME_DIR` and `TMPDIR`, which only its user can enter.
    OwnFolders,
}

impl Protection {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::OwnSession,
        Self::ClosedDescriptors,
        Self::NoCoreDumps,
        Self::NoNewPrivileges,
        Self::KilledFirst,
        Self::OwnUser,
        Self::NoCapabilities,
        Self::OwnFolders,
    ];

    /// Its name in files and in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OwnSession => "own_session",
            Self::ClosedDescriptors => "closed_descriptors",
            Self::NoCoreDumps => "no_core_dumps",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::KilledFirst => "killed_first",
            Self::OwnUser => "own_user",
            Self::NoCapabilities => "no_capabilities",
            Self::OwnFolders => "own_folders",
        }
    }
}

impl FromStr for Protection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            format!("'{}' is no protection; there are {all}", crate::error::Error::echo(text))
        })
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run has got of all this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// The user it runs as, where that is not the launcher's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group it runs with, where that is not the launcher's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// What is in force.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub protections: BTreeSet<Protection>,
}

impl Confinement {
    /// Whether nothing is known of it, as of a run that an earlier launcher began.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// What is in force, one word each.
    pub fn words(&self) -> Vec<String> {
        let ids = [("uid", self.uid), ("gid", self.gid)];
        let ids = ids.into_iter().filter_map(|(name, id)| Some(format!("{name}={}", id?)));
        self.protections.iter().map(ToString::to_string).chain(ids).collect()
    }
}

/// A soft and a hard limit; `None` is no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimit {
    /// What is in force until the process raises it.
    pub soft: Option<u64>,
    /// How far it may.
    pub hard: Option<u64>,
}

impl fmt::Display for ProcessLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        if self.soft == self.hard {
            f.write_str(&word(self.soft))
        } else {
            write!(f, "{}:{}", word(self.soft), word(self.hard))
        }
    }
}

/// The limits of `setrlimit`, by the kernel's names in lower case; units as there (bytes, seconds, microseconds, counts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the kernel documents them: setrlimit(2)")]
pub enum LimitName {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl LimitName {
    /// Its name in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Locks => "locks",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rss => "rss",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(privileges: &Privileges, level: IsolationLevel, users: TenantUsers) -> String {
        let all = privileges.protections(level, users);
        all.into_iter().map(Protection::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_usual_depends_on_the_level_and_on_whether_tenants_have_users() {
        let always = "own_session closed_descriptors no_core_dumps no_new_privileges killed_first";
        let nothing = Privileges::default();
        assert_eq!(words(&nothing, IsolationLevel::Session, TenantUsers::Off), always);
        assert_eq!(words(&nothing, IsolationLevel::None, TenantUsers::On), always);
        let tenant = format!("{always} own_user no_capabilities own_folders");
        assert_eq!(words(&nothing, IsolationLevel::Namespace, TenantUsers::On), tenant);
    }

    #[test]
    fn a_manifest_does_without_and_a_named_user_is_nobody_elses_own() {
        let without = [(Protection::NoNewPrivileges, false), (Protection::KilledFirst, false)];
        let privileges =
            Privileges { user: Some("www".to_owned()), protection: without.into(), ..Privileges::default() };
        let got = words(&privileges, IsolationLevel::Namespace, TenantUsers::On);
        assert_eq!(got, "own_session closed_descriptors no_core_dumps no_capabilities");
    }

    #[test]
    fn what_is_in_force_is_told_in_words() {
        let protections = [Protection::OwnSession, Protection::OwnUser].into();
        let confinement = Confinement { uid: Some(7), gid: Some(8), protections };
        assert_eq!(confinement.words().join(" "), "own_session own_user uid=7 gid=8");
    }
}
