//! The command line of the client: arguments in, exit code out. It talks to a daemon through the gRPC API alone.
//!
//! Standard output is for results, standard error for notes, progress and errors. What the daemon says is escaped
//! before a terminal sees it; only the output of processes passes as it is, and only where there is no terminal.

mod address;
mod arguments;
mod changing;
mod connection;
mod failure;
mod looking;
mod pages;
mod progress;
mod render;
mod screen;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod trust;
mod views;
mod watch;

use crate::api::proto::StreamLogsRequest;
use address::Address;
use arguments::{Arguments, Command, Pattern};
use clap::Parser as _;
use connection::Connection;
use failure::{Failure, REFUSED, Result, Told};
use screen::Screen;
use std::process::ExitCode;
use trust::Trust;

/// The exit code of a command that did what it was asked.
const DONE: u8 = 0;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output with code 0, a wrong argument to standard error with code 2.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let mut screen = Screen::of_process(arguments.output);
    // One thread prints; another keeps the connection alive while a pager holds the output up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(Box::pin(run(arguments, &mut screen)));
            // A name that is still being looked up holds nobody up.
            runtime.shutdown_background();
            ended
        }
        Err(cause) => Err(Told::new(REFUSED, "no thread can be started").because(cause.to_string()).into()),
    };
    ExitCode::from(exit_code(ended, &mut screen))
}

/// The exit code of a command; why it failed is told.
fn exit_code(ended: Result<u8>, screen: &mut Screen) -> u8 {
    match ended {
        Ok(code) => code,
        Err(Failure::Unread) => DONE,
        Err(Failure::Told(told)) => {
            screen.fail(&told);
            told.exit
        }
    }
}

async fn run(arguments: Arguments, screen: &mut Screen) -> Result<u8> {
    let Arguments { address, ca, cert, key, timeout, command, output: _ } = arguments;
    let trust = Trust { ca, cert, key };
    let state_directory = std::env::var("STATE_DIRECTORY").ok();
    let connect = async || {
        let address = Address::find(address.as_deref(), state_directory.as_deref())?;
        Connection::open(address, &trust, timeout).await
    };
    match command {
        Command::Completions { shell } => pages::completions(shell, screen),
        Command::Man { folder } => pages::man(folder.as_deref(), screen),
        Command::Pattern(pattern) => of_pattern(&connect().await?, pattern, screen).await,
        Command::Events(filter) => streams::events(&connect().await?, filter, screen).await,
        Command::Manifests { name } => looking::manifests(&connect().await?, name.as_deref(), screen).await,
        Command::Plan(wanted) => looking::plan(&connect().await?, wanted, screen).await,
        Command::Health { processes, watch } => looking::health(&connect().await?, processes, watch, screen).await,
    }
}

async fn of_pattern(connection: &Connection, pattern: Pattern, screen: &mut Screen) -> Result<u8> {
    match pattern {
        Pattern::Launch(launch) => changing::launch(connection, launch, screen).await,
        Pattern::List(list) => looking::list(connection, list, screen).await,
        Pattern::Status { process, check, watch } => {
            looking::status(connection, &process.id, check, watch, screen).await
        }
        Pattern::Terminate { process, grace_period, force } => {
            changing::terminate(connection, process.id, grace_period, force, screen).await
        }
        Pattern::Restart { process, patience } => {
            changing::restart(connection, process.id, patience.no_wait, screen).await
        }
        Pattern::Reset(process) => changing::reset(connection, process.id, screen).await,
        Pattern::Suspend { process, reason, lasting, patience } => {
            changing::suspend(connection, process.id, reason, lasting, patience.no_wait, screen).await
        }
        Pattern::Resume { process, patience } => {
            changing::resume(connection, process.id, patience.no_wait, screen).await
        }
        Pattern::Update(update) => changing::update(connection, update, screen).await,
        Pattern::Abandon(process) => changing::abandon(connection, process.id, screen).await,
        Pattern::Logs { process, follow, tail, since, previous } => {
            let wanted = StreamLogsRequest {
                process_id: process.id,
                tail_lines: tail.unwrap_or(0),
                follow,
                since: since.unwrap_or_default(),
                previous,
            };
            streams::logs(connection, wanted, screen).await
        }
        Pattern::Explain(process) => looking::explain(connection, process.id, screen).await,
    }
}
