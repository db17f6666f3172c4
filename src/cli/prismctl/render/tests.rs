//! What people see, to the letter.

use super::*;
use crate::api::proto::{Condition, Difference, Suspension};
use crate::cli::prismctl::arguments::Format;

fn look(columns: Option<usize>) -> Look {
    Look { format: Format::Table, terminal: columns.map(|columns| (columns, 24)), colours: false }
}

fn running(namespace: &str, pattern: &str) -> PatternInfo {
    PatternInfo {
        pattern_name: pattern.to_owned(),
        process_id: format!("ns:{namespace}:{pattern}"),
        state: ProcessState::StateRunning.into(),
        healthy: true,
        uptime_seconds: 100_800,
        restart_count: 3,
        pid: 12345,
        ..PatternInfo::default()
    }
}

fn several() -> Vec<PatternInfo> {
    let failed = PatternInfo {
        pattern_name: "etl".to_owned(),
        process_id: "shared:etl".to_owned(),
        state: ProcessState::StateFailed.into(),
        restart_count: 4,
        ..PatternInfo::default()
    };
    vec![running("tenant-a", "consumer"), running("a-customer-with-a-long-name", "consumer"), failed]
}

const WHOLE: &str = "\
PATTERN   PROCESS ID                               STATE    HEALTHY  UPTIME  RESTARTS    PID
consumer  ns:tenant-a:consumer                     running  yes      1d 4h          3  12345
consumer  ns:a-customer-with-a-long-name:consumer  running  yes      1d 4h          3  12345
etl       shared:etl                               failed   no       -              4      -
";

#[test]
fn a_table_is_whole_without_a_terminal_and_on_a_wide_one() {
    assert_eq!(processes(&several(), &look(None)), WHOLE);
    assert_eq!(processes(&several(), &look(Some(200))), WHOLE);
}

#[test]
fn at_80_columns_process_ids_lose_their_middle() {
    let expected = "\
PATTERN   PROCESS ID                   STATE    HEALTHY  UPTIME  RESTARTS    PID
consumer  ns:tenant-a:consumer         running  yes      1d 4h          3  12345
consumer  ns:a-customer…name:consumer  running  yes      1d 4h          3  12345
etl       shared:etl                   failed   no       -              4      -
";
    assert_eq!(processes(&several(), &look(Some(80))), expected);
}

#[test]
fn at_60_columns_the_pattern_is_read_from_the_process_id() {
    let expected = "\
PROCESS ID         STATE    HEALTHY  UPTIME  RESTARTS    PID
ns:tenan…consumer  running  yes      1d 4h          3  12345
ns:a-cus…consumer  running  yes      1d 4h          3  12345
shared:etl         failed   no       -              4      -
";
    assert_eq!(processes(&several(), &look(Some(60))), expected);
}

#[test]
fn a_long_pattern_name_leaves_room_for_its_process_id() {
    let long = vec![running("t", "a-pattern-whose-name-is-as-long-as-it-may-be-which-is-63-chars")];
    for columns in [60, 72, 80, 100] {
        let shown = processes(&long, &look(Some(columns)));
        assert!(shown.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{shown}");
        assert!(shown.contains("ns:t:a-p"), "{columns}:\n{shown}");
    }
}

#[test]
fn colours_mark_what_matters_and_nothing_else() {
    let coloured = Look { colours: true, ..look(Some(200)) };
    let shown = processes(&several(), &coloured);
    let failed = shown.lines().last().unwrap();
    assert!(failed.contains("failed") && failed.contains("\u{1b}["), "{failed:?}");
    let plain: String = processes(&several(), &look(Some(200)));
    assert!(!plain.contains('\u{1b}'));
}

#[test]
fn names_from_the_daemon_cannot_paint_the_terminal() {
    let evil = "\u{1b}[2J\r\nx\u{9b}";
    let process = PatternInfo {
        pattern_name: evil.to_owned(),
        process_id: evil.to_owned(),
        address: evil.to_owned(),
        last_error: evil.to_owned(),
        reason: evil.to_owned(),
        state: ProcessState::StateRunning.into(),
        suspension: Some(Suspension { reason: evil.to_owned(), by: evil.to_owned(), ends_in_seconds: Some(1) }),
        conditions: vec![Condition { kind: evil.to_owned(), message: evil.to_owned() }],
        ..PatternInfo::default()
    };
    let happened = Event { message: evil.to_owned(), time: evil.to_owned(), by: evil.to_owned(), ..Event::default() };
    let (lines, printed) = (vec![evil.to_owned()], vec![evil.to_owned()]);
    let explained = ExplainResponse { lines, events: vec![happened.clone()], process: None, printed };
    let differs = Difference { field: evil.to_owned(), before: Some(evil.to_owned()), after: None };
    let planned = PlannedAction {
        process_id: evil.to_owned(),
        action: evil.to_owned(),
        reason: evil.to_owned(),
        differences: vec![differs],
    };
    let described = Manifest { name: evil.to_owned(), description: evil.to_owned(), ..Manifest::default() };
    let health = HealthResponse { problems: vec![evil.to_owned()], ..HealthResponse::default() };
    let shown = [
        processes(std::slice::from_ref(&process), &look(None)),
        super::process(&process),
        sentence(&process),
        event(&happened),
        explanation(&explained),
        plan(&[planned], &look(None)),
        manifests(std::slice::from_ref(&described), &look(None)),
        manifest(&described),
        health_of_launcher(&health, false, &look(None)),
    ];
    for text in shown {
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains("\\u{1b}[2J\\r\\nx\\u{9b}"), "{text:?}");
    }
}

