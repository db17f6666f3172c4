//! What processes have used is told to the end, also of one that lives for less than the time between two readings.

use crate::world::{Daemon, World, wait_for};
use pattern_launcher::model::ProcessState;
use std::fs;

/// CPU time of a process id, in seconds, as it is told.
fn told(daemon: &Daemon, id: &str) -> f64 {
    let (_, text) = daemon.get("/metrics").unwrap();
    let name = format!("pattern_launcher_process_cpu_seconds_total{{process_id=\"{id}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(name.as_str())).map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn the_cpu_time_of_a_process_that_has_ended_is_told_whole_with_a_cgroup_and_without() {
    for cgroup in ["auto", "off"] {
        let world = World::new();
        let folder = world.patterns().join("burner");
        fs::create_dir(&folder).unwrap();
        // A shell says itself what it has used: `times` prints its user and system time first.
        let burn = "i=0; while [ $$i -lt 300000 ]; do i=$$((i+1)); done; times > used.tmp; mv used.tmp used";
        let manifest = "name: burner\nversion: 1.0.0\nexecutable: /bin/sh\nlifecycle: { restart: never }\n";
        world.put(&folder.join("manifest.yaml"), &format!("{manifest}args: [\"-c\", \"{burn}\"]\n"));
        world.desire("a.yaml", "pattern: burner\nisolation: none\n");
        let launch = world.launch();
        let daemon = if cgroup == "off" { launch.flag("--cgroup", cgroup).start() } else { launch.start() };
        daemon.wait("it has ended", |status| {
            (status.state("shared:burner") == Some(ProcessState::Finished)).then_some(())
        });
        let used = fs::read_to_string(folder.join("used")).unwrap();
        let seconds = |time: &str| {
            let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
            minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
        };
        let own: f64 = used.lines().next().unwrap().split_whitespace().map(seconds).sum();
        assert!(own > 0.05, "it has done nothing: {used}");
        // Once its cgroup is removed. The kernel counts in hundredths of a second without one.
        wait_for(&format!("{own} s are told, cgroup {cgroup}"), || {
            (told(&daemon, "shared:burner") >= own - 0.03).then_some(())
        });
    }
}
