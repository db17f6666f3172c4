//! The command line of the client.

use crate::api::proto;
use crate::model::units::{parse_duration, parse_time};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `plan`, nothing would be done
  1  the daemon refused, or the process failed; `health`, `status --check`: not healthy
  2  wrong usage; for `plan`, something would be done
  3  no such pattern or process
  4  the daemon cannot be reached
  5  it took longer than --timeout

Without --address and PRISMCTL_ADDRESS the socket is the first api.sock that is there: in
$STATE_DIRECTORY, in .pattern-launcher of the current folder, in /var/lib/pattern-launcher.";

/// Where the help of each command lists what all commands take.
const EVERYWHERE: &str = "Options of every command";

/// Asks a pattern-launcher: launches patterns, says how their processes are doing, and changes that.
#[derive(Debug, Parser)]
#[command(name = "prismctl", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// Where the daemon listens: unix:PATH, HOST:PORT, or with TLS https://HOST:PORT
    #[arg(long, global = true, value_name = "ADDRESS", env = "PRISMCTL_ADDRESS", hide_env_values = true)]
    #[arg(help_heading = EVERYWHERE)]
    pub(super) address: Option<String>,
    /// The authority that signed the daemon's certificate, or that certificate itself, as a PEM file; needed for https
    #[arg(long, global = true, value_name = "FILE", env = "PRISMCTL_CA", hide_env_values = true)]
    #[arg(help_heading = EVERYWHERE)]
    pub(super) ca: Option<PathBuf>,
    /// The certificate to show to a daemon that asks for one (grpc_tls_client_ca), as a PEM file
    #[arg(long, global = true, value_name = "FILE", env = "PRISMCTL_CERT", hide_env_values = true)]
    #[arg(help_heading = EVERYWHERE)]
    pub(super) cert: Option<PathBuf>,
    /// The private key of that certificate, as a PEM file
    #[arg(long, global = true, value_name = "FILE", env = "PRISMCTL_KEY", hide_env_values = true)]
    #[arg(help_heading = EVERYWHERE)]
    pub(super) key: Option<PathBuf>,
    /// How to print results: for people, or for programs
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    #[arg(help_heading = EVERYWHERE)]
    pub(super) output: Format,
    /// How long to wait for the daemon; by default 10s for questions, and without end for what takes as long as it
    /// takes, such as a launch
    #[arg(long, global = true, value_name = "DURATION", value_parser = positive_duration, help_heading = EVERYWHERE)]
    pub(super) timeout: Option<Duration>,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One object; of streams and with --watch, one line each
    Json,
    /// One document; of streams and with --watch, one document each
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Launch patterns, look at their processes, change them
    #[command(subcommand)]
    Pattern(Pattern),
    /// Print what happens from now on
    Events(Events),
    /// List the patterns that can be launched, or show one
    Manifests {
        /// Only this pattern, with all there is to know about it
        name: Option<String>,
    },
    /// Print what would be done now, and why; exit code 0 for nothing, 2 for changes
    Plan(Plan),
    /// Say how the launcher is doing; exit code 1 when it is not healthy
    Health {
        /// List its processes, too
        #[arg(long)]
        processes: bool,
        /// Again whenever something happens, and every two seconds
        #[arg(long, short)]
        watch: bool,
    },
    /// Print the completions for a shell
    Completions {
        /// Of which shell
        shell: clap_complete::Shell,
    },
    /// Print this manual page, or write all of prismctl and pattern-launcher to a folder
    Man {
        /// The folder, such as /usr/local/share/man/man1
        folder: Option<PathBuf>,
    },
}

/// What to do about one pattern or process.
#[derive(Debug, Subcommand)]
pub(super) enum Pattern {
    /// Get the process of a pattern and tenant, or create it, and wait until it is healthy
    Launch(Launch),
    /// List what is declared
    List(List),
    /// Say where one process stands
    Status {
        #[command(flatten)]
        process: Process,
        /// Exit code 1 unless it is healthy
        #[arg(long, conflicts_with = "watch")]
        check: bool,
        /// Again whenever something happens, and every two seconds
        #[arg(long, short)]
        watch: bool,
    },
    /// End a launched process, and wait until its whole process tree is gone
    Terminate {
        #[command(flatten)]
        process: Process,
        /// From its stop signal to the killing of the tree; shorter than its own grace period
        #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
        grace_period: Option<Duration>,
        /// Kill it at once
        #[arg(long, conflicts_with = "grace_period")]
        force: bool,
    },
    /// End a process and start another in its place
    Restart {
        #[command(flatten)]
        process: Process,
        #[command(flatten)]
        patience: Patience,
    },
    /// Forget the failures of an instance and close its circuit
    Reset(Process),
    /// Stop an instance, whoever declares it, until it is resumed
    Suspend {
        #[command(flatten)]
        process: Process,
        /// Why, for whoever wonders
        #[arg(long)]
        reason: String,
        /// Resume it after this long
        #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration)]
        lasting: Option<Duration>,
        #[command(flatten)]
        patience: Patience,
    },
    /// End a suspension
    Resume {
        #[command(flatten)]
        process: Process,
        #[command(flatten)]
        patience: Patience,
    },
    /// Change what a launched process is started with, and replace it
    Update(Update),
    /// Give up a process whose identity cannot be verified, so that its key is free again; nothing is signalled
    Abandon(Process),
    /// Print what a process printed
    Logs {
        #[command(flatten)]
        process: Process,
        /// Go on as it prints more
        #[arg(long, short)]
        follow: bool,
        /// Only so many last lines
        #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(i64).range(1..))]
        tail: Option<i64>,
        /// Only what was printed since then: 10m, or 2031-05-01T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<String>,
        /// Only what the run before the last one printed
        #[arg(long, conflicts_with = "follow")]
        previous: bool,
    },
    /// Say why a process is as it is, and what happens next
    Explain(Process),
}

