//! Reads a pattern's `manifest.yaml`: every field checked, defaults filled in.

use super::bindings::{check_slot_name, variable_part};
use super::fields::{DAY, Fields, SHORTEST};
use super::format::{RawHealthCheck, RawLifecycle, RawManifest, RawSlot};
use super::schema;
use super::yaml::{self, Kind, Source};
use crate::error::{Code, Error, Result};
use crate::model::{
    Answerer, HealthCheck, IsolationLevel, Lifecycle, Manifest, PatternName, PatternRevision, ProbeTarget,
    RestartPolicy, Slot, StopSignal,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The most successes or failures in a row that can be asked for.
const THRESHOLD_LIMIT: u64 = 1_000_000;
/// The levels by their names.
pub(super) const LEVELS: [(&str, IsolationLevel); 3] =
    [("none", IsolationLevel::None), ("namespace", IsolationLevel::Namespace), ("session", IsolationLevel::Session)];
const SIGNALS: [(&str, StopSignal); 8] = [
    ("SIGTERM", StopSignal::Term),
    ("SIGINT", StopSignal::Int),
    ("SIGQUIT", StopSignal::Quit),
    ("SIGHUP", StopSignal::Hup),
    ("SIGUSR1", StopSignal::Usr1),
    ("SIGUSR2", StopSignal::Usr2),
    ("SIGWINCH", StopSignal::Winch),
    ("SIGKILL", StopSignal::Kill),
];
const RESTARTS: [(&str, RestartPolicy); 3] =
    [("always", RestartPolicy::Always), ("on-failure", RestartPolicy::OnFailure), ("never", RestartPolicy::Never)];

/// Reads a manifest. `path` is named in errors; `folder` is the pattern's folder as configured, made absolute, and
/// its name must be the manifest's. The digest of the executable is not filled in.
pub fn parse_manifest(path: &Path, folder: &Path, bytes: &[u8]) -> Result<Manifest> {
    let kind = Kind { code: Code::InvalidManifest, schema: schema::manifest(), secret: &["environment"] };
    let source = Source::new(path, bytes, kind)?;
    let mut documents = yaml::read::<RawManifest>(&source)?;
    let Some(document) = documents.pop() else {
        let message = "the manifest is empty";
        return Err(source
            .error(yaml::Place::START, message)
            .suggest(format!("write at least 'name', 'version' and 'executable' into {}", path.display())));
    };
    if !documents.is_empty() {
        let error = source.error(document.root.place(), "a manifest has one document, and here another begins");
        return Err(error.suggest("remove the line '---' and what follows it"));
    }
    Reader { fields: Fields { source: &source, root: &document.root } }.manifest(document.raw, folder)
}

struct Reader<'a> {
    fields: Fields<'a>,
}

