//! The store as it runs: real events, real time, every wait with a bound.

use super::world::{defaults, instance, make_patterns};
use crate::act::clock;
use crate::desired::root::{RootLock, RootSpec};
use crate::desired::store::{Delivery, StoreHandle, StoreSettings, confirm_dir, spawn_with, survey};
use crate::desired::watch::{Backend, Connect, Listener, connect, has_events};
use crate::error::{Code, Error, Result};
use crate::model::{DesiredStatus, Instance, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Far longer than anything here takes, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// A resync that no test lives to see: what is noticed is noticed by events.
const NEVER: Duration = Duration::from_secs(3_600);

struct Task {
    folder: TempDir,
    settings: StoreSettings,
    handle: StoreHandle,
    deliveries: mpsc::Receiver<Delivery>,
    keys: BTreeSet<String>,
    running: BTreeMap<Key, Arc<Instance>>,
    status: Arc<DesiredStatus>,
    progress: (bool, bool),
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_patterns(&folder.path().join("patterns"));
    fs::create_dir(folder.path().join("desired")).expect("a root");
    folder
}

impl Task {
    fn start(resync: Duration, connect: Connect) -> Self {
        Self::over(folder(), resync, connect, None)
    }

    fn over(folder: TempDir, resync: Duration, connect: Connect, locks: Option<Arc<dyn RootLock>>) -> Self {
        let settings = StoreSettings {
            roots: vec![RootSpec::open(folder.path().join("desired"))],
            patterns_dir: folder.path().join("patterns"),
            defaults: defaults(),
            resync,
            state_dir: folder.path().join("state"),
            locks,
        };
        let (sender, deliveries) = mpsc::channel(16);
        let handle = spawn_with(settings.clone(), Vec::new(), clock::now, sender, connect);
        let (keys, running, status) = (BTreeSet::new(), BTreeMap::new(), Arc::default());
        Self { folder, settings, handle, deliveries, keys, running, status, progress: (false, false) }
    }

    /// The store ends, and another begins with what this one said.
    async fn restarted(self) -> Self {
        let Self { folder, settings, handle, mut deliveries, keys, running, .. } = self;
        drop(handle);
        while deliveries.recv().await.is_some() {}
        let (sender, deliveries) = mpsc::channel(16);
        let restored = running.values().cloned().collect();
        let handle = spawn_with(settings.clone(), restored, clock::now, sender, connect);
        Self { folder, settings, handle, deliveries, keys, running, status: Arc::default(), progress: (false, false) }
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    /// Puts a file in its place by rename.
    fn drop_in(&self, file: &str, content: &str) {
        let staged = self.path("staged");
        fs::write(&staged, content).expect("written");
        fs::rename(staged, self.path(file)).expect("renamed");
    }

    async fn until(&mut self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::sleep(PATIENCE);
        tokio::pin!(deadline);
        while !reached(self) {
            let delivery = tokio::select! {
                delivery = self.deliveries.recv() => delivery.expect("the store goes on"),
                () = &mut deadline => panic!("waited for {what}: {:?} {:#?}", self.keys, self.status),
            };
            let Some(change) = delivery.change else { continue };
            self.keys.extend(change.declared.iter().map(|instance| instance.key.to_string()));
            for key in &change.withdrawn {
                self.keys.remove(key.as_str());
                self.running.remove(key);
            }
            self.running.extend(change.declared.into_iter().map(|instance| (instance.key.clone(), instance)));
            self.progress = (change.attempted, change.complete);
            if let Some(status) = change.status {
                self.status = status;
            }
        }
    }

    async fn until_keys(&mut self, keys: &[&str]) {
        let keys: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        self.until(&format!("{keys:?}"), |task| task.keys == keys).await;
    }

    async fn until_complete(&mut self) {
        self.until("the first complete scan", |task| task.progress == (true, true)).await;
    }

    fn complaints(&self) -> String {
        format!("{:?}", self.status.roots.iter().flat_map(|root| &root.conditions).collect::<Vec<_>>())
    }

    /// The token of what is held.
    fn token(&self) -> String {
        let complaints = self.complaints();
        let (_, rest) = complaints.split_once("confirm-prune ").expect("a token");
        rest.chars().take_while(char::is_ascii_alphanumeric).collect()
    }
}

#[tokio::test]
async fn a_file_that_is_dropped_is_noticed_by_its_event_and_so_is_its_end() {
    let mut task = Task::start(NEVER, connect);
    task.until_complete().await;
    assert_eq!(task.status.roots[0].watching, "events");
    let before = clock::now();
    task.drop_in("desired/a.yaml", &instance("a"));
    task.until_keys(&["ns:a:p"]).await;
    eprintln!("from drop to change: {:?}", clock::now().since(before));
    fs::remove_file(task.path("desired/a.yaml")).expect("removed");
    task.until_keys(&[]).await;
}

#[tokio::test]
async fn files_in_folders_that_are_made_later_are_noticed() {
    let mut task = Task::start(NEVER, connect);
    task.until_complete().await;
    for name in ["one", "one/two", "one/two/three"] {
        fs::create_dir(task.path(&format!("desired/{name}"))).expect("a folder");
        let namespace = name.rsplit('/').next().expect("a name");
        task.drop_in(&format!("desired/{name}/a.yaml"), &instance(namespace));
    }
    task.until_keys(&["ns:one:p", "ns:three:p", "ns:two:p"]).await;
}

#[tokio::test]
async fn a_root_that_flips_is_noticed_and_so_is_what_happens_in_it_afterwards() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_patterns(&folder.path().join("patterns"));
    for name in ["one", "two"] {
        fs::create_dir_all(folder.path().join(name).join("desired")).expect("a checkout");
        let file = folder.path().join(name).join("desired").join(format!("{name}.yaml"));
        fs::write(file, instance(name)).expect("written");
    }
    symlink("one", folder.path().join("current")).expect("linked");
    symlink("current/desired", folder.path().join("desired")).expect("linked");
    let mut task = Task::over(folder, NEVER, connect, None);
    task.until_keys(&["ns:one:p"]).await;
    task.until_complete().await;
    symlink("two", task.path("next")).expect("linked");
    fs::rename(task.path("next"), task.path("current")).expect("flipped");
    task.until("the other checkout", |task| task.keys.contains("ns:two:p")).await;
    task.drop_in("two/desired/later.yaml", &instance("later"));
    task.until_keys(&["ns:later:p", "ns:two:p"]).await;
}

#[tokio::test]
async fn a_root_that_is_deleted_and_made_again_is_not_deaf() {
    let mut task = Task::start(NEVER, connect);
    task.until_complete().await;
    fs::remove_dir(task.path("desired")).expect("removed");
    task.until("the failure", |task| task.complaints().contains("ScanFailed")).await;
    fs::create_dir(task.path("desired")).expect("made again");
    task.until("the recovery", |task| !task.complaints().contains("ScanFailed")).await;
    task.drop_in("desired/a.yaml", &instance("a"));
    task.until_keys(&["ns:a:p"]).await;
}

#[tokio::test]
async fn without_any_watch_it_polls() {
    fn no_instances(_: Listener) -> notify::Result<Box<dyn Backend>> {
        Err(notify::Error::io(std::io::Error::from_raw_os_error(libc::EMFILE)))
    }
    struct Full;
    impl Backend for Full {
        fn watch(&mut self, _: &Path) -> notify::Result<()> {
            Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch))
        }
        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }
    }
    for connect in [no_instances as Connect, |_| Ok(Box::new(Full))] {
        let mut task = Task::start(NEVER, connect);
        task.until_complete().await;
        assert_eq!(task.status.roots[0].watching, "polling");
        task.drop_in("desired/a.yaml", &instance("a"));
        task.until_keys(&["ns:a:p"]).await;
    }
}