/// Which process.
#[derive(Debug, Args)]
pub(super) struct Process {
    /// As `pattern list` prints it, such as ns:tenant-a:consumer
    #[arg(value_name = "PROCESS_ID")]
    pub(super) id: String,
}

/// Whether to wait.
#[derive(Debug, Args)]
pub(super) struct Patience {
    /// Return as soon as the daemon has taken it on
    #[arg(long)]
    pub(super) no_wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct Launch {
    /// The pattern's name
    pub(super) name: String,
    /// The tenant; needed at level namespace
    #[arg(long)]
    pub(super) namespace: Option<String>,
    /// The session; needed at level session
    #[arg(long, value_name = "ID")]
    pub(super) session: Option<String>,
    /// Who shares the process [default: the manifest's level]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(super) isolation: Option<Isolation>,
    /// A variable of its environment, used when the process is created; several times for several
    #[arg(long, value_name = "KEY=VALUE", value_parser = config_pair)]
    pub(super) config: Vec<Pair>,
    /// What a backend slot is bound to, such as storage.url=postgres://db
    #[arg(long, value_name = "SLOT.FIELD=VALUE", value_parser = slot_pair)]
    pub(super) slot: Vec<Pair>,
    /// From its stop signal to the killing of its tree, when it is ended
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub(super) grace_period: Option<Duration>,
    /// End it this long after the last launch that named it
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub(super) ttl: Option<Duration>,
    #[command(flatten)]
    pub(super) patience: Patience,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only of this pattern
    #[arg(long, value_name = "NAME")]
    pub(super) pattern: Option<String>,
    /// Only of this namespace
    #[arg(long)]
    pub(super) namespace: Option<String>,
    /// Only in this state
    #[arg(long, value_enum)]
    pub(super) state: Option<State>,
    /// Again whenever something happens, and every two seconds
    #[arg(long, short)]
    pub(super) watch: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Update {
    #[command(flatten)]
    pub(super) process: Process,
    /// A variable of its environment; those given are its whole config from now on
    #[arg(long, value_name = "KEY=VALUE", value_parser = config_pair, group = "change")]
    pub(super) config: Vec<Pair>,
    /// Remove its config
    #[arg(long, conflicts_with = "config", group = "change")]
    pub(super) no_config: bool,
    /// What a backend slot is bound to; those given are all its slots from now on
    #[arg(long, value_name = "SLOT.FIELD=VALUE", value_parser = slot_pair, group = "change")]
    pub(super) slot: Vec<Pair>,
    /// Remove its slots
    #[arg(long, conflicts_with = "slot", group = "change")]
    pub(super) no_slots: bool,
    /// From its stop signal to the killing of its tree
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, group = "change")]
    pub(super) grace_period: Option<Duration>,
    /// Refuse when it has changed since this generation, which `pattern status` prints
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    pub(super) expected_generation: Option<i64>,
    #[command(flatten)]
    pub(super) patience: Patience,
}

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Only of this pattern
    #[arg(long, value_name = "NAME")]
    pub(super) pattern: Option<String>,
    /// Only of this namespace
    #[arg(long)]
    pub(super) namespace: Option<String>,
    /// Only of this process
    #[arg(long, value_name = "ID")]
    pub(super) process_id: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Only of this pattern
    #[arg(long, value_name = "NAME")]
    pub(super) pattern: Option<String>,
    /// Only of this namespace
    #[arg(long)]
    pub(super) namespace: Option<String>,
    /// Again whenever something happens, and every two seconds
    #[arg(long, short)]
    pub(super) watch: bool,
}

/// Who shares a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Isolation {
    /// One process for the pattern
    None,
    /// One for each namespace
    Namespace,
    /// One for each session
    Session,
}

impl Isolation {
    /// The same in the API.
    pub(super) const fn proto(self) -> proto::IsolationLevel {
        match self {
            Self::None => proto::IsolationLevel::IsolationNone,
            Self::Namespace => proto::IsolationLevel::IsolationNamespace,
            Self::Session => proto::IsolationLevel::IsolationSession,
        }
    }
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// On the way to running, also waiting or in backoff
    Starting,
    /// Its process runs
    Running,
    /// Its process is being ended
    Terminating,
    /// Stopped or suspended
    Terminated,
    /// Its circuit is open, or its record cannot be verified
    Failed,
    /// It ended as its restart policy accepts
    Finished,
}