impl Reader<'_> {
    fn manifest(&self, raw: RawManifest, folder: &Path) -> Result<Manifest> {
        let fields = self.fields;
        let name = self.name(&raw, folder)?;
        let version = fields.required(&["version"], raw.version.as_ref(), "1.0.0")?;
        let executable = fields.required(&["executable"], raw.executable.as_ref(), &format!("./{name}"))?;
        let isolation_level = fields.choice(&["isolation_level"], raw.isolation_level.as_ref(), &LEVELS)?;
        let minimum_isolation = fields.choice(&["minimum_isolation"], raw.minimum_isolation.as_ref(), &LEVELS)?;
        if let (Some(level), Some(minimum)) = (isolation_level, minimum_isolation)
            && level < minimum
        {
            let message = format!("'isolation_level' is {level}, less than 'minimum_isolation', which is {minimum}");
            return Err(fields
                .error(&["isolation_level"], &message)
                .suggest(format!("write 'isolation_level: {minimum}', or lower 'minimum_isolation'")));
        }
        let privileges = privileges::read(fields, &raw)?;
        let preferred_port = self.port(raw.healthcheck.as_ref())?;
        Ok(Manifest {
            name,
            isolation_level,
            minimum_isolation,
            healthcheck: raw.healthcheck.map(|check| self.healthcheck(check)).transpose()?,
            resources: fields.resources(raw.resources.as_ref())?,
            lifecycle: self.lifecycle(raw.lifecycle.as_ref())?,
            slots: self.slots(raw.backend_slots.unwrap_or_default())?,
            description: raw.description.map(Into::into),
            author: raw.author.map(Into::into),
            revision: PatternRevision {
                version,
                folder: folder.to_owned(),
                executable,
                digest: None,
                args: fields.texts(&["args"], raw.args)?,
                environment: fields.variables("environment", raw.environment)?,
                preferred_port,
                privileges,
            },
        })
    }

    fn name(&self, raw: &RawManifest, folder: &Path) -> Result<PatternName> {
        let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
        let written = self.fields.required(&["name"], raw.name.as_ref(), &folder_name)?;
        let name = PatternName::new(&written).map_err(|reason| self.fields.error(&["name"], &reason))?;
        if name.as_str() != folder_name {
            let message = format!("the name '{name}' is not that of the folder, '{}'", Error::echo(&folder_name));
            return Err(self.fields.error(&["name"], &message).suggest(format!(
                "write 'name: {folder_name}', or rename the folder: mv {} {name}",
                folder.display()
            )));
        }
        Ok(name)
    }

    fn port(&self, check: Option<&RawHealthCheck>) -> Result<Option<u16>> {
        let written = check.and_then(|check| check.port.as_ref());
        let port = self.fields.number(&["healthcheck", "port"], written, 1..=u64::from(u16::MAX))?;
        Ok(port.and_then(|port| u16::try_from(port).ok()))
    }

    fn healthcheck(&self, raw: RawHealthCheck) -> Result<HealthCheck> {
        let fields = self.fields;
        let duration = |name: &str, written, default: u64| {
            let duration = fields.duration(&["healthcheck", name], written, SHORTEST..=DAY)?;
            Ok::<_, Error>(duration.unwrap_or(Duration::from_secs(default)))
        };
        let threshold = |name: &str, written, default: u32| {
            let count = fields.number(&["healthcheck", name], written, 1..=THRESHOLD_LIMIT)?;
            Ok::<_, Error>(count.and_then(|count| u32::try_from(count).ok()).unwrap_or(default))
        };
        Ok(HealthCheck {
            interval: duration("interval", raw.interval.as_ref(), 30)?,
            timeout: duration("timeout", raw.timeout.as_ref(), 5)?,
            startup_timeout: duration("startup_timeout", raw.startup_timeout.as_ref(), 30)?,
            failure_threshold: threshold("failure_threshold", raw.failure_threshold.as_ref(), 3)?,
            success_threshold: threshold("success_threshold", raw.success_threshold.as_ref(), 1)?,
            answered_by: fields
                .choice(
                    &["healthcheck", "answered_by"],
                    raw.answered_by.as_ref(),
                    &[("own", Answerer::Own), ("any", Answerer::Any)],
                )?
                .unwrap_or_default(),
            target: self.target(raw)?,
        })
    }

    fn target(&self, raw: RawHealthCheck) -> Result<ProbeTarget> {
        let fields = self.fields;
        let kinds = [("http", 0), ("tcp", 1), ("exec", 2), ("grpc", 3)];
        let kind = fields.choice(&["healthcheck", "type"], raw.r#type.as_ref(), &kinds)?.unwrap_or(0);
        let word = kinds[kind].0;
        if raw.path.is_some() && word != "http" {
            let message = format!("'healthcheck.path' belongs to type http, and the type is {word}");
            return Err(fields
                .key_error(&["healthcheck", "path"], &message)
                .suggest("remove 'path', or write 'type: http'"));
        }
        let has_command = raw.command.as_ref().is_some_and(|command| !command.is_empty());
        if has_command && word != "exec" {
            let message = format!("'healthcheck.command' belongs to type exec, and the type is {word}");
            return Err(fields
                .key_error(&["healthcheck", "command"], &message)
                .suggest("remove 'command', or write 'type: exec'"));
        }
        match word {
            "tcp" => Ok(ProbeTarget::Tcp),
            "grpc" => Ok(ProbeTarget::Grpc),
            "exec" => {
                let command = fields.texts(&["healthcheck", "command"], raw.command)?;
                if command.first().is_none_or(String::is_empty) {
                    let message = "a health check of type exec needs 'healthcheck.command'";
                    return Err(fields
                        .error(&["healthcheck", "command"], message)
                        .suggest("add it, such as 'command: [./check]'"));
                }
                Ok(ProbeTarget::Exec { command })
            }
            _ => {
                let path = raw.path.map_or_else(|| "/health".to_owned(), Into::into);
                if !path.starts_with('/') || path.chars().any(|c| c.is_control() || c == ' ') {
                    let message = format!("'healthcheck.path' must begin with '/', and is '{}'", Error::echo(&path));
                    return Err(fields
                        .error(&["healthcheck", "path"], &message)
                        .suggest(format!("write 'path: /{}'", Error::echo(path.trim().trim_start_matches('/')))));
                }
                Ok(ProbeTarget::Http { path })
            }
        }
    }

    fn lifecycle(&self, raw: Option<&RawLifecycle>) -> Result<Lifecycle> {
        let fields = self.fields;
        let signal = raw.and_then(|raw| raw.stop_signal.as_ref());
        let grace = raw.and_then(|raw| raw.grace_period.as_ref());
        let restart = raw.and_then(|raw| raw.restart.as_ref());
        Ok(Lifecycle {
            stop_signal: fields.choice(&["lifecycle", "stop_signal"], signal, &SIGNALS)?.unwrap_or(StopSignal::Term),
            grace_period: fields
                .duration(&["lifecycle", "grace_period"], grace, Duration::ZERO..=DAY)?
                .unwrap_or(Duration::from_secs(10)),
            restart: fields.choice(&["lifecycle", "restart"], restart, &RESTARTS)?.unwrap_or(RestartPolicy::Always),
        })
    }

    fn slots(&self, raws: Vec<RawSlot>) -> Result<Vec<Slot>> {
        let mut prefixes = BTreeSet::new();
        raws.into_iter().enumerate().map(|(i, raw)| self.slot(i, &raw, &mut prefixes)).collect()
    }

    fn slot(&self, index: usize, raw: &RawSlot, prefixes: &mut BTreeSet<String>) -> Result<Slot> {
        let fields = self.fields;
        let number = index.to_string();
        let at = |field: &'static str| ["backend_slots", number.as_str(), field];
        let name = fields.required(&at("name"), raw.name.as_ref(), "storage")?;
        check_slot_name(&name).map_err(|reason| fields.error(&at("name"), &reason))?;
        if !prefixes.insert(variable_part(&name)) {
            let message = format!("two slots become SLOT_{}_…", variable_part(&name));
            return Err(fields.error(&at("name"), &message).suggest(format!("rename or remove one '{name}'")));
        }
        let kind = raw.r#type.as_ref().map(|kind| fields.text(&at("type"), kind.as_str())).transpose()?;
        let truths = [("true", true), ("false", false)];
        let required = fields.choice(&at("required"), raw.required.as_ref(), &truths)?.unwrap_or(false);
        Ok(Slot { name, kind, required })
    }
}

mod privileges;
#[cfg(test)]
mod tests;