#[test]
fn a_file_system_without_events_is_known() {
    assert!(!has_events(Path::new("/proc")));
    assert!(has_events(tempfile::tempdir().expect("a folder").path()));
}

#[tokio::test]
async fn when_every_event_is_lost_the_resync_finds_what_changed() {
    struct Deaf;
    impl Backend for Deaf {
        fn watch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }
        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }
    }
    let mut task = Task::start(Duration::from_millis(200), |_| Ok(Box::new(Deaf)));
    task.until_complete().await;
    task.drop_in("desired/a.yaml", &instance("a"));
    task.until_keys(&["ns:a:p"]).await;
    fs::remove_file(task.path("desired/a.yaml")).expect("removed");
    task.until_keys(&[]).await;
}

#[tokio::test]
async fn a_storm_of_events_keeps_nothing_waiting() {
    let mut task = Task::start(NEVER, connect);
    task.until_complete().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (root, stopped) = (task.path("desired"), Arc::clone(&stop));
    let storm = std::thread::spawn(move || {
        let mut count = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            fs::write(root.join("storm.yaml"), format!("x-count: {count}\n")).expect("written");
            fs::write(root.join(".hidden"), "").expect("written");
            count += 1;
        }
    });
    task.drop_in("desired/a.yaml", &instance("a"));
    task.until_keys(&["ns:a:p"]).await;
    task.drop_in("desired/b.yaml", &instance("b"));
    task.until_keys(&["ns:a:p", "ns:b:p"]).await;
    fs::remove_file(task.path("desired/a.yaml")).expect("removed");
    task.until_keys(&["ns:b:p"]).await;
    stop.store(true, Ordering::Relaxed);
    storm.join().expect("the storm ends");
}

