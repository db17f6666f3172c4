//! What people read.

use super::failure::Told;
use super::screen::Look;
use super::table::{Cell, Column, Narrow, Tone, column, numbers, table};
use super::text::{escaped, lasting, yes};
use super::views::{isolation, state};
use crate::api::proto::{
    Difference, Event, ExplainResponse, HealthResponse, LimitsEffective, Manifest, PatternInfo, PlannedAction,
    ProcessState, Slot,
};
use crate::model::Limit;
use crate::plan::Reason;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The columns of a list of processes. A process id ends with the pattern's name.
const PROCESSES: [Column; 7] = [
    column("PATTERN", Narrow::ShortenOrDrop(8)),
    column("PROCESS ID", Narrow::Shorten(20)),
    column("STATE", Narrow::Keep),
    column("HEALTHY", Narrow::Keep),
    column("UPTIME", Narrow::Keep),
    numbers("RESTARTS"),
    numbers("PID"),
];

const PLAN: [Column; 3] =
    [column("ACTION", Narrow::Keep), column("PROCESS ID", Narrow::Shorten(20)), column("REASON", Narrow::Wrap)];

const MANIFESTS: [Column; 7] = [
    column("PATTERN", Narrow::Shorten(20)),
    column("VERSION", Narrow::Shorten(8)),
    column("ISOLATION", Narrow::Keep),
    column("RESTART", Narrow::Keep),
    column("CHECK", Narrow::Keep),
    column("USABLE", Narrow::Keep),
    column("DESCRIPTION", Narrow::Wrap),
];

/// A list of processes.
pub(super) fn processes(patterns: &[PatternInfo], look: &Look) -> String {
    let rows: Vec<Vec<Cell>> = patterns
        .iter()
        .map(|process| {
            let runs = process.pid != 0;
            vec![
                Cell::plain(&process.pattern_name),
                Cell::plain(&process.process_id),
                Cell::toned(&state(process.state), tone(process)),
                Cell::toned(health(process), if is_sick(process) { Tone::Bad } else { Tone::Plain }),
                Cell::plain(&if runs { lasting(process.uptime_seconds) } else { "-".to_owned() }),
                Cell::plain(&process.restart_count.to_string()),
                Cell::plain(&if runs { process.pid.to_string() } else { "-".to_owned() }),
            ]
        })
        .collect();
    table(&PROCESSES, &rows, look)
}

fn is(process: &PatternInfo, state: ProcessState) -> bool {
    ProcessState::try_from(process.state) == Ok(state)
}

fn is_sick(process: &PatternInfo) -> bool {
    is(process, ProcessState::StateRunning) && !process.healthy
}

/// Whether it is healthy, where it can be.
fn health(process: &PatternInfo) -> &'static str {
    if is(process, ProcessState::StateTerminated) || is(process, ProcessState::StateFinished) {
        "-"
    } else {
        yes(process.healthy)
    }
}

fn tone(process: &PatternInfo) -> Tone {
    match ProcessState::try_from(process.state) {
        Ok(ProcessState::StateRunning) if process.healthy => Tone::Good,
        Ok(ProcessState::StateRunning | ProcessState::StateStarting | ProcessState::StateTerminating) => Tone::Changing,
        Ok(ProcessState::StateFailed) => Tone::Bad,
        Ok(ProcessState::StateTerminated | ProcessState::StateFinished) => Tone::Faint,
        Ok(ProcessState::StateUnspecified) | Err(_) => Tone::Plain,
    }
}

/// One process in one sentence.
pub(super) fn sentence(process: &PatternInfo) -> String {
    let mut said = format!("{} is {}", process.process_id, state(process.state));
    if is(process, ProcessState::StateRunning) {
        said.push_str(if process.healthy { " and healthy" } else { " and not healthy" });
    }
    if process.pid != 0 {
        write!(said, ", pid {}", process.pid).unwrap_or_default();
    }
    if !process.address.is_empty() && is(process, ProcessState::StateRunning) {
        write!(said, ", at {}", process.address).unwrap_or_default();
    }
    if let Some(suspension) = &process.suspension {
        write!(said, ", suspended: {}", suspension.reason).unwrap_or_default();
    }
    escaped(&said).into_owned() + "\n"
}