#[test]
fn a_status_says_everything_there_is() {
    let process = PatternInfo {
        address: "127.0.0.1:15000".to_owned(),
        namespace: "tenant-a".to_owned(),
        isolation: 2,
        generation: 3,
        observed_generation: 2,
        declared_at: "desired/a.yaml:1".to_owned(),
        error_count: 2,
        last_error: "[PROCESS_CRASHED] it ended; Context: code=1; Suggestion: read the log".to_owned(),
        reason: "it is healthy".to_owned(),
        action: "none".to_owned(),
        expires_in_seconds: Some(90),
        ..running("tenant-a", "consumer")
    };
    let expected = "\
PATTERN     consumer
PROCESS ID  ns:tenant-a:consumer
STATE       running
HEALTHY     yes
UPTIME      1d 4h
RESTARTS    3
PID         12345
ADDRESS     127.0.0.1:15000
ISOLATION   namespace
NAMESPACE   tenant-a
GENERATION  3, of which 2 runs
DECLARED    desired/a.yaml:1
EXPIRES IN  1m 30s, unless it is launched again
FAILURES    2 in a row
DECIDED     it is healthy
LAST ERROR  [PROCESS_CRASHED] it ended
            code=1
            try: read the log
";
    assert_eq!(super::process(&process), expected);
}

#[test]
fn a_plan_wraps_its_reasons_on_a_narrow_terminal() {
    let action = |process_id: &str, action: &str, reason: &str| PlannedAction {
        process_id: process_id.to_owned(),
        action: action.to_owned(),
        reason: reason.to_owned(),
        differences: Vec::new(),
    };
    let actions = [
        action("ns:tenant-a:consumer", "replace", "its executable differs from the one that runs"),
        action("shared:etl", "none", "its circuit is open"),
        action("shared:calm", "none", "it runs as declared"),
    ];
    let expected = "\
ACTION   PROCESS ID            REASON
replace  ns:tenant-a:consumer  its executable differs
                               from the one that runs
wait     shared:etl            its circuit is open

1 to change, 2 to leave as they are
";
    assert_eq!(plan(&actions, &look(Some(56))), expected);
    assert_eq!(plan(&actions, &look(None)).lines().count(), 5);
    let [mut replaced, ..] = actions;
    let before = Some("1".to_owned());
    replaced.differences = vec![Difference { field: "config.A".to_owned(), before, after: None }];
    let shown = plan(&[replaced], &look(None));
    assert!(shown.contains("config.A: 1 -> (not set)") && shown.contains("1 to change, 0 to leave"), "{shown}");
    assert_eq!(plan(&[], &look(None)), "0 to change, 0 to leave as they are\n");
}

#[test]
fn the_health_of_the_launcher_is_counted_and_explained() {
    let health = HealthResponse {
        total_processes: 3,
        running_processes: 2,
        failed_processes: 1,
        isolation_distribution: [("None".to_owned(), 1), ("Namespace".to_owned(), 2), ("Session".to_owned(), 0)].into(),
        uptime_seconds: 65,
        problems: vec!["the state folder cannot be written".to_owned()],
        ..HealthResponse::default()
    };
    let expected = "\
HEALTHY    no
UPTIME     1m 5s
PROCESSES  3 in all, 2 running, 1 failed
ISOLATION  2 namespace, 1 none
PROBLEM    the state folder cannot be written
";
    assert_eq!(health_of_launcher(&health, false, &look(None)), expected);
}
