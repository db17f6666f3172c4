//! What things are. No I/O, no clock, no randomness, no logging.

pub mod caller;
pub mod ceilings;
pub mod difference;
pub mod environment;
pub mod id;
pub mod instance;
pub mod isolation;
pub mod limits;
pub mod pattern;
pub mod policy;
pub mod privileges;
pub mod run;
pub mod secret;
pub mod status;
pub mod time;
pub mod units;

pub use caller::Caller;
pub use ceilings::{Ceiling, Ceilings, Load};
pub use difference::Difference;
pub use environment::{Environment, expand};
pub use id::{Generation, Key, Namespace, PatternName, RunId, SessionId};
pub use instance::{Content, DesiredState, Instance, Origin, Ports, StartSpec, Supervision};
pub use isolation::{Isolation, IsolationLevel};
pub use limits::{Limit, LimitsEffective, NotEnforced, OomKill, Unenforced};
pub use pattern::{
    Answerer, HealthCheck, Lifecycle, Manifest, OomPolicy, PatternRevision, ProbeTarget, Resources, RestartPolicy,
    Slot, StopSignal,
};
pub use policy::Policy;
pub use privileges::{Confinement, LimitName, Privileges, ProcessLimit, Protection, TenantUsers};
pub use run::{
    Circuit, ExitReason, FREEZER_BASE, Finished, LIMITS_BASE, Memory, ProcessIdentity, Rollout, RunRecord,
    StopProgress, Suspension, V2_BASE,
};
pub use secret::{Mask, Secret};
pub use status::{Condition, DesiredStatus, KeyStatus, ProcessState, RootStatus, SuspensionStatus, VerdictStatus};
pub use time::{BootId, Moment};
