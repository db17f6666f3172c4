//! A real Prometheus server beside a daemon.

use crate::world::command::program;
use crate::world::wait::SOON;
use crate::world::{World, http, wait_for, within};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A server that scrapes a world's daemon five times a second. Dropping it ends it.
pub(super) struct Server {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts one with the given alerts, and waits until it answers.
    pub(super) fn start(tools: &Path, world: &World, rules: &Path) -> Self {
        let (root, port) = (world.root(), world.ports().beside());
        let configuration = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }}\n\
             rule_files: [{}]\n\
             scrape_configs:\n  - job_name: pattern-launcher\n    static_configs: [{{ targets: ['127.0.0.1:{}'] }}]\n",
            rules.display(),
            world.ports().http()
        );
        let path = root.join("prometheus.yml");
        fs::write(&path, configuration).unwrap();
        let log = root.join("prometheus.log");
        let file = File::create(&log).unwrap();
        let child = program(tools.join("prometheus"))
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", root.join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(&root)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut server = Self { child, port, log };
        wait_for("Prometheus is ready", || {
            assert!(server.child.try_wait().unwrap().is_none(), "Prometheus ended: {}", server.said());
            http::get(port, "/-/ready").filter(|(status, _)| *status == 200)
        });
        server
    }

    /// The value of a query that has one; `None` when it has none now.
    pub(super) fn ask(&self, query: &str) -> Option<f64> {
        let mut encoded = String::new();
        for byte in query.bytes() {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        let (status, body) = http::get(self.port, &format!("/api/v1/query?query={encoded}"))?;
        assert_eq!(status, 200, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{query}: {e}: {body}"));
        let results = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {body}"));
        assert!(results.len() <= 1, "{query} has several values: {body}");
        results.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Waits until a query has this value.
    pub(super) fn comes_to(&self, query: &str, expected: f64) {
        let mut last = None;
        let came = within(SOON, || {
            last = self.ask(query);
            last.is_some_and(|value| (value - expected).abs() < 1e-9)
        });
        assert!(came, "{query} does not come to {expected}; it is {last:?}");
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("what Prometheus said:\n{}", self.said());
        }
    }
}
