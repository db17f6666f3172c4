//! Questions: nothing is changed by them.

use super::DONE;
use super::arguments::{Format, List, Plan};
use super::connection::Connection;
use super::failure::{NOT_FOUND, REFUSED, Result, Told};
use super::render;
use super::screen::{Look, Screen};
use super::views::{Explained, Health, Listed, Manifests, Planned, Process};
use super::watch::{Sight, watch};
use crate::api::proto::{
    ExplainRequest, GetProcessStatusRequest, HealthRequest, HealthResponse, ListManifestsRequest, ListPatternsRequest,
    ListPatternsResponse, PatternInfo, PlanRequest, PlanResponse, WatchEventsRequest,
};

/// The exit code for a plan that changes something, as that of `pattern-launcher plan`.
const CHANGES: u8 = 2;

/// `pattern list`.
pub(super) async fn list(connection: &Connection, wanted: List, screen: &mut Screen) -> Result<u8> {
    let filter = ListPatternsRequest {
        pattern_name: wanted.pattern.unwrap_or_default(),
        namespace: wanted.namespace.unwrap_or_default(),
        state: wanted.state.map_or(0, |state| state.proto().into()),
    };
    let ask = async || {
        let answer = connection.client().list_patterns(connection.asking(filter.clone())).await;
        connection.answer(answer)
    };
    if wanted.watch {
        let events = watched(&filter.pattern_name, &filter.namespace, "");
        return watch(connection, events, screen, async |screen| {
            let mut listed = ask().await?;
            let text = row(&screen.look, &Listed::from(&listed), || listing(&listed, &screen.look));
            listed.patterns.iter_mut().for_each(timeless);
            Ok(Sight { text, lasting: listing(&listed, &screen.look) })
        })
        .await;
    }
    let listed = ask().await?;
    if listed.patterns.is_empty() {
        screen.note(&nothing(listed.total_count));
        if screen.look.format == Format::Table {
            return Ok(DONE);
        }
    }
    let shown = screen.look.shown(&Listed::from(&listed), || render::processes(&listed.patterns, &screen.look));
    screen.print(shown)?;
    Ok(DONE)
}

fn listing(listed: &ListPatternsResponse, look: &Look) -> String {
    match listed.patterns.as_slice() {
        [] => nothing(listed.total_count) + "\n",
        patterns => render::processes(patterns, look),
    }
}

fn nothing(total: i32) -> String {
    match total {
        0 => "nothing is declared".to_owned(),
        total => format!("none of the {total} that are declared is meant by this"),
    }
}

/// `pattern status`.
pub(super) async fn status(
    connection: &Connection,
    process_id: &str,
    check: bool,
    watching: bool,
    screen: &mut Screen,
) -> Result<u8> {
    let ask = async || -> Result<(PatternInfo, Vec<String>)> {
        let request = GetProcessStatusRequest { process_id: process_id.to_owned() };
        let answer = connection.answer(connection.client().get_process_status(connection.asking(request)).await)?;
        let process = answer.process.filter(|_| !answer.not_found).ok_or_else(|| not_found(process_id))?;
        Ok((process, answer.last_lines))
    };
    if watching {
        return watch(connection, watched("", "", process_id), screen, async |screen| {
            let (mut process, lines) = ask().await?;
            let shown = |process: &PatternInfo| render::process(process) + &render::last_lines(&lines);
            let object = Process::from(&process).with_last_lines(&lines);
            let text = row(&screen.look, &object, || shown(&process));
            timeless(&mut process);
            Ok(Sight { text, lasting: shown(&process) })
        })
        .await;
    }
    let (process, lines) = ask().await?;
    let object = Process::from(&process).with_last_lines(&lines);
    let shown = screen.look.shown(&object, || render::process(&process) + &render::last_lines(&lines));
    screen.print(shown)?;
    Ok(if check && !process.healthy { REFUSED } else { DONE })
}

fn not_found(process_id: &str) -> Told {
    Told { code: "PROCESS_NOT_FOUND".to_owned(), ..Told::new(NOT_FOUND, "no process has this id") }
        .with("process_id", process_id)
        .suggest("see what is declared: prismctl pattern list")
}

/// `pattern explain`.
pub(super) async fn explain(connection: &Connection, process_id: String, screen: &mut Screen) -> Result<u8> {
    let request = connection.asking(ExplainRequest { process_id });
    let explained = connection.answer(connection.client().explain_pattern(request).await)?;
    if let (None, [line]) = (&explained.process, explained.lines.as_slice()) {
        return Err(Told::parse(NOT_FOUND, line).into());
    }
    let shown = screen.look.shown(&Explained::from(&explained), || render::explanation(&explained));
    screen.print(shown)?;
    Ok(DONE)
}

