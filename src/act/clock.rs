//! The one place that reads clocks.

use crate::error::{Code, Error, Result};
use crate::model::{BootId, Moment};
use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

static BOOT: OnceLock<BootId> = OnceLock::new();

/// Which boot this is; read once. Fails when `/proc` is not mounted, in which case nothing else here can work.
pub fn boot() -> Result<BootId> {
    if let Some(boot) = BOOT.get() {
        return Ok(*boot);
    }
    let unreadable = |cause: String| {
        Error::new(Code::InternalError, "The kernel's boot id cannot be read")
            .with("file", BOOT_ID)
            .because(cause)
            .suggest(format!("mount -t proc proc /proc, then check that {BOOT_ID} can be read"))
    };
    let text = std::fs::read_to_string(BOOT_ID).map_err(|e| unreadable(e.to_string()))?;
    let boot = text.parse().map_err(|e: uuid::Error| unreadable(e.to_string()))?;
    Ok(*BOOT.get_or_init(|| boot))
}

/// Time since boot, sleep included, of this boot. [`boot`] must have succeeded before, which starting the host sees to;
/// without it the moment belongs to no boot and so counts as past everywhere.
pub fn now() -> Moment {
    let boot = boot().unwrap_or(BootId::from_u128(0));
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Moment::new(boot, Duration::new(seconds, nanos))
}

/// The wall clock, for logs and the status file only: it steps, so nothing is decided by it.
pub fn wall() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back_and_knows_its_boot() {
        let before = now();
        let after = now();
        assert!(after.reached(before));
        assert_eq!(before.boot, boot().expect("a boot id"));
    }
}
