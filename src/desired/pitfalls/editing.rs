//! People, editors and copies at work on single files.

use super::world::{World, instance};
use std::fs::{self, File, OpenOptions};
use std::io::Write;

#[test]
fn a_file_that_nobody_writes_counts_at_once_and_an_unchanged_world_says_nothing() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.look(0);
    world.write("a.yaml", instance("a"));
    world.look(1);
    assert_eq!(world.keys(), ["ns:a:p"]);
    world.look(600);
    let (messages, cost) = (world.messages, world.scanner.cost());
    for _ in 0..5 {
        world.look(30_000);
    }
    assert_eq!(world.messages, messages);
    assert_eq!(world.scanner.cost().reads, cost.reads, "nothing is read again");
    assert_eq!(world.scanner.cost().stats, cost.stats + 5, "one stat for the one file of each scan");
}

#[test]
fn a_file_that_is_open_for_writing_counts_once_it_has_held_still() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    let mut file = File::create(world.path("a.yaml")).expect("created");
    file.write_all(b"pattern: p\nnamespace: aa").expect("written");
    assert_eq!(world.look(0).keys(), [""; 0]);
    file.write_all(b"bb\n").expect("written");
    assert_eq!(world.look(400).keys(), [""; 0], "half-written content parses and must not count");
    assert_eq!(world.look(400).keys(), [""; 0]);
    assert_eq!(world.look(200).keys(), ["ns:aabb:p"]);
}

#[test]
fn a_half_written_change_changes_nothing() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", "pattern: p\nnamespace: a\nconfig: { A: \"1\" }\n");
    world.look(0).look(600);
    let mut file = OpenOptions::new().write(true).truncate(true).open(world.path("a.yaml")).expect("opened");
    world.look(100);
    for part in ["pattern: p\n", "namespace: a\n", "config: { A: \"1\" }\n"] {
        file.write_all(part.as_bytes()).expect("written");
        world.look(300);
    }
    drop(file);
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p"], 0));
}

#[test]
fn an_editor_that_writes_a_temporary_file_and_renames_it_edits_once() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    world.write("4913", "");
    world.look(5);
    fs::remove_file(world.path("4913")).expect("removed");
    world.write(".a.yaml.swp", "b0VIM");
    fs::rename(world.path("a.yaml"), world.path("a.yaml~")).expect("renamed");
    world.look(5);
    assert_eq!(world.keys(), ["ns:a:p"]);
    world.write("a.yaml", "pattern: p\nnamespace: a\nstate: stopped\n");
    world.look(5).settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p"], 1));
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn an_emptied_file_keeps_what_it_declared_and_says_so() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    for empty in ["", "\n\n", "# nothing\n"] {
        world.write("a.yaml", empty);
        world.settle();
        assert_eq!(world.keys(), ["ns:a:p"]);
        assert_eq!(world.kinds("ns:a:p"), ["InvalidFile"]);
    }
    fs::remove_file(world.path("a.yaml")).expect("removed");
    assert_eq!(world.settle().keys(), [""; 0]);
}

#[test]
fn a_file_that_never_declared_anything_may_be_empty() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", "");
    world.settle();
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn a_deleted_file_ends_its_process_after_two_scans_two_seconds_apart() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.write("b.yaml", instance("b"));
    world.look(0).look(600);
    fs::remove_file(world.path("a.yaml")).expect("removed");
    world.look(10).look(1_990);
    assert_eq!(world.keys(), ["ns:a:p", "ns:b:p"]);
    assert_eq!(world.look(20).keys(), ["ns:b:p"]);
}

#[test]
fn a_file_that_comes_back_in_time_was_never_away() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    let messages = world.messages;
    for _ in 0..5 {
        fs::remove_file(world.path("a.yaml")).expect("removed");
        world.look(1_500);
        world.write("a.yaml", instance("a"));
        world.look(1_500);
    }
    assert_eq!((world.keys(), world.messages), (vec!["ns:a:p"], messages));
}

#[test]
fn a_renamed_file_changes_nothing_but_where_it_is_declared() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    fs::rename(world.path("a.yaml"), world.path("z.yaml")).expect("renamed");
    world.look(10);
    assert!(world.complaints().is_empty(), "{}", world.complaints());
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p"], 0));
    let origin = &world.running.values().next().expect("one").origin;
    assert_eq!(origin.file.to_str(), Some("z.yaml"));
}

#[test]
fn an_instance_that_moves_to_another_file_goes_on() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", format!("{}---\n{}", instance("a"), instance("b")));
    world.look(0).look(600);
    world.write("a.yaml", instance("a"));
    world.look(10).look(1_000);
    world.write("b.yaml", instance("b"));
    world.look(10).settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p", "ns:b:p"], 0));
    let origin = &world.running.values().last().expect("two").origin;
    assert_eq!(origin.file.to_str(), Some("b.yaml"));
}

#[test]
fn an_instance_that_is_edited_out_ends_and_the_others_go_on() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", "pattern: p\nnamespaces: [a, b, c]\n");
    world.look(0).look(600);
    world.write("a.yaml", "pattern: p\nnamespaces: [a, c]\n");
    world.look(10);
    assert_eq!(world.keys(), ["ns:a:p", "ns:b:p", "ns:c:p"]);
    assert_eq!(world.look(2_100).keys(), ["ns:a:p", "ns:c:p"]);
}

#[test]
fn rewriting_a_file_with_the_same_meaning_changes_nothing() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    for same in ["namespace: \"a\"\npattern: p\n", "{pattern: p, namespace: a}\n", "pattern: p\r\nnamespace: a\r\n"] {
        world.write("a.yaml", same);
        world.settle();
        assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p"], 0), "{same}");
    }
}

#[test]
fn a_modification_time_that_does_not_move_or_moves_back_hides_nothing() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    let modified = fs::metadata(world.path("a.yaml")).and_then(|m| m.modified()).expect("a time");
    for (back, state) in [(0, "stopped"), (86_400, "running"), (172_800, "stopped")] {
        world.write("a.yaml", format!("pattern: p\nnamespace: a\nstate: {state}\n"));
        let file = File::options().write(true).open(world.path("a.yaml")).expect("opened");
        file.set_modified(modified - std::time::Duration::from_secs(back)).expect("set");
        drop(file);
        world.settle();
        let found = world.running.values().next().expect("one").content.state;
        assert_eq!(format!("{found:?}").to_lowercase(), state);
    }
}

#[test]
fn a_file_that_is_written_in_other_words_says_nothing() {
    let mut world = World::new(|root| std::fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.settle();
    let messages = world.messages;
    world.write("a.yaml", "pattern: \"p\" # the same\nnamespace: a\n");
    world.settle();
    assert_eq!((world.keys(), world.messages), (vec!["ns:a:p"], messages));
}
