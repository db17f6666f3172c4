use super::*;
use crate::model::{Namespace, PatternName, SessionId};

const RANGE: (u32, u32) = (1_879_048_192, 2_147_483_646);

fn held(state: &Path, range: (u32, u32)) -> Tenants {
    Tenants::new(StateFolder::open(state), range)
}

fn session(namespace: &str, session: &str) -> (Isolation, Key) {
    let namespace = Namespace::new(namespace).expect("a name");
    let isolation = Isolation::Session(namespace, SessionId::new(session).expect("a session"));
    let key = isolation.key(&PatternName::new("p").expect("a name"));
    (isolation, key)
}

fn tenant(name: &str, pattern: &str) -> (Isolation, Key) {
    let isolation = Isolation::Namespace(Namespace::new(name).expect("a name"));
    let key = isolation.key(&PatternName::new(pattern).expect("a name"));
    (isolation, key)
}

fn user(tenants: &Tenants, (isolation, key): &(Isolation, Key)) -> u32 {
    tenants.user(isolation, key).expect("a user")
}

#[test]
fn a_namespace_has_one_user_and_a_session_its_own_also_for_the_next_launcher() {
    let state = tempfile::tempdir().expect("a folder");
    let tenants = held(state.path(), RANGE);
    let all = [tenant("a", "p"), tenant("b", "p"), session("a", "1"), session("a", "2"), session("b", "1")];
    let users: Vec<u32> = all.iter().map(|one| user(&tenants, one)).collect();
    assert_eq!(users.iter().collect::<BTreeSet<_>>().len(), all.len(), "{users:?}");
    assert_eq!(user(&tenants, &tenant("a", "q")), users[0], "another pattern of the same tenant");
    let next = held(state.path(), RANGE);
    assert_eq!(all.iter().map(|one| user(&next, one)).collect::<Vec<_>>(), users);
    // What is lost comes out the same unless two names have met.
    std::fs::remove_file(state.path().join(USERS_FILE)).expect("removed");
    assert_eq!(user(&next, &tenant("c", "p")), user(&held(state.path(), RANGE), &tenant("c", "p")));
    assert_eq!(user(&held(state.path(), RANGE), &all[3]), users[3], "all is written again");
}

#[test]
fn a_file_that_was_removed_or_replaced_is_written_again_although_nobody_new_comes() {
    let state = tempfile::tempdir().expect("a folder");
    let file = state.path().join(USERS_FILE);
    let tenants = held(state.path(), RANGE);
    assert_eq!(tenants.mend(), Ok(Presence::Whole));
    assert!(!file.exists(), "there is nothing to be said");
    for name in ["a", "b"] {
        user(&tenants, &tenant(name, "p"));
        assert_eq!(tenants.mend(), Ok(Presence::Whole));
    }
    let whole = std::fs::read_to_string(&file).expect("written");
    // The next launcher has read it before it was needed.
    let next = held(state.path(), RANGE);
    assert_eq!(next.mend(), Ok(Presence::Whole));
    for tenants in [tenants, next] {
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(tenants.mend(), Ok(Presence::Made));
        assert_eq!(std::fs::read_to_string(&file).expect("written"), whole);
        // As a folder that comes back may have it.
        std::fs::write(state.path().join("old"), "7 ns:a\n").expect("written");
        std::fs::rename(state.path().join("old"), &file).expect("renamed");
        assert_eq!((tenants.mend(), tenants.mend()), (Ok(Presence::Made), Ok(Presence::Whole)));
        assert_eq!(std::fs::read_to_string(&file).expect("written"), whole);
    }
}

#[test]
fn no_number_is_given_twice_however_few_there_are() {
    let state = tempfile::tempdir().expect("a folder");
    let tenants = held(state.path(), (5_000, 5_007));
    let users: BTreeSet<u32> = (0..8).map(|n| user(&tenants, &session("a", &n.to_string()))).collect();
    assert_eq!(users, (5_000..=5_007).collect());
    let (isolation, key) = session("a", "one too many");
    let error = tenants.user(&isolation, &key).expect_err("all are taken");
    assert_eq!(error.code(), Code::ResourceLimitExceeded);
    assert_eq!(user(&held(state.path(), (5_000, 5_007)), &session("a", "3")), user(&tenants, &session("a", "3")));
}

