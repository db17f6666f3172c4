//! Bodies of answers, compressed for who understands that.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::io::Write as _;

/// What is shorter fits into one packet anyway.
const COMPRESSED_FROM: usize = 1_024;

/// What is answered, before it is known how the client reads it.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    kind: &'static str,
    text: Vec<u8>,
    /// A header that goes with it.
    more: Option<(HeaderName, HeaderValue)>,
}

impl Page {
    /// An answer in JSON.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Strings and numbers can always be written.
        let mut text = serde_json::to_vec(body).unwrap_or_default();
        text.push(b'\n');
        Self::new(status, "application/json", text)
    }

    /// An answer of some kind.
    pub(super) const fn new(status: StatusCode, kind: &'static str, text: Vec<u8>) -> Self {
        Self { status, kind, text, more: None }
    }

    /// With one more header.
    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.more = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// As the client wants it.
    pub(super) fn answer(self, encoding: Encoding) -> Response<Full<Bytes>> {
        let Self { status, kind, text, more } = self;
        let zipped = if encoding == Encoding::Gzip && text.len() >= COMPRESSED_FROM { zip(&text) } else { None };
        let coded = zipped.is_some();
        let mut response = Response::new(Full::from(zipped.unwrap_or(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.extend(more);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if coded {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// `None` when memory says no, which it does not.
fn zip(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text).ok()?;
    encoder.finish().ok()
}

/// How a client reads an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Gzip,
}

impl Encoding {
    /// What the headers of a request accept.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let (mut gzip, mut any) = (None, None);
        for part in values.flat_map(|value| value.split(',')) {
            let mut words = part.split(';').map(str::trim);
            let coding = words.next().unwrap_or_default();
            let refused = words
                .filter_map(|word| word.strip_prefix("q=").or_else(|| word.strip_prefix("Q=")))
                .any(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                gzip = Some(!refused);
            } else if coding == "*" {
                any = Some(!refused);
            }
        }
        if gzip.or(any) == Some(true) { Self::Gzip } else { Self::Plain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_who_says_so() {
        for (accept, encoding) in [
            ("", Encoding::Plain),
            ("gzip", Encoding::Gzip),
            ("deflate, GZIP;q=0.5, *;q=0", Encoding::Gzip),
            ("gzip;q=0, *", Encoding::Plain),
            ("gzip; q=0.000", Encoding::Plain),
            ("*", Encoding::Gzip),
            ("identity", Encoding::Plain),
            ("xgzip", Encoding::Plain),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))]);
            assert_eq!(Encoding::accepted(&headers), encoding, "{accept}");
        }
    }
}
