//! The check that no other launcher is at work here, before anything is begun.

use super::store_settings;
use crate::act::{Host, RootLocks};
use crate::config::Config;
use crate::desired::root::RootLock as _;
use crate::error::{Code, Error, Result};
use std::time::Duration;

/// How long a launcher of this program is given to let go of its roots and cgroups, in hundredths of a second: it may be within a
/// look at a large one.
const LETTING_GO: u32 = 200;

/// Refuses to begin beside a launcher that reads one of the same roots, in another program or in this one. The locks
/// are only tried here: the store holds them, since the folder behind a root's path may change at any time.
pub(super) async fn refuse_held(config: &Config) -> Result<()> {
    for root in store_settings(config, None).roots {
        let held = patiently(|| RootLocks.hold(&root.path).map(drop)).await;
        // One that is not there yet, or cannot be read, is the store's to report and to look at again.
        if let Err(error) = held
            && matches!(error.code(), Code::AlreadyRunning | Code::InvalidConfiguration)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Keeps others away from the cgroups of the state folder, or refuses to begin beside one that does.
pub(super) async fn hold_cgroups(host: &mut Host) -> Result<()> {
    patiently(|| host.hold_cgroups()).await
}

/// Tries again while a launcher of this program that has just been shut down is about to let go.
async fn patiently(mut hold: impl FnMut() -> Result<()>) -> Result<()> {
    let is_own = |error: &Error| error.code() == Code::InvalidConfiguration;
    let mut tries = LETTING_GO;
    loop {
        match hold() {
            Err(error) if is_own(&error) && tries > 0 => tries -= 1,
            held => return held,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
