//! Building a launcher into a program.

use super::{Launcher, Role};
use crate::config::{Config, CoresOrOff, DesiredRoot, OnExit, PortOrOff, Profile, Settings, SizeOrOff, Span};
use crate::error::{Code, Error, Result};
use crate::model::IsolationLevel;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Builds a [`Launcher`]. What is left out is as in the development profile, except that nothing is listened on and no
/// file of a person declares anything unless it is asked for.
///
/// ```no_run
/// # async fn f() -> pattern_launcher::Result<()> {
/// use pattern_launcher::{LaunchSpec, Launcher};
///
/// let launcher = Launcher::builder().patterns_dir("./patterns").desired_dir("./desired").namespace_isolation().build().await?;
/// let process = launcher.launch(LaunchSpec::new("hello").namespace("tenant-a")).await?;
/// println!("{} listens on {}", process.process_id(), process.address().unwrap_or("nothing"));
/// launcher.shutdown(std::time::Duration::from_secs(30)).await
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    settings: Settings,
    /// What was given and cannot be used; told by [`Builder::build`].
    refused: Option<Error>,
    scratch: Option<TempDir>,
}

impl Builder {
    /// Where the patterns are: one folder with a `manifest.yaml` for each. `./patterns` if it is left out.
    pub fn patterns_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.patterns_dir = Some(folder.into());
        self
    }

    /// A folder of instance files; may be given several times. Without one, only what is launched runs.
    pub fn desired_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.desired.get_or_insert_default().push(DesiredRoot::open(folder));
        self
    }

    /// Where launched instances are kept. `launched/` in the first desired folder if it is left out, or in the state
    /// folder when there is no desired folder or with [`Builder::production_defaults`].
    pub fn launch_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.launch_dir = Some(folder.into());
        self
    }

    /// Where records, status and logs are kept, for one launcher at a time. `./.pattern-launcher` if it is left out.
    pub fn state_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.state_dir = Some(folder.into());
        self
    }

    /// One process for each pattern, where neither a launch nor its manifest says otherwise.
    pub fn no_isolation(self) -> Self {
        self.isolation(IsolationLevel::None)
    }

    /// One process for each pattern and namespace, where neither a launch nor its manifest says otherwise: the default.
    pub fn namespace_isolation(self) -> Self {
        self.isolation(IsolationLevel::Namespace)
    }

    /// One process for each pattern, namespace and session, where neither a launch nor its manifest says otherwise.
    pub fn session_isolation(self) -> Self {
        self.isolation(IsolationLevel::Session)
    }

    fn isolation(mut self, level: IsolationLevel) -> Self {
        self.settings.isolation = Some(level);
        self
    }

    /// The development profile: quick to notice and to restart, and every process ends with the launcher.
    pub fn development_defaults(mut self) -> Self {
        self.settings.profile = Some(Profile::Development);
        self
    }

    /// The production profile: slower restarts, limits for each process, and processes outlive the launcher.
    pub fn production_defaults(mut self) -> Self {
        self.settings.profile = Some(Profile::Production);
        self
    }

    /// The cores and the memory (such as `512Mi`) of each process whose file and manifest name no limit.
    pub fn resource_limits(mut self, cores: f64, memory: &str) -> Self {
        let refuse = |setting: &str, reason: String| {
            Error::new(Code::InvalidConfiguration, "a resource limit cannot be used")
                .with("setting", setting)
                .because(reason)
        };
        match format!("{cores}").parse::<CoresOrOff>() {
            Ok(cores) => self.settings.cpu_limit = Some(cores),
            Err(reason) => {
                self.refused = Some(refuse("cpu_limit", reason).suggest("give a number of cores, such as 2.0"));
            }
        }
        match memory.parse::<SizeOrOff>() {
            Ok(memory) => self.settings.memory_limit = Some(memory),
            Err(reason) => {
                self.refused = Some(refuse("memory_limit", reason).suggest("give a size such as 512Mi or 1Gi"));
            }
        }
        self
    }

    /// The failures in a row at which the circuit of an instance opens; 5 if it is left out.
    pub fn max_errors(mut self, failures: u32) -> Self {
        self.settings.max_errors = Some(failures);
        self
    }

    /// The longest wait before a restart; 1 s if it is left out, 5 s in production.
    pub fn backoff_period(mut self, longest: Duration) -> Self {
        self.settings.backoff_period = Some(Span(longest));
        self
    }

    /// What becomes of the processes at [`Launcher::shutdown`].
    pub fn on_exit(mut self, what: OnExit) -> Self {
        self.settings.on_exit = Some(what);
        self
    }

    /// Serves gRPC on this port of the loopback address, and on `api.sock` in the state folder; 0 is any free port.
    pub fn grpc_port(mut self, port: u16) -> Self {
        self.settings.grpc_port = Some(PortOrOff(Some(port)));
        self
    }

    /// Serves `/metrics`, `/health` and `/ready` on this port of the loopback address, and on `http.sock` in the state
    /// folder; 0 is any free port.
    pub fn http_port(mut self, port: u16) -> Self {
        self.settings.http_port = Some(PortOrOff(Some(port)));
        self
    }

    /// Everything else that can be set. What was set before gives way.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings.over(self.settings);
        self
    }

    /// Keeps everything in a temporary folder that goes with the launcher.
    pub(super) fn in_scratch(mut self, scratch: TempDir) -> Self {
        self.settings.state_dir = Some(scratch.path().join("state"));
        self.scratch = Some(scratch);
        self
    }

    /// Takes over what the last launcher with this state folder left, and begins. Within a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// `INVALID_CONFIGURATION`, `ALREADY_RUNNING` when another launcher holds the state folder or a desired folder,
    /// `STORE_UNAVAILABLE` when the state folder cannot be used.
    pub async fn build(self) -> Result<Launcher> {
        let Self { mut settings, refused, scratch } = self;
        if let Some(error) = refused {
            return Err(error);
        }
        settings.http_port.get_or_insert(PortOrOff(None));
        settings.grpc_port.get_or_insert(PortOrOff(None));
        let launch_dir = settings.launch_dir.is_some();
        let people = settings.desired.is_some() || settings.desired_dir.is_some();
        let mut config = Config::decide(settings, None)?;
        if config.grpc.is_none() {
            config.socket = None;
        }
        if config.http.is_none() {
            config.http_socket = None;
        }
        if !people {
            config.desired.clear();
            if !launch_dir {
                config.launch_dir = config.state_dir.join("launched");
            }
        }
        Launcher::begin(config, Role::Embedded(scratch)).await
    }
}
