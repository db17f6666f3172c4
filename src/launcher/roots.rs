//! The check of the desired roots before anything is begun.

use super::store_settings;
use crate::act::RootLocks;
use crate::config::Config;
use crate::desired::root::RootLock as _;
use crate::error::{Code, Result};
use std::time::Duration;

/// How long a launcher of this program is given to let go of its roots, in hundredths of a second: it may be within a
/// look at a large one.
const LETTING_GO: u32 = 200;

/// Refuses to begin beside a launcher that reads one of the same roots, in another program or in this one. The locks
/// are only tried here: the store holds them, since the folder behind a root's path may change at any time.
pub(super) async fn refuse_held(config: &Config) -> Result<()> {
    for root in store_settings(config, None).roots {
        let mut tries = LETTING_GO;
        while let Err(error) = RootLocks.hold(&root.path) {
            // A launcher of this program that has just been shut down is about to let go.
            let is_own = error.code() == Code::InvalidConfiguration;
            if error.code() == Code::AlreadyRunning || (is_own && tries == 0) {
                return Err(error);
            }
            // One that is not there yet, or cannot be read, is the store's to report and to look at again.
            if !is_own {
                break;
            }
            tries -= 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}
