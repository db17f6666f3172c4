//! Limits are in force as the kernel says, in v2 or v1, whatever the machine has; what takes too much is stopped by them,
//! and nothing of them is left.

use crate::world::{Program, RUNGS, World, example_program, free_ports, lives, output, wait_for};
use pattern_launcher::act::{CgroupChoice, Tracking};
use pattern_launcher::error::Code;
use pattern_launcher::model::{
    Ceiling, Ceilings, Limit, LimitsEffective, OomKill, OomPolicy, Resources, RunId, Unenforced,
};
use pattern_launcher::observed::{Event, Fault, RestoredRun};
use pattern_launcher::plan::Effect;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn limits() -> Resources {
    Resources {
        cpu_limit_millis: Some(500),
        cpu_request_millis: Some(250),
        memory_limit: Some(64 * MIB),
        memory_request: None,
        pids_limit: Some(32),
        oom_policy: None,
    }
}

/// Where the machine has a controller for processes of ours, found without asking the launcher: the folder that a process
/// is in.
fn folder(pid: u32, controller: &str) -> Option<PathBuf> {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mounted = |fits: &dyn Fn(&str, &str) -> bool| {
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields.filter(|fields| fits(fields[2], fields[3])).map(|fields| PathBuf::from(fields[1])).next()
    };
    let v1 = cgroups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|found| found == controller).then_some(path)
    });
    let Some(path) = v1 else {
        let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        return Some(mounted(&|kind, _| kind == "cgroup2")?.join(path));
    };
    let has = |options: &str| options.split(',').any(|option| option == controller);
    Some(mounted(&|kind, options| kind == "cgroup" && has(options))?.join(path.trim_start_matches('/')))
}

/// Whether limits can be tested here; said loudly where they cannot.
fn machine_has_controllers() -> bool {
    let usable = ["cpu", "memory", "pids"].iter().all(|controller| {
        folder(std::process::id(), controller).is_some_and(|own| {
            let v2 = std::fs::read_to_string(own.join("cgroup.controllers"));
            let has = v2.is_ok_and(|all| all.contains(controller)) || !own.join("cgroup.controllers").exists();
            has && rustix::fs::access(&own, rustix::fs::Access::WRITE_OK).is_ok()
        })
    });
    if !usable {
        eprintln!("skipped: this user may not limit cpu, memory and pids on this machine");
    }
    usable
}

/// What a file of the cgroup says that a process is in.
fn kernel(pid: i32, controller: &str, file: &str) -> Option<String> {
    let folder = folder(pid.cast_unsigned(), controller)?;
    std::fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned())
}

fn memory_limit(pid: i32) -> Option<u64> {
    let text = kernel(pid, "memory", "memory.max").or_else(|| kernel(pid, "memory", "memory.limit_in_bytes"))?;
    text.parse().ok().filter(|bytes| *bytes < 1 << 62)
}

fn cpu_quota(pid: i32) -> Option<String> {
    kernel(pid, "cpu", "cpu.max").or_else(|| kernel(pid, "cpu", "cpu.cfs_quota_us"))
}

/// Whether anything of a run is left in any hierarchy.
fn remains(state: &Path, run: RunId) -> Vec<PathBuf> {
    let bases = std::fs::read_to_string(state.join("cgroup-base")).unwrap_or_default();
    let mut folders: Vec<PathBuf> = bases.lines().map(PathBuf::from).collect();
    let mut next = 0;
    while let Some(folder) = folders.get(next) {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let below: Vec<PathBuf> = below.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.extend(below);
        next += 1;
    }
    folders.retain(|folder| folder.to_string_lossy().ends_with(&run.to_string()));
    folders
}

