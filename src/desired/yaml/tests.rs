use super::*;
use crate::desired::{Author, parse_instances, parse_manifest};
use crate::error::{Code, Error};
use proptest::prelude::*;
use std::path::Path;

fn refused(text: &str) -> Error {
    parse_instances(Path::new("desired/a.yaml"), text.as_bytes(), Author::Person).expect_err(text)
}

fn accepted(text: &str) -> usize {
    parse_instances(Path::new("desired/a.yaml"), text.as_bytes(), Author::Person).expect("accepted").len()
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_key_that_was_meant() {
    let error = refused("pattern: hello\nnamespce: tenant-a\n");
    assert_eq!(
        error.to_string(),
        "[INVALID_INSTANCE] desired/a.yaml:2:1: unknown key 'namespce'; \
         Context: file=desired/a.yaml, line=2, column=1; \
         Cause: \n  2 | namespce: ***\n    | ^; \
         Suggestion: write 'namespace' in place of 'namespce'"
    );
    let error = refused("pattern: hello\nresources:\n  memory-limit: 1Gi\n");
    assert_eq!(error.message(), "desired/a.yaml:3:3: unknown key 'memory-limit' in 'resources'");
    assert_eq!(error.cause(), Some("\n  3 |   memory-limit: 1Gi\n    |   ^"));
    assert_eq!(error.suggestion(), Some("write 'memory_limit' in place of 'memory-limit'"));
    let error = refused("pattern: hello\nresources: { qqqqqqqq: 1 }\n");
    assert_eq!(
        error.suggestion(),
        Some(
            "use one of cpu_limit, memory_limit, cpu_request, memory_request, pids_limit, oom_policy; a key of your own begins with 'x-'"
        )
    );
}

#[test]
fn keys_that_begin_with_x_are_free() {
    assert_eq!(accepted("x-anything: [1, { a: ~ }]\npattern: hello\nresources: { x-why: because }\n"), 1);
}

#[test]
fn a_secret_is_never_shown() {
    for text in [
        "pattern: hello\nconfig:\n  password: [hunter2]\n",
        "pattern: hello\nconfig: { password: hunter2, other: [hunter2] }\n",
        "pattern: hello\nconfig:\n  password: \"hunter2\n",
        "pattern: hello\nconfig:\n  password: hunter2: x\n",
        "pattern: hello\nslots:\n  storage:\n    url: [hunter2]\n",
        "pattern: hello\nconfig: hunter2\n",
        "pattern: hello\nslots: { a: hunter2 }\n",
        "pattern: hello\nconfg: { password: hunter2 }\n",
        "pattern: hello\nconfig:\n\tpassword: hunter2\n",
        "pattern: hello\nconfig:\n  - hunter2\n",
        "pattern: hello\nconfig:\n  password: hunter2\u{7}\n",
        "pattern: hello\nconfig:\n  pass: \"hunter2\\0\"\n",
        "x-secret: &s { a: [hunter2] }\npattern: hello\nconfig: { <<: *s }\n",
        "hunter2",
        "- hunter2",
        "{ config: { password: [hunter2] } }",
        "pattern: hello\nconfig:\n  a: !hunter2 b\n",
    ] {
        let error = refused(text);
        assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
    }
}

#[test]
fn what_only_the_second_parser_refuses_is_told_without_secrets() {
    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "reading it fails")]
    struct Numbers {
        config: std::collections::BTreeMap<String, u32>,
    }
    let schema = Box::leak(Box::new(crate::desired::schema::instance_schema()));
    let kind = Kind { code: Code::InvalidInstance, schema, secret: &["config"] };
    let source = Source::new(Path::new("a.yaml"), b"config:\n  A: hunter2\n", kind).expect("a text");
    let error = read::<Numbers>(&source).expect_err("no number").to_string();
    assert!(error.contains("a.yaml:2:6") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_tab_as_indentation_is_named_as_one() {
    let error = refused("pattern: hello\nconfig:\n\ta: b\n");
    assert_eq!(error.message(), "desired/a.yaml:3:2: a tab is used as indentation");
    assert!(error.suggestion().is_some_and(|text| text.contains("expand -t 2 desired/a.yaml")));
}

#[test]
fn a_key_given_twice_is_an_error_at_every_level() {
    let error = refused("pattern: hello\nconfig:\n  a: 1\n  b: 2\n  a: 3\n");
    assert_eq!(error.message(), "desired/a.yaml:5:3: the key 'a' is given twice, first on line 3");
    refused("pattern: a\n\"pattern\": b\n");
    refused("x-free: { a: 1, a: 2 }\npattern: hello\n");
}

#[test]
fn windows_and_byte_order_marks_are_accepted() {
    let text = "\u{feff}pattern: hello\r\nnamespaces:\r\n  - a\r\n  - b\r\n";
    let specs = parse_instances(Path::new("a"), text.as_bytes(), Author::Person).expect("accepted");
    assert_eq!(specs.iter().map(|spec| spec.line).collect::<Vec<_>>(), [3, 4]);
    let error = refused("\u{feff}pattern: hello\r\nfoo: bar\r\n");
    assert_eq!(error.message(), "desired/a.yaml:2:1: unknown key 'foo'");
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let error = parse_instances(Path::new("a.yaml"), b"pattern: hello\nx-a: \xff\n", Author::Person).expect_err("bad");
    assert_eq!(error.message(), "a.yaml:2:6: the file is not valid UTF-8");
}

#[test]
fn empty_documents_are_skipped() {
    for (text, count) in [
        ("", 0),
        ("# nothing\n", 0),
        ("---\n", 0),
        ("---\n---\n", 0),
        ("---\npattern: a\nisolation: none\n---\n", 1),
        ("pattern: a\n---\n# nothing\n---\npattern: b\n...\n", 2),
        ("~\n---\npattern: a\n", 1),
        ("%YAML 1.2\n---\npattern: a\n", 1),
    ] {
        assert_eq!(accepted(text), count, "{text:?}");
    }
}

#[test]
fn values_are_taken_as_written() {
    let text = "pattern: a\nconfig:\n  A: 0123\n  B: 1.10\n  C: yes\n  D: 'x'\n  E: 0x1F\n  F: true\n  G: 1e3\n  \
                H: \"\"\n  I: 2024-01-01\n  J: |\n    two\n    lines\n  K: 'null'\n  L: 99999999999999999999\n  M: +1\n";
    let specs = parse_instances(Path::new("a"), text.as_bytes(), Author::Person).expect("accepted");
    let values: Vec<_> = specs[0].config.values().map(crate::model::Secret::reveal).collect();
    assert_eq!(
        values,
        [
            "0123",
            "1.10",
            "yes",
            "x",
            "0x1F",
            "true",
            "1e3",
            "",
            "2024-01-01",
            "two\nlines\n",
            "null",
            "99999999999999999999",
            "+1"
        ]
    );
}

#[test]
fn a_value_must_be_there_and_be_single() {
    let error = refused("pattern: a\nconfig:\n  A:\n");
    assert_eq!(error.message(), "desired/a.yaml:3:3: 'config.A' has no value");
    assert_eq!(error.suggestion(), Some("write A: \"\" for an empty text, or remove the key"));
    for null in ["~", "null", "Null", "NULL", "&a"] {
        refused(&format!("pattern: a\nconfig: {{ A: {null} }}\n"));
    }
    let error = refused("pattern: a\nconfig: { A: { B: c } }\n");
    assert_eq!(
        error.message(),
        "desired/a.yaml:2:14: 'config.A' must be a single text, number or boolean, and is a mapping"
    );
    assert_eq!(
        refused("- a\n").message(),
        "desired/a.yaml:1:1: a document must be a mapping, with lines like 'key: value'"
    );
}

#[test]
fn merge_keys_fill_in_what_is_not_written() {
    let text = "x-a: &a { A: 1, B: 1 }\nx-b: &b { B: 2, C: 2 }\npattern: p\nconfig: { <<: [*a, *b], A: 0 }\n";
    let specs = parse_instances(Path::new("a"), text.as_bytes(), Author::Person).expect("accepted");
    let config: Vec<_> = specs[0].config.iter().map(|(name, value)| format!("{name}={}", value.reveal())).collect();
    assert_eq!(config, ["A=0", "B=1", "C=2"]);
    refused("x-a: &a [1]\npattern: p\nconfig: { <<: *a }\n");
    refused("x-a: &a { A: ~ }\npattern: p\nconfig: { <<: *a }\n");
    refused("x-a: &a { pattern: p }\n<<: *a\n");
}

#[test]
fn what_would_explode_is_refused_at_once() {
    let mut laughs = "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for (i, name) in ["b", "c", "d", "e", "f", "g"].iter().enumerate() {
        let of = ["a", "b", "c", "d", "e", "f"][i];
        let many = vec![format!("*{of}"); 10].join(",");
        laughs = format!("{laughs}x-{name}: &{name} [{many}]\n");
    }
    laughs.push_str("pattern: p\n");
    assert!(refused(&laughs).message().contains("more than 10000 values"));
    assert!(refused("x-a: &a [*a]\npattern: p\n").message().contains("an alias refers to what it is a part of"));
    // Each level doubles nothing and only goes deeper.
    let mut chain = "x-0: &a0 [1]\n".to_owned();
    for i in 1..80 {
        chain = format!("{chain}x-{i}: &a{i} [*a{}]\n", i - 1);
    }
    assert!(refused(&chain).message().contains("more than 64 levels deep"));
}