/// `manifests`.
pub(super) async fn manifests(connection: &Connection, name: Option<&str>, screen: &mut Screen) -> Result<u8> {
    let request = connection.asking(ListManifestsRequest { pattern_name: name.unwrap_or_default().to_owned() });
    let listed = connection.answer(connection.client().list_manifests(request).await)?;
    if let (Some(name), []) = (name, listed.manifests.as_slice()) {
        let told = Told { code: "PATTERN_NOT_FOUND".to_owned(), ..Told::new(NOT_FOUND, "no pattern has this name") };
        return Err(told.with("pattern_name", name).suggest("see which there are: prismctl manifests").into());
    }
    let shown = screen.look.shown(&Manifests::from(&listed), || match (name, listed.manifests.as_slice()) {
        (Some(_), [manifest]) => render::manifest(manifest),
        (_, manifests) => render::manifests(manifests, &screen.look),
    });
    if listed.manifests.is_empty() {
        screen.note("there are no patterns; make one: pattern-launcher init NAME");
    }
    if !listed.manifests.is_empty() || screen.look.format != Format::Table {
        screen.print(shown)?;
    }
    Ok(DONE)
}

/// `plan`.
pub(super) async fn plan(connection: &Connection, wanted: Plan, screen: &mut Screen) -> Result<u8> {
    let filter = PlanRequest {
        pattern_name: wanted.pattern.unwrap_or_default(),
        namespace: wanted.namespace.unwrap_or_default(),
    };
    let ask = async || -> Result<PlanResponse> {
        connection.answer(connection.client().plan(connection.asking(filter.clone())).await)
    };
    if wanted.watch {
        return watch(connection, watched(&filter.pattern_name, &filter.namespace, ""), screen, async |screen| {
            let planned = ask().await?;
            let text = || render::plan(&planned.actions, &screen.look);
            Ok(Sight { text: row(&screen.look, &Planned::from(&planned), text), lasting: text() })
        })
        .await;
    }
    let planned = ask().await?;
    let shown = screen.look.shown(&Planned::from(&planned), || render::plan(&planned.actions, &screen.look));
    screen.print(shown)?;
    Ok(if planned.actions.iter().any(render::is_change) { CHANGES } else { DONE })
}

/// `health`.
pub(super) async fn health(
    connection: &Connection,
    processes: bool,
    watching: bool,
    screen: &mut Screen,
) -> Result<u8> {
    let ask = async || -> Result<HealthResponse> {
        let request = connection.asking(HealthRequest { include_processes: processes });
        connection.answer(connection.client().health(request).await)
    };
    let text = |health: &HealthResponse, look: &Look| render::health_of_launcher(health, processes, look);
    if watching {
        return watch(connection, watched("", "", ""), screen, async |screen| {
            let mut health = ask().await?;
            let shown = row(&screen.look, &Health::of(&health, processes), || text(&health, &screen.look));
            health.uptime_seconds = 0;
            health.processes.iter_mut().for_each(timeless);
            Ok(Sight { text: shown, lasting: text(&health, &screen.look) })
        })
        .await;
    }
    let health = ask().await?;
    let shown = screen.look.shown(&Health::of(&health, processes), || text(&health, &screen.look));
    screen.print(shown)?;
    Ok(if health.healthy { DONE } else { REFUSED })
}

/// Which events make a watch look again.
fn watched(pattern_name: &str, namespace: &str, process_id: &str) -> WatchEventsRequest {
    WatchEventsRequest {
        pattern_name: pattern_name.to_owned(),
        namespace: namespace.to_owned(),
        process_id: process_id.to_owned(),
    }
}

/// One sight of several. Where they follow each other, people see where one ends.
fn row(look: &Look, object: &impl serde::Serialize, text: impl FnOnce() -> String) -> String {
    let shown = look.shown_in_a_row(object, text);
    if look.format == Format::Table && look.terminal.is_none() { shown + "\n" } else { shown }
}

/// Takes out what time alone changes.
fn timeless(process: &mut PatternInfo) {
    process.uptime_seconds = 0;
    process.expires_in_seconds = process.expires_in_seconds.map(|_| 0);
    if let Some(suspension) = &mut process.suspension {
        suspension.ends_in_seconds = suspension.ends_in_seconds.map(|_| 0);
    }
}
