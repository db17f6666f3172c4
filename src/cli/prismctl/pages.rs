//! Completions and manual pages, which need no daemon.

use super::DONE;
use super::arguments::Arguments;
use super::failure::{REFUSED, Result, Told};
use super::screen::Screen;
use crate::cli::Arguments as DaemonArguments;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::io;
use std::path::Path;

/// Prints the completions for a shell.
pub(super) fn completions(shell: Shell, screen: &mut Screen) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "prismctl", &mut script);
    screen.print(script)?;
    Ok(DONE)
}

/// Prints the manual page of the client, or writes those of client and daemon, one for each command, to a folder.
pub(super) fn man(folder: Option<&Path>, screen: &mut Screen) -> Result<u8> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(|cause| unwritten("-", &cause))?;
        screen.print(page)?;
        return Ok(DONE);
    };
    write_all(folder).map_err(|cause| unwritten(&folder.display().to_string(), &cause))?;
    screen.note(&format!("the manual pages of prismctl and pattern-launcher are in {}", folder.display()));
    Ok(DONE)
}

fn write_all(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)?;
    clap_mangen::generate_to(DaemonArguments::command(), folder)
}

fn unwritten(folder: &str, cause: &io::Error) -> Told {
    Told::new(REFUSED, "the manual pages cannot be written")
        .with("folder", folder)
        .because(cause.to_string())
        .suggest("name a folder that you may write to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&folder.path().join("man1")).unwrap();
        for page in
            ["prismctl", "prismctl-pattern-launch", "prismctl-events", "pattern-launcher", "pattern-launcher-plan"]
        {
            let text = std::fs::read_to_string(folder.path().join(format!("man1/{page}.1"))).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
        let text = std::fs::read_to_string(folder.path().join("man1/prismctl.1")).unwrap();
        assert!(text.contains("cannot be reached"), "the exit codes are in it");
    }
}
