//! What is read, what is refused, and what is left of it.

use super::*;
use crate::model::Namespace;
use crate::testing::samples;
use std::os::unix::fs::symlink;

/// A folder of sources with `open/` for everybody, `open/a/` for tenant a, and a secret outside of both.
struct Bench {
    folder: tempfile::TempDir,
    credentials: Credentials,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("open/a/..data")).expect("folders");
        for (path, text) in [("outside", "outside"), ("open/x", "x"), ("open/a/x", "of a"), ("open/a/..data/y", "y")] {
            std::fs::write(at(path), text).expect("written");
        }
        let namespaces = Some(vec![Namespace::new("a").expect("a name")]);
        let sources = vec![
            CredentialSource { path: at("open"), namespaces: None },
            CredentialSource { path: at("open/a"), namespaces },
        ];
        let places = vec![at("memory"), at("disk")];
        Self { credentials: Credentials { sources, places, masks: Arc::default() }, folder }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// What a tenant gets that names this path.
    fn read(&self, namespace: &str, path: impl Into<PathBuf>) -> Result<String, Error> {
        let instance = instance(namespace, &[("c", path.into())]);
        let run = RunId::from_random(7);
        self.credentials.give(&instance, run, None)?;
        let folder = self.credentials.folder(&instance.key, run).expect("a folder");
        let text = std::fs::read_to_string(folder.join("c")).expect("readable");
        self.credentials.clear(&instance.key, run).expect("removed");
        assert_eq!(self.credentials.folder(&instance.key, run), None);
        Ok(text)
    }
}

fn instance(namespace: &str, credentials: &[(&str, PathBuf)]) -> Instance {
    let mut declared = samples::instance("p", namespace, 1, 1);
    let mut launch = (*declared.content.launch).clone();
    launch.credentials = credentials.iter().map(|(name, path)| ((*name).to_owned(), path.clone())).collect();
    declared.content.launch = Arc::new(launch);
    declared
}

#[test]
fn a_file_in_a_folder_for_its_namespace_is_read() {
    let bench = Bench::new();
    for (namespace, path, text) in [
        ("a", bench.at("open/x"), "x"),
        ("b", bench.at("open/x"), "x"),
        ("b", "x".into(), "x"),
        ("a", bench.at("open/a/x"), "of a"),
        ("a", "a/x".into(), "of a"),
        // Only the second folder has it.
        ("a", "..data/y".into(), "y"),
    ] {
        assert_eq!(bench.read(namespace, &path).expect("read"), text, "{namespace} {}", path.display());
    }
}

#[test]
fn what_is_for_another_or_for_nobody_is_not_even_looked_for() {
    let bench = Bench::new();
    for (namespace, path) in [
        ("a", bench.at("outside")),
        ("a", bench.at("no such file")),
        ("a", bench.at("opener/x")),
        ("a", "/etc/shadow".into()),
        // The innermost folder says for whom it is, whichever way it is named.
        ("b", bench.at("open/a/x")),
        ("b", "a/x".into()),
    ] {
        let error = bench.read(namespace, &path).expect_err("refused");
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        assert!(error.to_string().contains("it is in no credentials_dir that is for namespace"), "{error}");
    }
    let none = Credentials { sources: Vec::new(), places: Vec::new(), masks: Arc::default() };
    let error = none.give(&instance("a", &[("c", bench.at("open/x"))]), RunId::from_random(1), None);
    assert_eq!(error.expect_err("refused").code(), Code::PermissionDenied);
}

