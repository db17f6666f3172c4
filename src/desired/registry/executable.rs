//! What a manifest's executable is: where it stands, whether it can be run, and the hash of its content.

use crate::desired::stamp::Stamp;
use crate::error::{Code, Error};
use crate::model::Manifest;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An executable as it was seen. Two equal sightings some time apart mean that nobody is writing it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sighting {
    /// A bare word, or a file outside of the pattern's folder: its content does not count.
    Elsewhere,
    /// A file of the pattern's folder.
    Own(PathBuf, Stamp),
    /// It cannot be run, and why.
    Unusable(Error),
}

/// Looks for the executable of a manifest.
pub(super) fn look(manifest: &Manifest) -> Sighting {
    let Some(path) = location(manifest) else { return Sighting::Elsewhere };
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => return Sighting::Unusable(not_found(manifest, &path, &error)),
    };
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "is a folder" } else { "is no regular file" };
        let message = format!("the executable {} of pattern '{}' {kind}", path.display(), manifest.name);
        return Sighting::Unusable(
            unrunnable(manifest, &path, &message)
                .suggest(format!("name a file as 'executable' in {}", manifest_path(manifest).display())),
        );
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        let message =
            format!("the executable {} of pattern '{}' has no permission to run", path.display(), manifest.name);
        return Sighting::Unusable(
            unrunnable(manifest, &path, &message).suggest(format!("chmod +x {}", path.display())),
        );
    }
    if is_below(&manifest.revision.folder, &path) {
        Sighting::Own(path, Stamp::of_metadata(&metadata))
    } else {
        Sighting::Elsewhere
    }
}

/// Looks for a bare word on a search path; `None` when it is there, or when the executable is no bare word.
pub(super) fn missing_on_path(manifest: &Manifest, search_path: &str) -> Option<Error> {
    if location(manifest).is_some() {
        return None;
    }
    let word = &manifest.revision.executable;
    let runnable = |folder: &str| {
        let found = fs::metadata(Path::new(folder).join(word));
        found.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if search_path.split(':').filter(|folder| !folder.is_empty()).any(runnable) {
        return None;
    }
    let message = format!("the executable '{word}' of pattern '{}' is not on PATH", manifest.name);
    let error =
        context(Error::new(Code::ExecutableNotFound, message), manifest, Path::new(word)).with("path", search_path);
    let beside = manifest.revision.folder.join(word);
    Some(if beside.is_file() {
        error.suggest(format!("write 'executable: ./{word}' in {}", manifest_path(manifest).display()))
    } else {
        error.suggest(format!("install {word}, or correct 'executable' in {}", manifest_path(manifest).display()))
    })
}

/// The path of an executable that is not looked up on `PATH`.
fn location(manifest: &Manifest) -> Option<PathBuf> {
    let executable = &manifest.revision.executable;
    // `./run` is told as `folder/run`.
    let shown = executable.strip_prefix("./").unwrap_or(executable);
    executable.contains('/').then(|| manifest.revision.folder.join(shown))
}

/// Whether a file stands below a folder once every link is followed.
fn is_below(folder: &Path, path: &Path) -> bool {
    match (fs::canonicalize(folder), fs::canonicalize(path)) {
        (Ok(folder), Ok(path)) => path.starts_with(folder),
        _ => false,
    }
}

fn manifest_path(manifest: &Manifest) -> PathBuf {
    manifest.revision.folder.join("manifest.yaml")
}

fn context(error: Error, manifest: &Manifest, path: &Path) -> Error {
    error
        .with("pattern_name", &manifest.name)
        .with("executable", path.display())
        .with("manifest", manifest_path(manifest).display())
}

fn unrunnable(manifest: &Manifest, path: &Path, message: &str) -> Error {
    context(Error::new(Code::ExecutableNotRunnable, message), manifest, path)
}

fn not_found(manifest: &Manifest, path: &Path, cause: &io::Error) -> Error {
    let absent = cause.kind() == io::ErrorKind::NotFound;
    let code = if absent { Code::ExecutableNotFound } else { Code::ExecutableNotRunnable };
    let kind = if absent { "does not exist" } else { "cannot be looked at" };
    let message = format!("the executable {} of pattern '{}' {kind}", path.display(), manifest.name);
    let error = context(Error::new(code, message), manifest, path).caused_by(cause);
    match fs::symlink_metadata(path) {
        Ok(link) if absent && link.is_symlink() => {
            error.suggest(format!("the link leads nowhere: readlink {0}, then ln -sfn TARGET {0}", path.display()))
        }
        _ => error.suggest(format!(
            "put the program there, or correct 'executable' in {}",
            manifest_path(manifest).display()
        )),
    }
}

/// The file is not what it was when it was seen, or reading it failed halfway: to be looked at again.
#[derive(Debug)]
pub(super) struct Unsteady;

/// Hashes a file that is as it was seen; `None` when it may be run and not be read.
pub(super) fn hash(path: &Path, stamp: &Stamp) -> Result<Option<String>, Unsteady> {
    let mut file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(_) => return Err(Unsteady),
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Unsteady),
        }
    }
    let unchanged = file.metadata().is_ok_and(|metadata| Stamp::of_metadata(&metadata) == *stamp);
    if unchanged { Ok(Some(hex(&hasher.finalize()))) } else { Err(Unsteady) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// Opens a file that must be a regular one. A FIFO neither blocks nor is read.
pub(super) fn open_regular(path: &Path) -> io::Result<fs::File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}
