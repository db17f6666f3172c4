use super::*;
use crate::act::LogLimits;
use crate::reconciler::board::tests::{at, running};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

const PATIENCE: Duration = Duration::from_secs(20);

struct Log {
    folder: tempfile::TempDir,
    board: Arc<Board>,
    output: Arc<Output>,
    key: Key,
}

impl Log {
    fn new(text: &str) -> Self {
        let status = running("ns:t:p");
        let key = status.process_id.clone();
        let board = Arc::new(Board::new(at(0)));
        board.publish(&[(key.clone(), Some(Arc::new(status)))]);
        let folder = tempfile::tempdir().unwrap();
        let output = Arc::new(Output::start(folder.path(), LogLimits::default()).unwrap());
        let log = Self { folder, board, output, key };
        log.append(text);
        log
    }

    fn path(&self) -> PathBuf {
        self.output.live_file(&self.key)
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn forget(&self) {
        self.board.publish(&[(self.key.clone(), None)]);
    }

    async fn read(&self, tail: Option<u64>, follow: bool) -> Logs {
        let wanted = LogsWanted { section: Section { tail, ..Section::default() }, follow };
        Logs::begin(Arc::clone(&self.board), Arc::clone(&self.output), self.key.clone(), wanted).await.unwrap()
    }

    async fn all(&self, tail: Option<u64>) -> String {
        let mut logs = self.read(tail, false).await;
        let mut all = Vec::new();
        while let Some(piece) = logs.next().await.unwrap() {
            assert!(piece.data.len() <= CHUNK);
            all.extend(piece.data);
        }
        String::from_utf8(all).unwrap()
    }
}

async fn next(logs: &mut Logs) -> String {
    let piece = tokio::time::timeout(PATIENCE, logs.next()).await.unwrap().unwrap();
    String::from_utf8(piece.unwrap().data).unwrap()
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
async fn whole_lines_are_given_as_they_are_printed() {
    let log = Log::new("one\ntw");
    let mut logs = log.read(None, true).await;
    assert_eq!(next(&mut logs).await, "one\n");
    log.append("o\n");
    assert_eq!(next(&mut logs).await, "two\n");
    std::fs::rename(log.path(), log.folder.path().join("elsewhere")).unwrap();
    log.append("three\n");
    assert_eq!(next(&mut logs).await, "three\n");
    // Cut, and written in a second step, as it is by somebody who rotates by copying.
    drop(std::fs::File::create(log.path()).unwrap());
    log.append("4\n");
    assert_eq!(next(&mut logs).await, "4\n");
    log.append("the end");
    log.forget();
    assert_eq!(next(&mut logs).await, "the end");
    assert_eq!(logs.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_log_that_is_not_there_yet_is_waited_for() {
    let log = Log::new("");
    std::fs::remove_file(log.path()).unwrap();
    let mut logs = log.read(Some(5), true).await;
    log.append("first\n");
    assert_eq!(next(&mut logs).await, "first\n");
}

#[tokio::test]
async fn a_process_that_nobody_knows_has_no_log() {
    let log = Log::new("");
    std::fs::remove_file(log.path()).unwrap();
    log.forget();
    let (board, output) = (Arc::clone(&log.board), Arc::clone(&log.output));
    let error = Logs::begin(board, output, log.key.clone(), LogsWanted::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::ProcessNotFound);
}

#[tokio::test]
async fn the_run_before_is_refused_when_there_is_none() {
    let log = Log::new("one\n");
    let section = Section { previous: true, ..Section::default() };
    let begin = || {
        let (board, output) = (Arc::clone(&log.board), Arc::clone(&log.output));
        Logs::begin(board, output, log.key.clone(), LogsWanted { section, follow: false })
    };
    assert_eq!(begin().await.unwrap_err().code(), Code::ProcessNotFound);
    log.output.begin(&log.key, crate::model::RunId::from_random(1));
    log.append("two\n");
    let mut logs = begin().await.unwrap();
    assert_eq!(next(&mut logs).await, "one\n");
    assert_eq!(logs.next().await.unwrap(), None);
}
