//! `plan`: what would be done against what runs now, and why.
//!
//! It reads what a launcher reads, decides as a launcher decides, and does nothing: no lock is taken and nothing is
//! written, so it works beside a running launcher and without one. Files count as they are now, without waiting for
//! them to settle; a mass deletion that a launcher would hold back is shown as it would be done once confirmed.

use super::{Answer, Format};
use crate::act::identity::ProcessStat;
use crate::act::{clock, records};
use crate::config::Config;
use crate::desired::store::survey;
use crate::error::{Error, Result};
use crate::launcher::offline_settings;
use crate::model::{BootId, Difference, ExitReason, Key, RunRecord};
use crate::observed::{DesiredChange, Event, Restored, RestoredRun};
use crate::plan::{Action, Reason, Verdict};
use crate::reconciler::SystemDice;
use crate::reconciler::engine::Engine;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// The exit code for a plan that changes something.
const CHANGES: u8 = 2;

/// What would be done about one key.
#[derive(Debug, Serialize)]
struct Planned {
    process_id: Key,
    /// `none` when nothing is.
    action: &'static str,
    reason: String,
    /// In what the process that runs differs from what is declared, where that replaces it.
    differences: Vec<Difference>,
    #[serde(skip)]
    verdict: Verdict,
}

/// What a program reads: one object.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// How many of the actions change something.
    changes: usize,
    actions: &'a [Planned],
    /// What is wrong with files and records; none of it changes what is planned for others.
    problems: Vec<String>,
}

/// The plan as a table, or as one JSON object.
pub(super) fn plan(config: &Config, format: Format) -> Result<Answer> {
    let boot = clock::boot()?;
    let now = clock::now();
    let loaded = records::load_readonly(&config.state_dir, boot)?;
    let mut problems = loaded.notices;

    let remembered: Vec<_> = loaded.memories.iter().map(|memory| Arc::clone(&memory.instance)).collect();
    let found = survey(&offline_settings(config), &remembered, now);
    problems.extend(found.errors);
    let declared: BTreeSet<&Key> = found.instances.iter().map(|instance| &instance.key).collect();
    let withdrawn = remembered.iter().map(|instance| &instance.key).filter(|key| !declared.contains(key));
    let change = DesiredChange {
        withdrawn: withdrawn.cloned().collect(),
        declared: found.instances,
        attempted: true,
        complete: true,
        ..DesiredChange::default()
    };

    let mut runs: Vec<RestoredRun> = loaded.runs.into_iter().map(|record| classify(record, boot)).collect();
    let damaged = loaded.damaged.into_iter();
    runs.extend(damaged.map(|(file_name, error)| RestoredRun::Unverifiable { file_name, error }));
    let mut engine = Engine::new(config.policy.clone());
    let dice = &mut SystemDice;
    engine.restore(Restored { memories: loaded.memories, runs }, now, dice);
    engine.handle(Event::Desired(change), now, dice);
    let planned: Vec<Planned> = engine
        .preview(now)
        .into_iter()
        .map(|(key, verdict)| Planned {
            differences: engine.differences(&key),
            process_id: key,
            action: verdict.action.as_str(),
            reason: verdict.reason.to_string(),
            verdict,
        })
        .collect();
    Ok(present(&planned, &problems, format))
}

/// Whether the recorded process is the one that runs under its pid now.
fn classify(record: RunRecord, boot: BootId) -> RestoredRun {
    if record.process.boot != boot {
        return RestoredRun::Rebooted(record);
    }
    match ProcessStat::read(record.process.pid) {
        Ok(process) if process.is(&record.process) && !process.has_ended() => RestoredRun::Alive(record),
        Ok(_) | Err(_) => RestoredRun::Ended { record, exit: ExitReason::Unknown, oom: None, tree_gone: true },
    }
}

fn present(planned: &[Planned], problems: &[Error], format: Format) -> Answer {
    let changes = planned.iter().filter(|planned| is_change(planned.verdict.action)).count();
    let code = if changes == 0 { 0 } else { CHANGES };
    let text = match format {
        Format::Json => {
            let problems = problems.iter().map(ToString::to_string).collect();
            super::json(&Report { changes, actions: planned, problems })
        }
        Format::Text => listed(planned, changes, problems),
    };
    Answer { text, code }
}

