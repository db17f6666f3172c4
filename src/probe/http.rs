//! `GET` of a path: healthy at 200–399. Redirects are not followed, proxies are not used, bodies are not read.

use super::target::unanswered;
use crate::observed::ProbeOutcome;
use reqwest::Client;
use reqwest::header::{CONNECTION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;

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
        Ok(response) => ProbeOutcome::Failure(format!("GET {path} answered {}", response.status().as_u16())),
        Err(error) => unanswered(&format!("GET {path}"), &error),
    }
}
