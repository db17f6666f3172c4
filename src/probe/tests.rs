use super::*;
use crate::act::clock;
use crate::model::{
    Answerer, Content, DesiredState, Isolation, Namespace, Origin, PatternName, PatternRevision, Privileges,
    ProbeTarget, Resources, RestartPolicy, StartSpec, StopSignal, Supervision,
};
use crate::observed::ProbeOutcome;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::codegen::Service as _;
use tonic_health::ServingStatus;

/// Long enough for any answer on a busy machine.
const PATIENT: Duration = Duration::from_secs(10);
/// Long enough to be sure that no answer is under way.
const IMPATIENT: Duration = Duration::from_millis(200);

fn instance(tenant: &str, folder: &Path) -> Arc<Instance> {
    let pattern = PatternName::new("consumer").expect("a name");
    let isolation = Isolation::Namespace(Namespace::new(tenant).expect("a name"));
    let revision = PatternRevision {
        version: "1.0.0".to_owned(),
        folder: folder.to_owned(),
        executable: "./consumer".to_owned(),
        digest: None,
        args: Vec::new(),
        environment: BTreeMap::from([("GREETING".to_owned(), crate::model::Secret::new("hello"))]),
        preferred_port: None,
        privileges: Privileges::default(),
    };
    let supervision = Supervision {
        healthcheck: None,
        stop_signal: StopSignal::Term,
        grace_period: Duration::ZERO,
        restart: RestartPolicy::Always,
        resources: Resources::default(),
    };
    let launch = Arc::new(StartSpec { pattern: revision, config: BTreeMap::new(), credentials: BTreeMap::new() });
    Arc::new(Instance {
        key: isolation.key(&pattern),
        pattern,
        isolation,
        content: Content { launch, supervision, state: DesiredState::Running, ttl: None },
        origin: Origin { root: folder.to_owned(), file: "a.yaml".into(), line: 1, api_managed: false },
        defaulted: Vec::new(),
    })
}

fn target(target: &ProbeTarget, health: u16, folder: &Path) -> Target {
    let inherited = std::env::var("PATH").map(|path| BTreeMap::from([("PATH".to_owned(), path)])).unwrap_or_default();
    let ports = Ports { grpc: 1, health };
    let probed = Probed { inherited, ..probed(&instance("a", folder), ports) };
    Target::new(target, probed, RunId::from_random(1), Arc::default())
}

fn probed(instance: &Arc<Instance>, ports: Ports) -> Probed {
    let (instance, confinement) = (Arc::clone(instance), Confinement::default());
    Probed { instance, ports, inherited: BTreeMap::new(), confinement, mask: Mask::default(), rightful: nobody_else() }
}

fn nobody_else() -> Rightful {
    Rightful::new(|| Box::pin(std::future::ready(None)))
}

fn http_target(port: u16) -> Target {
    target(&ProbeTarget::Http { path: "/health?deep=1".to_owned() }, port, Path::new("/"))
}

fn shell(script: &str, folder: &Path) -> Target {
    target(&ProbeTarget::Exec { command: ["sh", "-c", script].map(str::to_owned).to_vec() }, 17, folder)
}

fn failure(outcome: ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Failure(why) => why,
        other @ (ProbeOutcome::Success | ProbeOutcome::Error(_)) => panic!("a failure, not {other:?}"),
    }
}

/// A server that does this with each connection; returns its port and how many there were.
async fn serve<F: Future<Output = ()> + Send>(
    answer: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = Arc::clone(&answer);
            tokio::spawn(async move { answer(stream).await });
        }
    });
    (port, count)
}

/// A server that answers each request with this text.
async fn serve_text(text: String) -> (u16, Arc<AtomicUsize>) {
    serve(move |mut stream| {
        let text = text.clone();
        async move {
            let mut request = [0; 1_024];
            let count = stream.read(&mut request).await.unwrap_or(0);
            assert!(request[..count].starts_with(b"GET /health?deep=1 HTTP/1.1\r\n"), "{request:?}");
            stream.write_all(text.as_bytes()).await.expect("it is read");
            // Held open, so that an answer ends where its head says and not where the connection does.
            drop(stream.read(&mut request).await);
        }
    })
    .await
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("it is bound").port()
}

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("still waiting for {what}");
}

