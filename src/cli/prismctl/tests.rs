//! The commands against a gRPC server with prepared answers, over a unix socket.

mod daemon;

use super::arguments::Arguments;
use super::screen::{Look, Screen};
use super::{exit_code, run};
use clap::Parser as _;
use daemon::Daemon;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a command printed.
#[derive(Debug, Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that has gone away.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a command ended.
struct Ended {
    code: u8,
    out: String,
    err: String,
}

async fn prismctl(address: &str, line: &str) -> Ended {
    let (out, err) = (Printed::default(), Printed::default());
    let code = prismctl_to(address, line, Box::new(out.clone()), Box::new(err.clone()), None).await;
    Ended { code, out: out.text(), err: err.text() }
}

async fn prismctl_to(
    address: &str,
    line: &str,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    terminal: Option<(usize, usize)>,
) -> u8 {
    let words = ["prismctl", "--address", address].into_iter().chain(line.split(' '));
    let arguments = Arguments::try_parse_from(words).unwrap();
    let look = Look { format: arguments.output, terminal, colours: false };
    let mut screen = Screen::to(out, err, look);
    let ended = Box::pin(run(arguments, &mut screen)).await;
    exit_code(ended, &mut screen)
}

/// Waits until what was printed fits, at most ten seconds.
async fn printed(what: &str, printed: &Printed, fits: impl Fn(&str) -> bool) {
    let waiting = async {
        while !fits(&printed.text()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    assert!(waited.is_ok(), "waited for {what}, and there is only: {}", printed.text());
}

#[tokio::test]
async fn a_launch_is_asked_for_as_it_was_written() {
    let daemon = Daemon::start();
    let line = "pattern launch consumer --namespace a --isolation namespace --config A=b=c --slot storage.url=u \
                --grace-period 1500ms --ttl 30m --no-wait";
    let ended = prismctl(&daemon.address, line).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert_eq!(ended.out, "ns:a:consumer is running and healthy, at 127.0.0.1:15000\n");
    let asked = daemon.launches().pop().unwrap();
    assert_eq!((asked.isolation, asked.grace_period_secs, asked.ttl_secs, asked.no_wait), (2, 2, 1800, true));
    assert_eq!(asked.config["A"], "b=c");
    assert_eq!(asked.slots["storage.url"], "u");
}

#[tokio::test]
async fn a_launch_that_is_not_healthy_is_a_failure_unless_nobody_waits() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "pattern launch sick --namespace a").await;
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("not healthy") && ended.out.contains("declared before"), "{}", ended.out);
    assert!(ended.err.contains("prismctl pattern update ns:a:sick"), "{}", ended.err);
    assert_eq!(prismctl(&daemon.address, "pattern launch sick --namespace a --no-wait").await.code, 0);
}

#[tokio::test]
async fn a_refusal_is_told_with_its_details_and_as_json() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "pattern launch unknown").await;
    let expected = "\
error: Pattern 'unknown' not found
  code: PATTERN_NOT_FOUND
  pattern_name: unknown
  patterns_dir: ./patterns
  try: ls ./patterns
";
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (3, "", expected));
    let ended = prismctl(&daemon.address, "-o json pattern launch unknown").await;
    let json: serde_json::Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!((ended.code, &json["error"]["code"]), (3, &"PATTERN_NOT_FOUND".into()));
    assert_eq!(json["error"]["suggestion"], "ls ./patterns");
}

#[tokio::test]
async fn a_launch_that_takes_too_long_says_where_it_stands() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "pattern launch slow --namespace a --timeout 200ms").await;
    assert_eq!(ended.code, 5, "{}", ended.err);
    assert!(ended.err.contains("DEADLINE_EXCEEDED") && ended.err.contains("--timeout"), "{}", ended.err);
    let ended = prismctl(&daemon.address, "pattern restart ns:a:slow --timeout 200ms").await;
    assert_eq!(ended.code, 5);
    assert!(ended.err.contains("state: running"), "{}", ended.err);
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let address = format!("unix:{}", socket.display());
    let ended = prismctl(&address, "health").await;
    assert_eq!(ended.code, 4);
    assert!(ended.err.contains(&address) && ended.err.contains("pattern-launcher run"), "{}", ended.err);

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let ended = prismctl(&address, "pattern list").await;
    assert_eq!(ended.code, 4);
    assert!(ended.err.contains("is gone"), "{}", ended.err);
    assert_eq!(prismctl("127.0.0.1:1", "pattern list").await.code, 4);
    assert_eq!(prismctl("nonsense", "pattern list").await.code, 2);
}

