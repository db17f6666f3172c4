//! Small files of the kernel, such as those of `/proc` and of cgroups, which give all they have in one read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A page: the kernel prepares no more of most of them.
const LIMIT: usize = 4_096;

/// What is in such a file, by three system calls: `std::fs::read` asks for the length, which is 0, and then reads in small
/// parts.
pub(crate) fn bytes(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut buffer = [0; LIMIT];
    let mut file = File::open(path)?;
    let length = file.read(&mut buffer)?;
    let mut all = buffer[..length].to_vec();
    if length == LIMIT {
        file.read_to_end(&mut all)?;
    }
    Ok(all)
}

/// The text of one that has nothing of a process in it.
pub(crate) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(bytes(path)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_whole_however_long_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        for length in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 3 * LIMIT] {
            let path = folder.path().join(length.to_string());
            std::fs::write(&path, "x".repeat(length)).expect("written");
            assert_eq!(text(&path).expect("read").len(), length);
        }
        text(folder.path().join("missing")).expect_err("it is not there");
    }
}