/// Hostile texts of the largest size that is read at all.
#[test]
fn hostile_texts_are_answered_quickly() {
    let size = 256 * 1024;
    let fill = |unit: &str| unit.repeat(size / unit.len());
    let texts = [
        fill("["),
        fill("{"),
        fill("[{"),
        fill("- "),
        fill("? "),
        fill("{a: "),
        fill("a: "),
        fill("a:\n "),
        fill("*a "),
        fill("&a "),
        fill("!"),
        fill("\""),
        fill("'"),
        fill("|\n"),
        fill("a"),
        fill("a "),
        fill("a\n"),
        fill("\t"),
        fill("---\n"),
        fill("- a\n"),
        fill("%a\n"),
        fill("#"),
        fill("a,"),
        format!("[{}", fill("a,")),
        format!("{{{}", fill("a,")),
        format!("a: \"{}", fill("\\n")),
        format!("pattern: {}", fill("x")),
        format!("x-a: {}\npattern: hello\n", fill("x ")),
        format!("x-a: |\n{}", fill(" x\n")),
        fill("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: b\n"),
        numbered(size / 16, "\n"),
        format!("{}{}", "[".repeat(60), fill("a,")),
        // These are within every limit, so that the second parser reads them, too.
        format!("x-a: {}{}{}\npattern: hello\n", "[".repeat(60), "a,".repeat(9_000), "]".repeat(60)),
        format!("x-a: [{}]\npattern: hello\n", format!("{}{},", "[".repeat(60), "]".repeat(60)).repeat(160)),
        format!("x-a: [{}]\npattern: hello\n", format!("{},", "b".repeat(25)).repeat(9_900)),
        format!("x-a: {{{}}}\npattern: hello\n", numbered(4_900, ",")),
        format!("x-a: {}{}{}\npattern: hello\n", "{a: ".repeat(60), "b".repeat(200_000), "}".repeat(60)),
        format!("x-a: [{}]\npattern: hello\n", "{a: [b, c]},".repeat(1_600)),
    ];
    for text in texts {
        let text = &text[..text.len().min(size)];
        let began = thread_time();
        drop(parse_instances(Path::new("a"), text.as_bytes(), Author::Person));
        let took = thread_time().saturating_sub(began);
        assert!(took < std::time::Duration::from_secs(2), "{}…: {took:?}", &text[..20]);
    }
    let large = vec![b' '; size + 1];
    let error = parse_instances(Path::new("a"), &large, Author::Person).expect_err("too large");
    assert!(error.message().contains("more than 262144"), "{error}");
}

