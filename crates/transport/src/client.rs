//! HTTP and gRPC clients on a `Connector`, with the windows and pings that Dapr's traffic wants.

use std::time::Duration;

use http::Uri;
use http_body::Body;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::transport::{Channel, Endpoint};

use crate::server::{MAX_WINDOW, STREAM_WINDOW, WINDOWS_PER_CONNECTION, buffer_size};
use crate::{Connector, KeepAlive};

/// How an HTTP client pools and speaks.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Speak HTTP/2 with prior knowledge (gRPC); otherwise HTTP/1.1, or what ALPN says.
    pub http2_only: bool,
    /// Close pooled connections unused for this long.
    pub idle_timeout: Duration,
    /// Unused connections kept per host.
    pub max_idle_per_host: usize,
    /// HTTP/2 pings while requests are under way.
    pub keep_alive: Option<KeepAlive>,
    /// Largest response head in bytes.
    pub max_header_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            http2_only: false,
            idle_timeout: Duration::from_secs(90),
            max_idle_per_host: 512,
            keep_alive: Some(KeepAlive::default()),
            max_header_bytes: 64 << 10,
        }
    }
}

/// A pooled client; bodies stream in both directions, nothing is buffered.
pub fn client<B>(connector: Connector, options: ClientOptions) -> Client<Connector, B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut client = Client::builder(TokioExecutor::new());
    client
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(options.idle_timeout)
        .pool_max_idle_per_host(options.max_idle_per_host)
        .http1_max_buf_size(buffer_size(options.max_header_bytes))
        .http2_only(options.http2_only)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(
            (STREAM_WINDOW * WINDOWS_PER_CONNECTION).min(MAX_WINDOW),
        )
        .http2_max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX));
    if let Some(keep_alive) = options.keep_alive {
        client
            .http2_keep_alive_interval(keep_alive.interval)
            .http2_keep_alive_timeout(keep_alive.timeout);
    }
    client.build(connector)
}

/// How a gRPC channel connects.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Pings while calls are under way.
    pub keep_alive: Option<KeepAlive>,
    /// Ping also without calls; Go servers answer that with GOAWAY unless they allow it.
    pub keep_alive_while_idle: bool,
    /// Limits every call, from start to end of its stream; none is right for channels that carry streams.
    pub call_timeout: Option<Duration>,
    /// Largest response head in bytes.
    pub max_header_bytes: u32,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            keep_alive: Some(KeepAlive::default()),
            keep_alive_while_idle: false,
            call_timeout: None,
            max_header_bytes: 64 << 10,
        }
    }
}

impl ChannelOptions {
    /// To a service of the control plane, see [`KeepAlive::SELDOM`].
    #[must_use]
    pub fn control_plane() -> Self {
        Self {
            keep_alive: Some(KeepAlive::SELDOM),
            ..Self::default()
        }
    }
}

/// A gRPC channel that connects on the first call and again after a loss. The connector alone decides on TLS:
/// the scheme of `uri` only shows in the `:scheme` header.
pub fn channel(uri: Uri, connector: Connector, options: ChannelOptions) -> Channel {
    let mut endpoint = Endpoint::from(uri)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size((STREAM_WINDOW * WINDOWS_PER_CONNECTION).min(MAX_WINDOW))
        .http2_max_header_list_size(options.max_header_bytes)
        .keep_alive_while_idle(options.keep_alive_while_idle);
    if let Some(keep_alive) = options.keep_alive {
        endpoint = endpoint
            .http2_keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout);
    }
    if let Some(limit) = options.call_timeout {
        endpoint = endpoint.timeout(limit);
    }
    endpoint.connect_with_connector_lazy(connector)
}

/// Whether a request that failed cannot have come to the server: there was no connection, the request never got onto it, or
/// the server says that it has not looked at it (RFC 9113 sections 6.8 and 8.7). Such a one may be sent again, whatever it
/// does.
#[must_use]
pub fn never_left(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let unsent = error
            .downcast_ref::<legacy::Error>()
            .is_some_and(legacy::Error::is_connect)
            || error
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().is_some_and(refused);
        if unsent {
            return true;
        }
        cause = error.source();
    }
    false
}

fn refused(error: &h2::Error) -> bool {
    let reason = error.reason();
    let leaving = error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR);
    leaving || (error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
}

/// What went wrong with a call, and why, as one text. Layers of the client that only say that a call failed are left out.
#[must_use]
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        let is_wrapper = error.is::<hyper_util::client::legacy::Error>()
            || error.is::<tonic::transport::Error>()
            || error.is::<tonic::Status>();
        if is_wrapper && next.is_some() {
            continue;
        }
        let said = match error.downcast_ref::<tonic::Status>() {
            Some(status) => status.message().to_owned(),
            None => error.to_string(),
        };
        // Some errors repeat their cause.
        if !text.ends_with(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    #[tokio::test]
    async fn a_refused_connection_says_so_and_nothing_else() {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let uri: Uri = format!("http://127.0.0.1:{port}/").parse().unwrap();
        let client = client::<Empty<bytes::Bytes>>(Connector::plain(), ClientOptions::default());
        let error = client.get(uri).await.unwrap_err();
        let expected =
            format!("cannot connect to 127.0.0.1:{port}: Connection refused (os error 111)");
        assert_eq!(describe(&error), expected);
        assert_eq!(
            describe(&tonic::Status::from_error(Box::new(error))),
            expected
        );
        assert_eq!(describe(&tonic::Status::unavailable("away")), "away");
    }
}
