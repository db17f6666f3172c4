//! What is declared: by files that a person edits, and by launches, which may be answered or not.

use super::calls::Asked;
use super::history::Label;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub(super) const PATTERN: &str = "sleeper";
/// How many files a person edits, and how many keys each may declare.
const FILES: usize = 10;
const KEYS_PER_FILE: usize = 7;
/// How many keys are launched, beside those of the files.
pub(super) const LAUNCHED: usize = 40;
/// And how many of these before anybody is killed: a hundred run then.
pub(super) const LAUNCHED_FIRST: usize = 30;
/// All keys that there can be.
pub(super) const INSTANCES: u16 = 110;
/// How many keys of each file may be left out at once: far fewer than would be held as a mass deletion.
const LEFT_OUT: usize = 2;
/// How often the test kills the process of one thing that is declared: at the fifth its circuit would open.
const CRASHES: u32 = 3;

/// What may be true of a key that is launched. More than one thing, when a launcher was killed before it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Maybe {
    Absent,
    Says(u32),
}

/// What is declared.
pub(super) struct Model {
    folder: PathBuf,
    starts: PathBuf,
    manifest: u32,
    /// For each file, its content and the keys that it leaves out.
    files: Vec<(u32, BTreeSet<usize>)>,
    launched: Vec<BTreeSet<Maybe>>,
    /// What is launched next says this.
    next: u32,
    /// How often the test killed the process of a key since it last said something new.
    crashes: BTreeMap<String, u32>,
    /// Keys that were not declared at some time since the last rest.
    renewed: BTreeSet<String>,
}

/// Where every process writes its beginning.
pub(super) fn starts(world: &World) -> PathBuf {
    world.root().join("starts")
}

/// The namespace of a key.
pub(super) fn namespace(id: &str) -> &str {
    id.split(':').nth(1).unwrap()
}

/// What an instance is given; every tenth ignores SIGTERM.
pub(super) fn config(id: &str, content: u32) -> [(String, String); 2] {
    let stubborn = namespace(id).ends_with('0');
    [("CONTENT".to_owned(), content.to_string()), ("STUBBORN".to_owned(), stubborn.to_string())]
}

fn in_file(file: usize, key: usize) -> String {
    // The number of the file stands last, so that all keys of one file are stubborn or none.
    format!("f{key}-{file}")
}

fn id(namespace: &str) -> String {
    format!("ns:{namespace}:{PATTERN}")
}

pub(super) fn launched_id(number: usize) -> String {
    id(&format!("l{number}"))
}

impl Model {
    /// Writes the pattern and every file for the first time.
    pub(super) fn begin(world: &World) -> Self {
        let mut model = Self {
            folder: world.desired(),
            starts: starts(world),
            manifest: 0,
            files: vec![(0, BTreeSet::new()); FILES],
            launched: vec![BTreeSet::from([Maybe::Absent]); LAUNCHED],
            next: 1,
            crashes: BTreeMap::new(),
            renewed: BTreeSet::new(),
        };
        world.pattern(PATTERN, PATTERN, "");
        model.change_manifest(world);
        for file in 0..FILES {
            model.change_file(world, file, None, false);
        }
        model
    }

    /// Replaces every process, one after the other.
    pub(super) fn change_manifest(&mut self, world: &World) {
        self.manifest += 1;
        let (starts, manifest) = (self.starts.display(), self.manifest);
        let label = format!("\"--label\", \"$(CONTENT)/{manifest}\", \"--stubborn\", \"$(STUBBORN)\"");
        let lifecycle = "lifecycle: { grace_period: 400ms }";
        world.manifest(PATTERN, &format!("args: [\"--log\", \"{starts}\", {label}]\n{lifecycle}"));
    }

    pub(super) const fn files(&self) -> usize {
        self.files.len()
    }