#[tokio::test]
async fn limits_are_in_force_before_anything_runs_and_nothing_of_them_is_left() {
    if !machine_has_controllers() {
        return;
    }
    for rung in &RUNGS {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let program = Program::shell("limited", "sleep 1000").limited(limits());
        let (run, process) = world.held(&program).await;
        let told = world.limits(run, |_| true).await;
        if *rung == CgroupChoice::Off {
            assert_eq!(told.in_force, Resources::default(), "{rung:?}");
            assert_eq!(told.not_enforced.len(), 4, "{told:?}");
            continue;
        }
        assert_eq!(told, LimitsEffective { in_force: limits(), not_enforced: Vec::new() }, "{rung:?}");
        assert_eq!(memory_limit(process.pid), Some(64 * MIB), "{rung:?}");
        assert!(cpu_quota(process.pid).is_some_and(|text| text.starts_with("50000")), "{rung:?}");
        assert_eq!(kernel(process.pid, "pids", "pids.max").as_deref(), Some("32"));
        assert!(!remains(state.path(), run).is_empty());
        world.commit(&program, run, &process);
        assert!(matches!(world.event_of(run).await, Event::Started { .. }));
        world.finish(&program, run, &process).await;
        wait_for("all its cgroups to go", || remains(state.path(), run).is_empty()).await;
        let bases = std::fs::read_to_string(state.path().join("cgroup-base")).unwrap();
        world.host.shutdown().await;
        assert_eq!(bases.lines().filter(|base| Path::new(base).exists()).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn a_run_without_limits_has_no_cgroup_but_that_of_its_tree() {
    let state = tempfile::tempdir().unwrap();
    let Some(mut world) = World::on(state.path(), &CgroupChoice::Auto) else { return };
    if matches!(world.host.tracking(), Tracking::ProcessGroup(_)) {
        return;
    }
    let program = Program::shell("unlimited", "sleep 1000");
    let (run, process) = world.run(&program).await;
    assert_eq!(remains(state.path(), run), [process.cgroup.clone().unwrap()]);
    world.finish(&program, run, &process).await;
}

/// Takes memory once `go` is there.
fn hog(name: &str, go: &Path, limit: u64) -> Program {
    let hog = example_program("memory_hog");
    let script =
        format!("echo up; while ! [ -e {} ]; do sleep 0.02; done; exec {} --mib 256", go.display(), hog.display());
    Program::shell(name, &script).limited(Resources { memory_limit: Some(limit), ..Resources::default() })
}

#[tokio::test]
async fn what_takes_more_memory_than_it_may_is_killed_and_told_to_be() {
    if !machine_has_controllers() {
        return;
    }
    for rung in RUNGS.iter().filter(|rung| **rung != CgroupChoice::Off) {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let go = state.path().join("go");
        std::fs::write(&go, "").unwrap();
        let (run, _) = world.run(&hog("hog", &go, 32 * MIB)).await;
        let Event::Exited { oom: Some(oom), .. } = world.event_of(run).await else { panic!("no OOM: {rung:?}") };
        let OomKill { kills, limit, peak } = oom;
        assert!(kills >= 1 && limit == Some(32 * MIB), "{oom:?}");
        assert!(peak.is_none_or(|peak| peak > 16 * MIB && peak <= 32 * MIB), "{oom:?}");
    }
}

#[tokio::test]
async fn an_instance_of_which_a_part_is_killed_for_want_of_memory_dies_whole() {
    if !machine_has_controllers() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let Some(mut world) = World::on(state.path(), &CgroupChoice::Auto) else { return };
    let script = format!("{} --mib 256 & echo $!; exec sleep 1000", example_program("memory_hog").display());
    let program =
        Program::shell("part", &script).limited(Resources { memory_limit: Some(32 * MIB), ..Resources::default() });
    let (run, process) = world.run(&program).await;
    let Event::Exited { oom: Some(_), .. } = world.event_of(run).await else { panic!("no OOM") };
    assert!(!lives(process.pid));
}

#[tokio::test]
async fn an_instance_that_may_lose_a_part_goes_on_until_it_may_not() {
    if !machine_has_controllers() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let Some(mut world) = World::on(state.path(), &CgroupChoice::Auto) else { return };
    let (hog, again) = (example_program("memory_hog"), state.path().join("again"));
    let part = format!("{} --mib 256 & wait $!; echo lost", hog.display());
    let script = format!("{part}; until [ -e {} ]; do sleep 0.1; done; {part}; exec sleep 1000", again.display());
    let limits = |oom_policy| Resources { memory_limit: Some(32 * MIB), oom_policy, ..Resources::default() };
    let program = Program::shell("part", &script).limited(limits(Some(OomPolicy::Continue)));
    let (run, process) = world.run(&program).await;
    output(state.path(), &program.key, |text| text.contains("lost")).await;
    // A part of what is to die whole is not left for longer than this.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(lives(process.pid));
    let told = world.limits(run, |_| true).await;
    assert_eq!(told.in_force.oom_policy, Some(OomPolicy::Continue));
    world.host.carry_out(Effect::Limit { key: program.key.clone(), run, resources: limits(None) });
    let told = world.limits(run, |told| told.in_force.oom_policy.is_none()).await;
    assert_eq!(told.in_force.memory_limit, Some(32 * MIB));
    std::fs::write(again, "").unwrap();
    let Event::Exited { oom: Some(_), .. } = world.event_of(run).await else { panic!("no OOM") };
    assert!(!lives(process.pid));
}

/// Takes the memory cgroup of a run away once its limit is set, and before anybody is in it. False where it was too late.
fn taken_away(state: &Path, run: RunId, limit: u64) -> bool {
    let limit = limit.to_string();
    let is_set = |folder: &PathBuf| {
        let said = |file| std::fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim() == limit);
        said("memory.max") || said("memory.limit_in_bytes")
    };
    for _ in 0..100_000 {
        if let Some(folder) = remains(state, run).into_iter().find(is_set) {
            // What is in force is read back after that.
            std::thread::park_timeout(Duration::from_micros(300));
            return std::fs::remove_dir(folder).is_ok();
        }
    }
    panic!("its limit was never set");
}

#[tokio::test]
async fn what_could_not_join_the_group_that_was_made_for_it_is_told_to_be_unlimited_or_is_not_started() {
    if !machine_has_controllers() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let Some(mut world) = World::on(state.path(), &CgroupChoice::Auto) else { return };
    let limited = Resources { memory_limit: Some(32 * MIB), ..Resources::default() };
    let program = Program::shell("alone", "sleep 1000").limited(limited);
    for unenforced in [Unenforced::Report, Unenforced::Refuse] {
        let mut tries = 0..100;
        loop {
            assert!(tries.next().is_some(), "it always joins in time");
            let run = world.prepare_if(&program, free_ports(), unenforced);
            let place = state.path().to_owned();
            let taken = tokio::task::spawn_blocking(move || taken_away(&place, run, 32 * MIB)).await.unwrap();
            match (world.event_of(run).await, unenforced) {
                (Event::Prepared { .. }, Unenforced::Report) if taken => {
                    let told = world.limits(run, |_| true).await;
                    assert_eq!(told.in_force, Resources::default());
                    assert_eq!(told.not_enforced.len(), 1, "{told:?}");
                    break;
                }
                (Event::StartFailed { error, .. }, Unenforced::Refuse) if taken => {
                    assert_eq!(error.code(), Code::InvalidConfiguration, "{error}");
                    break;
                }
                (Event::Prepared { .. }, _) if !taken => {
                    world.host.carry_out(Effect::Discard { key: program.key.clone(), run });
                    assert!(matches!(world.event_of(run).await, Event::StartFailed { .. }));
                }
                (other, _) => panic!("{taken}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_fork_bomb_is_stopped_at_its_limit() {
    if !machine_has_controllers() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let Some(mut world) = World::on(state.path(), &CgroupChoice::Auto) else { return };
    // Bounded by itself as well. What cannot be forked ends the inner shell.
    let script =
        "(i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i + 1)); done); echo stopped; exec tail -f /dev/null";
    let program = Program::shell("bomb", script).limited(Resources { pids_limit: Some(16), ..Resources::default() });
    let (run, process) = world.run(&program).await;
    output(state.path(), &program.key, |text| text.contains("stopped")).await;
    let running: u64 = kernel(process.pid, "pids", "pids.current").unwrap().parse().unwrap();
    assert!((2..=16).contains(&running), "{running}");
    let events = kernel(process.pid, "pids", "pids.events").unwrap();
    assert!(!events.contains("max 0"), "it was never stopped: {events}");
    world.finish(&program, run, &process).await;
}

#[tokio::test]
async fn what_burns_more_cpu_time_than_it_may_is_throttled() {
    if !machine_has_controllers() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let Some(mut world) = World::on(state.path(), &CgroupChoice::Auto) else { return };
    let program = Program::shell("burner", "while :; do :; done")
        .limited(Resources { cpu_limit_millis: Some(50), ..Resources::default() });
    let (run, process) = world.run(&program).await;
    wait_for("it to be throttled", || {
        let stat = kernel(process.pid, "cpu", "cpu.stat").unwrap_or_default();
        stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).is_some_and(|times| times != "0")
    })
    .await;
    world.finish(&program, run, &process).await;
}

#[tokio::test]
async fn limits_are_changed_while_it_runs() {
    if !machine_has_controllers() {
        return;
    }
    for rung in RUNGS.iter().filter(|rung| **rung != CgroupChoice::Off) {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let program = Program::shell("changed", "sleep 1000")
            .limited(Resources { memory_limit: Some(64 * MIB), ..Resources::default() });
        let (run, process) = world.run(&program).await;
        let mut change = |resources: Resources| {
            world.host.carry_out(Effect::Limit { key: program.key.clone(), run, resources });
        };
        // Both ways: in v1 the order of two files depends on it.
        for mib in [128, 48] {
            change(Resources { memory_limit: Some(mib * MIB), ..Resources::default() });
            wait_for("the kernel to hold it", || memory_limit(process.pid) == Some(mib * MIB)).await;
        }
        change(Resources { memory_limit: Some(48 * MIB), pids_limit: Some(9), ..Resources::default() });
        let last = |told: &LimitsEffective| told.in_force.pids_limit.is_some() || !told.not_enforced.is_empty();
        let told = world.limits(run, last).await;
        assert_eq!(told.in_force.memory_limit, Some(48 * MIB));
        // Where it needs a cgroup that it was not started in it waits for the next start, and says so.
        let pids = kernel(process.pid, "pids", "pids.max");
        match told.not_enforced.as_slice() {
            [] => assert_eq!(pids.as_deref(), Some("9")),
            [missing] => {
                assert!(missing.limit == Limit::PidsLimit && missing.reason.contains("started anew"), "{missing:?}");
                assert_ne!(pids.as_deref(), Some("9"));
            }
            more => panic!("{more:?}"),
        }
        world.host.carry_out(Effect::Limit { key: program.key.clone(), run, resources: Resources::default() });
        wait_for("the kernel to hold none", || memory_limit(process.pid).is_none()).await;
        world.finish(&program, run, &process).await;
    }
}

#[tokio::test]
async fn limits_stand_after_an_adoption_and_what_dies_of_them_is_told() {
    if !machine_has_controllers() {
        return;
    }
    for rung in RUNGS.iter().filter(|rung| **rung != CgroupChoice::Off) {
        let state = tempfile::tempdir().unwrap();
        let Some(mut first) = World::on(state.path(), rung) else { continue };
        let (now, later) = (state.path().join("now"), state.path().join("later"));
        let (alive, dead) = (hog("alive", &later, 32 * MIB), hog("dead", &now, 32 * MIB));
        let (run, process) = first.run(&alive).await;
        let (gone, died) = first.run(&dead).await;
        first.host.shutdown().await;
        // It dies while nobody looks.
        std::fs::write(&now, "").unwrap();
        wait_for("its end", || !lives(died.pid)).await;

        let mut world = World::start(state.path(), rung.clone());
        let restored = world.restore().await;
        let ended = restored.iter().find_map(|run| match run {
            RestoredRun::Ended { record, oom, .. } => Some((record.run, *oom)),
            _ => None,
        });
        let Some((found, Some(oom))) = ended else { panic!("{rung:?} {restored:?}") };
        assert!(found == gone && oom.limit == Some(32 * MIB), "{oom:?}");
        let told = world.limits(run, |_| true).await;
        assert_eq!(told.in_force.memory_limit, Some(32 * MIB), "{rung:?}");
        assert_eq!(memory_limit(process.pid), Some(32 * MIB), "{rung:?}");
        std::fs::write(&later, "").unwrap();
        let Event::Exited { oom: Some(_), .. } = world.event_of(run).await else { panic!("no OOM: {rung:?}") };
        for (program, run) in [(&alive, run), (&dead, gone)] {
            world.kill(program, run);
            world.drop_run(program, run);
            wait_for("all its cgroups to go", || remains(state.path(), run).is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a_namespace_is_held_to_its_ceiling_whatever_its_instances_may() {
    if !machine_has_controllers() {
        return;
    }
    for rung in RUNGS.iter().filter(|rung| **rung != CgroupChoice::Off) {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let ceilings =
            |memory| Ceilings { usual: Ceiling { memory: Some(memory), ..Ceiling::default() }, ..Ceilings::default() };
        world.host.carry_out(Effect::HoldTo(ceilings(64 * MIB)));
        let script = format!("sleep 1000 & exec {} --mib 256", example_program("memory_hog").display());
        let (quiet, hog) = (Program::shell("quiet", "sleep 1000").of("t"), Program::shell("hog", &script).of("t"));
        let group = |pid: i32| folder(pid.cast_unsigned(), "memory").unwrap().parent().unwrap().to_owned();
        let held = |group: &Path| {
            let text = std::fs::read_to_string(group.join("memory.max"));
            let text = text.or_else(|_| std::fs::read_to_string(group.join("memory.limit_in_bytes"))).unwrap();
            text.trim().parse::<u64>().ok()
        };
        let (run, process) = world.run(&quiet).await;
        let group = group(process.pid);
        assert!(group.ends_with("namespace.t"), "{rung:?}: {}", group.display());
        assert_eq!(held(&group), Some(64 * MIB), "{rung:?}");
        assert_eq!(memory_limit(process.pid), None, "it has no limit of its own");
        let (killed, _) = world.run(&hog).await;
        let Event::Exited { oom: Some(oom), .. } = world.event_of(killed).await else { panic!("no OOM: {rung:?}") };
        assert_eq!(oom.limit, None, "it was not its own");
        assert!(lives(process.pid), "one instance is not killed for another");
        world.host.carry_out(Effect::HoldTo(ceilings(128 * MIB)));
        wait_for("the kernel to hold what is changed", || held(&group) == Some(128 * MIB)).await;
        world.finish(&quiet, run, &process).await;
    }
}

#[tokio::test]
async fn an_instance_whose_written_limit_cannot_be_enforced_is_not_started_where_that_is_asked_for() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Off);
    let program =
        Program::shell("refused", "sleep 1000").limited(Resources { memory_limit: Some(MIB), ..Resources::default() });
    let run = world.prepare_if(&program, free_ports(), Unenforced::Refuse);
    let Event::StartFailed { error, fault, .. } = world.event_of(run).await else { panic!("it was started") };
    assert_eq!((error.code(), fault), (Code::InvalidConfiguration, Fault::Instance));
    assert!(error.to_string().contains("memory_limit"), "{error}");

    // One that nobody wrote is only told of.
    let mut instance = pattern_launcher::model::Instance::clone(&program.instance);
    instance.defaulted = vec![Limit::MemoryLimit];
    let program = Program { key: program.key.clone(), instance: instance.into() };
    let run = world.prepare_if(&program, free_ports(), Unenforced::Refuse);
    assert!(matches!(world.event_of(run).await, Event::Prepared { .. }));
    assert_eq!(world.limits(run, |_| true).await.not_enforced.len(), 1);
}
