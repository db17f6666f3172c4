use super::*;
use crate::health::StoreHealth;
use crate::model::{Condition, DesiredStatus, ProcessState, RootStatus};
use crate::reconciler::Board;
use crate::reconciler::board::tests::running;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

struct Server {
    address: SocketAddr,
    board: Arc<Board>,
    _http: Http,
    state: tempfile::TempDir,
}

async fn server() -> Server {
    server_with(Arc::new(Vec::new)).await
}

async fn server_with(store: StoreHealth) -> Server {
    server_within(LIMITS, store).await
}

async fn server_within(limits: Limits, store: StoreHealth) -> Server {
    clock::boot().unwrap();
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("logs")).unwrap();
    let board = Arc::new(Board::new(clock::now()));
    let socket = state.path().join("http.sock");
    let listeners = Listeners::open("127.0.0.1:0".parse().ok(), Some(socket)).await.unwrap();
    let vitals = Vitals { board: Arc::clone(&board), metrics: Arc::default(), store };
    let http = Http::serve_within(limits, listeners, &vitals, &[]);
    Server { address: http.address().unwrap(), board, _http: http, state }
}

impl Server {
    async fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        let status = all.split(' ').nth(1).unwrap().parse().unwrap();
        (status, all.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask(&format!("GET {path}")).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

fn root(ready: bool, conditions: &[(&str, &str)]) -> Arc<DesiredStatus> {
    let condition = |(kind, message): &(&str, &str)| Condition { kind: (*kind).to_owned(), message: (*message).into() };
    let root = RootStatus {
        path: "desired".into(),
        ready,
        instances: 0,
        rejected: 0,
        scan_failures: 0,
        watching: "events".to_owned(),
        conditions: conditions.iter().map(condition).collect(),
    };
    Arc::new(DesiredStatus { roots: vec![root], conditions: Vec::new() })
}

#[tokio::test]
async fn health_counts_processes_and_lists_them_when_asked() {
    let server = server().await;
    let mut failed = running("ns:b:a");
    failed.state = ProcessState::Failed;
    for status in [running("ns:a:a"), failed] {
        server.board.publish(&[(status.process_id.clone(), Some(Arc::new(status)))]);
    }
    let (status, health) = server.json("/health").await;
    assert_eq!(status, 200);
    assert_eq!(health["total_processes"], 2);
    assert_eq!(health["running_processes"], 1);
    assert_eq!(health["failed_processes"], 1);
    assert_eq!(health["isolation_distribution"], json!({ "None": 0, "Namespace": 2, "Session": 0 }));
    assert!(health.get("processes").is_none());
    let (_, health) = server.json("/health?processes=true").await;
    assert_eq!(health["processes"][0]["process_id"], "ns:a:a");
    assert_eq!(health["processes"][1]["state"], "failed");
}

#[tokio::test]
async fn health_says_why_it_is_not() {
    let server = server_with(Arc::new(|| vec!["no space left".to_owned()])).await;
    server.board.publish_desired(root(true, &[("ScanFailed", "permission denied")]));
    let (status, health) = server.json("/health").await;
    assert_eq!((status, &health["healthy"]), (503, &Value::Bool(false)));
    let reasons = health["reasons"].to_string();
    assert!(reasons.contains("permission denied") && reasons.contains("no space left"), "{reasons}");
}

#[tokio::test]
async fn ready_names_the_root_that_is_missing() {
    let server = server().await;
    assert_eq!(server.json("/ready").await.0, 503);
    server.board.set_adopted();
    server.board.publish_desired(root(false, &[("ScanFailed", "no such folder")]));
    let (status, answer) = server.json("/ready").await;
    assert_eq!(status, 503);
    assert_eq!(answer["waiting_for"][0], "the first complete scan of desired: no such folder");
    server.board.publish_desired(root(true, &[]));
    assert_eq!(server.json("/ready").await, (200, json!({ "ready": true })));
}

#[tokio::test]
async fn other_paths_and_methods_are_told_what_there_is() {
    let server = server().await;
    let (status, answer) = server.json("/metric").await;
    assert_eq!((status, &answer["paths"]), (404, &json!(PATHS)));
    assert_eq!(server.ask("POST /health").await.0, 405);
    assert_eq!(server.ask("HEAD /health").await, (200, String::new()));
}

#[tokio::test]
async fn an_address_in_use_is_refused_with_a_way_out() {
    let server = server().await;
    let error = Listeners::open(Some(server.address), None).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfiguration);
    assert!(error.suggestion().unwrap().contains("--http-port"), "{error}");
}

#[tokio::test]
async fn only_names_of_this_machine_are_answered() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("http_hosts"), "{answer}");
    assert!(!answer.contains("pattern_launcher_"), "{answer}");
}

#[tokio::test]
async fn the_socket_answers_whoever_may_open_it_and_zips_for_who_wants_it() {
    let server = server().await;
    for (headers, zipped) in [("", false), ("Accept-Encoding: gzip\r\n", true)] {
        let mut stream = UnixStream::connect(server.state.path().join("http.sock")).await.unwrap();
        stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: any\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        assert_eq!(head.contains("content-encoding: gzip"), zipped, "{head}");
        let mut text = String::new();
        if zipped {
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer[end..]), &mut text).unwrap();
        } else {
            text = String::from_utf8(answer[end..].to_vec()).unwrap();
        }
        assert!(text.contains("\npattern_launcher_ready 0\n"), "{text}");
    }
}

#[tokio::test]
async fn a_slow_client_loses_its_place() {
    let limits = Limits { connections: 1, head: Duration::from_millis(200), whole: Duration::from_millis(400) };
    let server = server_within(limits, Arc::new(Vec::new)).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /health HT").await.unwrap();
    assert_eq!(server.ask("GET /health").await.0, 200);
}

/// Says to a copy of this program that it is the server without descriptors, and not the test.
const WITHOUT_DESCRIPTORS: &str = "PATTERN_LAUNCHER_TEST_WITHOUT_DESCRIPTORS";

#[test]
#[expect(clippy::disallowed_methods, reason = "descriptors are counted by process, so that it takes another one")]
fn whoever_asks_is_answered_also_when_no_descriptor_is_left() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::process::{Command, Stdio};
    if std::env::var_os(WITHOUT_DESCRIPTORS).is_some() {
        return serve_without_descriptors();
    }
    let name = "http::tests::whoever_asks_is_answered_also_when_no_descriptor_is_left";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(WITHOUT_DESCRIPTORS, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(std::result::Result::ok);
    let port = lines.find_map(|line| line.split_once("it listens on port ")?.1.parse::<u16>().ok());
    // More than once: what was given up is taken again.
    let answers: Vec<String> = (0..3)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port.unwrap())).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = String::new();
            drop(stream.read_to_string(&mut answer));
            answer
        })
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
}

/// Whoever has started this reads what it prints, and ends it.
fn serve_without_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = server().await;
        let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, limit).unwrap();
        // The server has begun, and taken what it keeps.
        tokio::task::yield_now().await;
        let mut all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        println!("it listens on port {}", server.address.port());
        // Whatever becomes free is taken by somebody else.
        loop {
            all.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
