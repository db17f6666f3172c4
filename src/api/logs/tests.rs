use super::*;
use crate::reconciler::board::tests::{at, running};
use std::io::Write as _;
use tokio::sync::Semaphore;

struct Log {
    folder: tempfile::TempDir,
    board: Arc<Board>,
    key: Key,
    closing: CancellationToken,
}

impl Log {
    fn new(text: &str) -> Self {
        let status = running("ns:t:p");
        let key = status.process_id.clone();
        let board = Arc::new(Board::new(at(0)));
        board.publish(&[(key.clone(), Some(Arc::new(status)))]);
        let log = Self { folder: tempfile::tempdir().unwrap(), board, key, closing: CancellationToken::new() };
        log.append(text);
        log
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("p.log")
    }

    fn append(&self, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn forget(&self) {
        self.board.publish(&[(self.key.clone(), None)]);
    }

    fn read(&self, tail: Option<u64>, follow: bool) -> mpsc::Receiver<Result<StreamLogsResponse, Status>> {
        let reading = Reading {
            key: self.key.clone(),
            path: self.path(),
            tail,
            follow,
            board: Arc::clone(&self.board),
            closing: self.closing.clone(),
            _slot: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        };
        reading.check().unwrap();
        let (sender, receiver) = mpsc::channel(CHUNKS);
        tokio::spawn(reading.run(sender));
        receiver
    }

    async fn all(&self, tail: Option<u64>) -> String {
        let mut receiver = self.read(tail, false);
        let mut all = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            let data = chunk.unwrap().data;
            assert!(data.len() <= CHUNK);
            all.extend(data);
        }
        String::from_utf8(all).unwrap()
    }
}

async fn next(receiver: &mut mpsc::Receiver<Result<StreamLogsResponse, Status>>) -> String {
    let received = tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.unwrap();
    String::from_utf8(received.unwrap().unwrap().data).unwrap()
}

#[tokio::test]
async fn the_last_lines_are_found_however_long_the_log_is() {
    let log = Log::new("one\ntwo\nthree");
    assert_eq!(log.all(None).await, "one\ntwo\nthree");
    assert_eq!(log.all(Some(1)).await, "three");
    assert_eq!(log.all(Some(2)).await, "two\nthree");
    assert_eq!(log.all(Some(99)).await, "one\ntwo\nthree");
    log.append("\n");
    assert_eq!(log.all(Some(1)).await, "three\n");
    let long = "x".repeat(CHUNK + 7);
    log.append(&format!("{long}\nlast\n"));
    assert_eq!(log.all(Some(1)).await, "last\n");
    assert_eq!(log.all(Some(2)).await, format!("{long}\nlast\n"));
    assert_eq!(log.all(Some(3)).await, format!("three\n{long}\nlast\n"));
}

#[tokio::test]
async fn whole_lines_are_sent_as_they_are_printed() {
    let log = Log::new("one\ntw");
    let mut receiver = log.read(None, true);
    assert_eq!(next(&mut receiver).await, "one\n");
    log.append("o\n");
    assert_eq!(next(&mut receiver).await, "two\n");
    std::fs::rename(log.path(), log.folder.path().join("p.log.1")).unwrap();
    log.append("three\n");
    assert_eq!(next(&mut receiver).await, "three\n");
    // Cut and written in two steps, as a rotation by copying does; each is seen by itself.
    drop(std::fs::File::create(log.path()).unwrap());
    log.append("4\n");
    assert_eq!(next(&mut receiver).await, "4\n");
    log.append("the end");
    log.forget();
    assert_eq!(next(&mut receiver).await, "the end");
    assert!(tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_log_that_is_not_there_yet_is_waited_for() {
    let log = Log::new("");
    std::fs::remove_file(log.path()).unwrap();
    let mut receiver = log.read(Some(5), true);
    log.append("first\n");
    assert_eq!(next(&mut receiver).await, "first\n");
}

#[tokio::test]
async fn the_end_of_the_launcher_ends_it_unavailable() {
    let log = Log::new("");
    let mut receiver = log.read(None, true);
    log.closing.cancel();
    let received = tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.unwrap();
    assert_eq!(received.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn a_process_that_nobody_knows_has_no_log() {
    let log = Log::new("");
    std::fs::remove_file(log.path()).unwrap();
    log.forget();
    let reading = Reading {
        key: log.key.clone(),
        path: log.path(),
        tail: None,
        follow: false,
        board: Arc::clone(&log.board),
        closing: log.closing.clone(),
        _slot: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
    };
    assert_eq!(reading.check().unwrap_err().code(), Code::ProcessNotFound);
}