impl State {
    /// The same in the API.
    pub(super) const fn proto(self) -> proto::ProcessState {
        match self {
            Self::Starting => proto::ProcessState::StateStarting,
            Self::Running => proto::ProcessState::StateRunning,
            Self::Terminating => proto::ProcessState::StateTerminating,
            Self::Terminated => proto::ProcessState::StateTerminated,
            Self::Failed => proto::ProcessState::StateFailed,
            Self::Finished => proto::ProcessState::StateFinished,
        }
    }
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: String,
}

fn config_pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Pair { name: name.to_owned(), value: value.to_owned() }),
        Some(_) => Err("the name before = is missing".to_owned()),
        None => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn slot_pair(text: &str) -> Result<Pair, String> {
    let pair = config_pair(text).map_err(|_| "write it as SLOT.FIELD=VALUE, such as storage.url=postgres://db")?;
    match pair.name.split_once('.') {
        Some((slot, field)) if !slot.is_empty() && !field.is_empty() => Ok(pair),
        _ => Err(format!("write it as {}.url={}, or with another field than url", pair.name, pair.value)),
    }
}

/// The daemon reads it again: a duration counts from when it does.
fn since(text: &str) -> Result<String, String> {
    if parse_duration(text).is_ok() || parse_time(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("write it as 10m or as 2031-05-01T12:00:00Z".to_owned())
}

/// The API counts whole seconds, and takes none for "not given".
fn positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be longer than nothing".to_owned()),
        Ok(duration) if i64::try_from(duration.as_secs()).is_err() => Err("it is too long".to_owned()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_launch_reads_everything_that_can_be_said() {
        let line = "prismctl pattern launch consumer --namespace a --session s --isolation session --config A=b=c \
                    --config B= --slot storage.url=postgres://db --grace-period 10s --ttl 30m --no-wait --timeout 30s \
                    -o json --address unix:/s";
        let arguments = parse(line).unwrap();
        assert_eq!(arguments.output, Format::Json);
        assert_eq!(arguments.timeout, Some(Duration::from_secs(30)));
        let Command::Pattern(Pattern::Launch(launch)) = arguments.command else { panic!("it is a launch") };
        let pair = |name: &str, value: &str| Pair { name: name.to_owned(), value: value.to_owned() };
        assert_eq!(launch.config, [pair("A", "b=c"), pair("B", "")]);
        assert_eq!(launch.slot, [pair("storage.url", "postgres://db")]);
        assert_eq!(launch.ttl, Some(Duration::from_secs(1800)));
        assert!(launch.patience.no_wait);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_how_to_write_it() {
        for (line, said) in [
            ("prismctl pattern launch x --config A", "KEY=VALUE"),
            ("prismctl pattern launch x --config =1", "name before ="),
            ("prismctl pattern launch x --slot storage=1", "storage.url=1"),
            ("prismctl pattern launch x --slot storage", "SLOT.FIELD=VALUE"),
            ("prismctl pattern launch x --grace-period 0s", "longer than nothing"),
            ("prismctl pattern launch x --ttl 30", "1m30s"),
            ("prismctl pattern launch x --isolation all", "namespace"),
            ("prismctl pattern terminate x --force --grace-period 1s", "cannot be used with"),
            ("prismctl pattern suspend x", "--reason"),
            ("prismctl pattern update x", "--config"),
            ("prismctl pattern update x --config A=1 --no-config", "cannot be used with"),
            ("prismctl pattern logs x --tail 0", "0"),
            ("prismctl pattern logs x --since yesterday", "2031-05-01T12:00:00Z"),
            ("prismctl pattern logs x -f --previous", "cannot be used with"),
            ("prismctl pattern list --state dead", "terminated"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_of_the_contract_is_there() {
        for line in [
            "pattern launch x",
            "pattern list --watch",
            "pattern status x --check",
            "pattern terminate x --force",
            "pattern restart x",
            "pattern reset x",
            "pattern suspend x --reason y --for 1h",
            "pattern resume x",
            "pattern update x --config A=1 --expected-generation 3",
            "pattern abandon x",
            "pattern logs x -f --tail 10 --since 10m",
            "pattern logs x --previous --since 2031-05-01T12:00:00Z",
            "pattern explain x",
            "events --process-id x",
            "manifests",
            "manifests x",
            "plan",
            "health --processes",
            "completions bash",
            "man",
        ] {
            parse(&format!("prismctl {line}")).unwrap();
        }
    }

    #[test]
    fn the_help_names_every_exit_code() {
        let help = Arguments::command().render_help().to_string();
        for code in 0..=5 {
            assert!(help.contains(&format!("\n  {code}  ")), "{help}");
        }
    }
}
