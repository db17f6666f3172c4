//! What may be read as a credential, for whom, and the reading of it.

use crate::error::{Code, Error};
use crate::model::Namespace;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The most that the credentials of an instance hold together, in bytes: what systemd allows those of a unit.
const SIZE_LIMIT: u64 = 1 << 20;

/// A folder whose files instances may name as their credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSource {
    /// The folder.
    pub path: PathBuf,
    /// The namespaces it is for; `None` is all, and what is in none.
    pub namespaces: Option<Vec<Namespace>>,
}

impl CredentialSource {
    /// The same, wherever the launcher goes.
    pub(super) fn absolute(self) -> Self {
        Self { path: std::path::absolute(&self.path).unwrap_or(self.path), ..self }
    }

    fn is_for(&self, namespace: Option<&Namespace>) -> bool {
        let Some(all) = &self.namespaces else { return true };
        namespace.is_some_and(|namespace| all.contains(namespace))
    }
}

/// Reads what is named. Nothing that lies in no folder for this namespace is even looked for.
pub(super) fn read<'a>(
    sources: &[CredentialSource],
    wanted: &'a BTreeMap<String, PathBuf>,
    namespace: Option<&Namespace>,
) -> Result<BTreeMap<&'a str, Vec<u8>>, Error> {
    let mut left = SIZE_LIMIT;
    let mut read = BTreeMap::new();
    for (name, path) in wanted {
        let value = find(sources, path, namespace).and_then(|file| whole(file, left).map_err(Failure::from));
        let value = value.map_err(|failure| failure.error(name, path, namespace))?;
        left -= value.len() as u64;
        read.insert(name.as_str(), value);
    }
    Ok(read)
}

enum Failure {
    /// No folder has it that is for this namespace.
    NotAllowed,
    /// A link leads out of the folder.
    Outside,
    Unreadable(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Opens the first that is there. A relative path is looked up in all folders, in the order of the configuration.
fn find(sources: &[CredentialSource], path: &Path, namespace: Option<&Namespace>) -> Result<File, Failure> {
    let places: Vec<PathBuf> = sources.iter().map(|source| source.path.join(path)).collect();
    let mut failure = Failure::NotAllowed;
    for place in places {
        // Of folders in one another the innermost says for whom it is.
        let holders = sources.iter().filter(|source| place.starts_with(&source.path));
        let Some(source) = holders.max_by_key(|source| source.path.components().count()) else { continue };
        let Some(inner) = place.strip_prefix(&source.path).ok().filter(|_| source.is_for(namespace)) else { continue };
        match open_beneath(&source.path, inner) {
            Ok(file) => return Ok(file),
            Err(Errno::XDEV) => failure = Failure::Outside,
            Err(errno) => failure = Failure::Unreadable(errno.into()),
        }
        if !matches!(&failure, Failure::Unreadable(error) if error.kind() == io::ErrorKind::NotFound) {
            break;
        }
    }
    Err(failure)
}

/// Links may lead anywhere within the folder, as those of a mounted secret do, and nowhere else.
fn open_beneath(folder: &Path, inner: &Path) -> Result<File, Errno> {
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // A FIFO must not hold up whoever opens it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(folder, inner, flags, Mode::empty(), resolve).map(File::from)
}

fn whole(file: File, limit: u64) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut value = Vec::new();
    file.take(limit + 1).read_to_end(&mut value)?;
    if value.len() as u64 > limit {
        let message = format!("the credentials of an instance may hold {} KiB together", SIZE_LIMIT >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(value)
}

impl Failure {
    fn error(self, name: &str, path: &Path, namespace: Option<&Namespace>) -> Error {
        let denied = |reason: String, suggestion: String| {
            Error::new(Code::PermissionDenied, "A credential may not be read").because(reason).suggest(suggestion)
        };
        let shown = path.display();
        let error = match self {
            Self::NotAllowed => denied(
                match namespace {
                    Some(namespace) => format!("it is in no credentials_dir that is for namespace {namespace}"),
                    None => "it is in no credentials_dir that is for all namespaces".to_owned(),
                },
                format!(
                    "put the file into a credentials_dir, or add its folder to the launcher's configuration: --credentials-dir DIR; {shown} is not looked at otherwise"
                ),
            ),
            Self::Outside => denied(
                "a link leads out of the credentials_dir".to_owned(),
                format!(
                    "put a copy in the place of {shown}, or make the folder that it leads to a credentials_dir and name the file there"
                ),
            ),
            Self::Unreadable(cause) if cause.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => Error::new(
                Code::ProcessStartFailed,
                "Credentials cannot be read safely on this machine",
            )
            .because(
                "its kernel is older than Linux 5.6 and cannot open a file without following links out of a folder",
            )
            .suggest("remove 'credentials', or update the kernel"),
            Self::Unreadable(cause) => {
                Error::new(Code::ProcessStartFailed, "A credential cannot be read").caused_by(&cause).suggest(format!(
                    "make {shown} a file that the launcher's user can read; it is looked at again at each start"
                ))
            }
        };
        error.with("credential", name).with("path", shown)
    }
}