#[tokio::test]
async fn a_held_deletion_happens_when_it_is_confirmed() {
    let folder = folder();
    for name in ["a", "b", "c"] {
        fs::write(folder.path().join(format!("desired/{name}.yaml")), instance(name)).expect("written");
    }
    let mut task = Task::over(folder, NEVER, connect, None);
    task.until_keys(&["ns:a:p", "ns:b:p", "ns:c:p"]).await;
    for name in ["a", "b", "c"] {
        fs::remove_file(task.path(&format!("desired/{name}.yaml"))).expect("removed");
    }
    task.until("the hold", |task| task.complaints().contains("PruneBlocked")).await;
    assert_eq!(task.keys.len(), 3);
    let file = confirm_dir(&task.settings.state_dir).join(task.token());
    fs::write(&file, "").expect("confirmed");
    task.until_keys(&[]).await;
    assert!(!file.exists(), "a confirmation is used once");
}

#[tokio::test]
async fn what_was_held_is_held_after_a_restart_though_a_file_has_become_wrong() {
    let folder = folder();
    let declares = |namespaces: &str| format!("pattern: p\nnamespaces: [{namespaces}]\n");
    fs::write(folder.path().join("desired/one.yaml"), declares("a, b")).expect("written");
    fs::write(folder.path().join("desired/two.yaml"), declares("c, d")).expect("written");
    let mut task = Task::over(folder, NEVER, connect, None);
    task.until_keys(&["ns:a:p", "ns:b:p", "ns:c:p", "ns:d:p"]).await;
    fs::remove_file(task.path("desired/one.yaml")).expect("removed");
    task.drop_in("desired/two.yaml", &declares("e"));
    task.until("the whole hold", |task| task.complaints().contains("so 4 are held")).await;
    let token = task.token();
    task.drop_in("desired/two.yaml", "pattern: [");
    task.until("the wrong file", |task| task.status.roots[0].rejected == 1).await;
    let mut task = task.restarted().await;
    task.until("the same hold", |task| task.complaints().contains("so 4 are held")).await;
    assert_eq!((task.keys.len(), task.token()), (5, token), "{}", task.complaints());
    fs::write(confirm_dir(&task.settings.state_dir).join(task.token()), "").expect("confirmed");
    task.until_keys(&["ns:e:p"]).await;
}

/// Grants the lock of a folder, or says who holds it, and remembers what was asked for.
#[derive(Debug, Default)]
struct Locks {
    taken: AtomicBool,
    asked: Mutex<usize>,
}

impl RootLock for Locks {
    fn hold(&self, root: &Path) -> Result<Box<dyn Send>> {
        *self.asked.lock().expect("a count") += 1;
        if self.taken.load(Ordering::Relaxed) {
            return Err(Error::new(Code::AlreadyRunning, format!("{} is held by 4711", root.display())));
        }
        Ok(Box::new(()))
    }
}

