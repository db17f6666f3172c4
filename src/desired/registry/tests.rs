use super::*;
use crate::model::BootId;
use std::os::unix::fs::{PermissionsExt, symlink};

/// A patterns directory of its own, and a clock that is turned by hand.
struct World {
    folder: tempfile::TempDir,
    registry: Registry,
    millis: u64,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("patterns");
        fs::create_dir(&dir).expect("patterns");
        Self { registry: Registry::open(dir), folder, millis: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("patterns").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("permissions");
    }

    /// A pattern with a program of its own.
    fn pattern(&self, name: &str) {
        self.program(&format!("{name}/run"), "#!/bin/sh\n");
        self.manifest(name, "1");
    }

    fn manifest(&self, name: &str, version: &str) {
        let text = format!("name: {name}\nversion: '{version}'\nexecutable: ./run\n");
        self.write(&format!("{name}/manifest.yaml"), &text);
    }

    fn refresh(&mut self) -> RegistryChange {
        self.registry.refresh(Moment { boot: BootId::from_u128(1), since_boot: Duration::from_millis(self.millis) })
    }

    /// Refreshes until nothing is settling; gives what changed on the way.
    fn settle(&mut self) -> Vec<String> {
        let mut changed = BTreeSet::new();
        for _ in 0..10 {
            let change = self.refresh();
            changed.extend(change.changed.iter().map(ToString::to_string));
            match change.look_again {
                Some(wait) => self.millis += u64::try_from(wait.as_millis()).expect("short") + 1,
                None => return changed.into_iter().collect(),
            }
        }
        panic!("it never settles");
    }

    fn lookup(&self, name: &str) -> Lookup {
        self.registry.lookup(&PatternName::new(name).expect("a name"))
    }

    fn found(&self, name: &str) -> Arc<Manifest> {
        let Lookup::Found(manifest) = self.lookup(name) else { panic!("{name} is {:?}", self.lookup(name)) };
        manifest
    }

    fn last_good(&self, name: &str) -> (String, Error) {
        let found = self.lookup(name);
        let Lookup::LastGood(manifest, error) = found else { panic!("{name} is {found:?}") };
        (manifest.revision.version.clone(), error)
    }

    fn problem_codes(&self) -> Vec<Code> {
        self.registry.problems().iter().map(|problem| problem.error.code()).collect()
    }
}

