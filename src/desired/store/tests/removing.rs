//! Ending launched instances by request, by hand, and by both.

use super::*;
use crate::observed::event::EndedLaunch;

#[test]
fn a_removal_ends_at_once_and_says_so() {
    let mut bench = Bench::new();
    bench.launch(spec("a")).expect("launched");
    let grace = Some(Duration::from_secs(2));
    let (write, answer) = asked(|reply| What::Remove { key: key_of("ns:a:p"), grace, by: BY, reply: Some(reply) });
    bench.write(vec![write]);
    answer.get().expect("removed");
    let change = bench.changes.last().expect("a change");
    assert_eq!(change.ended, [EndedLaunch { key: key_of("ns:a:p"), grace, by: BY }]);
    assert_eq!(change.withdrawn, [key_of("ns:a:p")]);
    assert!(bench.names().is_empty());
    assert_eq!(bench.remove("ns:a:p").expect_err("it is gone").code(), Code::ProcessNotFound);
    assert!(bench.restarted().settle().running.is_empty());
}

#[test]
fn what_is_removed_by_request_is_no_mass_deletion() {
    let mut bench = Bench::new();
    for n in 0..8 {
        bench.launch(spec(&format!("t{n}"))).expect("launched");
    }
    AHEAD.set(AHEAD.get() + Duration::from_secs(120));
    bench.settle();
    for n in 0..7 {
        bench.remove(&format!("ns:t{n}:p")).expect("removed");
        bench.look();
    }
    assert_eq!(bench.settle().keys(), ["ns:t7:p"]);
    fs::remove_file(bench.file("ns:t7:p")).expect("deleted by hand");
    assert!(bench.settle().running.is_empty(), "one of one is no mass deletion");
}

#[test]
fn launched_files_that_are_deleted_by_hand_are_guarded() {
    let mut bench = Bench::new();
    for n in 0..4 {
        bench.launch(spec(&format!("t{n}"))).expect("launched");
    }
    AHEAD.set(AHEAD.get() + Duration::from_secs(120));
    bench.settle();
    for n in 0..4 {
        fs::remove_file(bench.file(&format!("ns:t{n}:p"))).expect("deleted by hand");
    }
    assert_eq!(bench.settle().running.len(), 4);
    bench.remove("ns:t0:p").expect("what is held may be ended by request");
    assert_eq!(bench.settle().running.len(), 3);
    assert!(bench.launch(spec("t1")).expect("written again").created);
    assert_eq!(bench.settle().keys(), ["ns:t1:p"], "with one of three back, the deletion of two is believed");
    assert_eq!(bench.names().len(), 1);
}

#[test]
fn a_file_that_was_deleted_by_hand_a_moment_ago_is_written_again_by_a_launch() {
    let mut bench = Bench::new();
    bench.launch(spec("a")).expect("launched");
    fs::remove_file(bench.file("ns:a:p")).expect("deleted by hand");
    assert!(bench.launch(spec("a")).expect("launched").created, "an answered launch must be on disk");
    assert_eq!(bench.settle().keys(), ["ns:a:p"]);
    fs::remove_file(bench.file("ns:a:p")).expect("deleted by hand");
    bench.look();
    assert!(bench.launch(spec("a")).expect("launched").created);
    assert_eq!(bench.settle().keys(), ["ns:a:p"]);
    fs::remove_file(bench.file("ns:a:p")).expect("deleted by hand");
    bench.remove("ns:a:p").expect("it ends at once");
    assert!(bench.running.is_empty());
}

#[test]
fn an_update_of_a_file_that_was_deleted_by_hand_does_not_bring_it_back() {
    let mut bench = Bench::new();
    bench.launch(spec("a")).expect("launched");
    fs::remove_file(bench.file("ns:a:p")).expect("deleted by hand");
    assert_eq!(bench.update("ns:a:p", config("1"), None).expect_err("deleted").code(), Code::ProcessNotFound);
    assert!(bench.names().is_empty());
}