/// Names and values below each other, the names in one column.
struct Facts(Vec<(String, String)>);

impl Facts {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a fact unless there is nothing to say.
    fn add(&mut self, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            self.0.push((name.to_owned(), escaped(value.as_ref()).into_owned()));
        }
    }

    /// Adds an error as it is printed when a command fails.
    fn add_error(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let Told { code, message, context, cause, suggestion, .. } = Told::parse(0, text);
        self.add(name, if code.is_empty() { message } else { format!("[{code}] {message}") });
        for (_, value) in &context {
            self.add("", value);
        }
        self.add("", cause.map(|cause| format!("cause: {cause}")).unwrap_or_default());
        self.add("", suggestion.map(|suggestion| format!("try: {suggestion}")).unwrap_or_default());
    }

    fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.0 {
            // Nothing that is written here fails: it is written to a string.
            writeln!(text, "{name:<width$}  {value}").unwrap_or_default();
        }
        text
    }
}

/// Everything about one process.
pub(super) fn process(process: &PatternInfo) -> String {
    let mut facts = Facts::new();
    facts.add("PATTERN", &process.pattern_name);
    facts.add("PROCESS ID", &process.process_id);
    facts.add("STATE", state(process.state));
    facts.add("HEALTHY", health(process));
    if process.pid != 0 {
        facts.add("UPTIME", lasting(process.uptime_seconds));
    }
    facts.add("RESTARTS", process.restart_count.to_string());
    facts.add("PID", if process.pid == 0 { "-".to_owned() } else { process.pid.to_string() });
    facts.add("ADDRESS", &process.address);
    if process.health_port != 0 {
        facts.add("HEALTH PORT", process.health_port.to_string());
    }
    facts.add("ISOLATION", isolation(process.isolation));
    facts.add("CONFINED BY", process.isolation_effective.join(" "));
    facts.add("NAMESPACE", &process.namespace);
    facts.add("SESSION", &process.session_id);
    let generation = match process.observed_generation {
        observed if observed == process.generation => observed.to_string(),
        observed => format!("{}, of which {observed} runs", process.generation),
    };
    facts.add("GENERATION", generation);
    facts.add("RUN", &process.run_id);
    facts.add("LIMITS", process.limits_effective.as_ref().map(limits).unwrap_or_default());
    facts.add("DECLARED", declared(process));
    facts.add("ASKED BY", &process.asked_by);
    if let Some(suspension) = &process.suspension {
        let until = suspension.ends_in_seconds.map(|s| format!(", for another {}", lasting(s))).unwrap_or_default();
        facts.add("SUSPENDED", format!("{} (by {}{until})", suspension.reason, suspension.by));
    }
    if let Some(seconds) = process.expires_in_seconds {
        facts.add("EXPIRES IN", format!("{}, unless it is launched again", lasting(seconds)));
    }
    if process.error_count != 0 {
        let circuit = if process.circuit_open { ", its circuit is open" } else { "" };
        facts.add("FAILURES", format!("{} in a row{circuit}", process.error_count));
    }
    facts.add("DECIDED", decided(&process.action, &process.reason));
    facts.add_error("LAST ERROR", &process.last_error);
    for condition in &process.conditions {
        facts.add_error(&escaped(&condition.kind), &condition.message);
    }
    facts.text()
}

/// What is in force, as a manifest would say it.
fn limits(limits: &LimitsEffective) -> String {
    let values = [
        (Limit::CpuLimit, limits.cpu_limit_millis),
        (Limit::CpuRequest, limits.cpu_request_millis),
        (Limit::MemoryLimit, limits.memory_limit_bytes),
        (Limit::MemoryRequest, limits.memory_request_bytes),
        (Limit::PidsLimit, limits.pids_limit),
    ];
    let words = values.into_iter().filter_map(|(limit, value)| {
        let value = u64::try_from(value?).ok()?;
        Some(format!("{limit} {}", limit.amount(value)))
    });
    let policy = limits.oom_policy.iter().map(|policy| format!("oom_policy {}", escaped(policy)));
    words.chain(policy).collect::<Vec<_>>().join(", ")
}

