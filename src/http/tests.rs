use super::*;
use crate::health::StoreHealth;
use crate::model::{Condition, DesiredStatus, RootStatus};
use crate::reconciler::Board;
use crate::reconciler::board::tests::running;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Server {
    address: SocketAddr,
    board: Arc<Board>,
    _state: tempfile::TempDir,
}

async fn server() -> Server {
    server_with(Arc::new(|| None)).await
}

async fn server_with(store: StoreHealth) -> Server {
    clock::boot().unwrap();
    let state = tempfile::tempdir().unwrap();
    let board = Arc::new(Board::new(clock::now()));
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let vitals =
        Vitals { board: Arc::clone(&board), metrics: Arc::default(), store, state_dir: state.path().to_owned() };
    tokio::spawn(serve(listener, vitals));
    Server { address, board, _state: state }
}

impl Server {
    async fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
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
    let server = server_with(Arc::new(|| Some("no space left".to_owned()))).await;
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
    let error = listen(server.address).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfiguration);
    assert!(error.suggestion().unwrap().contains("--http-port"), "{error}");
}
