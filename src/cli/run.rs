//! `run`: the daemon. Signals become requests to the launcher.

use super::Answer;
use crate::act::clock;
use crate::config::{Config, Loaded, Sources};
use crate::error::{Code, Error, Result};
use crate::launcher::Launcher;
use crate::model::Moment;
use crate::telemetry;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads of the runtime: the loop, the store's file system calls and probes; more would only cost memory.
const WORKERS: usize = 4;
/// Threads for calls that block, such as a scan and a hash of an executable.
const BLOCKING: usize = 16;
/// How long one of these stays when it has nothing to do. What processes use is read by one of them every few seconds
/// (`act/usage`), so that there always is one, also where the machine allows no further thread: without any, whoever has
/// something to do for it would be lost.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A signal this soon after another is the same request: `timeout` and others that pass signals on send them both to
/// the process and to its group. A person who insists takes longer.
const ECHO: Duration = Duration::from_millis(100);

/// Runs until a signal ends it.
pub(super) fn run(sources: &Sources) -> Result<Answer> {
    let Loaded { config, remarks } = sources.load()?;
    telemetry::start(&config)?;
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .thread_name("launcher")
        .enable_all()
        .build()
        .map_err(|cause| {
            Error::new(Code::InternalError, "the runtime cannot be started")
                .caused_by(&cause)
                .suggest("raise the limits of threads and open files: ulimit -u, ulimit -n")
        })?;
    runtime.block_on(serve(config, sources))?;
    Ok(Answer::fine(String::new()))
}

async fn serve(config: Config, sources: &Sources) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut launcher = Launcher::start(config).await?;
    introduce(&launcher);
    let mut asked: Option<Moment> = None;
    loop {
        let received = tokio::select! {
            biased;
            // Cancel-safe: a signal that is not taken is seen the next time.
            received = signals.next() => received,
            // Cancel-safe, and not asked again once it has ended.
            ended = launcher.ended() => {
                let wound_up = launcher.wind_up(ended?).await;
                tracing::info!("launcher ended");
                return wound_up;
            }
        };
        match received {
            Received::Stop(name) if is_echo(asked, clock::now()) => {
                tracing::debug!(signal = name, "the same request once more");
            }
            Received::Stop(name) => {
                asked = Some(clock::now());
                tracing::info!(signal = name, on_exit = launcher.config().on_exit.as_str(), "asked to end");
                launcher.stop().await;
            }
            Received::Reload => reload(&mut launcher, sources).await,
        }
    }
}

/// Says up front where everything is.
fn introduce(launcher: &Launcher) {
    let config = launcher.config();
    let desired: Vec<String> = config.desired.iter().map(|root| root.path.display().to_string()).collect();
    let http = launcher.http_address().map_or_else(|| "off".to_owned(), |address| format!("http://{address}"));
    let api = launcher.api_addresses();
    tracing::info!(
        pid = std::process::id(),
        profile = config.profile.as_str(),
        configuration = config.file.as_ref().map(|file| file.display().to_string()),
        patterns = %config.patterns_dir.display(),
        desired = desired.join(":"),
        launched = %config.launch_dir.display(),
        state = %config.state_dir.display(),
        http,
        socket = api.socket.as_ref().map(|socket| socket.display().to_string()),
        grpc = api.tcp.map(|address| if config.grpc_tls.is_some() { format!("https://{address}") } else { address.to_string() }),
        on_exit = config.on_exit.as_str(),
        "launcher running"
    );
}

/// Reads the configuration again. One that cannot be used changes nothing.
async fn reload(launcher: &mut Launcher, sources: &Sources) {
    match sources.load() {
        Ok(Loaded { config, remarks }) => {
            for remark in remarks {
                tracing::warn!("{remark}");
            }
            let level = config.log_level.clone();
            let before = launcher.config().log_level.clone();
            let fixed = launcher.reload(config).await;
            if let Err(error) = if level == before { Ok(()) } else { telemetry::set_level(&level) } {
                tracing::error!(%error, "the log goes on as before");
            }
            tracing::info!("configuration read again");
            for setting in fixed {
                tracing::warn!(setting, "this setting takes effect when the launcher is restarted");
            }
        }
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be used, so the one before stays in force");
            launcher.look();
        }
    }
}

fn is_echo(before: Option<Moment>, now: Moment) -> bool {
    before.is_some_and(|before| now.since(before) < ECHO)
}

/// What a signal asks for.
enum Received {
    /// SIGTERM or SIGINT.
    Stop(&'static str),
    /// SIGHUP.
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|cause| {
                Error::new(Code::InternalError, "signals cannot be received")
                    .caused_by(&cause)
                    .suggest("raise the limit of open files: ulimit -n")
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Received {
        tokio::select! {
            biased;
            // Signal::recv is cancel-safe: a signal that is not taken is seen the next time.
            _ = self.terminate.recv() => Received::Stop("SIGTERM"),
            // As above.
            _ = self.interrupt.recv() => Received::Stop("SIGINT"),
            // As above.
            _ = self.hangup.recv() => Received::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootId;

    #[test]
    fn a_signal_right_after_another_is_the_same_request() {
        let at = |millis| Moment::new(BootId::from_u128(1), Duration::from_millis(millis));
        assert!(!is_echo(None, at(0)));
        assert!(is_echo(Some(at(1_000)), at(1_020)));
        assert!(!is_echo(Some(at(1_000)), at(1_500)));
    }
}
