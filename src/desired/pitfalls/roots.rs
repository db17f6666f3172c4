//! What can happen to a root as a whole.

use super::world::{World, instance, is_root};
use crate::desired::sight::Outcome;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Writes instances `a`, `b` … into a folder.
fn fill(folder: &Path, count: u8) {
    fs::create_dir_all(folder).expect("a folder");
    for letter in (b'a'..).take(usize::from(count)) {
        let letter = char::from(letter).to_string();
        fs::write(folder.join(format!("{letter}.yaml")), instance(&letter)).expect("written");
    }
}

#[test]
fn a_root_that_is_a_link_flips_without_one_restart_and_its_old_checkout_may_go() {
    let mut world = World::new(|root| {
        let base = root.parent().expect("a parent");
        fill(&base.join("one"), 6);
        symlink("one", root).expect("linked");
    });
    world.look(0).look(600);
    let base = world.folder.path().to_path_buf();
    fill(&base.join("two"), 6);
    fs::write(base.join("two/b.yaml"), "pattern: p\nnamespace: b\nstate: stopped\n").expect("written");
    symlink("two", base.join("tmp")).expect("linked");
    fs::rename(base.join("tmp"), &world.root).expect("flipped");
    fs::remove_dir_all(base.join("one")).expect("removed");
    world.look(5).settle();
    assert_eq!((world.keys().len(), world.restarts), (6, 1));
    assert_eq!(world.outcome, Outcome::Complete);
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn an_ancestor_of_a_root_may_flip() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(&folder.path().join("one/desired"), 5);
    fill(&folder.path().join("two/desired"), 5);
    symlink("one", folder.path().join("current")).expect("linked");
    let spec = crate::desired::root::RootSpec::open(folder.path().join("current/desired"));
    let mut world = World::over(folder, spec);
    world.look(0).look(600);
    let base = world.folder.path().to_path_buf();
    symlink("two", base.join("tmp")).expect("linked");
    fs::rename(base.join("tmp"), base.join("current")).expect("flipped");
    fs::remove_dir_all(base.join("one")).expect("removed");
    let messages = world.messages;
    world.settle();
    assert_eq!((world.keys().len(), world.restarts, world.messages), (5, 0, messages));
}

