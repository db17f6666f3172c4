//! Why something that was asked for is not written.

use super::files::Failure;
use crate::error::{Code, Error};
use crate::model::{Instance, Isolation, Key};
use rustix::io::Errno;
use std::path::Path;

/// A person's file declares it.
pub(super) fn declared_by_file(instance: &Instance) -> Error {
    let (key, origin) = (&instance.key, &instance.origin);
    Error::new(Code::DeclaredByFile, format!("{key} is declared by {origin}, which would bring it back"))
        .with("process_id", key)
        .with("file", origin.path().display())
        .with("line", origin.line)
        .suggest(format!(
            "edit or delete {}, or stop it visibly: prismctl pattern suspend {} --reason TEXT",
            origin.path().display(),
            Error::word(key.as_str())
        ))
}

/// Its launched file has been deleted by hand.
pub(super) fn deleted(path: &Path, key: &Key) -> Error {
    Error::new(Code::ProcessNotFound, format!("{} has been deleted, so that {key} ends", path.display()))
        .with("process_id", key)
        .with("file", path.display())
        .suggest(format!("if it is still wanted, launch it again once it has ended: {}", launch_command(key)))
}

/// The command that launches a key.
fn launch_command(key: &Key) -> String {
    let isolation = key.isolation();
    let namespace = isolation.as_ref().and_then(Isolation::namespace);
    let session = isolation.as_ref().and_then(Isolation::session);
    let namespace = namespace.map_or_else(String::new, |name| format!(" --namespace {name}"));
    let session = session.map_or_else(String::new, |id| format!(" --session={}", Error::word(id.as_str())));
    let level = key.level().as_str();
    format!("prismctl pattern launch {} --isolation {level}{namespace}{session}", key.pattern())
}

/// Its launched file has been edited by hand, and it cannot be told what would be lost.
pub(super) fn being_edited(path: &Path, key: &Key, why: &Error) -> Error {
    Error::new(Code::DeclaredByFile, format!("{} has been edited by hand and is left alone", path.display()))
        .with("process_id", key)
        .with("file", path.display())
        .because(why.summary())
        .suggest(format!("correct {0}, or remove {key} from it by hand", path.display()))
}

/// What was asked for cannot be said in a file.
pub(super) fn unwritten(why: Option<&Error>) -> Error {
    let error = Error::new(Code::InvalidInstance, "what is asked for cannot be written to a file");
    let error = match why {
        Some(why) => error.because(why.summary()),
        None => error.because("it would not be read back as it is"),
    };
    error.suggest("shorten its config and slots, and give durations as whole milliseconds")
}

/// There is no launch directory.
pub(super) fn no_launch_dir() -> Error {
    Error::new(Code::StoreUnavailable, "Nothing can be launched: there is no launch directory")
        .suggest("name one with --launch-dir")
}

/// The launch directory is not there, or is no folder.
pub(super) fn unreachable(folder: &Path, cause: &std::io::Error) -> Error {
    let folder = folder.display().to_string();
    Error::new(Code::StoreUnavailable, format!("The launch directory {folder} cannot be written"))
        .with("launch_dir", &folder)
        .caused_by(cause)
        .suggest(format!(
            "mount it or put it back, or name another with --launch-dir; where it is lost: mkdir -p {folder}, and then let \
             what was launched there end by the confirm-prune that prismctl pattern explain gives for any of it"
        ))
}

/// The launch directory is empty and not the folder that it was. `token` is what confirms that what is held of it may end.
pub(super) fn unmounted(folder: &Path, token: Option<&str>) -> Error {
    let folder = folder.display().to_string();
    let token = token.unwrap_or("with the token that the PruneBlocked condition of each gives");
    Error::new(
        Code::StoreUnavailable,
        format!("The launch directory {folder} is empty and not the folder that it was, as when it is not mounted"),
    )
    .with("launch_dir", &folder)
    .suggest(format!(
        "mount it, or put its files back, or name another with --launch-dir; if what was launched there is to end: \
         pattern-launcher confirm-prune {token}, after which launches are accepted again"
    ))
}

/// A file could not be written or removed.
pub(super) fn unwritable(folder: &Path, file: &Path, failure: Failure) -> Error {
    let Failure { doing, errno } = failure;
    let path = folder.join(file);
    if errno == Errno::EXIST {
        return Error::new(Code::DeclaredByFile, format!("{} is in the way and does not declare it", path.display()))
            .with("file", path.display())
            .suggest(format!("correct or delete {}: prismctl health tells what is wrong with it", path.display()));
    }
    let parent = path.parent().unwrap_or(folder).display();
    let remedy = match errno {
        Errno::NOSPC | Errno::DQUOT => format!("free space: df -h {parent}"),
        Errno::ACCESS | Errno::PERM => format!("let the launcher's user write there: ls -ld {parent}"),
        Errno::ROFS => format!("mount it writable: findmnt -T {parent}"),
        Errno::NOENT | Errno::NOTDIR => format!("mount or make it: mkdir -p {parent}"),
        Errno::MFILE | Errno::NFILE => "raise the limit of open files: ulimit -n".to_owned(),
        _ => format!("see what is wrong with {parent}"),
    };
    Error::new(Code::StoreUnavailable, format!("{} cannot be written", path.display()))
        .with("file", path.display())
        .because(format!("{doing}: {}", std::io::Error::from(errno)))
        .suggest(format!("{remedy}; or name another folder with --launch-dir"))
}
