//! Rust files as text: where they stand, what is code in them, and what they name.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file.
pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    /// The whole text.
    pub(crate) text: String,
}

impl Source {
    /// Every Rust file below `folder` of the repository, in the order of their paths.
    pub(crate) fn all(folder: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut folders = vec![crate::repository().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    let path = path.strip_prefix(crate::repository()).unwrap().to_owned();
                    found.push(Self { path, text });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// What is compiled into the product: without comments, and up to the unit tests. A file named `tests.rs` is tests,
    /// and so is what lies in the folder of such a file.
    pub(crate) fn code(&self) -> String {
        if self.path.ends_with("tests.rs") || self.path.iter().any(|part| part == "tests") {
            return String::new();
        }
        without_comments(self.text.split("#[cfg(test)]").next().unwrap_or_default())
    }

    /// The module path of a file below `src`, such as `["desired", "scan"]`; empty for `lib.rs`.
    pub(crate) fn module(&self) -> Vec<String> {
        let inner = self.path.strip_prefix("src").unwrap_or(&self.path).with_extension("");
        let parts: Vec<String> = inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if parts == ["lib"] { Vec::new() } else { parts }
    }
}

/// The text without `//` comments. A `//` within a string ends the line too, which hides nothing that matters here:
/// no path of a module stands behind one.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path within this crate that `code` names, as the module and item names behind `crate::`; `super::` is
/// followed from `module`, the file's own. Groups in braces are taken apart.
pub(crate) fn crate_paths(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        if !continues_a_name(code, start) {
            follow(&code[start + "crate::".len()..], &mut Vec::new(), &mut found);
        }
    }
    let mut rest = 0;
    while let Some(at) = code[rest..].find("super::") {
        let start = rest + at;
        let mut base = module.to_vec();
        let mut after = start;
        while code[after..].starts_with("super::") {
            base.pop();
            after += "super::".len();
        }
        if !continues_a_name(code, start) {
            follow(&code[after..], &mut base, &mut found);
        }
        rest = after;
    }
    found
}

/// Whether the character before `at` makes what follows the end of a longer name, as in `$crate::` or `my_crate::`.
fn continues_a_name(code: &str, at: usize) -> bool {
    code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$')
}

/// Reads a path, or a group of paths, from the beginning of `text`; returns what follows it.
fn follow<'a>(text: &'a str, base: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut inner) = text.strip_prefix('{') {
        loop {
            inner = inner.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if let Some(after) = inner.strip_prefix('}') {
                return after;
            }
            let rest = follow(inner, base, found);
            if rest.len() == inner.len() {
                return rest;
            }
            inner = rest;
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return rest;
    }
    base.push(name.to_owned());
    if let Some(deeper) = rest.strip_prefix("::") {
        rest = follow(deeper, base, found);
    } else {
        found.push(base.clone());
        if let Some(renamed) = rest.strip_prefix(" as ") {
            rest = renamed.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        }
    }
    base.pop();
    rest
}

/// Where `name` stands in `code` as a name of its own, not as a part of a longer one.
pub(crate) fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let after = code[at + name.len()..].chars().next();
        !continues_a_name(code, at) && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// A path, for messages.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(module: &str, code: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        let mut found: Vec<String> = crate_paths(&module, code).iter().map(|path| path.join("::")).collect();
        found.sort();
        found
    }

    #[test]
    fn paths_are_found_in_groups_and_in_the_middle_of_code() {
        let code =
            "use crate::{act::{self, host::Host}, model::Key as K, plan};\nfn f() -> crate::error::Result<()> {}";
        assert_eq!(paths("x", code), ["act::host::Host", "act::self", "error::Result", "model::Key", "plan"]);
    }

    #[test]
    fn super_is_followed_from_the_file() {
        assert_eq!(
            paths("act::host", "use super::records::Records; use super::super::cli::run;"),
            ["act::records::Records", "cli::run"]
        );
    }

    #[test]
    fn names_of_other_crates_are_not_paths_of_this_one() {
        assert!(paths("x", "other_crate::act::x; $crate::cli::y").is_empty());
    }

    #[test]
    fn a_name_is_not_found_within_a_longer_one() {
        assert!(names("let x = Instant::now();", "Instant"));
        assert!(!names("use crate::model::Instance; InstantX; MyInstant", "Instant"));
    }

    #[test]
    fn comments_and_unit_tests_are_not_code() {
        let text = "// tokio\nfn f() {} // std::fs\n#[cfg(test)]\nmod tests { use tokio; }".to_owned();
        let code = Source { path: PathBuf::from("src/plan/x.rs"), text }.code();
        assert!(!names(&code, "tokio") && !names(&code, "std::fs"));
        assert!(code.contains("fn f()"));
        for path in ["src/plan/x/tests.rs", "src/plan/x/tests/bench.rs"] {
            let text = "use tokio;".to_owned();
            assert_eq!(Source { path: PathBuf::from(path), text }.code(), "", "{path}");
        }
    }
}
