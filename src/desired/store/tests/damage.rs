//! A launcher that dies at any step, and a launch directory that cannot be written.

use super::*;
use crate::desired::pitfalls::world::is_root;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_launcher_that_dies_before_the_rename_has_launched_nothing_and_leaves_nothing() {
    let mut bench = Bench::new();
    bench.pass.writer.dies_after = Some(Step::Synced);
    bench.launch(spec("a")).expect_err("dead");
    assert_eq!(bench.names(), [".launch-1.draft"], "what a dead launcher leaves");
    fs::write(bench.launched().join(".launch-x.yaml"), "kept").expect("written");
    let mut bench = bench.restarted();
    assert!(bench.settle().running.is_empty());
    assert_eq!(bench.names(), [".launch-x.yaml"], "only what is ours by its name is removed");
}

#[test]
fn a_launcher_that_dies_after_the_rename_has_launched_all_of_it() {
    let mut bench = Bench::new();
    bench.pass.writer.dies_after = Some(Step::Named);
    bench.launch(with_config(spec("a"), "1")).expect_err("dead");
    let mut bench = bench.restarted();
    bench.settle();
    assert_eq!((bench.config("ns:a:p", "X"), bench.names().len()), (Some("1"), 1));
}

#[test]
fn a_draft_of_a_dead_launcher_is_passed_by() {
    let mut bench = Bench::new();
    fs::write(bench.launched().join(".launch-1.draft"), "left").expect("written");
    bench.launch(spec("a")).expect("launched");
    assert_eq!(bench.keys(), ["ns:a:p"]);
}

/// The error of a launch into a folder that `harm` has been done to.
fn refused(harm: impl FnOnce(&Path)) -> (Bench, Error) {
    let mut bench = Bench::new();
    bench.launch(spec("there")).expect("launched");
    harm(&bench.launched());
    let error = bench.launch(spec("a")).expect_err("refused");
    assert_eq!(error.code(), Code::StoreUnavailable, "{error}");
    assert!(error.suggestion().is_some_and(|text| text.contains("--launch-dir")), "{error}");
    assert!(!bench.launch(spec("there")).expect("what is declared goes on").created);
    assert_eq!(bench.keys(), ["ns:there:p"]);
    (bench, error)
}

#[test]
fn a_launch_directory_that_has_disappeared_is_not_made_again() {
    let (bench, error) = refused(|folder| fs::rename(folder, folder.with_file_name("away")).expect("moved"));
    assert!(!bench.launched().exists());
    assert!(error.to_string().contains("mkdir"), "{error}");
}

#[test]
fn a_launch_directory_that_is_suddenly_empty_and_another_is_not_written() {
    let (mut bench, error) = refused(|folder| {
        fs::rename(folder, folder.with_file_name(".away")).expect("moved");
        fs::create_dir(folder).expect("a bare mount point");
    });
    assert!(error.to_string().contains("not mounted"), "{error}");
    bench.settle();
    let error = bench.launch(spec("a")).expect_err("refused");
    let (_, token) = error.suggestion().and_then(|text| text.split_once("confirm-prune ")).expect("it says how");
    assert!(token.split(',').next().is_some_and(|token| token.len() > 8 && !token.contains(' ')), "{error}");
    fs::remove_dir(bench.launched()).expect("removed");
    fs::rename(bench.launched().with_file_name(".away"), bench.launched()).expect("mounted");
    assert!(bench.launch(spec("a")).expect("launched").created);
    assert_eq!(bench.settle().keys(), ["ns:a:p", "ns:there:p"]);
}

#[test]
fn a_launch_directory_without_write_permission_says_so() {
    if is_root("nothing") {
        eprintln!("skipped: root may write anywhere");
        return;
    }
    let (bench, error) =
        refused(|folder| fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).expect("read-only"));
    assert!(error.to_string().contains("ls -ld"), "{error}");
    fs::set_permissions(bench.launched(), fs::Permissions::from_mode(0o700)).expect("writable");
}

/// A small file system of its own, unmounted in the end.
struct Mounted(PathBuf);

impl Mounted {
    fn at(folder: &Path) -> Option<Self> {
        let place = folder.as_os_str();
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs"].map(OsStr::new), place);
        if !mounted {
            eprintln!("skipped: nothing can be mounted here");
        }
        mounted.then(|| Self(folder.to_path_buf()))
    }

    fn make_read_only(&self) {
        assert!(run("mount", &["-o", "remount,ro"].map(OsStr::new), self.0.as_os_str()), "remounted");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(run("umount", &[OsStr::new("-l")], self.0.as_os_str()), "{} stays mounted", self.0.display());
    }
}

#[expect(clippy::disallowed_methods, reason = "mounting is a matter of the machine's own programs")]
fn run(program: &str, arguments: &[&OsStr], place: &OsStr) -> bool {
    std::process::Command::new(program).args(arguments).arg(place).status().is_ok_and(|status| status.success())
}

fn on_a_small_disk() -> Option<(Bench, Mounted)> {
    if !is_root("a full disk") {
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_patterns(&folder.path().join("patterns"));
    let launched = folder.path().join("desired/launched");
    fs::create_dir_all(&launched).expect("roots");
    let mounted = Mounted::at(&launched)?;
    Some((Bench::over(folder, &[]), mounted))
}

#[test]
fn a_full_disk_stops_launches_and_nothing_else() {
    let Some((mut bench, _mounted)) = on_a_small_disk() else { return };
    bench.launch(spec("there")).expect("launched");
    let error = bench.launch(with_config(spec("a"), &"x".repeat(100_000))).expect_err("full");
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(error.suggestion().is_some_and(|text| text.contains("df -h") && text.contains("--launch-dir")), "{error}");
    assert_eq!(bench.names().len(), 1, "nothing half-written stays");
    let (large, refused) = launch(with_config(spec("b"), &"x".repeat(100_000)));
    let (small, told) = launch(spec("c"));
    bench.write(vec![large, small]);
    refused.get().expect_err("full");
    assert!(told.get().expect("one that fails takes no other with it").created);
    bench.remove("ns:there:p").expect("removed");
    assert_eq!(bench.settle().keys(), ["ns:c:p"]);
}

#[test]
fn a_read_only_disk_says_how_to_go_on() {
    let Some((mut bench, mounted)) = on_a_small_disk() else { return };
    bench.launch(spec("a")).expect("launched");
    mounted.make_read_only();
    let error = bench.launch(spec("b")).expect_err("read-only");
    assert!(error.to_string().contains("findmnt") && error.to_string().contains("--launch-dir"), "{error}");
    let error = bench.remove("ns:a:p").expect_err("read-only");
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert_eq!(bench.settle().keys(), ["ns:a:p"]);
}

#[test]
fn a_file_in_the_way_is_not_written_over() {
    let mut bench = Bench::new();
    fs::write(bench.file("ns:a:p"), "pattern: [").expect("written");
    let error = bench.launch(spec("a")).expect_err("in the way");
    assert_eq!(error.code(), Code::DeclaredByFile);
    let text = error.to_string();
    assert!(text.contains(&*bench.file("ns:a:p").to_string_lossy()) && error.suggestion().is_some(), "{text}");
    assert_eq!(fs::read_to_string(bench.file("ns:a:p")).expect("text"), "pattern: [");
    fs::write(bench.file("ns:a:p"), "pattern: p\nisolation: namespace\nnamespace: a\n").expect("corrected");
    assert!(!bench.launch(spec("a")).expect("it is declared").created);
}
