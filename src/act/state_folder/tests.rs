use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use tempfile::TempDir;

fn held() -> (TempDir, PathBuf, Arc<StateFolder>) {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("deep/state");
    let held = StateFolder::acquire(&state).expect("it is held");
    (folder, state, held)
}

/// Whether a launcher that is started now would be kept out of the folder.
fn keeps_out(state: &Path) -> bool {
    Lock::take(state).is_err_and(|error| error.context_value("state_dir").is_some() && error.cause().is_none())
}

fn pid_in(state: &Path) -> String {
    fs::read_to_string(state.join(LOCK_FILE)).expect("a lock").trim().to_owned()
}

#[test]
fn a_state_folder_is_held_by_one_and_let_go_of_with_it() {
    let (_folder, state, held) = held();
    assert_eq!(fs::metadata(&state).expect("made").permissions().mode() & 0o777, 0o700);
    assert_eq!(pid_in(&state), std::process::id().to_string());
    assert!(keeps_out(&state));
    held.let_go();
    drop(StateFolder::acquire(&state).expect("the next"));
}

#[test]
fn a_folder_that_nothing_happened_to_stays_as_it_is() {
    let (_folder, state, held) = held();
    let before = Identity::of(&state.join(LOCK_FILE)).expect("a lock");
    held.hold().expect("it is held");
    assert_eq!(Identity::of(&state.join(LOCK_FILE)).expect("a lock"), before);
    assert_eq!((held.incidents(), held.trouble()), (0, None));
}

#[test]
fn a_folder_that_was_removed_or_renamed_is_made_and_locked_again() {
    for parent_too in [true, false] {
        let (folder, state, held) = held();
        if parent_too {
            fs::remove_dir_all(state.parent().expect("a parent")).expect("removed");
        } else {
            fs::rename(&state, folder.path().join("elsewhere")).expect("renamed");
        }
        held.hold().expect("it is held again");
        assert_eq!(fs::metadata(&state).expect("made").permissions().mode() & 0o777, 0o700);
        assert_eq!(pid_in(&state), std::process::id().to_string());
        assert!(keeps_out(&state));
        // Where it is renamed what is recorded in it still describes what lives.
        assert!(parent_too || keeps_out(&folder.path().join("elsewhere")));
        let trouble = held.trouble().expect("it is told until all of it is there again");
        assert!(trouble.message().contains("removed or renamed"), "{trouble}");
        assert!(!held.mended(0), "what was made before that is gone");
        assert!(held.mended(held.incidents()));
        assert_eq!(held.trouble(), None);
    }
}

#[test]
fn a_lock_that_was_removed_or_replaced_is_taken_again() {
    for replaced in [true, false] {
        let (_folder, state, held) = held();
        fs::remove_file(state.join(LOCK_FILE)).expect("removed");
        if replaced {
            fs::write(state.join(LOCK_FILE), "not a pid").expect("written");
        }
        held.hold().expect("it is held again");
        assert_eq!((pid_in(&state), held.incidents()), (std::process::id().to_string(), 1));
        assert!(keeps_out(&state));
    }
}

/// Somebody else's hold of a state folder, as another process has it.
fn stranger(state: &Path) -> File {
    fs::create_dir_all(state).expect("made");
    lock_file(state, &state.join(LOCK_FILE)).expect("nobody holds it")
}

#[test]
fn nothing_is_made_in_a_folder_that_another_holds_until_it_is_let_go_of() {
    let (folder, state, held) = held();
    let away = folder.path().join("away");
    fs::rename(&state, &away).expect("renamed");
    let other = stranger(&state);
    fs::write(state.join(LOCK_FILE), "4711\n").expect("written");
    for _ in 0..2 {
        held.hold().expect_err("another holds it");
        assert_eq!(fs::read_to_string(state.join(LOCK_FILE)).expect("a lock"), "4711\n");
        assert_eq!(fs::read_dir(&state).expect("a folder").count(), 1, "nothing is made there");
        assert!(keeps_out(&away), "the former lock is kept until there is a new one");
    }
    assert_eq!(held.incidents(), 0);
    assert!(held.trouble().is_some());
    drop(other);
    held.hold().expect("it is held again");
    assert_eq!((pid_in(&state), held.incidents()), (std::process::id().to_string(), 1));
    assert!(keeps_out(&state));
}

#[test]
fn a_lock_that_was_replaced_while_it_was_taken_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path();
    let taken = stranger(state);
    fs::remove_file(state.join(LOCK_FILE)).expect("removed");
    drop(Lock::of(state, taken).expect_err("nobody is kept out by it"));
    let taken = stranger(state);
    Lock::of(state, taken).expect("it is that of the folder");
}

#[test]
fn a_holder_in_another_process_is_told_with_its_pid_and_what_to_do() {
    let error = given_way(Error::new(Code::AlreadyRunning, "Another launcher holds the state folder").with("pid", 7));
    assert!(error.suggestion().is_some_and(|text| text.contains("kill 7") && text.contains("by itself")), "{error}");
}

#[test]
fn a_folder_that_comes_back_under_its_name_is_taken_again() {
    let (folder, state, held) = held();
    let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
    let first = Identity::of(&state).expect("a folder");
    for round in 1..4 {
        fs::rename(&state, &old).expect("renamed");
        held.hold().expect("another is made");
        assert_ne!(Identity::of(&state).expect("a folder"), first);
        fs::rename(&state, &new).expect("renamed");
        fs::rename(&old, &state).expect("renamed back");
        held.hold().expect("the first is taken again");
        assert_eq!((Identity::of(&state).expect("a folder"), held.incidents()), (first, 2 * round));
        assert!(keeps_out(&state) && keeps_out(&new));
        fs::remove_dir_all(&new).expect("removed");
    }
    held.let_go();
    drop(StateFolder::acquire(&state).expect("the next"));
}

#[test]
fn what_is_in_the_way_is_told_and_the_folder_is_made_when_it_is_gone() {
    let (_folder, state, held) = held();
    let block: [fn(&Path); 2] =
        [|path| fs::write(path, "a file").expect("written"), |path| symlink("/nowhere/at/all", path).expect("a link")];
    for block in block {
        fs::remove_dir_all(&state).expect("removed");
        block(&state);
        let error = held.hold().expect_err("it cannot be made");
        assert_eq!(error.code(), Code::StoreUnavailable);
        assert!(error.suggestion().is_some_and(|text| text.contains("mv it elsewhere")), "{error}");
        assert_eq!(held.trouble(), Some(error));
        fs::remove_file(&state).expect("removed");
        held.hold().expect("it is made");
        assert!(keeps_out(&state));
    }
}

#[test]
fn nothing_is_made_anew_once_it_has_been_let_go_of() {
    let (_folder, state, held) = held();
    held.let_go();
    fs::remove_dir_all(&state).expect("removed");
    held.hold().expect_err("it is over");
    assert!(!state.exists());
}
