//! What is done once after the machine has been restarted.

use crate::act::Records;
use crate::act::records::Loaded;
use crate::config::{Config, SessionReboot};
use crate::desired::store::{Boots, drop_sessions, ends_with_boot};
use crate::error::Result;
use crate::model::BootId;

/// Drops launched sessions if the machine was restarted since the last launcher and the configuration says so: their
/// files go from the disk, and their memories are neither restored nor kept.
pub(super) async fn after_reboot(
    config: &Config,
    boot: BootId,
    records: &Records,
    loaded: &mut Loaded,
) -> Result<Boots> {
    let boots = Boots::read(&config.state_dir, boot);
    if boots.differ() && config.session_reboot == SessionReboot::Drop {
        match drop_sessions(&config.launch_dir) {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "the machine was restarted: launched sessions were dropped"),
            Err(error) => tracing::warn!(%error, "launched sessions could not be dropped after a reboot"),
        }
        let (ended, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut loaded.memories).into_iter().partition(|memory| ends_with_boot(&memory.instance));
        loaded.memories = kept;
        for memory in ended {
            records.drop_memory(memory.instance.key.clone());
        }
        records.flush().await?;
    }
    boots.note()?;
    Ok(boots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::desired::survey;
    use crate::launcher::offline_settings;
    use crate::model::Memory;
    use std::fs;
    use std::path::Path;
    use tempfile::TempDir;

    /// A folder whose launch directory holds a session and a tenant, and whose patterns hold `p`.
    fn machine() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("patterns/p/manifest.yaml", "name: p\nversion: 1.0.0\nexecutable: sh\n");
        write("launched/session.yaml", "pattern: p\nisolation: session\nnamespace: a\nsession: s\n");
        write("launched/tenant.yaml", "pattern: p\nisolation: namespace\nnamespace: a\n");
        write("desired/session.yaml", "pattern: p\nisolation: session\nnamespace: a\nsession: person\n");
        folder
    }

    fn config(folder: &Path, session_reboot: Option<SessionReboot>) -> Config {
        let settings = Settings {
            patterns_dir: Some(folder.join("patterns")),
            desired_dir: Some(vec![folder.join("desired")]),
            state_dir: Some(folder.join("state")),
            launch_dir: Some(folder.join("launched")),
            session_reboot,
            ..Settings::default()
        };
        Config::decide(settings, None).unwrap()
    }

    /// A launcher begins in that boot; gives the keys that it restores.
    async fn begin(config: &Config, boot: u128) -> Vec<String> {
        let boot = BootId::from_u128(boot);
        fs::create_dir_all(&config.state_dir).unwrap();
        let (records, mut loaded) = Records::open(&config.state_dir, boot).unwrap();
        after_reboot(config, boot, &records, &mut loaded).await.unwrap();
        let declared = survey(&offline_settings(config), &[], crate::act::clock::now()).instances;
        for instance in declared {
            records.save_memory(Memory::new(instance));
        }
        records.flush().await.unwrap();
        loaded.memories.iter().map(|memory| memory.instance.key.to_string()).collect()
    }

    #[tokio::test]
    async fn launched_sessions_end_with_the_boot_and_everything_else_stays() {
        let folder = machine();
        let config = config(folder.path(), None);
        assert!(begin(&config, 1).await.is_empty());
        assert_eq!(begin(&config, 1).await.len(), 3, "the same boot");
        assert_eq!(begin(&config, 2).await, ["ns:a:p", "session:a:person:p"]);
        assert!(!folder.path().join("launched/session.yaml").exists());
        assert_eq!(begin(&config, 2).await, ["ns:a:p", "session:a:person:p"], "they are not remembered either");
    }

    #[tokio::test]
    async fn launched_sessions_are_kept_where_that_is_wished() {
        let folder = machine();
        let config = config(folder.path(), Some(SessionReboot::Keep));
        begin(&config, 1).await;
        assert_eq!(begin(&config, 2).await.len(), 3);
        assert!(folder.path().join("launched/session.yaml").exists());
    }
}