#[test]
fn an_edit_by_hand_is_looked_at_before_anything_is_written_over_it() {
    let mut bench = Bench::new();
    bench.launch(with_config(spec("a"), "1")).expect("launched");
    let file = bench.file("ns:a:p");
    let edited = "pattern: p\nisolation: namespace\nnamespace: a\nconfig: { X: hand, Y: hand }\n";
    fs::write(&file, edited).expect("edited");
    let edit = Edit { grace_period: Some(Duration::from_secs(1)), ..Edit::default() };
    let expected = Arc::clone(&bench.running[&key_of("ns:a:p")]);
    let moved = bench.update("ns:a:p", edit.clone(), Some(expected)).expect("an outcome");
    assert!(matches!(moved, UpdateOutcome::Moved(_)), "{moved:?}");
    bench.update("ns:a:p", edit, None).expect("updated");
    assert_eq!((bench.config("ns:a:p", "X"), bench.config("ns:a:p", "Y")), (Some("hand"), Some("hand")));
    fs::write(&file, format!("{edited}---\npattern: q\nisolation: namespace\nnamespace: a\n")).expect("edited");
    bench.remove("ns:a:p").expect("removed");
    assert_eq!(bench.settle().keys(), ["ns:a:q"]);
}

#[test]
fn a_file_that_was_edited_into_something_wrong_is_left_alone_unless_it_says_nothing_else() {
    let mut bench = Bench::new();
    bench.launch(spec("a")).expect("launched");
    fs::write(bench.file("ns:a:p"), "pattern: [").expect("edited");
    bench.settle();
    let error = bench.update("ns:a:p", config("1"), None).expect_err("wrong");
    assert_eq!(error.code(), Code::DeclaredByFile);
    bench.remove("ns:a:p").expect("removed");
    assert!(bench.names().is_empty() && bench.settle().running.is_empty());
    let both = "pattern: p\nisolation: namespace\nnamespaces: [b, c]\n";
    fs::write(bench.launched().join("hand.yaml"), both).expect("written");
    bench.settle();
    fs::write(bench.launched().join("hand.yaml"), "pattern: [").expect("edited");
    bench.settle();
    assert_eq!(bench.remove("ns:b:p").expect_err("unclear").code(), Code::DeclaredByFile);
    assert_eq!(bench.settle().keys(), ["ns:b:p", "ns:c:p"]);
}

#[test]
fn a_launcher_that_starts_while_what_was_removed_still_ends_does_not_bring_it_back() {
    let mut bench = Bench::new();
    for n in 0..5 {
        bench.launch(spec(&format!("t{n}"))).expect("launched");
    }
    let before: Vec<Arc<Instance>> = bench.running.values().cloned().collect();
    for n in 0..4 {
        bench.remove(&format!("ns:t{n}:p")).expect("removed");
    }
    bench.launch(spec("t3")).expect("launched again");
    drop(bench.pass);
    let mut bench = Bench::over(bench.folder, &before);
    assert_eq!(bench.keys(), ["ns:t3:p", "ns:t4:p"], "the first look tells");
    fs::remove_file(bench.file("ns:t3:p")).expect("deleted by hand");
    bench.look();
    assert_eq!(bench.running.len(), 2, "what is deleted by hand has to be gone for a while");
    assert_eq!(bench.settle().keys(), ["ns:t4:p"]);
}

#[test]
fn a_file_that_something_else_has_replaced_is_in_the_way() {
    let mut bench = Bench::new();
    bench.launch(spec("a")).expect("launched");
    let file = bench.file("ns:a:p");
    fs::remove_file(&file).expect("deleted by hand");
    fs::create_dir(&file).expect("a folder in its place");
    bench.look();
    assert_eq!(bench.launch(spec("a")).expect_err("in the way").code(), Code::DeclaredByFile);
    fs::remove_dir(&file).expect("removed");
    assert!(bench.launch(spec("a")).expect("launched").created);
}