#[test]
fn the_first_refresh_believes_what_it_reads() {
    let mut world = World::new();
    world.pattern("a");
    world.pattern("b");
    world.write("README.md", "no pattern");
    world.write("docs/notes.txt", "no pattern");
    world.write(".hidden/manifest.yaml", "no pattern");
    let change = world.refresh();
    assert_eq!(change.changed.iter().map(PatternName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(change.look_again, None);
    assert!(world.registry.problems().is_empty());
    let manifest = world.found("a");
    assert_eq!(manifest.revision.folder, world.path("a"));
    assert_eq!(
        manifest.revision.digest.as_deref(),
        Some("a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf"),
        "sha256 of the program"
    );
    assert_eq!(world.refresh(), RegistryChange::default(), "nothing changed");
}

#[test]
fn a_change_counts_once_it_has_held_still() {
    let mut world = World::new();
    world.pattern("a");
    world.refresh();
    world.manifest("a", "2");
    let change = world.refresh();
    assert_eq!((change.changed.len(), change.look_again), (0, Some(SETTLE)));
    world.millis += 399;
    world.manifest("a", "3");
    assert_eq!(world.refresh().look_again, Some(SETTLE), "it moved, so it is waited for again");
    world.millis += 399;
    assert_eq!(world.refresh().look_again, Some(Duration::from_millis(1)));
    assert_eq!(world.found("a").revision.version, "1");
    world.millis += 1;
    assert_eq!(world.refresh().changed.len(), 1);
    assert_eq!(world.found("a").revision.version, "3");
    assert_eq!(world.refresh(), RegistryChange::default());
}

#[test]
fn the_same_meaning_changes_nothing() {
    let mut world = World::new();
    world.pattern("a");
    world.refresh();
    let before = world.found("a");
    let text = fs::read_to_string(world.path("a/manifest.yaml")).expect("read");
    world.write("a/manifest.yaml", &format!("# a comment\n{text}"));
    fs::rename(world.path("a/run"), world.path("a/old")).expect("renamed");
    fs::copy(world.path("a/old"), world.path("a/run")).expect("copied");
    assert!(world.settle().is_empty());
    assert!(Arc::ptr_eq(&before, &world.found("a")));
}

#[test]
fn a_program_that_is_being_copied_is_waited_for() {
    let mut world = World::new();
    world.pattern("a");
    world.refresh();
    let before = world.found("a").revision.digest.clone();
    for part in 0..3 {
        world.program("a/run", &"#!/bin/sh\n# a part\n".repeat(part + 1));
        world.millis += 399;
        assert!(world.refresh().changed.is_empty());
        assert_eq!(world.found("a").revision.digest, before);
    }
    assert_eq!(world.settle(), ["a"]);
    assert_ne!(world.found("a").revision.digest, before);
}

#[test]
fn a_manifest_and_its_program_change_together() {
    let mut world = World::new();
    world.pattern("a");
    world.refresh();
    world.manifest("a", "2");
    world.refresh();
    world.millis += 200;
    world.program("a/run", "#!/bin/sh\nexit 1\n");
    world.refresh();
    world.millis += 300;
    assert!(world.refresh().changed.is_empty(), "the program has not held still");
    assert_eq!(world.settle(), ["a"]);
    assert_eq!(world.found("a").revision.version, "2");
}

#[test]
fn the_last_good_manifest_stays_through_every_kind_of_trouble() {
    type Trouble = (&'static str, fn(&World), &'static str);
    let cases: [Trouble; 7] = [
        (
            "invalid",
            |w| w.write("a/manifest.yaml", "name: a\nversoin: 2\n"),
            "a/manifest.yaml:2:1: unknown key 'versoin'",
        ),
        ("empty", |w| w.write("a/manifest.yaml", ""), "a/manifest.yaml:1:1: the manifest is empty"),
        ("half", |w| w.write("a/manifest.yaml", "name: a\nversion: '2'\nexec"), "not valid YAML"),
        (
            "dangling",
            |w| {
                fs::remove_file(w.path("a/manifest.yaml")).expect("removed");
                symlink("nowhere", w.path("a/manifest.yaml")).expect("linked");
            },
            "the manifest cannot be read",
        ),
        (
            "folder",
            |w| {
                fs::remove_file(w.path("a/manifest.yaml")).expect("removed");
                fs::create_dir(w.path("a/manifest.yaml")).expect("made");
            },
            "the manifest cannot be read",
        ),
        (
            "fifo",
            |w| {
                fs::remove_file(w.path("a/manifest.yaml")).expect("removed");
                let mode = rustix::fs::Mode::from_raw_mode(0o644);
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, w.path("a/manifest.yaml"), kind, mode, 0).expect("a fifo");
            },
            "the manifest cannot be read",
        ),
        (
            "no program",
            |w| w.write("a/manifest.yaml", "name: a\nversion: '2'\nexecutable: ./missing\n"),
            "does not exist",
        ),
    ];
    for (name, trouble, expected) in cases {
        let mut world = World::new();
        world.pattern("a");
        world.refresh();
        trouble(&world);
        assert_eq!(world.settle(), ["a"], "{name}");
        let (version, error) = world.last_good("a");
        assert_eq!(version, "1", "{name}");
        assert!(error.message().contains(expected), "{name}: {error}");
        assert!(error.suggestion().is_some(), "{name}: {error}");
        assert_eq!(world.registry.problems().len(), 1, "{name}: {:?}", world.registry.problems());
        assert_eq!(world.refresh(), RegistryChange::default(), "{name}");
        let path = world.path("a/manifest.yaml");
        if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.expect("removed");
        world.manifest("a", "3");
        assert_eq!(world.settle(), ["a"], "{name}");
        assert_eq!(world.found("a").revision.version, "3", "{name}");
        assert!(world.registry.problems().is_empty(), "{name}");
    }
}

#[test]
fn a_manifest_that_was_never_good_is_invalid() {
    let mut world = World::new();
    world.write("a/manifest.yaml", "name: a\n");
    world.refresh();
    let Lookup::Invalid(error) = world.lookup("a") else { panic!("{:?}", world.lookup("a")) };
    assert_eq!(error.code(), Code::InvalidManifest);
    assert!(error.message().contains("patterns/a/manifest.yaml:1:1: 'version' is missing"), "{error}");
    assert_eq!(world.problem_codes(), [Code::InvalidManifest]);
}

#[test]
fn a_pattern_that_goes_is_gone_and_comes_back_as_it_was() {
    let mut world = World::new();
    world.pattern("a");
    world.refresh();
    let before = world.found("a");
    fs::rename(world.path("a"), world.path("away")).expect("renamed");
    let change = world.refresh();
    assert_eq!(change.changed.len(), 1);
    assert_eq!(change.look_again, Some(SETTLE), "it may be a moment's absence");
    let Lookup::Gone(error) = world.lookup("a") else { panic!("{:?}", world.lookup("a")) };
    assert_eq!(error.message(), "Pattern 'a' has disappeared");
    fs::rename(world.path("away"), world.path("a")).expect("renamed back");
    assert_eq!(world.settle(), ["a"]);
    assert!(Arc::ptr_eq(&before, &world.found("a")));
}

#[test]
fn a_directory_that_cannot_be_read_is_no_absence() {
    let mut world = World::new();
    world.pattern("a");
    world.refresh();
    fs::rename(world.folder.path().join("patterns"), world.folder.path().join("away")).expect("renamed");
    let change = world.refresh();
    assert!(change.changed.is_empty() && change.problems_changed);
    assert_eq!(world.problem_codes(), [Code::StoreUnavailable]);
    world.found("a");
    let Lookup::Unknown(error) = world.lookup("other") else { panic!("{:?}", world.lookup("other")) };
    assert!(error.suggestion().is_some_and(|text| text.starts_with("mkdir -p ")), "{error}");
    fs::rename(world.folder.path().join("away"), world.folder.path().join("patterns")).expect("renamed back");
    assert!(world.settle().is_empty());
    assert!(world.registry.problems().is_empty());
}

#[test]
fn a_flipped_link_to_equal_content_restarts_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::new();
    world.pattern("a");
    fs::rename(world.folder.path().join("patterns"), world.folder.path().join("one")).expect("renamed");
    fs::create_dir_all(world.folder.path().join("two/a")).expect("made");
    for file in ["run", "manifest.yaml"] {
        let [from, to] = ["one", "two"].map(|checkout| world.folder.path().join(checkout).join("a").join(file));
        fs::copy(from, to).expect("copied");
    }
    symlink("one", world.folder.path().join("patterns")).expect("linked");
    world.refresh();
    let before = world.found("a");
    assert_eq!(before.revision.folder, world.path("a"), "the link is not resolved");
    assert!(before.revision.digest.is_some());
    symlink("two", folder.path().join("new")).expect("linked");
    fs::rename(folder.path().join("new"), world.folder.path().join("patterns")).expect("flipped");
    fs::remove_dir_all(world.folder.path().join("one")).expect("the old checkout goes");
    assert!(world.settle().is_empty());
    assert!(Arc::ptr_eq(&before, &world.found("a")));
    fs::write(world.path("a/run"), "#!/bin/sh\nexit 0\n").expect("changed");
    assert_eq!(world.settle(), ["a"]);
}

