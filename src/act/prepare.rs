//! Everything about a start that is done before there is a child: ports, cgroup, executable, arguments, environment.

use super::cgroup::{self, Base, RunCgroup};
use super::credentials::Credentials;
use super::executable::{Attempt, barrier, locate};
use super::ports;
use super::privileges::Rights;
use super::spawner::{ChildPrivileges, ChildUser, SpawnFailure, SpawnRequest};
use super::tenants::Tenants;
use crate::error::{Code, Error};
use crate::model::{Confinement, Environment, Instance, Key, LimitsEffective, Protection, RunId, expand};
use crate::observed::{Fault, PortKind};
use crate::plan::PrepareRequest;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What all starts have in common.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// What of the launcher's own environment processes inherit.
    pub(crate) inherited_env: BTreeMap<String, String>,
    /// Where their output goes.
    pub(crate) log_dir: PathBuf,
    /// Where their cgroups are made, if any are.
    pub(crate) cgroups: Option<Base>,
    /// The soft limit of open files that the launcher was started with.
    pub(crate) open_files: u64,
    /// What of their privileges can be given to processes.
    pub(crate) rights: Rights,
    /// Users and folders of tenants.
    pub(crate) tenants: Tenants,
    /// What they are given to read.
    pub(crate) credentials: Credentials,
}

impl Surroundings {
    /// The variables that a process is given before any of its own.
    pub(crate) fn inherited_by(
        &self,
        instance: &Instance,
        run: RunId,
        confinement: &Confinement,
    ) -> BTreeMap<String, String> {
        let key = &instance.key;
        let mut inherited = self.inherited_env.clone();
        if !instance.content.launch.credentials.is_empty() {
            inherited.extend(self.credentials.variable(key, run));
        }
        if let (true, Some(user)) = (confinement.protections.contains(&Protection::OwnFolders), confinement.uid) {
            let own =
                self.tenants.environment(key, run, user).into_iter().map(|(name, value)| (name.to_owned(), value));
            inherited.extend(own);
        }
        inherited
    }
}

/// A start that can be tried.
#[derive(Debug)]
pub(crate) struct Ready {
    /// What to ask the spawner for.
    pub(crate) spawn: SpawnRequest,
    /// The cgroup that was made for it.
    pub(crate) cgroup: Option<RunCgroup>,
    /// Which of its limits are in force there.
    pub(crate) limits: LimitsEffective,
    /// What it will be confined to.
    pub(crate) confinement: Confinement,
    /// For the error when it fails.
    pub(crate) paths: Paths,
}

/// The files that a start is about.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    program: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    user: Option<ChildUser>,
}

impl Paths {
    /// The error that a user sees when a start failed.
    pub(crate) fn error(&self, key: &Key, failure: SpawnFailure) -> Error {
        let Self { program, folder, log, user } = self;
        Attempt { key, program, folder, log, user: user.as_ref() }.error(failure)
    }
}

/// Why a start cannot be tried.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A stranger listens on a port.
    PortTaken {
        /// Which of the two.
        port: PortKind,
        /// The stranger, where it can be found out.
        holder: Option<i32>,
        /// All ports that anybody listens on.
        listening: BTreeSet<u16>,
    },
    /// Something else, and who is to blame.
    Failed(Error, Fault),
}

/// Gets a start ready. Reads files and asks the kernel, so it belongs on a thread that may block.
pub(crate) fn prepare(surroundings: &Surroundings, request: &PrepareRequest) -> Result<Ready, Refusal> {
    if let Some((port, number)) = ports::taken(request.ports) {
        let (holder, listening) = ports::holder(number);
        return Err(Refusal::PortTaken { port, holder, listening });
    }
    let pattern = &request.instance.content.launch.pattern;
    let (privileges, confinement) = confine(surroundings, request)?;
    let inherited = surroundings.inherited_by(&request.instance, request.run, &confinement);
    let environment = Environment::of(&inherited, &request.instance, request.ports, request.run);
    let folder = std::path::absolute(&pattern.folder).map_err(|cause| {
        let error = Error::new(Code::ProcessStartFailed, "The pattern's folder cannot be named").caused_by(&cause);
        let error = error.with("process_id", &request.key).suggest("give --patterns-dir as an absolute path");
        Refusal::Failed(error, Fault::Launcher)
    })?;
    let program = locate(pattern, &folder, environment.0.get("PATH").map(String::as_str))
        .map_err(|error| Refusal::Failed(error, Fault::Instance))?;
    let log = surroundings.log_dir.join(format!("{}.log", request.key.file_name()));
    let arguments = std::iter::once(pattern.executable.clone())
        .chain(pattern.args.iter().map(|argument| expand(argument, &environment)))
        .enumerate()
        .map(|(number, argument)| c_string(&request.key, &format!("argument {number}"), argument.into_bytes()))
        .collect::<Result<_, _>>()?;
    let environment = environment
        .0
        .into_iter()
        .map(|(name, value)| c_string(&request.key, &name, format!("{name}={value}").into_bytes()))
        .collect::<Result<_, _>>()?;
    let (cgroup, limits) = limited_cgroup(surroundings.cgroups.as_ref(), request)?;
    let path = |what: &str, path: &Path| c_string(&request.key, what, path.as_os_str().as_bytes().to_vec());
    let spawn = SpawnRequest {
        program: path("executable", &program)?,
        arguments,
        environment,
        folder: path("folder", &folder)?,
        log: path("log", &log)?,
        cgroup: cgroup.as_ref().map(|cgroup| path("cgroup", cgroup.path())).transpose()?,
        limits: cgroup
            .iter()
            .flat_map(RunCgroup::limits)
            .map(|limit| path("cgroup", limit))
            .collect::<Result<_, _>>()?,
        open_files: surroundings.open_files,
        privileges,
    };
    let paths = Paths { program, folder, log, user: spawn.privileges.user.clone() };
    Ok(Ready { spawn, cgroup, limits, confinement, paths })
}