#[tokio::test]
async fn http_is_healthy_at_200_to_399_without_following_redirects() {
    let (elsewhere, followed) = serve_text("HTTP/1.1 500 No\r\n\r\n".to_owned()).await;
    for (status, healthy) in
        [(200, true), (204, true), (302, true), (399, true), (199, false), (400, false), (503, false)]
    {
        let head =
            format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
        let (port, _) = serve_text(head).await;
        let outcome = http_target(port).ask(if status == 199 { IMPATIENT } else { PATIENT }).await;
        if healthy {
            assert_eq!(outcome, ProbeOutcome::Success, "{status}");
        } else if status >= 200 {
            assert_eq!(failure(outcome), format!("GET /health?deep=1 answered {status}"));
        } else {
            failure(outcome);
        }
    }
    assert_eq!(followed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_failure_shows_the_start_of_its_body() {
    let long = "x".repeat(500);
    for (body, length, shown) in [
        ("not found\n", 10, ": not found".to_owned()),
        ("\n\n  {\"db\": \"down\"}\nmore\n", 24, ": {\\\"db\\\": \\\"down\\\"}".to_owned()),
        ("\u{1b}[31mred", 8, ": \\u{1b}[31mred".to_owned()),
        ("", 0, String::new()),
        (long.as_str(), 500, format!(": {}…", "x".repeat(160))),
        // It says that more will come, which nobody waits for.
        ("begin", 100_000, ": begin".to_owned()),
        ("", 100_000, String::new()),
    ] {
        let text = format!("HTTP/1.1 503 No\r\nContent-Length: {length}\r\n\r\n{body}");
        let (port, _) = serve_text(text).await;
        assert_eq!(failure(http_target(port).ask(PATIENT).await), format!("GET /health?deep=1 answered 503{shown}"));
    }
}

#[tokio::test]
async fn an_http_body_that_never_ends_keeps_no_probe() {
    let (port, count) = serve_text("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin".to_owned()).await;
    let target = http_target(port);
    for _ in 0..3 {
        assert_eq!(target.ask(PATIENT).await, ProbeOutcome::Success);
    }
    assert_eq!(count.load(Ordering::Relaxed), 3, "each probe opens a connection of its own");
}

#[tokio::test]
async fn every_way_not_to_answer_is_a_failure_that_says_which() {
    let (silent, _) = serve(|stream| async move {
        tokio::time::sleep(PATIENT).await;
        drop(stream);
    })
    .await;
    let (closing, _) = serve(|stream| async move { drop(stream) }).await;
    let (babbling, _) = serve_text("220 mail.example ESMTP\r\n".to_owned()).await;
    let nobody = free_port().await;
    assert_eq!(failure(http_target(silent).ask(IMPATIENT).await), "GET /health?deep=1 did not answer within 200ms");
    assert_eq!(failure(http_target(nobody).ask(PATIENT).await), "GET /health?deep=1: connection refused");
    for port in [closing, babbling] {
        assert!(failure(http_target(port).ask(PATIENT).await).starts_with("GET /health?deep=1: "));
    }

    let grpc = |port| target(&ProbeTarget::Grpc, port, Path::new("/"));
    assert!(failure(grpc(silent).ask(IMPATIENT).await).ends_with("did not answer within 200ms"));
    assert_eq!(
        failure(grpc(nobody).ask(PATIENT).await),
        format!("grpc.health.v1 on port {nobody}: connection refused")
    );
    failure(grpc(closing).ask(PATIENT).await);

    let tcp = |port| target(&ProbeTarget::Tcp, port, Path::new("/"));
    assert_eq!(tcp(silent).ask(PATIENT).await, ProbeOutcome::Success);
    assert_eq!(failure(tcp(nobody).ask(PATIENT).await), format!("port {nobody}: connection refused"));
}

#[tokio::test]
async fn grpc_is_healthy_at_serving() {
    let (reporter, service) = tonic_health::server::health_reporter();
    let (port, _) = serve(move |stream| {
        let service = service.clone();
        async move {
            let service = hyper::service::service_fn(move |request| {
                let mut service = service.clone();
                async move { Ok::<_, Infallible>(service.call(request).await.unwrap_or_else(|never| match never {})) }
            });
            let connection = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            drop(connection.await);
        }
    })
    .await;
    let target = target(&ProbeTarget::Grpc, port, Path::new("/"));
    assert_eq!(target.ask(PATIENT).await, ProbeOutcome::Success);
    reporter.set_service_status("", ServingStatus::NotServing).await;
    let why = failure(target.ask(PATIENT).await);
    assert_eq!(why, format!("grpc.health.v1 on port {port} answered NOT_SERVING"));
}

#[tokio::test]
async fn exec_runs_in_the_environment_and_folder_of_the_instance() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = "test \"$GREETING $NAMESPACE $HEALTH_PORT $(pwd)\" = \"hello a 17 $FOLDER\"";
    let check = check.replace("$FOLDER", &folder.path().canonicalize().expect("it is there").display().to_string());
    assert_eq!(shell(&check, folder.path()).ask(PATIENT).await, ProbeOutcome::Success);
    let expanded = ["test", "$(NAMESPACE)$(HEALTH_PORT)", "=", "a17"].map(str::to_owned).to_vec();
    let expanded = target(&ProbeTarget::Exec { command: expanded }, 17, folder.path());
    assert_eq!(expanded.ask(PATIENT).await, ProbeOutcome::Success);
    let foreign =
        std::env::vars().map(|(name, _)| name).find(|name| name.starts_with("CARGO_")).expect("cargo runs us");
    assert_eq!(shell(&format!("test -z \"${foreign}\""), folder.path()).ask(PATIENT).await, ProbeOutcome::Success);
}

#[tokio::test]
async fn exec_says_how_a_command_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    for (script, why) in [
        ("exit 3", "sh ended with exit code 3"),
        ("echo fine; echo 'no  luck' >&2; exit 1", "sh ended with exit code 1: no  luck"),
        ("kill -9 $$$$", "sh was ended by signal 9"),
        (
            "head -c 300000 /dev/zero | tr '\\0' x; printf '\\n\\033[31mred\\n'; exit 1",
            "sh ended with exit code 1: \\u{1b}[31mred",
        ),
    ] {
        assert_eq!(failure(shell(script, folder.path()).ask(PATIENT).await), why, "{script}");
    }
    let missing = |program: &str| target(&ProbeTarget::Exec { command: vec![program.to_owned()] }, 1, folder.path());
    assert_eq!(
        failure(missing("no-such-x").ask(PATIENT).await),
        "no-such-x cannot be started: it is not found on PATH"
    );
    assert!(failure(missing("./no-such-x").ask(PATIENT).await).contains("No such file"));
    std::fs::write(folder.path().join("plain"), "text").expect("it is written");
    assert!(failure(missing("./plain").ask(PATIENT).await).contains("Permission denied"));
}

