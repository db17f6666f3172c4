//! What the README tells people to type exists.

use std::collections::BTreeSet;
use std::fs;

const COMMANDS: &[&str] = &["check", "confirm-prune", "init", "plan", "run", "schema"];

const CLIENT_COMMANDS: &[&str] = &["completions", "events", "health", "man", "manifests", "pattern", "plan"];

fn read(path: &str) -> String {
    fs::read_to_string(crate::repository().join(path)).unwrap()
}

/// The targets that a Makefile declares as phony.
fn targets(makefile: &str) -> BTreeSet<&str> {
    makefile.lines().filter_map(|line| line.strip_prefix(".PHONY:")).flat_map(str::split_whitespace).collect()
}

/// The words that follow `before` in the code of a Markdown text: in fenced blocks and between backticks.
fn words_after<'a>(markdown: &'a str, before: &str) -> BTreeSet<&'a str> {
    let mut words = BTreeSet::new();
    for (number, block) in markdown.split("```").enumerate() {
        let fenced = number % 2 == 1;
        let codes = if fenced { vec![block] } else { block.split('`').skip(1).step_by(2).collect() };
        for line in codes.into_iter().flat_map(str::lines) {
            for (at, _) in line.match_indices(before) {
                let starts = line[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || "/;&|(".contains(c));
                let after = line[at + before.len()..].strip_prefix(' ').unwrap_or_default();
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(after.len());
                if starts && end > 0 && !after.starts_with('-') {
                    words.insert(&after[..end]);
                }
            }
        }
    }
    words
}

#[test]
fn every_make_target_of_the_readme_exists() {
    let makefile = read("Makefile");
    let targets = targets(&makefile);
    let readme = read("README.md");
    let named = words_after(&readme, "make");
    assert!(named.contains("run") && named.contains("test"), "the README names {named:?}");
    let unknown: Vec<_> = named.difference(&targets).collect();
    assert!(unknown.is_empty(), "the README names targets that the Makefile lacks: {unknown:?}");
    for wanted in
        ["run", "build", "test", "test-short", "test-coverage", "examples", "fmt", "lint", "bench", "dev", "ci"]
    {
        assert!(targets.contains(wanted), "the Makefile lacks {wanted}");
    }
}

#[test]
fn every_command_of_the_readme_exists() {
    let readme = read("README.md");
    let known: BTreeSet<&str> = COMMANDS.iter().copied().collect();
    let unknown: Vec<_> = words_after(&readme, "pattern-launcher").difference(&known).copied().collect();
    assert!(unknown.is_empty(), "the README names commands that the daemon lacks: {unknown:?}");
}

#[test]
fn every_command_of_the_client_is_in_the_readme_and_no_other() {
    let readme = read("README.md");
    let named: Vec<_> = words_after(&readme, "prismctl").into_iter().collect();
    assert_eq!(named, CLIENT_COMMANDS);
}

#[test]
fn every_command_explains_itself() {
    explain(env!("CARGO_BIN_EXE_pattern-launcher"), COMMANDS);
    explain(env!("CARGO_BIN_EXE_prismctl"), CLIENT_COMMANDS);
}

#[expect(clippy::disallowed_methods, reason = "the program itself is asked for its usage")]
fn explain(program: &str, commands: &[&str]) {
    for command in commands {
        let output = std::process::Command::new(program).args([command, "--help"]).output().unwrap();
        assert!(output.status.success(), "{program} {command} --help: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Usage:"), "{command}");
    }
}

#[test]
fn every_example_is_in_the_readme() {
    let readme = read("README.md");
    for entry in fs::read_dir(crate::repository().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(readme.contains(&format!("`{name}`")), "the README does not name the example {name}");
        }
    }
}

#[test]
fn only_the_products_own_commands_are_built() {
    let mut sources: Vec<_> = fs::read_dir(crate::repository().join("src/bin"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    sources.sort();
    assert!(sources.iter().all(|name| ["pattern-launcher.rs", "prismctl.rs"].contains(&name.as_str())), "{sources:?}");
}

#[test]
fn an_unknown_target_would_be_found() {
    let markdown = "Say `make nonsense` or\n```sh\ncd x && make other\nmake\n```\nmake no code";
    assert_eq!(words_after(markdown, "make").into_iter().collect::<Vec<_>>(), ["nonsense", "other"]);
}
