//! Histories that once went wrong, in plain words.

use super::properties::{History, Step, Text};
use super::*;

fn declares(keys: &[u8]) -> Text {
    Text::Declares(keys.iter().copied().collect(), true)
}

/// A history that begins with these files, settled.
fn with_files(files: &[(u8, &[u8])]) -> History {
    let mut history = History::new();
    for (file, keys) in files {
        history.step(&Step::Write(*file, declares(keys)));
    }
    history.scan(0, true);
    history.scan(600, true);
    history
}

#[test]
fn what_is_deleted_and_edited_together_is_judged_together() {
    let mut history = with_files(&[(1, &[1, 3]), (3, &[2, 4])]);
    history.step(&Step::Delete(3));
    history.step(&Step::Write(1, declares(&[0])));
    history.come_to_rest();
    assert_eq!(history.running.len(), 5);
    assert_eq!(history.held().len(), 4, "one hold for all of it");
}

#[test]
fn what_may_follow_holds_nothing_back_once_it_is_back() {
    let mut history = with_files(&[(0, &[0, 1, 2]), (1, &[3, 4])]);
    history.step(&Step::Delete(1));
    history.scan(10, true);
    history.step(&Step::Rename(0, 2));
    history.step(&Step::Write(2, Text::Wrong));
    history.scan(2_100, true);
    assert_eq!((history.running.len(), history.held().len()), (5, 2), "what may follow makes it all of five");
    history.step(&Step::Write(0, declares(&[0, 1, 2])));
    history.scan(10, true);
    assert_eq!((history.running.len(), history.held().len()), (3, 0));
}

#[test]
fn a_held_deletion_of_deleted_and_edited_files_is_held_after_a_restart() {
    for (edited_again, told) in [(None, true), (None, false), (Some(Text::Wrong), true), (Some(Text::Empty), true)] {
        let mut history = with_files(&[(1, &[1, 3]), (3, &[2, 4])]);
        history.step(&Step::Delete(3));
        history.step(&Step::Write(1, declares(&[0])));
        history.come_to_rest();
        if let Some(text) = edited_again {
            history.step(&Step::Write(1, text));
            history.come_to_rest();
        }
        let held = history.held();
        assert_eq!(held.len(), 4);
        history.restart(told);
        history.come_to_rest();
        assert_eq!((history.running.len(), history.held()), (5, held));
    }
}

#[test]
fn what_was_held_before_a_restart_goes_on_when_its_file_declares_it_again() {
    let mut history = with_files(&[(1, &[1, 3]), (3, &[2, 4])]);
    history.step(&Step::Delete(3));
    history.step(&Step::Write(1, declares(&[0])));
    history.come_to_rest();
    history.step(&Step::Write(1, declares(&[0, 1, 3])));
    history.restart(true);
    history.come_to_rest();
    let left: Vec<&str> = history.running.keys().map(Key::as_str).collect();
    assert_eq!(left, ["ns:t0:p", "ns:t1:p", "ns:t3:p"], "two of five are no mass deletion");
}

#[test]
fn a_file_renamed_while_its_pattern_is_gone_and_then_edited_was_there_until_then() {
    for edited in [Text::Wrong, declares(&[1])] {
        let mut history = with_files(&[(3, &[5])]);
        history.step(&Step::Pattern { gone: true });
        history.step(&Step::Rename(3, 0));
        history.scan(10, true);
        history.scan(1_900, true);
        history.step(&Step::Write(0, edited));
        history.scan(10, false);
        history.scan(600, false);
        history.step(&Step::Pattern { gone: false });
        // The oracle of the history fails when the key ends before two seconds of complete scans without it.
        history.come_to_rest();
        assert!(!history.running.contains_key(&Key::parse("ns:t5:p").expect("a key")));
    }
}

#[test]
fn a_file_that_comes_back_declares_all_that_it_declared() {
    let mut history = with_files(&[(0, &[1, 2, 3]), (1, &[1]), (2, &[4, 5])]);
    history.step(&Step::Delete(0));
    history.step(&Step::Delete(2));
    history.come_to_rest();
    assert_eq!((history.running.len(), history.held().len()), (5, 4));
    history.step(&Step::Write(0, declares(&[1, 2, 3])));
    history.come_to_rest();
    history.step(&Step::Delete(1));
    history.come_to_rest();
    let left: Vec<&str> = history.running.keys().map(Key::as_str).collect();
    assert_eq!(left, ["ns:t1:p", "ns:t2:p", "ns:t3:p"]);
}