/// The pid that a script has written to the file `name`, once it has.
async fn pid_in(folder: &Path, name: &str) -> i32 {
    let path = folder.join(name);
    let read = || std::fs::read_to_string(&path).ok()?.strip_suffix('\n')?.parse().ok();
    wait_for("the pid of a grandchild", || read().is_some()).await;
    read().expect("it was there")
}

/// Whether a process runs; one that nobody has reaped does not.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[tokio::test]
async fn exec_leaves_nothing_behind_when_it_is_slow_given_up_or_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = "sleep 1000 & echo $! > PID.tmp; mv PID.tmp PID; wait";
    let target = shell(slow, folder.path());
    assert_eq!(failure(target.ask(Duration::from_millis(500)).await), "sh did not answer within 500ms");
    let grandchild = pid_in(folder.path(), "PID").await;
    wait_for("the end of what timed out", || !lives(grandchild)).await;

    let given_up = shell(&slow.replace("PID", "PID2"), folder.path());
    let task = tokio::spawn(async move { given_up.ask(PATIENT * 100).await });
    let grandchild = pid_in(folder.path(), "PID2").await;
    assert!(lives(grandchild));
    task.abort();
    wait_for("the end of what was given up", || !lives(grandchild)).await;

    let background = shell("sleep 1000 & echo $! > PID3.tmp; mv PID3.tmp PID3", folder.path());
    assert_eq!(background.ask(PATIENT).await, ProbeOutcome::Success, "an open output does not hold a probe up");
    let grandchild = pid_in(folder.path(), "PID3").await;
    wait_for("the end of what was left behind", || !lives(grandchild)).await;
    let Target::Exec(command) = &target else { unreachable!() };
    wait_for("the end of every child", || command.children.is_empty()).await;
}

fn check(target: ProbeTarget, timeout: Duration) -> HealthCheck {
    HealthCheck {
        target,
        interval: Duration::from_millis(50),
        timeout,
        failure_threshold: 1,
        success_threshold: 1,
        startup_timeout: Duration::from_secs(1),
        answered_by: Answerer::Own,
    }
}

fn prober(capacity: usize) -> (Prober, mpsc::Receiver<Event>) {
    let (events, received) = mpsc::channel(capacity);
    (Prober::new(events, clock::now).expect("a thread"), received)
}

async fn next(events: &mut mpsc::Receiver<Event>) -> (Key, RunId, ProbeOutcome) {
    let event = tokio::time::timeout(PATIENT, events.recv()).await.expect("an outcome in time");
    match event {
        Some(Event::Probed { key, run, outcome }) => (key, run, outcome),
        other => panic!("an outcome, not {other:?}"),
    }
}

