//! What an operation knows of the call besides its request.

use std::time::Duration;

use http::{Extensions, HeaderMap};
use security::SpiffeId;
use telemetry::trace::TraceContext;
use tokio::time::Instant;
use transport::Peer;

/// Which front end the call came through. Operations read it only under a `Compat:` comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    Grpc,
}

/// The circumstances of a call.
#[derive(Clone, Debug)]
pub struct CallContext {
    pub transport: Transport,
    /// The trace that the call belongs to, if tracing is on or the caller sent one.
    pub trace: Option<TraceContext>,
    /// Headers of the HTTP request, or metadata of the gRPC call. The API token is not among them.
    pub headers: HeaderMap,
    /// The identity that the connection proved; none without mutual TLS, so never on the ports of the app.
    pub caller: Option<SpiffeId>,
    /// When the caller stops waiting, if it said so.
    pub deadline: Option<Instant>,
}

/// Header in which a gRPC caller says how long it waits.
const TIMEOUT: &str = "grpc-timeout";
/// Most digits that the protocol allows in it.
const MOST_DIGITS: usize = 8;

impl CallContext {
    /// Reads what the layers, the accept loop and the caller left on a request.
    pub fn new(transport: Transport, headers: HeaderMap, extensions: &Extensions) -> Self {
        let peer = extensions.get::<Peer>();
        let timeout = match transport {
            Transport::Http => None,
            Transport::Grpc => headers
                .get(TIMEOUT)
                .and_then(|text| timeout(text.to_str().ok()?)),
        };
        Self {
            transport,
            trace: extensions.get().cloned(),
            caller: peer.and_then(|peer| security::peer_id(peer).ok().flatten()),
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            headers,
        }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// `grpc-timeout`: a number and its unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > MOST_DIGITS {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn timeouts_have_units() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("150m"), Some(Duration::from_millis(150)));
        for nonsense in ["", "5", "S", "-1S", "999999999S", "1\u{e9}"] {
            assert_eq!(timeout(nonsense), None, "{nonsense}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_grpc_caller_sets_a_deadline() {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_static("3S"));
        let of = |transport| CallContext::new(transport, headers.clone(), &Extensions::new());
        let expected = Instant::now() + Duration::from_secs(3);
        assert_eq!(of(Transport::Grpc).deadline, Some(expected));
        assert_eq!(of(Transport::Http).deadline, None);
        assert_eq!(of(Transport::Grpc).header(TIMEOUT), Some("3S"));
    }
}