fn declared(process: &PatternInfo) -> String {
    match (process.declared_at.as_str(), process.api_managed) {
        ("", _) => "nowhere any more".to_owned(),
        (at, true) => format!("{at} (launched)"),
        (at, false) => at.to_owned(),
    }
}

fn decided(action: &str, reason: &str) -> String {
    match (action, reason) {
        (action, "") => action.to_owned(),
        ("" | "none", reason) => reason.to_owned(),
        (action, reason) => format!("{action}: {reason}"),
    }
}

/// How the launcher is doing.
pub(super) fn health_of_launcher(health: &HealthResponse, listing: bool, look: &Look) -> String {
    let mut facts = Facts::new();
    facts.add("HEALTHY", yes(health.healthy));
    facts.add("UPTIME", lasting(health.uptime_seconds));
    let counts = [
        (health.running_processes, "running"),
        (health.terminating_processes, "terminating"),
        (health.failed_processes, "failed"),
    ];
    let shown = counts.iter().filter(|(count, _)| *count != 0).map(|(count, state)| format!("{count} {state}"));
    let shown: Vec<String> = [format!("{} in all", health.total_processes)].into_iter().chain(shown).collect();
    facts.add("PROCESSES", shown.join(", "));
    let mut levels: Vec<_> = health.isolation_distribution.iter().filter(|(_, count)| **count != 0).collect();
    levels.sort();
    let levels: Vec<String> = levels.iter().map(|(level, count)| format!("{count} {}", level.to_lowercase())).collect();
    facts.add("ISOLATION", levels.join(", "));
    for problem in &health.problems {
        facts.add_error("PROBLEM", problem);
    }
    let mut text = facts.text();
    if listing {
        text.push('\n');
        text.push_str(&processes(&health.processes, look));
    }
    text
}

/// The level of launches that name none.
fn level(number: i32) -> Cow<'static, str> {
    if number == 0 { Cow::Borrowed("default") } else { isolation(number) }
}

/// The patterns that can be launched.
pub(super) fn manifests(manifests: &[Manifest], look: &Look) -> String {
    let rows: Vec<Vec<Cell>> = manifests
        .iter()
        .map(|manifest| {
            let check = if manifest.healthcheck.is_empty() { "-" } else { &manifest.healthcheck };
            let usable = match (manifest.usable, manifest.problem.is_empty()) {
                (true, true) => ("yes", Tone::Plain),
                (true, false) => ("last good", Tone::Changing),
                (false, _) => ("no", Tone::Bad),
            };
            vec![
                Cell::plain(&manifest.name),
                Cell::plain(&manifest.version),
                Cell::plain(&level(manifest.isolation)),
                Cell::plain(&manifest.restart),
                Cell::plain(check),
                Cell::toned(usable.0, usable.1),
                Cell::plain(&manifest.description),
            ]
        })
        .collect();
    table(&MANIFESTS, &rows, look)
}

/// Everything about one pattern.
pub(super) fn manifest(manifest: &Manifest) -> String {
    let mut facts = Facts::new();
    facts.add("PATTERN", &manifest.name);
    facts.add("VERSION", &manifest.version);
    facts.add("DESCRIPTION", &manifest.description);
    facts.add("AUTHOR", &manifest.author);
    facts.add("FOLDER", &manifest.folder);
    facts.add("EXECUTABLE", &manifest.executable);
    let least = match manifest.minimum_isolation {
        0 => String::new(),
        least => format!(", at least {}", isolation(least)),
    };
    facts.add("ISOLATION", format!("{}{least}", level(manifest.isolation)));
    facts.add(
        "CHECK",
        if manifest.healthcheck.is_empty() { "none: healthy while it runs" } else { &manifest.healthcheck },
    );
    facts.add("RESTART", &manifest.restart);
    for Slot { name, r#type, required } in &manifest.slots {
        facts.add("SLOT", format!("{name}: {type}{}", if *required { ", required" } else { "" }));
    }
    facts.add("USABLE", yes(manifest.usable));
    facts.add_error("PROBLEM", &manifest.problem);
    facts.text()
}