#[test]
fn only_what_is_below_the_folder_is_hashed() {
    let mut world = World::new();
    world.program("../outside", "#!/bin/sh\n");
    world.pattern("inner");
    world.pattern("linked");
    fs::remove_file(world.path("linked/run")).expect("removed");
    symlink("../../outside", world.path("linked/run")).expect("linked");
    world.pattern("within");
    fs::rename(world.path("within/run"), world.path("within/real")).expect("renamed");
    symlink("real", world.path("within/run")).expect("linked");
    let absolute = world.path("inner/run");
    let manifest = |executable: &str| format!("version: 1\nexecutable: {executable}\n");
    world.write("absolute/manifest.yaml", &format!("name: absolute\n{}", manifest(&absolute.display().to_string())));
    world.write("word/manifest.yaml", &format!("name: word\n{}", manifest("sh")));
    world.refresh();
    let hashed = |name: &str| world.found(name).revision.digest.is_some();
    assert!(hashed("inner") && hashed("within"));
    assert!(!hashed("linked") && !hashed("absolute") && !hashed("word"));
    assert!(world.registry.problems().is_empty(), "{:?}", world.registry.problems());
}

#[test]
fn a_program_that_cannot_run_is_a_problem_with_a_command_that_helps() {
    let mut world = World::new();
    for name in ["bare", "folder", "missing", "plain"] {
        world.pattern(name);
        fs::remove_file(world.path(name).join("run")).expect("removed");
    }
    world.write("plain/run", "#!/bin/sh\n");
    fs::create_dir(world.path("folder/run")).expect("made");
    world.write("bare/manifest.yaml", "name: bare\nversion: 1\nexecutable: no-such-program\n");
    world.refresh();
    let told: Vec<_> = world
        .registry
        .problems()
        .iter()
        .map(|problem| (problem.pattern.as_deref().expect("a pattern"), problem.error.code()))
        .collect();
    assert_eq!(
        told,
        [
            ("folder", Code::ExecutableNotRunnable),
            ("missing", Code::ExecutableNotFound),
            ("plain", Code::ExecutableNotRunnable)
        ]
    );
    let plain = &world.registry.problems()[2].error;
    assert_eq!(plain.suggestion(), Some(format!("chmod +x {}/run", world.path("plain").display()).as_str()));
    world.found("plain");
    let missing = world.registry.missing_on_path("/bin:/usr/bin");
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].error.message(), "the executable 'no-such-program' of pattern 'bare' is not on PATH");
    fs::set_permissions(world.path("plain/run"), fs::Permissions::from_mode(0o755)).expect("permissions");
    assert_eq!(world.settle(), ["plain"]);
    assert!(world.found("plain").revision.digest.is_some());
}

