//! No further process may be made.

use super::put_off;
use crate::world::api::Client;
use crate::world::processes::spawner_of;
use crate::world::{World, alive, holds_for, signal, within};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cgroup that bounds how many processes there are in it. Dropping it lets what is in it go.
struct Bounded(PathBuf);

impl Bounded {
    /// Makes one, and takes a launcher and its spawner in, with all that they start from now on; `None`, said loudly, where
    /// the machine has no v1 hierarchy for it that can be written.
    fn around(launcher: i32) -> Option<Self> {
        let path = Path::new("/sys/fs/cgroup/pids").join(format!("launcher-e2e-{launcher}"));
        if let Err(error) = fs::create_dir(&path) {
            eprintln!("skipped: no cgroup that bounds processes can be made ({error})");
            return None;
        }
        let bounded = Self(path);
        for pid in [launcher, spawner_of(launcher).unwrap()] {
            fs::write(bounded.0.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        Some(bounded)
    }

    /// Those that are there stay, and no thread and no process is made any more.
    fn close(&self) {
        fs::write(self.0.join("pids.max"), "0").unwrap();
    }

    fn open(&self) {
        fs::write(self.0.join("pids.max"), "max").unwrap();
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        let gone = within(Duration::from_secs(5), || {
            for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
                // It may have ended meanwhile.
                drop(fs::write("/sys/fs/cgroup/pids/cgroup.procs", pid));
            }
            fs::remove_dir(&self.0).is_ok()
        });
        if !gone {
            eprintln!("{} cannot be removed", self.0.display());
        }
    }
}

#[test]
fn a_launcher_that_may_make_no_process_ends_nothing_and_starts_what_waits_once_it_may() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 100ms }");
    world.pattern(
        "asked",
        "sleeper",
        "healthcheck: { type: exec, command: ['true'], interval: 100ms, failure_threshold: 1 }",
    );
    world.pattern("sleeper", "sleeper", "");
    // A service that makes a thread for each connection is not what is to be out of them.
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world.launch().flag("--backoff-period", "50ms").start();
    daemon.all_settled(1);
    let Some(bounded) = Bounded::around(daemon.pid()) else { return };
    for (file, pattern) in [("b.yaml", "asked"), ("c.yaml", "sleeper")] {
        world.desire(file, &format!("pattern: {pattern}\nnamespace: a\n"));
    }
    let all = daemon.all_settled(3);
    let [hello, asked, sleeper] =
        ["hello", "asked", "sleeper"].map(|name| all.settled(&format!("ns:a:{name}")).unwrap());
    let client = Client::of(&world);

    bounded.close();
    signal(sleeper, "KILL");
    world.desire("d.yaml", "pattern: sleeper\nnamespace: d\n");
    for id in ["ns:a:sleeper", "ns:d:sleeper"] {
        put_off(&client, id, "Resource temporarily unavailable");
        put_off(&client, id, "pids.max");
    }
    holds_for(Duration::from_secs(6), "what runs is left alone", || {
        assert_eq!(client.status("ns:d:sleeper").unwrap().error_count, 0);
        for name in ["hello", "asked"] {
            let info = client.status(&format!("ns:a:{name}")).unwrap();
            assert!(info.healthy && info.error_count == 0, "{info:?}");
        }
        alive(hello) && alive(asked)
    });
    // Not even the one that makes the others can be replaced.
    signal(spawner_of(daemon.pid()).unwrap(), "KILL");
    put_off(&client, "ns:d:sleeper", "pids.max");

    bounded.open();
    let all = daemon.all_settled(4);
    assert_eq!((all.settled("ns:a:hello"), all.settled("ns:a:asked")), (Some(hello), Some(asked)));
    for key in &all.instances {
        let crashes = u32::from(key.process_id.as_str() == "ns:a:sleeper");
        assert_eq!((key.error_count, key.restart_count, key.circuit_open), (crashes, crashes, false), "{key:?}");
    }
}
