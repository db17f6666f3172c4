//! What files may contain, and what that must not do to what runs.

use super::world::{World, instance};
use crate::desired::root::RootSpec;
use crate::model::Namespace;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

#[test]
fn a_wrong_file_never_changes_what_runs_and_says_where_it_is_wrong() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    let explosion = {
        let mut text = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(text, "x-{level}: &a{level} [{aliases}]").expect("text");
        }
        text + "pattern: p\nnamespace: b\n"
    };
    let wrong: Vec<Vec<u8>> = vec![
        b"pattern: p\nnamespace: b\nnamspace: c\n".to_vec(),
        b"pattern: p\nnamespace: b\nconfig:\n\tA: b\n".to_vec(),
        b"pattern: p\nnamespace: \xff\xfe\n".to_vec(),
        b"pattern: p\npattern: p\nnamespace: b\n".to_vec(),
        b"pattern: nothing-of-that-name\nnamespace: b\n".to_vec(),
        b"pattern: p\n".to_vec(),
        b"pattern: p\nnamespace: b\nttl: 30m\n".to_vec(),
        b"- a\n- b\n".to_vec(),
        format!("pattern: p\nnamespace: b\nx-deep: {}{}\n", "[".repeat(200), "]".repeat(200)).into_bytes(),
        explosion.into_bytes(),
        vec![b'#'; 300 * 1_024],
    ];
    for content in wrong {
        let shown = String::from_utf8_lossy(&content[..content.len().min(60)]).into_owned();
        world.write("a.yaml", &content);
        world.settle();
        assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p"], 0), "{shown}");
        assert_eq!(world.kinds("ns:a:p"), ["InvalidFile"], "{shown}");
        assert!(world.complaints().contains("a.yaml"), "{shown}: {}", world.complaints());
    }
    world.write("a.yaml", instance("a"));
    world.settle();
    assert!(world.complaints().is_empty(), "{}", world.complaints());
    assert_eq!(world.restarts, 0);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_read() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", b"\xef\xbb\xbfpattern: p\r\nnamespace: a\r\n");
    assert_eq!(world.look(0).keys(), ["ns:a:p"]);
}

#[test]
fn a_wrong_file_that_never_declared_anything_is_told_by_itself() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", "pattern: [");
    world.settle();
    assert_eq!(world.status.conditions.len(), 1, "{:?}", world.status);
    assert_eq!(world.status.roots[0].rejected, 1);
    fs::remove_file(world.path("a.yaml")).expect("removed");
    world.settle();
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn the_incumbent_keeps_a_key_that_two_files_declare() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("m.yaml", instance("a"));
    world.look(0).look(600);
    world.write("b.yaml", "pattern: p\nnamespace: a\nstate: stopped\n");
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p"], 0));
    assert_eq!(world.kinds("ns:a:p"), ["DuplicateInstance"]);
    assert!(world.complaints().contains("b.yaml:1") && world.complaints().contains("m.yaml:1"));
    let mut world = world.restarted();
    world.settle();
    assert_eq!(world.restarts, 0, "the incumbent is remembered");
    fs::remove_file(world.path("m.yaml")).expect("removed");
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p"], 1), "the other one takes over");
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}

#[test]
fn without_an_incumbent_the_smaller_path_wins() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("b.yaml", instance("a"));
    world.write("a.yml", "pattern: p\nnamespace: a\nstate: stopped\n");
    world.look(0);
    let origin = &world.running.values().next().expect("one").origin;
    assert_eq!(origin.file.to_str(), Some("a.yml"));
}

#[test]
fn names_equal_but_for_case_are_two_files() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("A.yaml", instance("a"));
    world.write("a.yaml", instance("b"));
    if fs::read_dir(&world.root).expect("listed").count() != 2 {
        eprintln!("skipped: the file system does not tell names by case");
        return;
    }
    assert_eq!(world.look(0).keys(), ["ns:a:p", "ns:b:p"]);
    fs::remove_file(world.path("A.yaml")).expect("removed");
    assert_eq!(world.settle().keys(), ["ns:b:p"]);
}

#[test]
fn a_narrowed_root_declares_nothing_outside_of_it() {
    let spec =
        RootSpec { namespaces: vec![Namespace::new("a").expect("a namespace")], ..RootSpec::open(PathBuf::new()) };
    let mut world = World::narrowed(spec, |root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", "pattern: p\nnamespaces: [a, b]\n");
    world.write("c.yaml", "pattern: p\nisolation: none\n");
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p"]);
    assert!(world.complaints().contains("PERMISSION_DENIED"), "{}", world.complaints());
    assert_eq!(world.status.roots[0].rejected, 2);
}

#[test]
fn an_edit_that_is_refused_ends_nothing_that_the_root_may_declare() {
    let spec =
        RootSpec { namespaces: vec![Namespace::new("a").expect("a namespace")], ..RootSpec::open(PathBuf::new()) };
    let mut world = World::narrowed(spec, |root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.look(0).look(600);
    world.write("a.yaml", instance("b"));
    world.settle();
    assert_eq!(world.keys(), ["ns:a:p"]);
    assert!(world.complaints().contains("PERMISSION_DENIED"), "{}", world.complaints());
}

#[test]
fn a_link_does_not_lead_out_of_a_narrowed_root() {
    let spec =
        RootSpec { namespaces: vec![Namespace::new("a").expect("a namespace")], ..RootSpec::open(PathBuf::new()) };
    let mut world = World::narrowed(spec, |root| fs::create_dir(root).expect("a root"));
    let outside = world.folder.path().join("outside.yaml");
    fs::write(&outside, instance("a")).expect("written");
    std::os::unix::fs::symlink(&outside, world.path("a.yaml")).expect("linked");
    world.settle();
    assert_eq!(world.keys(), [""; 0]);
    assert!(world.complaints().contains("PERMISSION_DENIED"), "{}", world.complaints());
}

#[test]
fn instances_of_a_pattern_that_disappears_go_on_with_a_condition() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", instance("a"));
    world.write("b.yaml", "pattern: q\nnamespace: b\n");
    world.look(0).look(600);
    fs::remove_dir_all(world.folder.path().join("patterns/p")).expect("removed");
    world.refresh_patterns();
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p", "ns:b:q"], 0));
    assert_eq!(world.kinds("ns:a:p"), ["InvalidPattern"]);
    world.write("a.yaml", "namespace: a\npattern: p\n");
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p", "ns:b:q"], 0));
    let mut world = world.restarted();
    world.settle();
    assert_eq!((world.keys(), world.restarts), (vec!["ns:a:p", "ns:b:q"], 0));
    assert_eq!(world.kinds("ns:a:p"), ["InvalidFile"]);
    fs::remove_file(world.path("a.yaml")).expect("removed");
    world.settle();
    assert_eq!(world.keys(), ["ns:b:q"], "the absence of the instance itself ends it");
}

#[test]
fn an_instance_waits_for_its_pattern() {
    let mut world = World::new(|root| fs::create_dir(root).expect("a root"));
    world.write("a.yaml", "pattern: late\nnamespace: a\n");
    world.settle();
    assert_eq!(world.keys(), [""; 0]);
    let late = world.folder.path().join("patterns/late");
    fs::create_dir(&late).expect("a folder");
    fs::write(late.join("manifest.yaml"), "name: late\nversion: 1.0.0\nexecutable: sh\n").expect("a manifest");
    world.refresh_patterns();
    world.look(10);
    assert_eq!(world.keys(), ["ns:a:late"]);
    assert!(world.complaints().is_empty(), "{}", world.complaints());
}
