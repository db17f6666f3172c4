//! `GET` of a path: healthy at 200–399. Redirects are not followed, proxies are not used. Of bodies only the start
//! of one that comes with a failure is read: it often says why.

use super::target::unanswered;
use super::tcp;
use crate::model::Mask;
use crate::observed::ProbeOutcome;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

/// How long the body of a failure is waited for: the answer is known already.
const BODY_PATIENCE: Duration = Duration::from_millis(100);
/// How much of it is looked at, in bytes.
const BODY_READ: usize = 1_024;
/// How much of it is shown, in characters.
const BODY_SHOWN: usize = 160;

/// What the probed server may log.
const PROBE: &str = concat!("pattern-launcher-probe/", env!("CARGO_PKG_VERSION"));

/// What is asked for: the path as it was written, with what no request line may contain percent-encoded (RFC 3986).
pub(super) fn request_target(path: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    path.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(super) async fn ask(port: u16, path: &str, target: &str, mask: &Mask) -> ProbeOutcome {
    match get(port, target, mask).await {
        Ok(Answer { status: 200..=399, .. }) => ProbeOutcome::Success,
        Ok(Answer { status, body: Some(body) }) => {
            ProbeOutcome::Failure(format!("GET {path} answered {status}: {body}"))
        }
        Ok(Answer { status, body: None }) => ProbeOutcome::Failure(format!("GET {path} answered {status}")),
        Err(error) => unanswered(&format!("GET {path}"), error.as_ref()),
    }
}

/// What came back.
struct Answer {
    status: u16,
    /// The start of the body of a failure.
    body: Option<String>,
}

/// Asks over a connection of its own, see the module above.
async fn get(port: u16, target: &str, mask: &Mask) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let request = Request::get(target)
        .header(HOST, format!("127.0.0.1:{port}"))
        .header(USER_AGENT, PROBE)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let stream = tcp::connect(port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = if matches!(status, 200..=399) { None } else { start_of_body(response, mask).await };
        Ok(Answer { status, body })
    };
    // The connection is driven here and not by a task of its own: it ends with the answer, or with who waits for it.
    // It is closed when this returns, so that to shut it down before would be a system call for nothing.
    let (mut answer, mut connection) = (pin!(answer), pin!(connection.without_shutdown()));
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        _ = &mut connection => {}
    }
    // A connection that is over has left its answer, or its error, with who asked.
    answer.await
}

/// The first line of the body with something on it, cut and made safe to print; `None` where there is none at once or it
/// is no text.
async fn start_of_body(response: Response<Incoming>, mask: &Mask) -> Option<String> {
    let mut body = response.into_body();
    let first = tokio::time::timeout(BODY_PATIENCE, body.frame()).await.ok()??.ok()?.into_data().ok()?;
    let start = &first[..first.len().min(BODY_READ)];
    // A character may be cut in two at the end.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
    };
    // Before anything of it is cut or escaped, and not known by then.
    let text = mask.applied_to_cut(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let shown: String = line.chars().take(BODY_SHOWN).flat_map(char::escape_debug).collect();
    Some(if line.chars().count() > BODY_SHOWN { shown + "…" } else { shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_request_line_may_contain_is_encoded() {
        for (path, target) in [
            ("/health?deep=1&x=%20", "/health?deep=1&x=%20"),
            ("/a b#c", "/a%20b%23c"),
            ("/\u{e9}<\"\r\n", "/%C3%A9%3C%22%0D%0A"),
        ] {
            assert_eq!(request_target(path), target);
            Request::get(request_target(path)).body(()).expect("a request");
        }
    }
}