fn listed(planned: &[Planned], changes: usize, problems: &[Error]) -> String {
    let rows: Vec<&Planned> = planned.iter().filter(|planned| is_worth_a_row(&planned.verdict)).collect();
    let mut text = String::new();
    if !rows.is_empty() {
        let width = rows.iter().map(|row| row.process_id.as_str().chars().count()).max().unwrap_or(0);
        let width = width.max("PROCESS ID".len());
        let mut line = |action: &str, key: &str, reason: &str| {
            // Nothing that is written here fails: it is written to a string.
            writeln!(text, "{action:<9}  {key:<width$}  {reason}").unwrap_or_default();
        };
        line("ACTION", "PROCESS ID", "REASON");
        for row in rows {
            line(word(row.verdict.action), row.process_id.as_str(), &row.reason);
            for difference in &row.differences {
                line("", "", &format!("  {difference}"));
            }
        }
        text.push('\n');
    }
    for problem in problems {
        writeln!(text, "problem: {problem}").unwrap_or_default();
    }
    let rest = planned.len() - changes;
    writeln!(text, "{changes} to change, {rest} to leave as {}", if rest == 1 { "it is" } else { "they are" })
        .unwrap_or_default();
    text
}

/// Whether carrying the action out changes something that runs or is remembered.
const fn is_change(action: Action) -> bool {
    match action {
        Action::Launch | Action::Terminate(_) | Action::Kill | Action::Forget | Action::Resume | Action::Expire => true,
        Action::Nothing | Action::Settle => false,
    }
}

/// Whether people want to read about it: not when it is as it should be. How healthy a process is, is only known to the
/// launcher that probes it.
const fn is_worth_a_row(verdict: &Verdict) -> bool {
    is_change(verdict.action)
        || !matches!(verdict.reason, Reason::InSync | Reason::Starting | Reason::Stable | Reason::Stopped)
}

const fn word(action: Action) -> &'static str {
    match action {
        Action::Nothing | Action::Settle => "wait",
        Action::Launch | Action::Terminate(_) | Action::Kill | Action::Forget | Action::Resume | Action::Expire => {
            action.as_str()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::plan::{Drift, StopCause};

    fn key(name: &str) -> Key {
        Key::parse(name).unwrap()
    }

    fn planned(id: &str, verdict: Verdict, differences: &[(&str, &str, &str)]) -> Planned {
        let difference = |(field, before, after): &(&str, &str, &str)| Difference {
            field: (*field).to_owned(),
            before: Some((*before).to_owned()),
            after: Some((*after).to_owned()),
        };
        Planned {
            process_id: key(id),
            action: verdict.action.as_str(),
            reason: verdict.reason.to_string(),
            differences: differences.iter().map(difference).collect(),
            verdict,
        }
    }

    #[test]
    fn nothing_to_do_is_code_0_and_one_line() {
        let answer = present(&[planned("shared:a", Verdict::nothing(Reason::InSync), &[])], &[], Format::Text);
        assert_eq!((answer.code, answer.text.as_str()), (0, "0 to change, 1 to leave as it is\n"));
    }

    #[test]
    fn changes_are_code_2_and_a_table_with_reasons() {
        let (ending, drift) = (StopCause::Removed, StopCause::Drift(Drift::Instance));
        let planned = [
            planned("ns:tenant-a:b", Verdict::act(Action::Launch, Reason::Missing), &[]),
            planned("shared:a", Verdict::nothing(Reason::InSync), &[]),
            planned("shared:c", Verdict::act(Action::Terminate(ending), Reason::Ending(ending)), &[]),
            planned("shared:d", Verdict::nothing(Reason::CircuitOpen(None)), &[]),
            planned(
                "shared:e",
                Verdict::act(Action::Terminate(drift), Reason::Ending(drift)),
                &[("config.LEVEL", "info", "debug"), ("config.API_TOKEN", "***", "***")],
            ),
        ];
        let problem = Error::new(Code::InvalidInstance, "a file is wrong");
        let answer = present(&planned, &[problem], Format::Text);
        assert_eq!(answer.code, CHANGES);
        let expected = "\
ACTION     PROCESS ID     REASON
launch     ns:tenant-a:b  it is declared and nothing of it runs
terminate  shared:c       nothing declares it any more
wait       shared:d       its circuit is open
replace    shared:e       its config or slots have changed
                            config.LEVEL: info -> debug
                            config.API_TOKEN: *** -> ***

problem: [INVALID_INSTANCE] a file is wrong
3 to change, 2 to leave as they are
";
        assert_eq!(answer.text, expected);
        let answer = present(&planned, &[], Format::Json);
        let report: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(
            (answer.code, &report["changes"], &report["problems"]),
            (CHANGES, &3.into(), &serde_json::json!([]))
        );
        let replaced = serde_json::json!({
            "process_id": "shared:e",
            "action": "replace",
            "reason": "its config or slots have changed",
            "differences": [
                {"field": "config.LEVEL", "before": "info", "after": "debug"},
                {"field": "config.API_TOKEN", "before": "***", "after": "***"},
            ],
        });
        assert_eq!(report["actions"][4], replaced);
    }
}