#[test]
fn a_program_that_is_removed_leaves_what_runs_as_it_was() {
    let mut world = World::new();
    world.pattern("a");
    world.refresh();
    let before = world.found("a");
    fs::remove_file(world.path("a/run")).expect("removed");
    assert!(world.settle().is_empty());
    assert_eq!(world.problem_codes(), [Code::ExecutableNotFound]);
    assert!(Arc::ptr_eq(&before, &world.found("a")));
    world.program("a/run", "#!/bin/sh\n");
    assert!(world.settle().is_empty(), "the same program came back");
    assert!(world.registry.problems().is_empty());
}

#[test]
fn an_unknown_pattern_is_told_with_what_may_have_been_meant() {
    let mut world = World::new();
    world.pattern("consumer");
    world.write("Bad/manifest.yaml", "name: Bad\n");
    world.registry.paths.dir = "./patterns".into();
    world.refresh();
    let error = |name: &str| {
        let Lookup::Unknown(error) = world.lookup(name) else { panic!("{:?}", world.lookup(name)) };
        error.to_string()
    };
    assert_eq!(
        error("consumr"),
        "[PATTERN_NOT_FOUND] Pattern 'consumr' not found; Context: pattern_name=consumr, patterns_dir=./patterns; \
         Suggestion: did you mean 'consumer'? The patterns there are: ls ./patterns"
    );
    assert_eq!(
        error("x"),
        "[PATTERN_NOT_FOUND] Pattern 'x' not found; Context: pattern_name=x, patterns_dir=./patterns; \
         Suggestion: ls ./patterns; or make it: pattern-launcher init x"
    );
    assert_eq!(
        world.registry.problems()[0].error.message(),
        "./patterns/Bad/manifest.yaml: the folder 'Bad' cannot be a pattern: a pattern name consists of lower-case \
         letters, digits, '_' and '-', and begins and ends with a letter or digit"
    );
}

#[test]
fn a_pattern_that_appears_later_is_waited_for() {
    let mut world = World::new();
    world.refresh();
    world.pattern("a");
    assert_eq!(world.refresh().look_again, Some(SETTLE));
    let Lookup::Unknown(error) = world.lookup("a") else { panic!("{:?}", world.lookup("a")) };
    assert_eq!(error.cause(), Some("it has only just appeared"));
    assert_eq!(world.settle(), ["a"]);
    assert!(world.found("a").revision.digest.is_some());
}
