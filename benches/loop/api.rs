//! What a launch by request costs, through the real daemon and a real client on its socket.

use crate::SAMPLES;
use crate::e2e::world::wait::within;
use crate::e2e::world::{Daemon, World};
use crate::measure::{StartLog, log_of, monotonic};
use crate::table::Table;
use crate::{floor, world_of_sleepers};
use pattern_launcher::api::proto::LaunchRequest;
use pattern_launcher::api::proto::pattern_launcher_client::PatternLauncherClient;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// How many calls a figure of get-or-create is made from.
const CALLS: usize = 20_000;
/// Callers at once.
const CALLERS: usize = 64;
/// What makes this program the empty server.
const EMPTY: &str = "--serve-empty";

/// Serves an almost empty unary method (`grpc.health.v1` Check) on the socket that is named, if that is asked for.
pub(crate) fn serve_empty_if_asked() -> bool {
    let mut arguments = std::env::args().skip_while(|argument| argument != EMPTY).skip(1);
    let Some(socket) = arguments.next() else { return false };
    Runtime::new().unwrap().block_on(async {
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let listener = UnixListener::bind(socket).unwrap();
        let incoming = UnixListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    true
}

/// Measures everything about launches by request.
pub(crate) fn measure(table: &mut Table, folder: &Path, many: usize) {
    let runtime = Runtime::new().unwrap();
    // Channels are made outside of it, and belong to it.
    let _entered = runtime.enter();
    get_or_create(table, folder, &runtime);
    new_launches(table, folder, &runtime);
    all_at_once(table, folder, many, &runtime);
}

fn get_or_create(table: &mut Table, folder: &Path, runtime: &Runtime) {
    let empty = Empty::start(folder);
    let world = world_of_sleepers(folder, 1);
    let daemon = world.launch().flag("--log-level", "warn").start();
    runtime.block_on(launch(&mut client(&world), "n0"));
    for callers in [1, CALLERS] {
        let bare = runtime.block_on(calls(callers, || {
            let client = HealthClient::new(connect(&empty.socket));
            move || -> Call {
                let mut client = client.clone();
                Box::pin(async move { drop(client.check(HealthCheckRequest::default()).await.unwrap()) })
            }
        }));
        let served = runtime.block_on(calls(callers, || {
            let client = client(&world);
            move || -> Call {
                let mut client = client.clone();
                Box::pin(async move { launch(&mut client, "n0").await })
            }
        }));
        let what = format!("get-or-create of a running key, {callers} caller{}", if callers == 1 { "" } else { "s" });
        table.calls(&format!("empty unary method, {callers} at once"), &bare);
        table.calls(&what, &served);
        table.rate_ratio(served.rate(), bare.rate());
    }
    assert!(daemon.stop().success());
}

/// One call under way.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The times of calls, and how long all of them took.
pub(crate) struct Calls {
    pub(crate) times: Vec<Duration>,
    pub(crate) span: Duration,
}

impl Calls {
    /// Calls a second.
    #[expect(clippy::cast_precision_loss, reason = "figures for people have three digits")]
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.span.as_secs_f64()
    }
}

/// Makes calls, by so many callers at once; each caller has a connection of its own.
async fn calls<C: FnMut() -> Call + Send + 'static>(callers: usize, caller: impl Fn() -> C) -> Calls {
    let begun = monotonic();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let mut call = caller();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(CALLS / callers);
                for _ in 0..CALLS / callers {
                    let begun = monotonic();
                    call().await;
                    times.push(monotonic().saturating_sub(begun));
                }
                times
            })
        })
        .collect();
    let mut times = Vec::with_capacity(CALLS);
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    Calls { times, span: monotonic().saturating_sub(begun) }
}

/// A launch of a key that is new, beside a synced file and a bare start of the same program.
fn new_launches(table: &mut Table, folder: &Path, runtime: &Runtime) {
    let world = world_of_sleepers(folder, SAMPLES);
    let daemon = world.launch().flag("--log-level", "warn").start();
    let mut client = client(&world);
    let synced =
        table.samples("a file written and synced, with its folder", (0..SAMPLES).map(|n| sync(folder, n)).collect());
    let bare =
        table.samples("posix_spawn, one process, call to running, once more", floor::one_by_one(folder, SAMPLES));
    let times = (0..SAMPLES).map(|n| {
        let begun = monotonic();
        runtime.block_on(launch(&mut client, &format!("n{n}")));
        monotonic().saturating_sub(begun)
    });
    let launched = table.samples("launch of a new key, call to answer", times.collect());
    table.beyond("  beyond the sync and the bare start", launched, synced + bare);
    assert!(daemon.stop().success());
}

fn sync(folder: &Path, n: usize) -> Duration {
    let (aside, path) = (folder.join(format!(".bench-{n}")), folder.join(format!("bench-{n}.yaml")));
    let begun = monotonic();
    let mut file = File::create(&aside).unwrap();
    file.write_all(b"pattern: sleeper\nnamespace: n\n").unwrap();
    file.sync_all().unwrap();
    fs::rename(&aside, &path).unwrap();
    File::open(folder).unwrap().sync_all().unwrap();
    let took = monotonic().saturating_sub(begun);
    fs::remove_file(path).unwrap();
    took
}

/// As many launches for as many namespaces, by 64 callers, until all are answered.
fn all_at_once(table: &mut Table, folder: &Path, many: usize, runtime: &Runtime) {
    let bare =
        table.times(&format!("posix_spawn loop, {many} processes, once more"), 3, || floor::start_all(folder, many));
    let launched = table.times(&format!("{many} launches for {many} namespaces by {CALLERS} callers"), 3, || {
        let world = world_of_sleepers(folder, many);
        let log = StartLog::new(log_of(&world));
        let daemon = world.launch().flag("--log-level", "warn").start();
        let begun = monotonic();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let mut client = client(&world);
                    tokio::spawn(async move {
                        for n in (caller..many).step_by(CALLERS) {
                            launch(&mut client, &format!("n{n}")).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        let took = monotonic().saturating_sub(begun);
        log.wait(many);
        assert!(Daemon::stop(daemon).success());
        took
    });
    table.ratio(launched, bare);
}

async fn launch(client: &mut PatternLauncherClient<Channel>, namespace: &str) {
    let request = LaunchRequest {
        pattern_name: "sleeper".to_owned(),
        namespace: namespace.to_owned(),
        ..LaunchRequest::default()
    };
    let answer = client.launch_pattern(request).await.unwrap().into_inner();
    assert!(answer.healthy, "{answer:?}");
}

fn client(world: &World) -> PatternLauncherClient<Channel> {
    PatternLauncherClient::new(connect(&world.state().join("api.sock")))
}

pub(crate) fn connect(socket: &Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect_lazy()
}

/// A server with nothing behind it, in a process of its own as the daemon is.
struct Empty {
    socket: PathBuf,
    process: Child,
}

impl Empty {
    #[expect(clippy::disallowed_methods, reason = "what the launcher is compared with")]
    fn start(folder: &Path) -> Self {
        let socket = folder.join(format!("empty-{}.sock", std::process::id()));
        let process = Command::new(std::env::current_exe().unwrap())
            .arg(EMPTY)
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        assert!(within(Duration::from_secs(10), || socket.exists()));
        Self { socket, process }
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_file(&self.socket));
    }
}