#[tokio::test]
async fn a_run_is_probed_from_its_start_until_it_is_ended() {
    let (mut prober, mut events) = prober(4);
    let instance = instance("a", Path::new("/"));
    let (key, run, port) = (instance.key.clone(), RunId::from_random(1), free_port().await);
    let ports = Ports { grpc: 1, health: port };
    prober.begin(key.clone(), run, check(ProbeTarget::Tcp, PATIENT), probed(&instance, ports));
    for _ in 0..3 {
        let (about, which, outcome) = next(&mut events).await;
        assert_eq!((about, which), (key.clone(), run));
        failure(outcome);
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is still free");
    while next(&mut events).await.2 != ProbeOutcome::Success {}
    drop(listener);
    while next(&mut events).await.2 == ProbeOutcome::Success {}

    let later = RunId::from_random(2);
    prober.begin(key.clone(), later, check(ProbeTarget::Tcp, PATIENT), probed(&instance, ports));
    prober.begin(key.clone(), later, check(ProbeTarget::Tcp, PATIENT), probed(&instance, ports));
    prober.end(&key, run);
    while next(&mut events).await.1 != later {}
    prober.end(&key, later);
    drop(prober);
    // The senders of the workers are gone with them, so that this ends.
    tokio::time::timeout(PATIENT, async { while events.recv().await.is_some() {} }).await.expect("every worker ends");
}

#[tokio::test]
async fn what_somebody_else_answers_is_no_health_and_who_it_is_is_asked_once_for_each_time_it_answers_again() {
    let (mut prober, mut events) = prober(1);
    let instance = instance("a", Path::new("/"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ports = Ports { grpc: 1, health: listener.local_addr().expect("an address").port() };
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let rightful = Rightful::new(move || {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(std::future::ready(first.then(|| "it is pid 7".to_owned())))
    });
    let probed = Probed { rightful, ..probed(&instance, ports) };
    prober.begin(instance.key.clone(), RunId::from_random(1), check(ProbeTarget::Tcp, PATIENT), probed);
    let first = next(&mut events).await.2;
    assert_eq!(first, ProbeOutcome::Failure("something answered, but it is pid 7".to_owned()));
    for _ in 0..3 {
        assert_eq!(next(&mut events).await.2, ProbeOutcome::Success);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    drop(listener);
    while next(&mut events).await.2 == ProbeOutcome::Success {}
    let again = TcpListener::bind(("127.0.0.1", ports.health)).await.expect("the port is still free");
    while next(&mut events).await.2 != ProbeOutcome::Success {}
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    drop(again);
    // Where anybody may answer nobody is asked for.
    let any = HealthCheck { answered_by: Answerer::Any, ..check(ProbeTarget::Tcp, PATIENT) };
    let again = TcpListener::bind(("127.0.0.1", ports.health)).await.expect("the port is still free");
    let rightful = Rightful::new(|| Box::pin(std::future::ready(Some("it is pid 7".to_owned()))));
    let probed = Probed { rightful, ..self::probed(&instance, ports) };
    prober.begin(instance.key.clone(), RunId::from_random(2), any, probed);
    while next(&mut events).await != (instance.key.clone(), RunId::from_random(2), ProbeOutcome::Success) {}
    drop(again);
}

#[tokio::test]
async fn what_a_failure_says_is_without_the_secrets_of_the_process_also_where_one_is_cut() {
    let secret = "tok-".to_owned() + &"5".repeat(3_000);
    let mask = Mask::of_values([secret.as_str(), "hunter2"].into_iter());
    for (body, shown) in [("no hunter2 here\n".to_owned(), "no *** here"), (format!("it is {secret}\n"), "it is ***")] {
        let (port, _) = serve_text(format!("HTTP/1.1 503 No\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        let path = "/health?deep=1".to_owned();
        let target = Target::Http { port, target: path.clone(), path, mask: mask.clone() };
        assert_eq!(failure(target.ask(PATIENT).await), format!("GET /health?deep=1 answered 503: {shown}"));
    }
}

#[tokio::test]
async fn a_tenant_that_answers_nothing_keeps_no_other_from_being_probed() {
    let (mut prober, mut events) = prober(64);
    let (silent, _) = serve(|stream| async move {
        tokio::time::sleep(PATIENT).await;
        drop(stream);
    })
    .await;
    let http = || ProbeTarget::Http { path: "/".to_owned() };
    let hog = instance("hog", Path::new("/"));
    for run in 0..IN_FLIGHT as u128 + 50 {
        let ports = Ports { grpc: 1, health: silent };
        prober.begin(hog.key.clone(), RunId::from_random(run), check(http(), PATIENT), probed(&hog, ports));
    }
    wait_for("the hog to have its share", || prober.all.available_permits() == IN_FLIGHT - IN_FLIGHT_PER_NAMESPACE)
        .await;
    let other = instance("other", Path::new("/"));
    let ports = Ports { grpc: 1, health: silent };
    prober.begin(other.key.clone(), RunId::from_random(9_999), check(ProbeTarget::Tcp, PATIENT), probed(&other, ports));
    let (key, _, outcome) = next(&mut events).await;
    assert_eq!((key, outcome), (other.key.clone(), ProbeOutcome::Success));
    assert_eq!(prober.all.available_permits(), IN_FLIGHT - IN_FLIGHT_PER_NAMESPACE);
}