/// Whether carrying it out changes something.
pub(super) fn is_change(action: &PlannedAction) -> bool {
    !matches!(action.action.as_str(), "" | "none" | "settle" | "wait")
}

/// Whether nobody needs to read about it.
fn is_as_it_should_be(action: &PlannedAction) -> bool {
    let calm = [Reason::InSync, Reason::Starting, Reason::Stable, Reason::Stopped, Reason::Finished];
    calm.iter().any(|reason| reason.to_string() == action.reason)
}

/// What would be done, and why. Instances that are as they should be are only counted.
pub(super) fn plan(actions: &[PlannedAction], look: &Look) -> String {
    let rows: Vec<Vec<Cell>> = actions
        .iter()
        .filter(|action| is_change(action) || !is_as_it_should_be(action))
        .flat_map(|action| {
            let changes = is_change(action);
            let verb = if changes { Cell::toned(&action.action, Tone::Changing) } else { Cell::plain("wait") };
            let row = vec![verb, Cell::plain(&action.process_id), Cell::plain(&action.reason)];
            let differences = action.differences.iter();
            let below = differences.map(|one| vec![Cell::plain(""), Cell::plain(""), Cell::plain(&difference(one))]);
            std::iter::once(row).chain(below).collect::<Vec<_>>()
        })
        .collect();
    let changes = actions.iter().filter(|action| is_change(action)).count();
    let rest = actions.len() - changes;
    let said = format!("{changes} to change, {rest} to leave as {}\n", if rest == 1 { "it is" } else { "they are" });
    if rows.is_empty() { said } else { table(&PLAN, &rows, look) + "\n" + &said }
}

/// The event without what to do about it, which the explanation says once.
fn briefly(happened: &Event) -> Event {
    let reason = happened.reason.split("; Suggestion: ").next().unwrap_or_default();
    Event { reason: reason.to_owned(), ..happened.clone() }
}

/// A field that differs, in one line.
fn difference(difference: &Difference) -> String {
    let shown = |value: &Option<String>| value.as_deref().unwrap_or("(not set)").to_owned();
    format!("  {}: {} -> {}", difference.field, shown(&difference.before), shown(&difference.after))
}

/// What happened, in one line; then what the run printed last, where that is told.
pub(super) fn event(event: &Event) -> String {
    let mut said = format!("{}  {:<5}  {}  {}", event.time, event.level, event.process_id, event.message);
    if !event.reason.is_empty() {
        write!(said, ": {}", event.reason).unwrap_or_default();
    }
    if !event.by.is_empty() {
        write!(said, " (asked by {})", event.by).unwrap_or_default();
    }
    let printed = event.last_lines.iter().map(|line| format!("    {}\n", escaped(line)));
    escaped(&said).into_owned() + "\n" + &printed.collect::<String>()
}

/// Why a process is as it is.
pub(super) fn explanation(response: &ExplainResponse) -> String {
    let mut text: String = response.lines.iter().map(|line| escaped(line).into_owned() + "\n").collect();
    if !response.printed.is_empty() {
        text.push_str("\nWhat it printed last:\n");
        text.extend(response.printed.iter().map(|line| format!("  {}\n", escaped(line))));
    }
    if !response.events.is_empty() {
        text.push_str("\nLately:\n");
        text.extend(response.events.iter().map(|happened| format!("  {}", event(&briefly(happened)))));
    }
    text
}

/// What the run printed last that failed last.
pub(super) fn last_lines(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    lines.iter().fold("\nLast lines of the run that failed:\n".to_owned(), |mut text, line| {
        text.push_str("  ");
        text.push_str(&escaped(line));
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests;
