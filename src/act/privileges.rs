//! What of its privileges and protections a process can be given here: names become numbers, and what this launcher has
//! no right to do is refused or left out and told.

use super::spawner::{ChildPrivileges, ChildUser};
use super::sys;
use super::tenants::Tenants;
use crate::error::{Code, Error};
use crate::model::{Confinement, Instance, LimitName, Privileges, ProcessLimit, Protection, TenantUsers};
use rustix::process::geteuid;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;

/// By how much the kernel prefers a process to the launcher when memory runs out.
const KILLED_FIRST_BY: i32 = 100;
/// The highest `oom_score_adj` of the kernel.
const OOM_SCORE_LIMIT: i32 = 1000;
/// No process leaves a core dump.
const NO_CORE: (LimitName, ProcessLimit) = (LimitName::Core, ProcessLimit { soft: Some(0), hard: Some(0) });

/// What this launcher can do and what its configuration asks for.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// Whether it is root: it can then become anybody.
    pub(crate) root: bool,
    /// Whether there is a spawner: without one a child is a shell until its exec, and cannot change what it is.
    pub(crate) spawner: bool,
    /// The launcher's own `oom_score_adj`.
    pub(crate) oom_score_adj: i32,
    /// Whether tenants get users of their own, unless a manifest says otherwise.
    pub(crate) tenant_users: TenantUsers,
    /// Nothing is started without these.
    pub(crate) required: BTreeSet<Protection>,
}

impl Rights {
    /// Those of this process.
    pub(crate) fn of_this_process(spawner: bool, tenant_users: TenantUsers, required: BTreeSet<Protection>) -> Self {
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok();
        let oom_score_adj = own.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Self { root: geteuid().is_root(), spawner, oom_score_adj, tenant_users, required }
    }

    /// What a child of this instance makes of itself, and what is then in force.
    pub(crate) fn confine(
        &self,
        instance: &Instance,
        tenants: &Tenants,
    ) -> Result<(ChildPrivileges, Confinement), Error> {
        let wish = &instance.content.launch.pattern.privileges;
        let refuse = |error: Error| error.with("process_id", &instance.key);
        self.check(wish).map_err(refuse)?;
        let mut protections = wish.protections(instance.isolation.level(), self.tenant_users);
        protections.retain(|one| self.can(*one, wish));
        if !protections.contains(&Protection::OwnUser) {
            protections.remove(&Protection::OwnFolders);
        }
        if let Some(missing) = self.required.difference(&protections).next() {
            return Err(refuse(lacking(*missing, wish)));
        }
        let user = if protections.contains(&Protection::OwnUser) {
            let user = tenants.user(&instance.isolation, &instance.key)?;
            Some(ChildUser { uid: user, gid: user, groups: Vec::new() })
        } else {
            user(wish).map_err(refuse)?
        };
        let has = |one| protections.contains(&one);
        let mut rlimits: Vec<_> = wish.rlimits.iter().map(|(name, limit)| (*name, *limit)).collect();
        if has(Protection::NoCoreDumps) && !wish.rlimits.contains_key(&LimitName::Core) {
            rlimits.push(NO_CORE);
        }
        let killed_first = (self.oom_score_adj + KILLED_FIRST_BY).min(OOM_SCORE_LIMIT);
        let child = ChildPrivileges {
            umask: wish.umask,
            nice: wish.nice,
            oom_score_adj: wish.oom_score_adj.or_else(|| has(Protection::KilledFirst).then_some(killed_first)),
            rlimits,
            no_new_privileges: has(Protection::NoNewPrivileges),
            no_capabilities: has(Protection::NoCapabilities),
            user,
        };
        let ids = child.user.as_ref().map(|user| (user.uid, user.gid)).unzip();
        Ok((child, Confinement { uid: ids.0, gid: ids.1, protections }))
    }

