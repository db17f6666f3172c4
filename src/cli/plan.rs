//! `plan`: what would be done against what runs now, and why.
//!
//! It reads what a launcher reads, decides as a launcher decides, and does nothing: no lock is taken and nothing is
//! written, so it works beside a running launcher and without one. Files count as they are now, without waiting for
//! them to settle; a mass deletion that a launcher would hold back is shown as it would be done once confirmed.

use super::Answer;
use crate::act::identity::ProcessStat;
use crate::act::{clock, records};
use crate::config::Config;
use crate::desired::store::survey;
use crate::error::{Error, Result};
use crate::launcher::{log_dir, offline_settings};
use crate::model::{BootId, ExitReason, Key, RunRecord};
use crate::observed::{DesiredChange, Event, Restored, RestoredRun};
use crate::plan::{Action, Reason, Verdict};
use crate::reconciler::SystemDice;
use crate::reconciler::engine::Engine;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// The exit code for a plan that changes something.
const CHANGES: u8 = 2;

/// The plan as a table.
pub(super) fn plan(config: &Config) -> Result<Answer> {
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
    let mut engine = Engine::new(config.policy.clone(), log_dir(&config.state_dir));
    let dice = &mut SystemDice;
    engine.restore(Restored { memories: loaded.memories, runs }, now, dice);
    engine.handle(Event::Desired(change), now, dice);
    Ok(present(&engine.preview(now), &problems))
}

/// Whether the recorded process is the one that runs under its pid now.
fn classify(record: RunRecord, boot: BootId) -> RestoredRun {
    if record.process.boot != boot {
        return RestoredRun::Rebooted(record);
    }
    match ProcessStat::read(record.process.pid) {
        Ok(process) if process.is(&record.process) && !process.has_ended() => RestoredRun::Alive(record),
        Ok(_) | Err(_) => RestoredRun::Ended { record, exit: ExitReason::Unknown, tree_gone: true },
    }
}

fn present(verdicts: &[(Key, Verdict)], problems: &[Error]) -> Answer {
    let rows: Vec<(&str, &str, String)> = verdicts
        .iter()
        .filter(|(_, verdict)| is_worth_a_row(verdict))
        .map(|(key, verdict)| (word(verdict.action), key.as_str(), verdict.reason.to_string()))
        .collect();
    let changes = verdicts.iter().filter(|(_, verdict)| is_change(verdict.action)).count();
    let mut text = String::new();
    if !rows.is_empty() {
        let width = rows.iter().map(|(_, key, _)| key.chars().count()).max().unwrap_or(0).max("PROCESS ID".len());
        // Nothing that is written here fails: it is written to a string.
        for (action, key, reason) in [("ACTION", "PROCESS ID", "REASON".to_owned())].iter().chain(&rows) {
            writeln!(text, "{action:<9}  {key:<width$}  {reason}").unwrap_or_default();
        }
        text.push('\n');
    }
    for problem in problems {
        writeln!(text, "problem: {problem}").unwrap_or_default();
    }
    let rest = verdicts.len() - changes;
    writeln!(text, "{changes} to change, {rest} to leave as {}", if rest == 1 { "it is" } else { "they are" })
        .unwrap_or_default();
    Answer { text, code: if changes == 0 { 0 } else { CHANGES } }
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
    use crate::plan::StopCause;

    fn key(name: &str) -> Key {
        Key::parse(name).unwrap()
    }

    #[test]
    fn nothing_to_do_is_code_0_and_one_line() {
        let answer = present(&[(key("shared:a"), Verdict::nothing(Reason::InSync))], &[]);
        assert_eq!((answer.code, answer.text.as_str()), (0, "0 to change, 1 to leave as it is\n"));
    }

    #[test]
    fn changes_are_code_2_and_a_table_with_reasons() {
        let ending = StopCause::Removed;
        let verdicts = [
            (key("ns:tenant-a:b"), Verdict::act(Action::Launch, Reason::Missing)),
            (key("shared:a"), Verdict::nothing(Reason::InSync)),
            (key("shared:c"), Verdict::act(Action::Terminate(ending), Reason::Ending(ending))),
            (key("shared:d"), Verdict::nothing(Reason::CircuitOpen(None))),
        ];
        let problem = Error::new(Code::InvalidInstance, "a file is wrong");
        let answer = present(&verdicts, &[problem]);
        assert_eq!(answer.code, CHANGES);
        let expected = "\
ACTION     PROCESS ID     REASON
launch     ns:tenant-a:b  it is declared and nothing of it runs
terminate  shared:c       nothing declares it any more
wait       shared:d       its circuit is open

problem: [INVALID_INSTANCE] a file is wrong
2 to change, 2 to leave as they are
";
        assert_eq!(answer.text, expected);
    }
}