#[test]
fn a_line_that_was_cut_off_was_never_used_and_a_wrong_one_stops_what_needs_it() {
    let state = tempfile::tempdir().expect("a folder");
    let file = state.path().join(USERS_FILE);
    let first = user(&held(state.path(), RANGE), &tenant("a", "p"));
    let whole = std::fs::read_to_string(&file).expect("written");
    std::fs::write(&file, format!("{whole}190000")).expect("written");
    let tenants = held(state.path(), RANGE);
    assert_eq!(user(&tenants, &tenant("a", "p")), first);
    let second = user(&tenants, &tenant("b", "p"));
    let next = held(state.path(), RANGE);
    assert_eq!((user(&next, &tenant("a", "p")), user(&next, &tenant("b", "p"))), (first, second));
    for wrong in ["x ns:c\n", "7\n", &format!("{first} ns:c\n"), "7 ns:a\n"] {
        std::fs::write(&file, format!("{whole}{wrong}")).expect("written");
        let (isolation, key) = tenant("b", "p");
        let error = held(state.path(), RANGE).user(&isolation, &key).expect_err(wrong);
        assert_eq!(error.code(), Code::StoreUnavailable, "{wrong}");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}

#[test]
fn folders_of_one_run_go_with_it_and_those_of_a_session_when_it_is_released() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give folders to others");
        return;
    }
    let state = tempfile::tempdir().expect("a folder");
    let tenants = held(state.path(), RANGE);
    let ((_, kept), (_, session)) = (tenant("a", "p"), session("a", "1"));
    let runs = [1, 2].map(RunId::from_random);
    for key in [&kept, &session] {
        tenants.make_folders(key, runs[0], 5_000).expect("made");
        std::fs::write(tenants.folder(key).join(STATE).join("mine"), "x").expect("written");
    }
    let own = |run: RunId| tenants.folder(&kept).join(run.to_string());
    let mode = |path: &Path| path.metadata().map(|found| (found.uid(), found.permissions().mode() & 0o777));
    for each in [own(runs[0]).join(RUNTIME), own(runs[0]).join(TEMPORARY), tenants.folder(&kept).join(STATE)] {
        assert_eq!(mode(&each).expect("there"), (5_000, 0o700), "{}", each.display());
    }
    assert_eq!(mode(&tenants.folder(&kept)).expect("there"), (0, PASSABLE), "a tenant must not put links there");
    tenants.make_folders(&kept, runs[1], 5_000).expect("made");
    assert!(!own(runs[0]).exists(), "what a launcher that died has left");
    tenants.clear(&kept, runs[1]).expect("cleared");
    assert!(!own(runs[1]).exists());
    assert_eq!([&kept, &session, &session].map(|key| tenants.release(key)), [false, true, false]);
    // It is declared again before anybody has come to remove it.
    tenants.make_folders(&session, runs[1], 5_000).expect("made");
    assert!(!tenants.folder(&session).join(STATE).join("mine").exists(), "another session by the same name");
    tenants.sweep().expect("swept");
    assert!(tenants.folder(&session).join(STATE).exists() && tenants.folder(&kept).join(STATE).join("mine").exists());
    tenants.retain(&BTreeSet::new());
    tenants.sweep().expect("swept");
    let left: Vec<_> = std::fs::read_dir(state.path().join(FOLDERS)).expect("there").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_an_earlier_launcher_left_readable_is_closed_before_others_may_pass() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give folders to others");
        return;
    }
    let state = tempfile::tempdir().expect("a folder");
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    let (file, folder) = (state.path().join("old.json"), state.path().join("old"));
    std::fs::write(&file, "").expect("written");
    std::fs::create_dir(&folder).expect("made");
    set(&file, 0o644);
    set(&folder, 0o755);
    set(state.path(), 0o755);
    let (_, key) = tenant("a", "p");
    held(state.path(), RANGE).make_folders(&key, RunId::from_random(1), 5_000).expect("made");
    assert_eq!((mode(&file), mode(&folder), mode(state.path())), (0o640, 0o750, 0o751));
}

#[test]
fn nothing_of_a_folder_that_another_holds_is_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let tenants = Tenants::new(StateFolder::acquire(&state).expect("it is held"), RANGE);
    let (isolation, key) = session("a", "1");
    std::fs::rename(&state, folder.path().join("away")).expect("renamed");
    std::fs::create_dir_all(state.join(FOLDERS).join(key.file_name())).expect("another's");
    std::fs::write(state.join(USERS_FILE), "7 ns:b\n").expect("another's");
    let lock = std::fs::File::create(state.join("lock")).expect("another's");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("nobody holds it");
    tenants.user(&isolation, &key).expect_err("it is another's");
    tenants.make_folders(&key, RunId::from_random(1), 5_000).expect_err("it is another's");
    assert!(tenants.release(&key));
    tenants.sweep().expect("nothing is done");
    assert_eq!(std::fs::read_to_string(state.join(USERS_FILE)).expect("there"), "7 ns:b\n");
    let left: Vec<_> = std::fs::read_dir(state.join(FOLDERS)).expect("there").flatten().collect();
    assert!(left.len() == 1 && left[0].file_name() == key.file_name().as_str(), "{left:?}");
    assert_eq!(std::fs::read_dir(left[0].path()).expect("there").count(), 0);
}

#[test]
fn what_is_in_the_place_of_a_folder_is_not_given_to_a_tenant() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give folders to others");
        return;
    }
    let state = tempfile::tempdir().expect("a folder");
    let tenants = held(state.path(), RANGE);
    let (_, key) = tenant("a", "p");
    std::fs::create_dir_all(tenants.folder(&key)).expect("made");
    std::os::unix::fs::symlink("/", tenants.folder(&key).join(STATE)).expect("a link");
    tenants.make_folders(&key, RunId::from_random(1), 5_000).expect_err("it is no folder");
}