    /// Says something new in a file; `toggled` is a key that is left out from now on, or declared again.
    pub(super) fn change_file(&mut self, world: &World, file: usize, toggled: Option<usize>, in_place: bool) {
        let (content, left_out) = &mut self.files[file];
        *content += 1;
        if let Some(key) = toggled.map(|key| key % KEYS_PER_FILE) {
            self.renewed.insert(id(&in_file(file, key)));
            if !left_out.remove(&key) && left_out.len() < LEFT_OUT {
                left_out.insert(key);
            }
        }
        let namespaces: Vec<String> =
            (0..KEYS_PER_FILE).filter(|key| !left_out.contains(key)).map(|key| in_file(file, key)).collect();
        let config = config(&id(&in_file(file, 0)), *content);
        let config = config.map(|(name, value)| format!("{name}: \"{value}\"")).join(", ");
        let text = format!("pattern: {PATTERN}\nnamespaces: [{}]\nconfig: {{ {config} }}\n", namespaces.join(", "));
        if in_place {
            // As careless programs do: for a moment the file is empty, and then half of it is there.
            std::fs::write(self.folder.join(format!("{file}.yaml")), text).unwrap();
        } else {
            world.desire(&format!("{file}.yaml"), &text);
        }
        for key in 0..KEYS_PER_FILE {
            self.crashes.remove(&id(&in_file(file, key)));
        }
    }

    /// A key that can be launched, and what it is to say.
    pub(super) fn launch(&mut self, number: usize) -> (String, u32) {
        let content = self.next;
        self.next += 1;
        (launched_id(number), content)
    }

    /// Launched keys that may be declared.
    pub(super) fn may_be_declared(&self, number: usize) -> bool {
        self.launched[number].iter().any(|maybe| *maybe != Maybe::Absent)
    }

    /// Launched keys that are declared for certain.
    pub(super) fn is_declared(&self, number: usize) -> bool {
        !self.launched[number].contains(&Maybe::Absent)
    }

    /// What became of a call.
    pub(super) fn answered(&mut self, asked: &Asked, done: bool) {
        match asked {
            Asked::Restart => {}
            Asked::Launch { id, content } => {
                let maybe = self.launched_mut(id);
                let absent = maybe.contains(&Maybe::Absent);
                if absent {
                    maybe.insert(Maybe::Says(*content));
                    self.renewed.insert(id.clone());
                }
                if done {
                    self.launched_mut(id).remove(&Maybe::Absent);
                }
            }
            Asked::Terminate { id } => {
                let maybe = self.launched_mut(id);
                if done {
                    maybe.clear();
                }
                maybe.insert(Maybe::Absent);
                self.renewed.insert(id.clone());
            }
        }
    }

    fn launched_mut(&mut self, id: &str) -> &mut BTreeSet<Maybe> {
        &mut self.launched[number(id)]
    }

    /// What each key may be; a key that is not here is not declared.
    pub(super) fn declared(&self) -> BTreeMap<String, BTreeSet<Maybe>> {
        let files = self.files.iter().enumerate().flat_map(|(file, (content, left_out))| {
            let keys = (0..KEYS_PER_FILE).filter(|key| !left_out.contains(key));
            keys.map(move |key| (id(&in_file(file, key)), BTreeSet::from([Maybe::Says(*content)])))
        });
        let launched = self.launched.iter().enumerate().map(|(number, maybe)| (launched_id(number), maybe.clone()));
        files.chain(launched).collect()
    }

    /// What a process has to be started from that says this.
    pub(super) const fn label(&self, content: u32) -> Label {
        Label { content, manifest: self.manifest }
    }

    /// At rest it has been seen what became of what was not answered.
    pub(super) fn seen(&mut self, id: &str, found: Maybe) {
        if namespace(id).starts_with('l') {
            *self.launched_mut(id) = BTreeSet::from([found]);
        }
    }

    /// Whether the test may kill the process of a key once more.
    pub(super) fn may_crash(&self, id: &str) -> bool {
        self.crashes(id) < CRASHES
    }

    pub(super) fn crashed(&mut self, id: &str) {
        *self.crashes.entry(id.to_owned()).or_default() += 1;
    }

    pub(super) fn crashes(&self, id: &str) -> u32 {
        self.crashes.get(id).copied().unwrap_or(0)
    }

    /// The keys that may have been forgotten since the last rest, so that what is counted of them may begin anew.
    pub(super) fn take_renewed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.renewed)
    }
}

/// The number of a launched key.
pub(super) fn number(id: &str) -> usize {
    namespace(id)[1..].parse().unwrap()
}
