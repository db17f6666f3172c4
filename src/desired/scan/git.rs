//! Whether git is at work in the work tree that a root belongs to, and at which commit that is. No git is run: its files
//! are read.

use crate::error::{Code, Error};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The longest file of references that is read: some fifty thousand of them.
const PACKED_LIMIT: u64 = 4 << 20;
/// The longest of the small files.
const LIMIT: u64 = 8_192;

/// The git folder of the work tree that `real` lies in, if it lies in one.
pub(super) fn repository(real: &Path) -> Option<PathBuf> {
    real.ancestors().find_map(|folder| {
        let dot_git = folder.join(".git");
        let metadata = std::fs::metadata(&dot_git).ok()?;
        if metadata.is_dir() {
            return Some(dot_git);
        }
        // In a linked work tree and in a submodule it is a file that names the folder.
        let text = read(&dot_git, LIMIT)?;
        text.strip_prefix("gitdir:").map(|path| folder.join(path.trim()))
    })
}

/// Why the work tree is not to be believed now: git holds its index while it changes files.
pub(super) fn busy(repository: &Path) -> Option<Error> {
    let lock = repository.join("index.lock");
    std::fs::symlink_metadata(&lock).ok()?;
    Some(
        Error::new(Code::StoreUnavailable, format!("git is at work: {} exists", lock.display()))
            .with("file", lock.display())
            .suggest(format!("wait for git; if none runs, it left the file behind: rm {}", lock.display())),
    )
}

/// What a work tree has checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkout {
    /// The commit, in hexadecimal digits.
    pub(crate) commit: String,
    /// The branch; `None` for a commit that was checked out by itself.
    pub(crate) branch: Option<String>,
}

/// What the work tree that a file lies in has checked out; `None` outside of one, before its first commit, and where its
/// references are kept in another way than as files.
pub(crate) fn checkout(file: &Path) -> Option<Checkout> {
    let real = std::fs::canonicalize(file).ok()?;
    let git = repository(&real)?;
    let head = read(&git.join("HEAD"), LIMIT)?;
    let Some(reference) = head.strip_prefix("ref:").map(str::trim) else {
        return Some(Checkout { commit: commit(&head)?, branch: None });
    };
    if reference.split('/').any(|part| part.is_empty() || part == "..") {
        return None;
    }
    // Linked work trees share the references of the repository that they belong to.
    let common = read(&git.join("commondir"), LIMIT).map(|path| git.join(path.trim()));
    let folders = [Some(git), common];
    let own = |folder: &PathBuf| read(&folder.join(reference), LIMIT).as_deref().and_then(commit);
    let packed = |folder: &PathBuf| packed(&read(&folder.join("packed-refs"), PACKED_LIMIT)?, reference);
    let found = folders.iter().flatten().find_map(own).or_else(|| folders.iter().flatten().find_map(packed));
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    Some(Checkout { commit: found?, branch: Some(branch.to_owned()) })
}

/// The commit of a reference in a file of many: a line each, `COMMIT REFERENCE`, besides comments and peeled tags.
fn packed(text: &str, reference: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, name)| *name == reference)
        .and_then(|(id, _)| commit(id))
}

/// A commit as it is written, by SHA-1 or SHA-256.
fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (text.len() == 40 || text.len() == 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_owned())
}

/// A file that is no longer than it should be.
fn read(path: &Path, limit: u64) -> Option<String> {
    let mut text = String::new();
    let count = std::fs::File::open(path).ok()?.take(limit + 1).read_to_string(&mut text).ok()?;
    (count as u64 <= limit).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn at(commit: &str, branch: Option<&str>) -> Checkout {
        Checkout { commit: commit.to_owned(), branch: branch.map(str::to_owned) }
    }

    #[test]
    fn a_commit_is_found_by_branch_packed_or_not_and_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let (git, file) = (folder.path().join(".git"), folder.path().join("desired/a.yaml"));
        put(&file, "");
        assert_eq!(checkout(&file), None);
        put(&git.join("HEAD"), "ref: refs/heads/team/main\n");
        assert_eq!(checkout(&file), None, "there is no commit yet");
        put(
            &git.join("packed-refs"),
            &format!("# pack-refs with: peeled\n{TWO} refs/heads/team/other\n{ONE} refs/heads/team/main\n^{TWO}\n"),
        );
        assert_eq!(checkout(&file), Some(at(ONE, Some("team/main"))));
        put(&git.join("refs/heads/team/main"), &format!("{TWO}\n"));
        assert_eq!(checkout(&file), Some(at(TWO, Some("team/main"))), "what is not packed is newer");
        put(&git.join("HEAD"), &format!("{ONE}\n"));
        assert_eq!(checkout(&file), Some(at(ONE, None)));
        put(&git.join("HEAD"), "ref: ../../elsewhere\n");
        assert_eq!(checkout(&file), None);
    }

    #[test]
    fn a_linked_work_tree_has_a_head_of_its_own_and_shares_branches() {
        let folder = tempfile::tempdir().unwrap();
        let (main, linked) = (folder.path().join("main"), folder.path().join("linked"));
        put(&linked.join("a.yaml"), "");
        put(&linked.join(".git"), "gitdir: ../main/.git/worktrees/linked\n");
        put(&main.join(".git/worktrees/linked/HEAD"), "ref: refs/heads/side\n");
        put(&main.join(".git/worktrees/linked/commondir"), "../..\n");
        put(&main.join(".git/refs/heads/side"), &format!("{ONE}\n"));
        assert_eq!(checkout(&linked.join("a.yaml")), Some(at(ONE, Some("side"))));
    }
}
