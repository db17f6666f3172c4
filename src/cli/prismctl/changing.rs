//! Commands that change something, and wait until it has come about.

use super::DONE;
use super::arguments::{Isolation, Launch, Pair, Update};
use super::connection::Connection;
use super::failure::{DEADLINE, Failure, REFUSED, Result, Told, USAGE};
use super::progress::{glance, while_waiting};
use super::render;
use super::screen::Screen;
use super::text::escaped;
use super::views::{Abandoned, Launched, Process, Terminated, state};
use crate::api::proto::{
    AbandonRequest, IsolationLevel, LaunchRequest, LaunchResponse, ListManifestsRequest, PatternInfo, ProcessState,
    ResetRequest, RestartRequest, ResumeRequest, SuspendRequest, TerminateRequest, UpdateRequest,
};
use crate::error::Error;
use crate::model;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;
use tonic::{Response, Status};

/// `pattern launch`.
pub(super) async fn launch(connection: &Connection, launch: Launch, screen: &mut Screen) -> Result<u8> {
    let process_id = if screen.progress { expected_id(connection, &launch).await } else { None };
    let no_wait = launch.patience.no_wait;
    let request = LaunchRequest {
        pattern_name: launch.name,
        isolation: launch.isolation.map_or(0, |level| level.proto().into()),
        namespace: launch.namespace.unwrap_or_default(),
        session_id: launch.session.unwrap_or_default(),
        config: by_name("config", launch.config)?,
        grace_period_secs: whole_seconds(launch.grace_period),
        ttl_secs: whole_seconds(launch.ttl),
        no_wait,
        slots: by_name("slot", launch.slot)?,
    };
    let doing = format!("launching {}", request.pattern_name);
    let mut client = connection.client();
    let call = client.launch_pattern(connection.waiting(request));
    let launched = told_where_it_stands(connection, screen, &doing, process_id.as_deref(), call).await?;
    let shown = screen.look.shown(&Launched::from(&launched), || launch_text(&launched));
    screen.print(shown)?;
    if launched.config_differs {
        let id = Error::word(&escaped(&launched.process_id));
        screen.note(&format!(
            "note: it runs with other config or slots than this launch names; `prismctl pattern update {id}` changes them"
        ));
    }
    let finished = launched.state == i32::from(ProcessState::StateFinished) && launched.error.is_empty();
    Ok(if no_wait || launched.healthy || finished { DONE } else { REFUSED })
}

fn launch_text(launched: &LaunchResponse) -> String {
    let mut said = format!("{} is {}", launched.process_id, state(launched.state));
    if launched.state == i32::from(ProcessState::StateRunning) {
        said.push_str(if launched.healthy { " and healthy" } else { " and not healthy" });
    }
    if !launched.address.is_empty() {
        write!(said, ", at {}", launched.address).unwrap_or_default();
    }
    if !launched.created {
        said.push_str(", declared before");
    }
    if !launched.error.is_empty() {
        write!(said, "; {}", launched.error).unwrap_or_default();
    }
    escaped(&said).into_owned() + "\n"
}

/// The process id that a launch will have, as far as it can be told beforehand; only for showing progress.
async fn expected_id(connection: &Connection, launch: &Launch) -> Option<String> {
    let level = match launch.isolation {
        Some(level) => level,
        None => level_of_pattern(connection, &launch.name).await?,
    };
    let namespace = || match &launch.namespace {
        Some(namespace) => model::Namespace::new(namespace).ok(),
        None => Some(model::Namespace::default_namespace()),
    };
    let isolation = match level {
        Isolation::None => model::Isolation::None,
        Isolation::Namespace => model::Isolation::Namespace(namespace()?),
        Isolation::Session => {
            model::Isolation::Session(namespace()?, model::SessionId::new(launch.session.as_deref()?).ok()?)
        }
    };
    let pattern = model::PatternName::new(&launch.name).ok()?;
    Some(isolation.key(&pattern).as_str().to_owned())
}