#[tokio::test]
async fn a_list_is_a_table_or_an_object() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "pattern list").await;
    assert_eq!((ended.code, ended.out.lines().count()), (0, 3));
    assert!(ended.out.starts_with("PATTERN "), "{}", ended.out);
    let ended = prismctl(&daemon.address, "pattern list -o json").await;
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["total_count"], 2);
    assert_eq!(json["patterns"][0]["state"], "running");
    assert_eq!(json["patterns"][0]["isolation"], "namespace");
    let ended = prismctl(&daemon.address, "pattern list -o yaml").await;
    let yaml: serde_json::Value = serde_yaml::from_str(&ended.out).unwrap();
    assert_eq!(yaml, json);
    let ended = prismctl(&daemon.address, "pattern list --state failed").await;
    assert_eq!((ended.code, ended.out.as_str()), (0, ""));
    assert!(ended.err.contains("none of the 2"), "{}", ended.err);
}

#[tokio::test]
async fn a_status_tells_scripts_what_they_ask() {
    let daemon = Daemon::start();
    assert_eq!(prismctl(&daemon.address, "pattern status ns:a:consumer --check").await.code, 0);
    assert_eq!(prismctl(&daemon.address, "pattern status ns:a:sick").await.code, 0);
    assert_eq!(prismctl(&daemon.address, "pattern status ns:a:sick --check").await.code, 1);
    let ended = prismctl(&daemon.address, "pattern status ns:a:nobody").await;
    assert_eq!((ended.code, ended.out.as_str()), (3, ""));
    assert!(ended.err.contains("PROCESS_NOT_FOUND") && ended.err.contains("ns:a:nobody"), "{}", ended.err);
}

#[tokio::test]
async fn what_changes_something_says_how_it_ended() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "pattern terminate ns:a:consumer --grace-period 1s").await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "ns:a:consumer is gone\n"));
    let ended = prismctl(&daemon.address, "pattern terminate ns:a:stubborn --force").await;
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("code: TERMINATION_FAILED") && ended.err.contains("try: look"), "{}", ended.err);
    for line in [
        "pattern restart ns:a:consumer",
        "pattern reset ns:a:consumer",
        "pattern resume ns:a:consumer",
        "pattern update ns:a:consumer --no-config",
        "pattern suspend ns:a:consumer --reason repair --for 1h",
    ] {
        let ended = prismctl(&daemon.address, line).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{line}");
        assert!(ended.out.starts_with("ns:a:consumer is running and healthy, pid 4242"), "{line}: {}", ended.out);
    }
    assert!(daemon.updates().pop().unwrap().replace_config);
    assert_eq!(prismctl(&daemon.address, "pattern restart ns:a:sick").await.code, 1);
    let ended = prismctl(&daemon.address, "pattern abandon ns:a:consumer").await;
    assert_eq!(ended.out, "given up: pid 4242\n");
}

#[tokio::test]
async fn a_plan_and_a_health_answer_by_their_exit_codes() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "plan").await;
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.out.contains("launch  ns:a:new"), "{}", ended.out);
    assert_eq!(prismctl(&daemon.address, "plan --namespace calm").await.code, 0);
    let ended = prismctl(&daemon.address, "health --processes").await;
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("PROBLEM") && ended.out.contains("ns:a:consumer"), "{}", ended.out);
}

#[tokio::test]
async fn manifests_are_listed_or_shown() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "manifests").await;
    assert!(ended.out.starts_with("PATTERN") && ended.out.contains("consumer"), "{}", ended.out);
    let ended = prismctl(&daemon.address, "manifests consumer").await;
    assert!(ended.out.contains("SLOT") && ended.out.contains("storage: postgres, required"), "{}", ended.out);
    let ended = prismctl(&daemon.address, "manifests nobody").await;
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("PATTERN_NOT_FOUND"), "{}", ended.err);
}

