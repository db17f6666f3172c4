use super::*;
use notify::event::{CreateKind, DataChange, Flag};
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::Duration;

fn heard() -> Heard {
    let interests = HashMap::from([
        (PathBuf::from("/root"), Interest::Everything),
        (PathBuf::from("/"), Interest::Names(BTreeSet::from(["root".into()]))),
    ]);
    Heard { interests, ..Heard::default() }
}

fn event(kind: EventKind, path: &str) -> Event {
    Event::new(kind).add_path(path.into())
}

#[test]
fn only_what_may_change_what_is_read_is_a_reason_to_look() {
    let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let create = EventKind::Create(CreateKind::File);
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    for (kind, path, matters) in [
        (data, "/root/a.yaml", true),
        (written, "/root/a.yaml", true),
        (data, "/root/.a.yaml.swp", false),
        (data, "/root/a.yaml~", false),
        (data, "/root/notes.txt", false),
        (create, "/root/sub", true),
        (renamed, "/root/..data", true),
        (renamed, "/root", true),
        (renamed, "/other", false),
        (data, "/elsewhere/a.yaml", false),
        (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/root/a.yaml", false),
        (EventKind::Access(AccessKind::Close(AccessMode::Read)), "/root/a.yaml", false),
    ] {
        assert_eq!(heard().take(&event(kind, path)), matters, "{kind:?} {path}");
    }
}

#[test]
fn an_overflow_is_a_reason_to_look_and_so_is_an_error() {
    for event in [Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)), Err(notify::Error::generic("lost"))] {
        let listener = Listener::default();
        listener.hear(event);
        let mut woken = tokio_test_wake(&listener.wake);
        assert!(woken.next().is_some());
    }
}

/// Yields once for a wake that is waiting.
fn tokio_test_wake(wake: &Notify) -> impl Iterator<Item = ()> + '_ {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    std::iter::from_fn(move || {
        let mut notified = std::pin::pin!(wake.notified());
        match notified.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Some(()),
            Poll::Pending => None,
        }
    })
}

#[test]
fn looking_is_no_reason_to_look() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = std::fs::canonicalize(folder.path()).expect("a path");
    let file = root.join("a.yaml");
    std::fs::write(&file, "x").expect("written");
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).expect("a watcher");
    Backend::watch(&mut watcher, &root).expect("watched");
    assert_eq!(std::fs::read(&file).expect("read"), b"x");
    assert_eq!(std::fs::read_dir(&root).expect("listed").count(), 1);
    let fence = root.join("fence.yaml");
    std::fs::rename(&file, &fence).expect("renamed");
    let mut heard = Heard { interests: HashMap::from([(root, Interest::Everything)]), ..Heard::default() };
    let mut quiet = 0;
    loop {
        let event = events.recv_timeout(Duration::from_secs(10)).expect("an event").expect("no error");
        if matches!(event.kind, EventKind::Modify(ModifyKind::Name(_))) {
            break;
        }
        assert!(!heard.take(&event), "{event:?}");
        quiet += 1;
    }
    assert!(quiet > 0, "reading is reported, and must be told apart");
}

#[test]
fn the_launchers_own_writing_is_no_reason_to_look_until_two_looks_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = std::fs::canonicalize(folder.path()).expect("a path");
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).expect("a watcher");
    Backend::watch(&mut watcher, &root).expect("watched");
    let watch = Watch::new(connect);
    watch.listener.heard().interests = HashMap::from([(root.clone(), Interest::Everything)]);
    let own = root.join("own.yaml");
    watch.expect(std::iter::once(own.clone()));
    std::fs::write(root.join(".launch-1.draft"), "x").expect("written");
    std::fs::rename(root.join(".launch-1.draft"), &own).expect("renamed");
    std::fs::remove_file(&own).expect("removed");
    std::fs::write(root.join("fence"), "").expect("written");
    let mut quiet = 0;
    loop {
        let event = events.recv_timeout(Duration::from_secs(10)).expect("an event").expect("no error");
        if event.paths.contains(&root.join("fence")) {
            break;
        }
        assert!(!watch.listener.heard().take(&event), "{event:?}");
        quiet += 1;
    }
    assert!(quiet >= 4, "all of it is reported, and must be told apart");
    let removed = Event::new(EventKind::Remove(notify::event::RemoveKind::File)).add_path(own);
    for matters in [false, true] {
        watch.forget_expected();
        assert_eq!(watch.listener.heard().take(&removed), matters);
    }
}

#[test]
fn arrivals_by_rename_and_lost_folders_are_remembered() {
    let mut heard = heard();
    heard.take(&event(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/root/a.yaml"));
    heard.take(&event(EventKind::Remove(notify::event::RemoveKind::Folder), "/root"));
    assert!(heard.arrived.contains(Path::new("/root/a.yaml")));
    assert!(heard.lost.contains(Path::new("/root")));
}

#[test]
fn the_way_to_a_root_leads_through_every_link() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = std::fs::canonicalize(folder.path()).expect("a path");
    std::fs::create_dir_all(base.join("real/desired")).expect("folders");
    symlink("real", base.join("one")).expect("linked");
    symlink(base.join("one"), base.join("two")).expect("linked");
    let points = waypoints(&base.join("two/desired"));
    let names = |list: &[&str]| list.iter().map(OsString::from).collect::<BTreeSet<_>>();
    assert_eq!(points.get(&base), Some(&names(&["one", "two"])));
    assert_eq!(points.get(&base.join("real")), Some(&names(&["desired"])));
    symlink("circle", base.join("circle")).expect("linked");
    assert!(waypoints(&base.join("circle/x")).contains_key(&base), "a circle ends");
}