/// `count` keys with values, each followed by `end`.
fn numbered(count: usize, end: &str) -> String {
    (0..count).flat_map(|i| ["k".to_owned(), i.to_string(), ": v".to_owned(), end.to_owned()]).collect()
}

/// The processor time of this thread, so that a busy machine does not matter.
fn thread_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below a second"))
}

#[test]
fn the_nearest_word_is_near() {
    let words = ["namespace", "namespaces", "session", "ttl"];
    assert_eq!(nearest("namepace", words), Some("namespace"));
    assert_eq!(nearest("NAMESPACE", words), Some("namespace"));
    assert_eq!(nearest("port", words), None);
    assert_eq!(nearest("tll", words), Some("ttl"));
    assert_eq!(nearest(&"x".repeat(100_000), words), None);
}

const INSTANCE: &str = "# a comment\nx-c: &c { A: 1 }\npattern: hello\nnamespaces: [a, \"b\"]\nconfig:\n  <<: *c\n  \
                        url: |\n    x\n    y\nslots: { s: { url: 'p' } }\nstate: running\n---\npattern: other\n";

fn never_panics(bytes: &[u8]) {
    let folder = Path::new("/patterns/hello");
    for error in [
        parse_instances(Path::new("a.yaml"), bytes, Author::Person).err(),
        parse_manifest(Path::new("manifest.yaml"), folder, bytes).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(error.context_value("line").is_some(), "{error}");
        assert!(matches!(
            error.code(),
            Code::InvalidInstance
                | Code::InvalidManifest
                | Code::MissingNamespace
                | Code::MissingSessionId
                | Code::InvalidIsolationLevel
        ));
    }
}

#[test]
fn no_prefix_of_a_valid_file_panics() {
    for end in 0..=INSTANCE.len() {
        never_panics(&INSTANCE.as_bytes()[..end]);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        never_panics(&bytes);
    }

    #[test]
    fn nothing_made_of_yaml_panics(parts in proptest::collection::vec(
        proptest::sample::select(vec![
            "pattern", ":", " ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&a", "*a", "<<", "|", ">", "'", "\"", "#",
            "---", "...", "!", "!!str", "? ", "%", "~", "null", "config", "x-a", "name", "1", "\t", "\r", "\u{feff}", "ä",
            "\u{2028}", "\0", "\\",
        ]), 0..40)) {
        never_panics(parts.concat().as_bytes());
    }

    #[test]
    fn no_change_of_one_byte_panics(at in 0..INSTANCE.len(), byte in any::<u8>()) {
        let mut bytes = INSTANCE.as_bytes().to_vec();
        bytes[at] = byte;
        never_panics(&bytes);
    }
}
