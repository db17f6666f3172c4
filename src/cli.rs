//! The command line of the daemon: arguments in, exit code out.
//!
//! Standard output is for results, standard error for the log and for what went wrong.

mod check;
mod confirm_prune;
mod init;
mod plan;
pub mod prismctl;
mod run;
mod schema;

use crate::config::{Config, Loaded, Settings, Sources};
use crate::error::Result;
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the processes of this machine equal to a directory of YAML files.
#[derive(Debug, Parser)]
#[command(name = "pattern-launcher", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Which configuration.
#[derive(Debug, Default, Clone, clap::Args)]
struct Flags {
    /// The configuration file [default: launcher.toml, if it is there]; also PATTERN_LAUNCHER_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// How a result is told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the launcher; what happens without a command.
    ///
    /// Every flag is also a variable (--resync-interval is PATTERN_LAUNCHER_RESYNC_INTERVAL) and a key of the
    /// configuration file (resync_interval). Flags beat variables, variables beat the file.
    Run(Flags),
    /// Validate every manifest and every instance, without a launcher; exit code 1 when one is wrong.
    Check {
        /// How to tell it; as JSON it is one object with `findings`, each with file, line, column, code and message.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Format,
        #[command(flatten)]
        flags: Flags,
    },
    /// Print what would be done against what runs now, and why; exit code 0 for nothing, 2 for changes, 1 for an error.
    Plan {
        /// How to tell it; as JSON it is one object with `actions`, each with what differs where it replaces a process.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Format,
        #[command(flatten)]
        flags: Flags,
    },
    /// Let a held-back mass deletion happen.
    ConfirmPrune {
        /// The token that the log line and the PruneBlocked condition give; it names exactly that set of instances.
        token: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Make a pattern to begin with: a manifest, a program and a README.
    Init {
        /// The name of the pattern.
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Print a JSON Schema, for editors.
    Schema {
        /// Of what.
        kind: schema::Kind,
    },
}

/// What a command has to say at its end.
struct Answer {
    /// For standard output.
    text: String,
    /// For the shell.
    code: u8,
}

impl Answer {
    fn fine(text: String) -> Self {
        Self { text, code: 0 }
    }
}

/// An object as one line.
fn json(object: &impl Serialize) -> String {
    // Strings and numbers can always be written.
    serde_json::to_string(object).unwrap_or_default() + "\n"
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output with code 0, a wrong argument to standard error with code 2.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match carry_out(arguments) {
        Ok(Answer { text, code }) => {
            // A reader that went away, such as `head`, is no failure.
            drop(std::io::stdout().lock().write_all(text.as_bytes()));
            ExitCode::from(code)
        }
        Err(error) => {
            drop(writeln!(std::io::stderr().lock(), "pattern-launcher: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: Arguments) -> Result<Answer> {
    let upper = arguments.flags;
    match arguments.command {
        None => run::run(&upper.sources()),
        Some(Command::Run(flags)) => run::run(&flags.over(upper).sources()),
        Some(Command::Check { output, flags }) => check::check(&flags.over(upper).config()?, output),
        Some(Command::Plan { output, flags }) => plan::plan(&flags.over(upper).config()?, output),
        Some(Command::ConfirmPrune { token, flags }) => {
            confirm_prune::confirm(&flags.over(upper).config()?.state_dir, &token).map(Answer::fine)
        }
        Some(Command::Init { name, flags }) => init::init(&flags.over(upper).config()?, &name).map(Answer::fine),
        Some(Command::Schema { kind }) => Ok(Answer::fine(schema::schema(kind))),
    }
}

impl Flags {
    /// These flags, which stand after the command, over those before it.
    fn over(self, before: Self) -> Self {
        Self { config: self.config.or(before.config), settings: self.settings.over(before.settings) }
    }

    fn sources(&self) -> Sources {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources { file: self.config.clone(), flags: self.settings.clone(), environment }
    }

    fn config(&self) -> Result<Config> {
        let Loaded { config, remarks } = self.sources().load()?;
        for remark in remarks {
            drop(writeln!(std::io::stderr().lock(), "pattern-launcher: {remark}"));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for line in ["pattern-launcher --max-errors 3 plan", "pattern-launcher plan --max-errors 3"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let Some(Command::Plan { flags, .. }) = arguments.command else { panic!("{line} is no plan") };
            assert_eq!(flags.over(arguments.flags).settings.max_errors, Some(3), "{line}");
        }
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        assert!(Arguments::try_parse_from(["pattern-launcher"]).unwrap().command.is_none());
        assert!(Arguments::try_parse_from(["pattern-launcher", "--http-port", "off"]).is_ok());
        assert!(Arguments::try_parse_from(["pattern-launcher", "--http-port", "on"]).is_err());
    }
}
