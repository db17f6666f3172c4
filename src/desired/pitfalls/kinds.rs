//! What is not simply a file in a folder.

use super::world::{World, instance, is_root};
use crate::desired::sight::Outcome;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn a_link_that_cannot_be_followed_keeps_what_it_declared() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write(".real", instance("a"));
    symlink(".real", world.path("a.yaml")).expect("linked");
    assert_eq!(world.look(0).look(600).keys(), ["ns:a:p"]);
    fs::remove_file(world.path(".real")).expect("removed");
    world.settle();
    assert_eq!((world.keys(), world.kinds("ns:a:p")), (vec!["ns:a:p"], vec!["InvalidFile"]));
    fs::remove_file(world.path("a.yaml")).expect("removed");
    assert_eq!(world.settle().keys(), [""; 0]);
}

#[test]
fn a_link_to_a_folder_that_cannot_be_followed_fails_the_scan() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    let outside = world.folder.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("a.yaml"), instance("a")).expect("written");
    symlink(&outside, world.path("sub")).expect("linked");
    assert_eq!(world.look(0).look(600).keys(), ["ns:a:p"], "a link that leaves the root is followed");
    let mut world = world.restarted();
    fs::rename(&outside, world.folder.path().join("elsewhere")).expect("renamed");
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p"]);
    assert!(matches!(world.outcome, Outcome::Failed(_)));
}

#[test]
fn links_that_lead_in_circles_are_walked_once() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("sub/a.yaml", instance("a"));
    symlink("..", world.path("sub/up")).expect("linked");
    symlink(".", world.path("sub/here")).expect("linked");
    symlink("self", world.path("self")).expect("linked");
    symlink("self.yaml", world.path("self.yaml")).expect("linked");
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p"]);
    assert_eq!(world.outcome, Outcome::Complete);
}

#[test]
fn a_configmap_that_swaps_its_data_changes_only_what_changed() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("..1/a.yaml", instance("a"));
    world.write("..1/b.yaml", instance("b"));
    symlink("..1", world.path("..data")).expect("linked");
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), world.path(name)).expect("linked");
    }
    assert_eq!(world.look(0).look(600).keys(), ["ns:a:p", "ns:b:p"], "nothing is read twice");
    assert!(world.complaints().is_empty(), "{}", world.complaints());
    world.write("..2/a.yaml", instance("a"));
    world.write("..2/b.yaml", "pattern: p\nnamespace: b\nstate: stopped\n");
    symlink("..2", world.path("..data_tmp")).expect("linked");
    fs::rename(world.path("..data_tmp"), world.path("..data")).expect("swapped");
    world.look(10);
    fs::remove_dir_all(world.path("..1")).expect("removed");
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p", "ns:b:p"], 1));
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn a_file_that_becomes_a_fifo_a_device_or_a_folder_is_absent() {
    for kind in [Some(FileType::Fifo), Some(FileType::Socket), None] {
        let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
        world.write("a.yaml", instance("a"));
        world.look(0).look(600);
        fs::remove_file(world.path("a.yaml")).expect("removed");
        match kind {
            Some(kind) => mknodat(CWD, world.path("a.yaml"), kind, Mode::RUSR, 0).expect("made"),
            None => world.write("a.yaml/b.yaml", instance("b")),
        }
        world.settle();
        let expected: &[&str] = if kind.is_none() { &["ns:b:p"] } else { &[] };
        assert_eq!(world.keys(), expected, "{kind:?}");
    }
}

#[test]
fn a_device_is_not_opened() {
    if !is_root("making a device") {
        return;
    }
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    // A device of a number that no driver has: opening it would be an error, and shown.
    if mknodat(CWD, world.path("b.yaml"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(240, 99)).is_err()
    {
        eprintln!("skipped: no devices can be made here");
        return;
    }
    symlink("/dev/zero", world.path("c.yaml")).expect("linked");
    world.settle();
    assert_eq!((world.keys(), world.complaints().as_str()), (vec!["ns:a:p"], ""));
}

#[test]
fn a_huge_file_is_not_read() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    let reads = world.scanner.cost().reads;
    let file = fs::OpenOptions::new().write(true).open(world.path("a.yaml")).expect("opened");
    file.set_len(100 << 20).expect("grown");
    drop(file);
    world.settle();
    assert_eq!((world.keys(), world.kinds("ns:a:p")), (vec!["ns:a:p"], vec!["InvalidFile"]));
    assert_eq!(world.scanner.cost().reads, reads);
}

