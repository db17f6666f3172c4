//! `GET` of a path: healthy at 200–399. Redirects are not followed, proxies are not used. Of bodies only the start
//! of one that comes with a failure is read: it often says why.

use super::target::unanswered;
use crate::observed::ProbeOutcome;
use reqwest::header::{CONNECTION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use std::time::Duration;

/// How long the body of a failure is waited for: the answer is known already.
const BODY_PATIENCE: Duration = Duration::from_millis(100);
/// How much of it is looked at, in bytes.
const BODY_READ: usize = 1_024;
/// How much of it is shown, in characters.
const BODY_SHOWN: usize = 160;

/// What the probed server may log.
const USER_AGENT: &str = concat!("pattern-launcher-probe/", env!("CARGO_PKG_VERSION"));

/// One client for all: it holds no connections, see the module above.
pub(super) fn client() -> reqwest::Result<Client> {
    let headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))]);
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .http1_only()
        .pool_max_idle_per_host(0)
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .build()
}

pub(super) async fn ask(client: &Client, port: u16, path: &str) -> ProbeOutcome {
    match client.get(format!("http://127.0.0.1:{port}{path}")).send().await {
        Ok(response) if matches!(response.status().as_u16(), 200..=399) => ProbeOutcome::Success,
        Ok(response) => {
            let status = response.status().as_u16();
            ProbeOutcome::Failure(match start_of_body(response).await {
                Some(body) => format!("GET {path} answered {status}: {body}"),
                None => format!("GET {path} answered {status}"),
            })
        }
        Err(error) => unanswered(&format!("GET {path}"), &error),
    }
}

/// The first line of the body with something on it, cut and made safe to print; `None` where there is none at once or it
/// is no text.
async fn start_of_body(mut response: Response) -> Option<String> {
    let first = tokio::time::timeout(BODY_PATIENCE, response.chunk()).await.ok()?.ok()??;
    let start = &first[..first.len().min(BODY_READ)];
    // A character may be cut in two at the end.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
    };
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let shown: String = line.chars().take(BODY_SHOWN).flat_map(char::escape_debug).collect();
    Some(if line.chars().count() > BODY_SHOWN { shown + "…" } else { shown })
}
