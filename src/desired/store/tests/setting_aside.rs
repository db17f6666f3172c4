//! A person's file that takes what was launched.

use super::*;

fn taken_over() -> Bench {
    let mut bench = Bench::new();
    bench.launch(with_config(spec("a"), "launched")).expect("launched");
    bench.person("a.yaml", "pattern: p\nnamespace: a\nconfig: { X: person }\n");
    bench
}

#[test]
fn a_launched_file_that_lost_to_a_persons_is_set_aside_and_does_not_come_back() {
    let mut bench = taken_over();
    bench.look();
    let aside = format!("{}.set-aside", bench.file("ns:a:p").file_name().expect("a name").to_string_lossy());
    bench.settle();
    assert_eq!(bench.config("ns:a:p", "X"), Some("person"));
    assert_eq!(bench.names(), std::slice::from_ref(&aside));
    let mut conditions = bench.changes.iter().flat_map(|change| &change.conditions);
    let last = conditions.rfind(|(key, _)| key.as_str() == "ns:a:p");
    assert!(last.is_none_or(|(_, conditions)| conditions.is_empty()), "{last:?}");
    let mut bench = bench.restarted();
    assert_eq!(bench.settle().keys(), ["ns:a:p"]);
    fs::remove_file(bench.folder.path().join("desired/a.yaml")).expect("deleted");
    assert!(bench.settle().running.is_empty(), "it does not come back");
    bench.launch(spec("a")).expect("launched");
    bench.person("a.yaml", &instance("a"));
    bench.settle();
    assert_eq!(bench.names(), [aside.clone(), format!("{aside}.2")]);
}

#[test]
fn a_launcher_that_dies_before_it_sets_a_file_aside_does_so_when_it_starts() {
    let mut bench = taken_over();
    let restored: Vec<Arc<Instance>> = bench.running.values().cloned().collect();
    bench = Bench::over(bench.folder, &restored);
    bench.settle();
    assert_eq!(bench.config("ns:a:p", "X"), Some("person"));
    assert!(bench.names()[0].ends_with(".set-aside"), "{:?}", bench.names());
}

#[test]
fn a_file_that_has_lost_only_a_part_stays() {
    let mut bench = Bench::new();
    let both = "pattern: p\nisolation: namespace\nnamespaces: [a, b]\n";
    fs::write(bench.launched().join("hand.yaml"), both).expect("written");
    bench.person("a.yaml", &instance("a"));
    bench.settle();
    assert_eq!(bench.names(), ["hand.yaml"]);
    bench.person("b.yaml", &instance("b"));
    bench.settle();
    assert_eq!(bench.names(), ["hand.yaml.set-aside"]);
    assert!(bench.running.values().all(|instance| !instance.origin.api_managed));
}

#[test]
fn a_persons_file_that_is_half_written_takes_nothing() {
    let mut bench = taken_over();
    bench.person("a.yaml", "pattern: p\nnamespace: [");
    bench.settle();
    assert_eq!(bench.config("ns:a:p", "X"), Some("launched"));
    assert!(bench.file("ns:a:p").exists());
}

#[test]
fn a_persons_file_that_may_be_gone_sets_nothing_aside() {
    let mut bench = Bench::new();
    bench.person("a.yaml", "pattern: p\nnamespace: a\nconfig: { X: person }\n");
    bench.settle();
    fs::remove_file(bench.folder.path().join("desired/a.yaml")).expect("deleted");
    bench.look();
    let text = "pattern: p\nisolation: namespace\nnamespace: a\nconfig: { X: hand }\n";
    fs::write(bench.launched().join("hand.yaml"), text).expect("written");
    bench.look();
    assert_eq!(bench.config("ns:a:p", "X"), Some("person"));
    bench.settle();
    assert_eq!(bench.names(), ["hand.yaml"]);
    assert_eq!(bench.config("ns:a:p", "X"), Some("hand"));
}