/// Makes the cgroup of a run and limits it, before anything is in it.
fn limited_cgroup(
    base: Option<&Base>,
    request: &PrepareRequest,
) -> Result<(Option<RunCgroup>, LimitsEffective), Refusal> {
    let wanted = &request.instance.content.supervision.resources;
    let made = base.map(|base| make_cgroup(base, request)).transpose()?;
    let limits = match &made {
        Some(made) => cgroup::enforce(made, base, wanted),
        None => cgroup::unlimited(wanted),
    };
    let Some(error) = limits.refusal(&request.instance, request.unenforced) else { return Ok((made, limits)) };
    if let Some(Err(error)) = made.map(|made| made.remove()) {
        // It is empty, and is removed with what is empty otherwise.
        tracing::debug!(key = %request.key, %error, "the cgroup of a run could not be removed");
    }
    Err(Refusal::Failed(error, Fault::Instance))
}

/// Who it will be, and with which folders of its own.
fn confine(surroundings: &Surroundings, request: &PrepareRequest) -> Result<(ChildPrivileges, Confinement), Refusal> {
    let Surroundings { rights, tenants, credentials, .. } = surroundings;
    let made = rights.confine(&request.instance, tenants).and_then(|(privileges, confinement)| {
        if let (true, Some(user)) = (confinement.protections.contains(&Protection::OwnFolders), &privileges.user) {
            tenants.make_folders(&request.key, request.run, user.uid)?;
            if let Some(barrier) = barrier(&tenants.folder(&request.key), user) {
                return Err(unreachable(&request.key, user.uid, &barrier));
            }
        }
        credentials.give(&request.instance, request.run, privileges.user.as_ref())?;
        let given = credentials.folder(&request.key, request.run).zip(privileges.user.as_ref());
        if let Some(barrier) = given.and_then(|(folder, user)| barrier(&folder, user)) {
            return Err(unreachable(&request.key, privileges.user.as_ref().map_or(0, |user| user.uid), &barrier));
        }
        Ok((privileges, confinement))
    });
    made.map_err(|error| {
        let lacking = error.code() == Code::StoreUnavailable;
        Refusal::Failed(error, if lacking { Fault::Launcher } else { Fault::Instance })
    })
}

fn unreachable(key: &Key, user: u32, barrier: &Path) -> Error {
    Error::new(Code::ProcessStartFailed, "The user of a tenant cannot reach its own folders")
        .with("process_id", key)
        .with("user", user)
        .with("folder", barrier.display())
        .suggest(format!("chmod o+x {}, or give a --state-dir that everybody can pass through", barrier.display()))
}

fn make_cgroup(base: &Base, request: &PrepareRequest) -> Result<RunCgroup, Refusal> {
    let needed = cgroup::needed(&request.instance.content.supervision.resources);
    base.create(&request.key, request.run, &needed).map_err(|cause| {
        let folder = base.path().display().to_string();
        let error = Error::new(Code::ProcessStartFailed, "The cgroup of the process cannot be made")
            .with("process_id", &request.key)
            .with("cgroup", &folder)
            .caused_by(&cause)
            .suggest(format!("check cgroup.max.descendants above {folder} and who may write there"));
        Refusal::Failed(error, Fault::Launcher)
    })
}

/// The error names the variable, never its value.
fn c_string(key: &Key, what: &str, bytes: Vec<u8>) -> Result<CString, Refusal> {
    CString::new(bytes).map_err(|_| {
        let error = Error::new(Code::ProcessStartFailed, "A process cannot be given a value that contains a zero byte")
            .with("process_id", key)
            .with("value", what)
            .suggest(format!("write {what} without \\0, for example in base64"));
        Refusal::Failed(error, Fault::Instance)
    })
}
