//! Requests about the same key, and about the same file, within a batch and across batches.

use super::*;

#[test]
fn many_launches_of_one_key_make_one_file() {
    let mut bench = Bench::new();
    bench.syncs();
    let (writes, answers): (Vec<_>, Vec<_>) = (0..100).map(|n| launch(with_config(spec("a"), &n.to_string()))).unzip();
    bench.write(writes);
    let told: Vec<LaunchedFile> = answers.into_iter().map(|answer| answer.get().expect("launched")).collect();
    assert_eq!(told.iter().filter(|one| one.created).count(), 1);
    assert!(told.iter().all(|one| one.instance == told[0].instance));
    assert_eq!((bench.names().len(), bench.syncs()), (1, 2));
    assert_eq!(bench.config("ns:a:p", "X"), Some("0"));
}

#[test]
fn what_is_asked_of_a_key_is_done_in_the_order_it_was_asked() {
    let mut bench = Bench::new();
    let (first, launched) = launch(with_config(spec("a"), "1"));
    let (second, removed) = remove("ns:a:p");
    let (third, again) = launch(with_config(spec("a"), "2"));
    let update = Update { key: key_of("ns:a:p"), edit: config("3"), expected: None, by: BY };
    let (fourth, updated) = asked(|reply| What::Update { update, reply });
    bench.write(vec![first, second, third, fourth]);
    assert!(launched.get().expect("launched").created);
    removed.get().expect("removed");
    assert!(again.get().expect("launched again").created);
    assert!(matches!(updated.get().expect("updated"), UpdateOutcome::Done(_)));
    assert_eq!(bench.config("ns:a:p", "X"), Some("3"));
    let ended: Vec<usize> = bench.changes.iter().map(|change| change.ended.len()).filter(|ended| *ended > 0).collect();
    assert_eq!(ended, [1]);
    assert_eq!(bench.settle().keys(), ["ns:a:p"]);
}

#[test]
fn two_instances_of_one_file_are_ended_one_after_the_other() {
    let mut bench = Bench::new();
    let text = "pattern: p\nisolation: namespace\nnamespaces: [a, b, c]\nconfig: { X: '1' }\n";
    fs::write(bench.launched().join("hand.yaml"), text).expect("written");
    bench.settle();
    assert_eq!(bench.keys(), ["ns:a:p", "ns:b:p", "ns:c:p"]);
    let (first, one) = remove("ns:a:p");
    let (second, two) = remove("ns:c:p");
    bench.write(vec![first, second]);
    one.get().expect("removed");
    two.get().expect("removed");
    assert_eq!(bench.keys(), ["ns:b:p"]);
    assert_eq!(bench.config("ns:b:p", "X"), Some("1"));
    assert_eq!(bench.settle().keys(), ["ns:b:p"]);
    bench.remove("ns:b:p").expect("removed");
    assert!(bench.names().is_empty());
}

#[test]
fn a_removal_of_what_a_person_declares_is_refused_also_when_both_do() {
    let mut bench = Bench::new();
    bench.launch(spec("a")).expect("launched");
    bench.person("a.yaml", &instance("a"));
    bench.settle();
    let error = bench.remove("ns:a:p").expect_err("a person's");
    assert_eq!(error.code(), Code::DeclaredByFile);
    let text = error.to_string();
    assert!(text.contains("desired/a.yaml:1") && text.contains("prismctl pattern suspend ns:a:p"), "{text}");
}

#[test]
fn a_launch_while_a_persons_file_is_dropped_gives_way_to_it() {
    let mut bench = Bench::new();
    bench.person("a.yaml", "pattern: p\nnamespace: a\nconfig: { X: person }\n");
    assert!(bench.launch(with_config(spec("a"), "launched")).expect("launched").created);
    bench.settle();
    assert_eq!(bench.config("ns:a:p", "X"), Some("person"));
}