#[test]
fn links_lead_anywhere_within_the_folder_and_nowhere_else() {
    let bench = Bench::new();
    symlink("x", bench.at("open/within")).expect("a link");
    assert_eq!(bench.read("b", "within").expect("read"), "x");
    std::fs::create_dir(bench.at("elsewhere")).expect("a folder");
    std::fs::write(bench.at("elsewhere/x"), "outside").expect("written");
    symlink("../outside", bench.at("open/out")).expect("a link");
    symlink(bench.at("outside"), bench.at("open/absolute")).expect("a link");
    symlink("../elsewhere", bench.at("open/folder")).expect("a link");
    symlink("/proc/self/root", bench.at("open/root")).expect("a link");
    for path in ["out", "absolute", "folder/x", "root/etc/passwd"] {
        let error = bench.read("b", path).expect_err("refused");
        assert_eq!(error.code(), Code::PermissionDenied, "{path}: {error}");
        assert!(error.to_string().contains("a link leads out of"), "{path}: {error}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_name_and_path() {
    let bench = Bench::new();
    let fifo = bench.at("open/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .expect("a FIFO");
    std::fs::write(bench.at("open/large"), vec![b'x'; (1 << 20) + 1]).expect("written");
    for (path, reason) in [
        ("missing", "No such file"),
        ("fifo", "it is no regular file"),
        ("..data", "it is no regular file"),
        ("large", "1024 KiB together"),
    ] {
        let error = bench.read("a", path).expect_err("not readable");
        assert_eq!(error.code(), Code::ProcessStartFailed, "{error}");
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains("credential=c") && text.contains(path), "{path}: {text}");
    }
    std::fs::write(bench.at("open/half"), vec![b'x'; 600 << 10]).expect("written");
    let two = instance("a", &[("one", "half".into()), ("two", "half".into())]);
    let error = bench.credentials.give(&two, RunId::from_random(1), None).expect_err("too much together");
    assert!(error.to_string().contains("1024 KiB together"), "{error}");
}

#[test]
fn copies_are_for_the_process_alone_and_change_with_each_start_only() {
    let bench = Bench::new();
    let instance = instance("a", &[("one", "x".into()), ("two", "a/x".into())]);
    let run = RunId::from_random(1);
    let root = geteuid().is_root();
    let user = ChildUser { uid: 12_345, gid: 12_346, groups: Vec::new() };
    bench.credentials.give(&instance, run, root.then_some(&user)).expect("given");
    let (variable, folder) = bench.credentials.variable(&instance.key, run).expect("a folder");
    assert_eq!((variable.as_str(), Path::new(&folder).parent()), (VARIABLE, Some(bench.at("memory").as_path())));
    assert_eq!(bench.at("memory").metadata().expect("there").mode() & 0o7777, 0o711);
    for (path, mode) in [("", 0o500), ("one", 0o400), ("two", 0o400)] {
        let found = Path::new(&folder).join(path).symlink_metadata().expect("there");
        assert_eq!(found.mode() & 0o7777, mode, "{path}");
        if root {
            assert_eq!((found.uid(), found.gid()), (12_345, 12_346), "{path}");
        }
    }
    std::fs::write(bench.at("open/x"), "changed").expect("written");
    assert_eq!(std::fs::read(Path::new(&folder).join("one")).ok(), Some(b"x".to_vec()));
    bench.credentials.give(&instance, RunId::from_random(2), None).expect("given");
    let next = bench.credentials.folder(&instance.key, RunId::from_random(2)).expect("a folder");
    assert_eq!(std::fs::read(next.join("one")).ok(), Some(b"changed".to_vec()));
    assert_eq!(bench.credentials.masks.of(&instance.key).applied("it is changed"), "it is ***");
}

#[test]
fn a_place_that_is_somebody_elses_is_not_used() {
    let bench = Bench::new();
    std::fs::create_dir(bench.at("theirs")).expect("a folder");
    symlink(bench.at("theirs"), bench.at("memory")).expect("a link");
    let instance = instance("a", &[("one", "x".into())]);
    let run = RunId::from_random(1);
    bench.credentials.give(&instance, run, None).expect("given");
    let folder = bench.credentials.folder(&instance.key, run).expect("a folder");
    assert_eq!(folder.parent(), Some(bench.at("disk").as_path()));
    assert_eq!(std::fs::read_dir(bench.at("theirs")).expect("readable").count(), 0);

    let bench = Bench::new();
    DirBuilder::new().mode(0o700).create(bench.at("memory")).expect("a folder");
    bench.credentials.give(&instance, run, None).expect("given");
    assert_eq!(bench.at("memory").metadata().expect("there").mode() & 0o7777, 0o711, "whatever the umask was");
    if !geteuid().is_root() {
        eprintln!("skipped: only root can give a folder to somebody else");
        return;
    }
    std::os::unix::fs::chown(bench.at("memory"), Some(12_345), None).expect("given away");
    let next = RunId::from_random(2);
    bench.credentials.give(&instance, next, None).expect("given");
    let folder = bench.credentials.folder(&instance.key, next).expect("a folder");
    assert_eq!(folder.parent(), Some(bench.at("disk").as_path()));
}

#[test]
fn what_could_not_be_given_as_a_whole_leaves_nothing() {
    let bench = Bench::new();
    // What is declared has no such names.
    let instance = instance("a", &[("one", "x".into()), ("two/two", "x".into())]);
    let error = bench.credentials.give(&instance, RunId::from_random(1), None).expect_err("no such folder");
    assert_eq!(error.code(), Code::StoreUnavailable);
    for place in ["memory", "disk"] {
        assert_eq!(std::fs::read_dir(bench.at(place)).expect("made").count(), 0, "{place}");
    }
}

#[test]
fn what_an_instance_was_started_with_is_remembered_up_to_a_bound_and_until_it_is_gone() {
    let bench = Bench::new();
    let masks = &bench.credentials.masks;
    let key = instance("a", &[]).key;
    for n in 0..=FORMER {
        let mut declared = instance("a", &[]);
        let mut launch = (*declared.content.launch).clone();
        launch.config.insert("API_TOKEN".to_owned(), crate::model::Secret::new(format!("token-{n}-of-many")));
        declared.content.launch = Arc::new(launch);
        bench.credentials.give(&declared, RunId::from_random(1), None).expect("nothing to give");
    }
    assert_eq!(masks.of(&key).applied("token-0-of-many token-1-of-many"), "token-0-of-many ***");
    masks.forget(&key);
    assert_eq!(masks.of(&key).applied("token-1-of-many"), "token-1-of-many");
}

#[test]
fn what_no_run_has_is_removed_and_what_may_be_used_is_kept() {
    let bench = Bench::new();
    let [live, over, unknown] = ["a", "b", "c"].map(|namespace| instance(namespace, &[("one", "x".into())]));
    let run = RunId::from_random(1);
    for instance in [&live, &over, &unknown] {
        bench.credentials.give(instance, run, None).expect("given");
    }
    std::fs::write(bench.at("memory/stray"), "").expect("written");
    symlink(bench.at("open"), bench.at("memory/link")).expect("a link");
    bench.credentials.retain(std::iter::once((&live.key, run)), &[unknown.key.file_name()]);
    assert!(!bench.at("memory/stray").exists() && bench.at("memory/link").symlink_metadata().is_err());
    assert!(bench.at("open/x").exists(), "a link goes, and not what it leads to");
    let there = |instance: &Instance| bench.credentials.folder(&instance.key, run).is_some();
    assert_eq!([there(&live), there(&over), there(&unknown)], [true, false, true]);
    // A launcher that comes after another knows what its programs must not be quoted with.
    let next = Credentials { masks: Arc::default(), sources: Vec::new(), places: bench.credentials.places.clone() };
    std::fs::write(bench.at("open/x"), "hunter2").expect("written");
    bench.credentials.give(&over, run, None).expect("given");
    next.adopt(&over.key, run);
    assert_eq!(next.masks.of(&over.key).applied("hunter2"), "***");
    for instance in [&live, &over, &unknown] {
        next.clear(&instance.key, run).expect("removed");
    }
    next.remove_if_empty();
    assert!(!bench.at("memory").exists());
}