#[tokio::test]
async fn a_root_of_another_launcher_is_not_read_and_a_flip_is_locked_again() {
    let folder = folder();
    fs::write(folder.path().join("desired/a.yaml"), instance("a")).expect("written");
    let locks = Arc::new(Locks::default());
    locks.taken.store(true, Ordering::Relaxed);
    let mut task = Task::over(folder, NEVER, connect, Some(Arc::clone(&locks) as Arc<dyn RootLock>));
    task.until("the refusal", |task| task.complaints().contains("4711")).await;
    assert!(task.keys.is_empty());
    locks.taken.store(false, Ordering::Relaxed);
    task.handle.poke();
    task.until_keys(&["ns:a:p"]).await;
    task.until_complete().await;
    let asked = *locks.asked.lock().expect("a count");
    fs::rename(task.path("desired"), task.path("before")).expect("renamed");
    fs::create_dir(task.path("desired")).expect("a root");
    fs::write(task.path("desired/b.yaml"), instance("b")).expect("written");
    task.until("the new root", |task| task.keys.contains("ns:b:p")).await;
    assert_eq!(*locks.asked.lock().expect("a count"), asked + 1);
}

#[tokio::test]
async fn roots_come_and_go_with_the_configuration() {
    let mut task = Task::start(NEVER, connect);
    task.drop_in("desired/a.yaml", &instance("a"));
    task.until_keys(&["ns:a:p"]).await;
    let more = task.path("more");
    fs::create_dir(&more).expect("a root");
    fs::write(more.join("b.yaml"), instance("b")).expect("written");
    let before = task.settings.clone();
    let mut after = before.clone();
    after.roots.push(RootSpec::open(more));
    task.handle.reconfigure(after).await;
    task.until_keys(&["ns:a:p", "ns:b:p"]).await;
    task.handle.reconfigure(before).await;
    task.until_keys(&["ns:a:p"]).await;
}

#[tokio::test]
async fn a_launch_directory_inside_a_root_is_a_root_of_its_own() {
    let folder = folder();
    let launched = folder.path().join("desired/launched");
    fs::create_dir(&launched).expect("a root");
    fs::write(launched.join("a.yaml"), "pattern: p\nnamespace: a\nttl: 30m\n").expect("written");
    fs::write(folder.path().join("desired/b.yaml"), instance("b")).expect("written");
    let settings = StoreSettings {
        roots: vec![
            RootSpec::open(folder.path().join("desired")),
            RootSpec { api_managed: true, ..RootSpec::open(launched) },
        ],
        patterns_dir: folder.path().join("patterns"),
        defaults: defaults(),
        resync: NEVER,
        state_dir: folder.path().join("state"),
        locks: None,
    };
    let found = survey(&settings, &[], clock::now());
    assert!(found.errors.is_empty(), "{:?}", found.errors);
    let managed: Vec<(&str, bool)> =
        found.instances.iter().map(|one| (one.key.as_str(), one.origin.api_managed)).collect();
    assert_eq!(managed, [("ns:a:p", true), ("ns:b:p", false)]);
}

#[test]
fn a_survey_finds_everything_that_is_wrong_at_once() {
    let folder = folder();
    let desired = folder.path().join("desired");
    fs::write(desired.join("a.yaml"), instance("a")).expect("written");
    fs::write(desired.join("b.yaml"), instance("a")).expect("written");
    fs::write(desired.join("c.yaml"), "pattern: nothing\nnamespace: c\n").expect("written");
    fs::write(desired.join("d.yaml"), "pattern: [").expect("written");
    fs::create_dir(folder.path().join("patterns/broken")).expect("a pattern");
    fs::write(folder.path().join("patterns/broken/manifest.yaml"), "name: other\n").expect("a manifest");
    let settings = StoreSettings {
        roots: vec![RootSpec::open(desired), RootSpec::open(folder.path().join("missing"))],
        patterns_dir: folder.path().join("patterns"),
        defaults: defaults(),
        resync: NEVER,
        state_dir: folder.path().join("state"),
        locks: None,
    };
    let found = survey(&settings, &[], clock::now());
    let keys: Vec<&Key> = found.instances.iter().map(|one| &one.key).collect();
    assert_eq!(keys, [&Key::parse("ns:a:p").expect("a key")]);
    let text = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in ["DUPLICATE_INSTANCE", "c.yaml:1", "d.yaml", "INVALID_MANIFEST", "missing"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!folder.path().join("state").exists(), "a survey writes nothing");
}