async fn level_of_pattern(connection: &Connection, name: &str) -> Option<Isolation> {
    let request = connection.asking(ListManifestsRequest { pattern_name: name.to_owned() });
    let listed = connection.client().list_manifests(request).await.ok()?.into_inner();
    match IsolationLevel::try_from(listed.manifests.first()?.isolation).ok()? {
        IsolationLevel::IsolationNone => Some(Isolation::None),
        // Where the launcher decides, it most likely decides like this; otherwise progress says less.
        IsolationLevel::Unspecified | IsolationLevel::IsolationNamespace => Some(Isolation::Namespace),
        IsolationLevel::IsolationSession => Some(Isolation::Session),
    }
}

/// `pattern terminate`.
pub(super) async fn terminate(
    connection: &Connection,
    process_id: String,
    grace_period: Option<Duration>,
    force: bool,
    screen: &mut Screen,
) -> Result<u8> {
    let doing = format!("terminating {process_id}");
    let id = process_id.clone();
    let request = TerminateRequest { process_id, grace_period_secs: whole_seconds(grace_period), force };
    let mut client = connection.client();
    let call = client.terminate_pattern(connection.waiting(request));
    let ended = told_where_it_stands(connection, screen, &doing, Some(&id), call).await?;
    if !ended.success {
        let mut told = Told::parse(REFUSED, &ended.error);
        if told.message.is_empty() {
            "its process tree could not be ended".clone_into(&mut told.message);
        }
        return Err(told.into());
    }
    let view = Terminated { success: ended.success, error: &ended.error };
    let shown = screen.look.shown(&view, || format!("{} is gone\n", escaped(&id)));
    screen.print(shown)?;
    Ok(DONE)
}

/// `pattern restart`.
pub(super) async fn restart(connection: &Connection, id: String, no_wait: bool, screen: &mut Screen) -> Result<u8> {
    let mut client = connection.client();
    let call = client.restart_pattern(connection.waiting(RestartRequest { process_id: id.clone(), no_wait }));
    let restarted = told_where_it_stands(connection, screen, &format!("restarting {id}"), Some(&id), call).await?;
    until_healthy(restarted.process, no_wait, screen)
}

/// `pattern reset`.
pub(super) async fn reset(connection: &Connection, id: String, screen: &mut Screen) -> Result<u8> {
    let request = connection.asking(ResetRequest { process_id: id });
    let reset = connection.answer(connection.client().reset_pattern(request).await)?;
    show(reset.process, screen)
}

/// `pattern suspend`.
pub(super) async fn suspend(
    connection: &Connection,
    id: String,
    reason: String,
    lasting: Option<Duration>,
    no_wait: bool,
    screen: &mut Screen,
) -> Result<u8> {
    let request = SuspendRequest { process_id: id.clone(), reason, duration_secs: whole_seconds(lasting), no_wait };
    let mut client = connection.client();
    let call = client.suspend_pattern(connection.waiting(request));
    let suspended = told_where_it_stands(connection, screen, &format!("suspending {id}"), Some(&id), call).await?;
    show(suspended.process, screen)
}

/// `pattern resume`.
pub(super) async fn resume(connection: &Connection, id: String, no_wait: bool, screen: &mut Screen) -> Result<u8> {
    let mut client = connection.client();
    let call = client.resume_pattern(connection.waiting(ResumeRequest { process_id: id.clone(), no_wait }));
    let resumed = told_where_it_stands(connection, screen, &format!("resuming {id}"), Some(&id), call).await?;
    until_healthy(resumed.process, no_wait, screen)
}