#[test]
fn an_unreadable_file_keeps_what_it_declared() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    let Some(_user) = ordinary_user("an unreadable file") else { return };
    fs::set_permissions(world.path("a.yaml"), fs::Permissions::from_mode(0o000)).expect("set");
    if fs::read(world.path("a.yaml")).is_ok() {
        eprintln!("skipped: this process reads everything");
        return;
    }
    world.settle();
    assert_eq!((world.keys(), world.kinds("ns:a:p")), (vec!["ns:a:p"], vec!["InvalidFile"]));
}

#[test]
fn an_unreadable_folder_fails_the_scan_and_new_files_elsewhere_still_count() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("sub/a.yaml", instance("a"));
    world.write("b.yaml", instance("b"));
    world.look(0).look(600);
    let Some(_user) = ordinary_user("an unreadable folder") else { return };
    fs::set_permissions(world.path("sub"), fs::Permissions::from_mode(0o000)).expect("set");
    if fs::read_dir(world.path("sub")).is_ok() {
        eprintln!("skipped: this process reads everything");
        return;
    }
    fs::remove_file(world.path("b.yaml")).expect("removed");
    world.write("c.yaml", instance("c"));
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p", "ns:b:p", "ns:c:p"], "nothing ends by a scan that is not complete");
    assert!(world.complaints().contains("ScanFailed"), "{}", world.complaints());
    fs::set_permissions(world.path("sub"), fs::Permissions::from_mode(0o755)).expect("set");
    assert_eq!(world.settle().keys(), ["ns:a:p", "ns:c:p"]);
}

/// Makes this thread one that may not read everything, until dropped.
fn ordinary_user(what: &str) -> Option<Ordinary> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let before = capabilities(None).ok()?;
    let mut without = before;
    let all = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    without.effective -= all;
    if set_capabilities(None, without).is_err() {
        eprintln!("skipped: {what} cannot be had, since capabilities cannot be dropped");
        return None;
    }
    Some(Ordinary(before))
}

struct Ordinary(rustix::thread::CapabilitySets);

impl Drop for Ordinary {
    fn drop(&mut self) {
        rustix::thread::set_capabilities(None, self.0).expect("capabilities come back");
    }
}

#[test]
fn folders_nested_too_deep_fail_the_scan() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    let deep: String = "d/".repeat(60);
    world.write(&format!("{deep}b.yaml"), instance("b"));
    assert_eq!(world.look(0).look(600).keys(), ["ns:a:p", "ns:b:p"]);
    world.write(&format!("{}c.yaml", "d/".repeat(70)), instance("c"));
    fs::remove_file(world.path("a.yaml")).expect("removed");
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p", "ns:b:p"]);
    assert!(world.complaints().contains("folders deep"), "{}", world.complaints());
}

#[test]
fn ten_thousand_unchanged_files_cost_a_stat_each() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    for number in 0..10_000 {
        fs::write(world.path(&format!("{number}.yaml")), "").expect("written");
    }
    world.look(0).look(600);
    let (before, messages) = (world.scanner.cost(), world.messages);
    world.look(5_000);
    let after = world.scanner.cost();
    assert_eq!((after.reads - before.reads, after.stats - before.stats), (0, 10_000));
    assert_eq!(world.messages, messages);
}

#[test]
fn a_hundred_thousand_files_are_walked_and_more_than_the_limit_fail_the_scan() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    for number in 0..1_000 {
        world.write(&format!("many/{number}"), "");
    }
    for link in 0..99 {
        symlink("many", world.path(&format!("link-{link}"))).expect("linked");
    }
    assert_eq!(world.look(0).keys(), ["ns:a:p"]);
    assert_eq!(world.outcome, Outcome::Complete);
    for link in 99..210 {
        symlink("many", world.path(&format!("link-{link}"))).expect("linked");
    }
    fs::remove_file(world.path("a.yaml")).expect("removed");
    world.look(10).look(2_100);
    assert!(matches!(world.outcome, Outcome::Failed(_)), "{:?}", world.outcome);
    assert_eq!(world.keys(), ["ns:a:p"]);
}

#[test]
fn a_name_that_is_not_text_is_told_and_not_read() {
    use std::os::unix::ffi::OsStrExt;
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    let name = std::ffi::OsStr::from_bytes(b"a\xff.yaml");
    if fs::write(world.root.join(name), instance("a")).is_err() {
        eprintln!("skipped: the file system allows no such name");
        return;
    }
    world.settle();
    assert_eq!(world.keys(), [""; 0]);
    assert!(world.complaints().contains("not UTF-8"), "{}", world.complaints());
}