    /// What a manifest writes down is done or refused; it is never left out silently.
    fn check(&self, wish: &Privileges) -> Result<(), Error> {
        let Privileges { user, group, umask, nice, oom_score_adj, rlimits, protection: _ } = wish;
        let besides_core = rlimits.keys().any(|name| *name != LimitName::Core);
        let any = user.is_some() || group.is_some() || umask.is_some() || nice.is_some() || oom_score_adj.is_some();
        if !self.spawner && (any || besides_core) {
            return Err(failed("Without a spawner a process is what the launcher is")
                .suggest("begin main with pattern_launcher::run_if_spawner(), or remove user, group, umask, nice, oom_score_adj and rlimits from the manifest"));
        }
        if !self.root && (user.is_some() || group.is_some()) {
            return Err(failed("Only a launcher that is root can run processes as other users")
                .suggest("run the launcher as root, or remove user and group from the manifest"));
        }
        Ok(())
    }

    /// Whether a protection that is wanted can be in force here.
    fn can(&self, protection: Protection, wish: &Privileges) -> bool {
        match protection {
            Protection::OwnSession => true,
            // A limit that a person wrote is theirs.
            Protection::NoCoreDumps => wish.rlimits.get(&LimitName::Core).is_none_or(|limit| limit.hard == Some(0)),
            Protection::KilledFirst => {
                self.spawner && wish.oom_score_adj.is_none_or(|score| score > self.oom_score_adj)
            }
            Protection::ClosedDescriptors | Protection::NoNewPrivileges => self.spawner,
            // Who is not root has none; a program whose file has some brings them back, unless nothing can.
            Protection::NoCapabilities => {
                let brings_none = wish.protection.get(&Protection::NoNewPrivileges) != Some(&false);
                self.spawner && (self.root || brings_none)
            }
            Protection::OwnUser | Protection::OwnFolders => self.root && self.spawner,
        }
    }
}

/// Whom the manifest names.
fn user(wish: &Privileges) -> Result<Option<ChildUser>, Error> {
    let user = wish.user.as_deref().map(named_user).transpose()?;
    let group = wish.group.as_deref().map(named_group).transpose()?;
    Ok(match (user, group) {
        (Some(user), Some(gid)) => Some(ChildUser { gid, ..user }),
        (Some(user), None) => Some(user),
        // As the launcher is, which is root.
        (None, Some(gid)) => Some(ChildUser { uid: 0, gid, groups: Vec::new() }),
        (None, None) => None,
    })
}

/// A number stands for itself, with a group of the same number.
fn named_user(name: &str) -> Result<ChildUser, Error> {
    if let Ok(uid) = name.parse() {
        return Ok(ChildUser { uid, gid: uid, groups: Vec::new() });
    }
    let account = look_up("user", name, sys::account)?;
    let sys::Account { uid, gid, groups } = account;
    Ok(ChildUser { uid, gid, groups })
}

fn named_group(name: &str) -> Result<u32, Error> {
    name.parse().or_else(|_| look_up("group", name, sys::group_id))
}

fn look_up<T>(what: &str, name: &str, ask: impl FnOnce(&std::ffi::CStr) -> io::Result<Option<T>>) -> Result<T, Error> {
    let asked = CString::new(name).map_err(io::Error::from).and_then(|name| ask(&name));
    let missing = |reason: String| {
        failed("The user or group of the manifest cannot be found")
            .with(what, Error::echo(name))
            .because(reason)
            .suggest(format!("make it (getent {what} tells), or correct '{what}' in the manifest"))
    };
    asked
        .map_err(|error| missing(error.to_string()))?
        .ok_or_else(|| missing(format!("this machine has no such {what}")))
}

fn lacking(protection: Protection, wish: &Privileges) -> Error {
    let error = failed("A protection that the configuration requires cannot be given").with("protection", protection);
    if wish.protection.get(&protection) == Some(&false) {
        return error.because("the manifest does without it").suggest(format!(
            "remove 'protection.{protection}' from the manifest, or take {protection} out of required_protections"
        ));
    }
    error
        .because("this launcher, or the manifest's user, oom_score_adj or rlimits, rules it out")
        .suggest(format!("run the launcher as root, or take {protection} out of required_protections"))
}

fn failed(message: &str) -> Error {
    Error::new(Code::ProcessStartFailed, message)
}
