use super::*;
use crate::act::{LogLimits, Output};
use crate::control::LogsWanted;
use crate::model::Key;
use crate::reconciler::Board;
use crate::reconciler::board::tests::{at, running};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

#[tokio::test]
async fn the_end_of_the_launcher_ends_it_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let output = Arc::new(Output::start(folder.path(), LogLimits::default()).unwrap());
    let board = Arc::new(Board::new(at(0)));
    let key = Key::parse("ns:t:p").unwrap();
    board.publish(&[(key.clone(), Some(Arc::new(running(key.as_str()))))]);
    let wanted = LogsWanted { follow: true, ..LogsWanted::default() };
    let logs = Logs::begin(board, output, key, wanted).await.unwrap();
    let closing = CancellationToken::new();
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (sender, mut receiver) = mpsc::channel(CHUNKS);
    tokio::spawn(Reading { logs, closing: closing.clone(), _slot: slot }.run(sender));
    closing.cancel();
    let received = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await.unwrap();
    assert_eq!(received.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
}