#[tokio::test]
async fn logs_pass_as_they_are_and_are_escaped_on_a_terminal() {
    let daemon = Daemon::start();
    let out = Printed::default();
    let line = "pattern logs ns:a:consumer --tail 10";
    let err = Box::new(Printed::default());
    let code = prismctl_to(&daemon.address, line, Box::new(out.clone()), err.clone(), None).await;
    assert_eq!((code, out.0.lock().unwrap().as_slice()), (0, b"one\n\x1b[2Jtwo\xff\n".as_slice()));
    let out = Printed::default();
    prismctl_to(&daemon.address, line, Box::new(out.clone()), err, Some((80, 24))).await;
    assert_eq!(out.text(), "one\n\\u{1b}[2Jtwo\u{fffd}\n");
    let ended = prismctl(&daemon.address, "-o json pattern logs ns:a:consumer").await;
    assert_eq!(ended.out, "{\"data\":\"one\"}\n{\"data\":\"\\u001b[2Jtwo\u{fffd}\"}\n");
}

#[tokio::test]
async fn events_are_printed_as_they_happen_and_missed_ones_are_told() {
    let daemon = Daemon::start();
    let (out, err) = (Printed::default(), Printed::default());
    let command = prismctl_to(&daemon.address, "events", Box::new(out.clone()), Box::new(err.clone()), None);
    let watching = async {
        daemon.has_listeners(1).await;
        daemon.happen("process started", 0);
        printed("the first event", &out, |text| text.contains("process started")).await;
        daemon.happen("process exited", 7);
        printed("the second event", &out, |text| text.contains("process exited")).await;
        daemon.end_streams();
    };
    let (code, ()) = tokio::join!(command, watching);
    assert_eq!(code, 4, "the daemon ended");
    assert_eq!(out.text().lines().next().unwrap(), "2026-01-01T00:00:00Z  info   ns:a:consumer  process started: why");
    assert!(err.text().contains("7 events were missed"), "{}", err.text());
}

#[tokio::test]
async fn a_watch_prints_again_when_something_differs() {
    let daemon = Daemon::start();
    let (out, err) = (Printed::default(), Printed::default());
    let command = prismctl_to(&daemon.address, "pattern list --watch", Box::new(out.clone()), Box::new(err), None);
    let watching = async {
        printed("the first table", &out, |text| text.contains("ns:a:consumer")).await;
        daemon.has_listeners(1).await;
        // Nothing differs after this, so it is not printed again.
        daemon.happen("process started", 0);
        daemon.has_listed(2).await;
        daemon.add_process("late");
        daemon.happen("process started", 0);
        printed("the second table", &out, |text| text.contains("ns:a:late")).await;
    };
    tokio::select! {
        code = command => panic!("a watch ended with {code}"),
        () = watching => {}
    }
    assert_eq!(out.text().matches("PATTERN ").count(), 2, "{}", out.text());
}

#[tokio::test]
async fn a_watch_replaces_what_a_terminal_shows() {
    let daemon = Daemon::start();
    let (out, err) = (Printed::default(), Printed::default());
    let line = "pattern status ns:a:consumer --watch";
    let command = prismctl_to(&daemon.address, line, Box::new(out.clone()), Box::new(err), Some((80, 24)));
    let watching = async {
        daemon.has_listeners(1).await;
        printed("the first sight", &out, |text| text.contains("running")).await;
        daemon.happen("process started", 0);
        printed("the second sight", &out, |text| text.matches("\u{1b}[H").count() == 2).await;
    };
    tokio::select! {
        code = command => panic!("a watch ended with {code}"),
        () = watching => {}
    }
    assert_eq!(out.text().matches("\u{1b}[2J").count(), 1, "it is cleared once");
}

#[tokio::test]
async fn a_reader_that_went_away_is_no_failure() {
    let daemon = Daemon::start();
    for line in ["pattern list", "pattern logs ns:a:consumer", "completions bash", "man"] {
        let err = Printed::default();
        let code = prismctl_to(&daemon.address, line, Box::new(Gone), Box::new(err.clone()), None).await;
        assert_eq!((code, err.text().as_str()), (0, ""), "{line}");
    }
}

#[tokio::test]
async fn an_explanation_needs_a_process_and_a_daemon_that_can() {
    let daemon = Daemon::start();
    let ended = prismctl(&daemon.address, "pattern explain ns:a:nobody").await;
    assert_eq!((ended.code, ended.out.as_str()), (3, ""));
    assert!(ended.err.contains("code: PROCESS_NOT_FOUND\n  try: prismctl pattern list"), "{}", ended.err);
    let ended = prismctl(&daemon.address, "pattern explain ns:a:consumer").await;
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("UNIMPLEMENTED") && ended.err.contains("older"), "{}", ended.err);
}