/// `pattern update`.
pub(super) async fn update(connection: &Connection, update: Update, screen: &mut Screen) -> Result<u8> {
    let (id, no_wait) = (update.process.id, update.patience.no_wait);
    let request = UpdateRequest {
        process_id: id.clone(),
        replace_config: update.no_config || !update.config.is_empty(),
        config: by_name("config", update.config)?,
        replace_slots: update.no_slots || !update.slot.is_empty(),
        slots: by_name("slot", update.slot)?,
        grace_period_secs: whole_seconds(update.grace_period),
        expected_generation: update.expected_generation.unwrap_or(0),
        no_wait,
    };
    let mut client = connection.client();
    let call = client.update_pattern(connection.waiting(request));
    let updated = told_where_it_stands(connection, screen, &format!("updating {id}"), Some(&id), call).await?;
    until_healthy(updated.process, no_wait, screen)
}

/// `pattern abandon`.
pub(super) async fn abandon(connection: &Connection, process_id: String, screen: &mut Screen) -> Result<u8> {
    let request = connection.asking(AbandonRequest { process_id });
    let answer = connection.answer(connection.client().abandon_pattern(request).await)?;
    let view = Abandoned { abandoned: &answer.abandoned };
    let shown = screen.look.shown(&view, || format!("given up: {}\n", escaped(&answer.abandoned)));
    screen.print(shown)?;
    Ok(DONE)
}

/// Waits for the answer, with progress. When time runs out, where the process stands is part of what is told.
async fn told_where_it_stands<T>(
    connection: &Connection,
    screen: &Screen,
    doing: &str,
    process_id: Option<&str>,
    call: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    let answer = while_waiting(screen, connection, doing, process_id, call).await;
    match (connection.answer(answer), process_id) {
        (Err(Failure::Told(mut told)), Some(id)) if told.exit == DEADLINE && told.context.is_empty() => {
            if let Some(process) = glance(connection, id).await {
                told.context.push(("process_id".to_owned(), process.process_id));
                told.context.push(("state".to_owned(), state(process.state).into_owned()));
                told.cause = Some(process.last_error).filter(|error| !error.is_empty());
            }
            Err(Failure::Told(told))
        }
        (answer, _) => answer,
    }
}

fn until_healthy(process: Option<PatternInfo>, no_wait: bool, screen: &mut Screen) -> Result<u8> {
    let healthy = process.as_ref().is_none_or(|process| process.healthy);
    show(process, screen)?;
    Ok(if no_wait || healthy { DONE } else { REFUSED })
}

fn show(process: Option<PatternInfo>, screen: &mut Screen) -> Result<u8> {
    let Some(process) = process else {
        return Err(Told::new(REFUSED, "the daemon did not say where the process stands").into());
    };
    let shown = screen.look.shown(&Process::from(&process), || render::sentence(&process));
    screen.print(shown)?;
    Ok(DONE)
}

/// The API counts whole seconds; a part of one counts as one.
fn whole_seconds(duration: Option<Duration>) -> i64 {
    duration.map_or(0, |duration| {
        let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    })
}

fn by_name(flag: &str, pairs: Vec<Pair>) -> Result<HashMap<String, String>> {
    let mut map = HashMap::new();
    for Pair { name, value } in pairs {
        if map.insert(name.clone(), value).is_some() {
            return Err(Told::new(USAGE, format!("--{flag} names {name} twice")).suggest("name it once").into());
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_counts_as_one() {
        assert_eq!(whole_seconds(None), 0);
        assert_eq!(whole_seconds(Some(Duration::from_millis(1))), 1);
        assert_eq!(whole_seconds(Some(Duration::from_millis(2_500))), 3);
        assert_eq!(whole_seconds(Some(Duration::from_secs(30))), 30);
    }

    #[test]
    fn a_name_given_twice_is_wrong_usage() {
        let pair = |value: &str| Pair { name: "A".to_owned(), value: value.to_owned() };
        let Err(Failure::Told(told)) = by_name("config", vec![pair("1"), pair("2")]) else { panic!("taken") };
        assert_eq!(told.exit, USAGE);
        assert_eq!(by_name("config", vec![pair("1")]).unwrap()["A"], "1");
    }
}