#[test]
fn a_missing_root_ends_nothing_and_says_so() {
    let mut world = World::new(|root| fill(root, 2));
    world.look(0).look(600);
    fs::remove_dir_all(&world.root).expect("removed");
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p", "ns:b:p"]);
    assert!(world.complaints().contains("ScanFailed"), "{}", world.complaints());
    fill(&world.root, 2);
    let mut world = world.restarted();
    world.settle();
    assert_eq!((world.keys().len(), world.restarts), (2, 0));
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn a_root_that_is_absent_at_the_start_is_read_once_it_comes() {
    let mut world = World::new(|_| {});
    world.settle();
    assert!(!world.status.roots[0].ready);
    fill(&world.root, 2);
    world.look(10).look(10);
    assert_eq!(world.keys().len(), 2);
    assert!(world.status.roots[0].ready);
}

#[test]
fn a_root_that_was_absent_while_the_launcher_was_away_ends_nothing() {
    let mut world = World::new(|root| fill(root, 2));
    world.look(0).look(600);
    fs::remove_dir_all(&world.root).expect("removed");
    let mut world = world.restarted();
    world.settle();
    assert_eq!(world.keys().len(), 2);
}

#[test]
fn a_root_that_is_replaced_by_an_empty_folder_ends_nothing_until_confirmed() {
    for restart in [false, true] {
        let mut world = World::new(|root| fill(root, 1));
        world.look(0).look(600);
        fs::rename(&world.root, world.folder.path().join("away")).expect("renamed");
        fs::create_dir(&world.root).expect("a new root");
        if restart {
            world = world.restarted();
        }
        world.settle();
        assert_eq!(world.keys(), ["ns:a:p"]);
        assert!(world.complaints().contains("PruneBlocked"), "{}", world.complaints());
        let token = token(&world.complaints());
        assert!(world.desired.confirm(&token), "{token}");
        assert_eq!(world.look(10).keys(), [""; 0]);
    }
}

fn token(complaints: &str) -> String {
    let (_, rest) = complaints.split_once("confirm-prune ").expect("a token");
    rest.chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn deleting_the_only_file_of_a_root_ends_its_process() {
    let mut world = World::new(|root| fill(root, 1));
    world.look(0).look(600);
    fs::remove_file(world.path("a.yaml")).expect("removed");
    assert_eq!(world.settle().keys(), [""; 0]);
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn an_emptied_root_is_held_and_goes_on_when_enough_is_back() {
    let mut world = World::new(|root| fill(root, 8));
    world.look(0).look(600);
    for letter in 'a'..='h' {
        fs::remove_file(world.path(&format!("{letter}.yaml"))).expect("removed");
    }
    world.settle();
    assert_eq!(world.keys().len(), 8);
    assert_eq!(world.kinds("ns:c:p"), ["PruneBlocked"]);
    let mut world = world.restarted();
    world.settle();
    assert_eq!(world.keys().len(), 8, "also after a restart");
    fill(&world.root, 6);
    world.settle();
    assert_eq!((world.keys().len(), world.restarts), (6, 0), "two of eight are no mass deletion");
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn what_the_launcher_itself_deletes_is_no_mass_deletion() {
    let mut world = World::new(|root| fill(root, 5));
    world.look(0).look(600);
    for letter in 'a'..='e' {
        let path = world.path(&format!("{letter}.yaml"));
        world.desired.expect_deletion(&path);
        fs::remove_file(path).expect("removed");
    }
    assert_eq!(world.look(10).keys(), [""; 0]);
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn a_confirmation_names_exactly_what_is_held() {
    let mut world = World::new(|root| fill(root, 5));
    world.look(0).look(600);
    for letter in ["a", "b", "c", "d"] {
        fs::remove_file(world.path(&format!("{letter}.yaml"))).expect("removed");
    }
    world.settle();
    let first = token(&world.complaints());
    fs::remove_file(world.path("e.yaml")).expect("removed");
    world.settle();
    assert!(!world.desired.confirm(&first), "one more has gone since");
    assert_eq!(world.look(10).keys().len(), 5);
    let second = token(&world.complaints());
    assert!(world.desired.confirm(&second));
    assert_eq!(world.look(10).keys(), [""; 0]);
}

#[test]
fn a_root_that_left_the_configuration_is_guarded_like_any_deletion() {
    for (count, left) in [(2, 0), (5, 5)] {
        let mut world = World::new(|root| fill(root, count));
        world.look(0).look(600);
        let other = world.folder.path().join("other");
        fs::create_dir(&other).expect("a folder");
        let mut world = world.moved_to(other);
        world.settle();
        assert_eq!(world.keys().len(), left, "{}", world.complaints());
        assert_eq!(world.complaints().contains("PruneBlocked"), left > 0);
    }
}

#[test]
fn while_git_is_at_work_nothing_ends() {
    let mut world = World::new(|root| fill(root, 2));
    let git = world.folder.path().join(".git");
    fs::create_dir(&git).expect("a folder");
    world.look(0).look(600);
    fs::write(git.join("index.lock"), "").expect("locked");
    fs::remove_file(world.path("a.yaml")).expect("removed");
    world.look(10).look(2_100).look(2_100);
    assert_eq!(world.keys().len(), 2);
    assert!(world.complaints().is_empty(), "git may take its time: {}", world.complaints());
    world.look(30_000);
    assert!(world.complaints().contains("index.lock"), "{}", world.complaints());
    fs::remove_file(git.join("index.lock")).expect("unlocked");
    assert_eq!(world.settle().keys(), ["ns:b:p"]);
}

#[test]
fn the_index_of_a_linked_work_tree_is_found() {
    let mut world = World::new(|root| fill(root, 2));
    let git = world.folder.path().join("repository/worktrees/one");
    fs::create_dir_all(&git).expect("a folder");
    fs::write(world.path(".git"), format!("gitdir: {}\n", git.display())).expect("written");
    fs::write(git.join("index.lock"), "").expect("locked");
    world.look(0);
    assert!(matches!(world.outcome, Outcome::Busy(_)), "{:?}", world.outcome);
}

/// A file system in memory, mounted on a folder until it is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn on(folder: &Path) -> Option<Self> {
        run("mount", &["-t".as_ref(), "tmpfs".as_ref(), "tmpfs".as_ref(), folder]).then(|| Self(folder.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(run("umount", &["-l".as_ref(), &self.0]), "{} stays mounted", self.0.display());
    }
}

#[expect(clippy::disallowed_methods, reason = "mounting is a matter of the machine's own programs")]
fn run(program: &str, arguments: &[&Path]) -> bool {
    std::process::Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

#[test]
fn an_unmounted_root_ends_nothing() {
    if !is_root("mounting") {
        return;
    }
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    let Some(mounted) = Mounted::on(&world.root) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    fill(&world.root, 2);
    world.look(0).look(600);
    assert_eq!(world.keys().len(), 2);
    drop(mounted);
    world.settle();
    assert_eq!(world.keys().len(), 2, "{}", world.complaints());
    assert!(world.complaints().contains("PruneBlocked"), "{}", world.complaints());
    let again = Mounted::on(&world.root).expect("mounted again");
    fill(&world.root, 2);
    world.settle();
    assert_eq!((world.complaints().as_str(), world.restarts), ("", 0));
    drop(again);
}

#[test]
fn a_file_in_its_place_is_no_root() {
    let mut world = World::new(|root| fill(root, 1));
    world.look(0).look(600);
    fs::remove_dir_all(&world.root).expect("removed");
    fs::write(&world.root, "").expect("written");
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p"]);
}
