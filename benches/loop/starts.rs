//! What each part of a start costs, and what the size of the launcher costs it.

use crate::measure::{StartLog, drops, log_of, monotonic};
use crate::table::Table;
use crate::{floor, world_of_sleepers};
use pattern_launcher::config::OnExit;
use pattern_launcher::{LaunchSpec, Launcher};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// How often each is started, one after the other.
const STARTS: usize = 60;
/// How many are started at once where the rate counts.
const AT_ONCE: usize = 200;
/// How large the launcher is made; it is about 20 MB without.
const LARGE: usize = 480 << 20;
/// What is written to each page of that.
const PAGE: usize = 4_096;

/// How a process is started: what it is called in the table, its flags, more of its file, and more of its manifest.
type Way = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

const UNTRACKED: &[(&str, &str)] = &[("--cgroup", "off"), ("--tenant-users", "false")];
const TRACKED: &[(&str, &str)] = &[("--tenant-users", "false")];
const LIMITED: &[(&str, &str)] =
    &[("--tenant-users", "false"), ("--cpu-limit", "2"), ("--memory-limit", "1Gi"), ("--pids-limit", "512")];
const WITH_USERS: &[(&str, &str)] = &[("--tenant-users", "true")];
const WHOLE: &[(&str, &str)] =
    &[("--tenant-users", "true"), ("--cpu-limit", "2"), ("--memory-limit", "1Gi"), ("--pids-limit", "512")];
const BARE: &str = "protection: { no_new_privileges: false, no_core_dumps: false, killed_first: false }";

/// Each beside the one that it adds a part to.
const WAYS: [Way; 8] = [
    ("level none, no cgroup, no protection", UNTRACKED, "isolation: none", BARE),
    ("level none, no cgroup", UNTRACKED, "isolation: none", ""),
    ("level none", TRACKED, "isolation: none", ""),
    ("level namespace", TRACKED, "namespace: n@", ""),
    ("level session", TRACKED, "isolation: session, namespace: n, session: s@", ""),
    ("level namespace, three limits", LIMITED, "namespace: n@", ""),
    ("level namespace, a user of its own", WITH_USERS, "namespace: n@", ""),
    ("level namespace, limits and user", WHOLE, "namespace: n@", ""),
];

/// Measures everything about starts.
pub(crate) fn measure(table: &mut Table, folder: &Path) {
    let bare = table.samples("posix_spawn, one process, call to running", floor::one_by_one(folder, STARTS));
    for (what, flags, instance, manifest) in WAYS {
        let took = table.samples(&format!("drop to running, {what}"), started(folder, flags, instance, manifest));
        table.ratio(took, bare);
    }
    sized(table, folder, "as it is");
    let mut ballast = vec![0_u8; LARGE];
    ballast.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    let ballast = std::hint::black_box(ballast);
    sized(table, folder, "with 480 MiB more");
    drop(ballast);
}

/// The times from the rename of a file into the desired folder until its process runs. Each is of a pattern of its own,
/// since an instance without a tenant has to be, and the levels are to be compared.
fn started(folder: &Path, flags: &[(&str, &str)], instance: &str, manifest: &str) -> Vec<Duration> {
    let world = world_of_sleepers(folder, STARTS);
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o711)).unwrap();
    let log = StartLog::new(log_of(&world));
    fs::set_permissions(log.path(), fs::Permissions::from_mode(0o666)).unwrap();
    for n in 0..STARTS {
        let args = format!("args: [\"--log\", \"{}\"]\n{manifest}", log.path().display());
        world.pattern(&format!("sleeper{n}"), "sleeper", &args);
    }
    let launch = world.launch().flag("--log-level", "warn");
    let daemon = flags.iter().fold(launch, |launch, (name, value)| launch.flag(name, *value)).start();
    let times = drops(&world, &daemon, &log, STARTS, |n| {
        format!("{{pattern: sleeper{n}, {}}}\n", instance.replace('@', &n.to_string()))
    });
    assert!(daemon.stop().success());
    times
}

/// Starts by a launcher that is this program, of whatever size it is.
fn sized(table: &mut Table, folder: &Path, size: &str) {
    let bare = floor::one_by_one(folder, STARTS);
    let bare = table.samples(&format!("posix_spawn, call to running, by a program {size}"), bare);
    let forked = table.samples(&format!("fork alone, by a program {size}"), (0..STARTS).map(|_| fork()).collect());
    table.ratio(forked, bare);
    let world = world_of_sleepers(folder, STARTS + AT_ONCE);
    let log = StartLog::new(log_of(&world));
    Runtime::new().unwrap().block_on(async {
        let builder = Launcher::builder().patterns_dir(world.patterns()).desired_dir(world.desired());
        let launcher = Arc::new(builder.state_dir(world.state()).on_exit(OnExit::Terminate).build().await.unwrap());
        let mut times = Vec::new();
        for n in 0..STARTS {
            let begun = monotonic();
            launcher.launch(LaunchSpec::new("sleeper").namespace(format!("n{n}"))).await.unwrap();
            times.push(log.wait(n + 1).saturating_sub(begun));
        }
        let launched = table.samples(&format!("launch, call to running, by a launcher {size}"), times);
        table.ratio(launched, bare);
        let begun = monotonic();
        let mut launches = JoinSet::new();
        for n in 0..AT_ONCE {
            let launcher = Arc::clone(&launcher);
            let spec = LaunchSpec::new("sleeper").namespace(format!("m{n}"));
            launches.spawn(async move { launcher.launch(spec).await.map(drop) });
        }
        launches.join_all().await.into_iter().collect::<Result<(), _>>().unwrap();
        let each = log.wait(STARTS + AT_ONCE).saturating_sub(begun) / u32::try_from(AT_ONCE).unwrap();
        table.samples(&format!("each of {AT_ONCE} launches at once, by a launcher {size}"), vec![each]);
        table.ratio(each, bare);
        Arc::into_inner(launcher).unwrap().shutdown(Duration::from_secs(60)).await.unwrap();
    });
}

/// How long a fork of this program takes: what a launcher would pay that starts its processes so.
#[expect(unsafe_code, reason = "what the launcher is compared with")]
fn fork() -> Duration {
    let begun = monotonic();
    // SAFETY: the child ends at once, and touches nothing before.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it ends this process and returns nowhere.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "no fork");
    // SAFETY: the child is ours, and nobody else waits for it.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    monotonic().saturating_sub(begun)
}
