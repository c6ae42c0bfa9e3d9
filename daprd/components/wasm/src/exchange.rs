//! A request on its way through a guest, and the response to it: what the guest sees of them, and what it may change when. Does
//! no I/O: bodies are filled by whoever has them.

use bytes::{Bytes, BytesMut};
use component::{Body, middleware::Caller};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request,
    response,
};
use thiserror::Error;

use crate::{
    bodies::{Incoming, joined},
    headers::{self, Change, List},
    settings::MOST_HEADERS,
};

mod kinds;
mod uri;

pub use kinds::{BodyKind, Features, HeaderKind};

/// What a guest asked for and may not: its call ends with it.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// The response, as far as there is one.
#[derive(Default)]
struct Reply {
    status: Option<StatusCode>,
    headers: HeaderMap,
    trailers: HeaderMap,
    body: BytesMut,
    /// How far the guest has read its body.
    at: usize,
    /// The guest has written the body since it was handed the response.
    written: bool,
    /// The body is not the one that `content-length` is about.
    resized: bool,
    extensions: http::Extensions,
}

/// The two of them.
pub struct Exchange {
    request: request::Parts,
    source: String,
    pub incoming: Incoming,
    /// What the guest has put in place of the request's body.
    written: Option<BytesMut>,
    reply: Reply,
    features: Features,
    after_next: bool,
    headers_left: usize,
    most_body: usize,
}

impl Exchange {
    /// Of a request; bodies that the guest reads or writes have at most `most_body` bytes.
    pub fn new(request: Request<Body>, features: Features, most_body: usize) -> Self {
        let (request, body) = request.into_parts();
        // Q-wasm-source: ports are not told.
        let source = request.extensions.get::<Caller>();
        let source = source.map(|caller| std::net::SocketAddr::new(caller.0, 0).to_string());
        Self {
            source: source.unwrap_or_default(),
            request,
            incoming: Incoming::new(body, most_body),
            written: None,
            reply: Reply::default(),
            features,
            after_next: false,
            headers_left: MOST_HEADERS,
            most_body,
        }
    }

    /// Enables features for this exchange: all of them, once what comes next has answered, are too late.
    pub fn enable(&mut self, bits: u32) -> Features {
        if !self.after_next {
            self.features = self.features.with(bits);
        }
        self.features
    }

    /// The response is held back until the guest has seen it.
    pub fn buffers_response(&self) -> bool {
        self.features.buffers_response()
    }

    pub fn method(&self) -> &str {
        self.request.method.as_str()
    }

    pub fn set_method(&mut self, method: &[u8]) -> Result<(), Misuse> {
        self.before_next("the method")?;
        let parsed = Method::from_bytes(method).map_err(|_| {
            let method = String::from_utf8_lossy(method);
            Misuse(format!("{method:?} is no method"))
        })?;
        self.request.method = parsed;
        Ok(())
    }

    /// Path and query.
    pub fn uri(&self) -> &str {
        let uri = self.request.uri.path_and_query();
        uri.map_or("/", http::uri::PathAndQuery::as_str)
    }

    pub fn set_uri(&mut self, uri: &[u8]) -> Result<(), Misuse> {
        self.before_next("the URI")?;
        let path = uri::parse(uri)?;
        self.request.uri = uri::with_path(&self.request.uri, path)?;
        Ok(())
    }

    /// As Go spells it.
    pub fn version(&self) -> &'static str {
        match self.request.version {
            Version::HTTP_09 => "HTTP/0.9",
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        }
    }

    /// Address and port of the caller; empty where it is not known.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn header_names(&mut self, kind: HeaderKind) -> List {
        headers::names(self.headers(kind))
    }

    pub fn header_values(&mut self, kind: HeaderKind, name: &[u8]) -> Result<List, Misuse> {
        headers::values(self.headers(kind), name)
    }

    pub fn change_header(
        &mut self,
        kind: HeaderKind,
        change: Change,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Misuse> {
        match kind {
            HeaderKind::Request => self.before_next("a header of the request")?,
            HeaderKind::RequestTrailers => self.before_next("a trailer of the request")?,
            HeaderKind::Response => self.while_held("a header of the response")?,
            HeaderKind::ResponseTrailers => self.while_held("a trailer of the response")?,
        }
        let mut left = self.headers_left;
        let changed = headers::change(self.headers(kind), change, name, value, &mut left);
        self.headers_left = left;
        changed
    }

    /// Q-wasm-headers: each kind has its own, and `host` is a header like others.
    fn headers(&mut self, kind: HeaderKind) -> &mut HeaderMap {
        match kind {
            HeaderKind::Request => &mut self.request.headers,
            HeaderKind::RequestTrailers => self.incoming.trailers(),
            HeaderKind::Response => &mut self.reply.headers,
            HeaderKind::ResponseTrailers => &mut self.reply.trailers,
        }
    }

    /// The body of the request can be read: before what comes next has it.
    pub fn may_read_request(&self) -> Result<(), Misuse> {
        self.before_next("the body of the request")
    }

    /// Reads on in the body of the response: how much, and whether it was the last.
    pub fn read_response(&mut self, room: &mut [u8]) -> Result<(usize, bool), Misuse> {
        if !self.buffers_response() {
            return Err(unbuffered("the body of the response"));
        }
        let unread = &self.reply.body[self.reply.at..];
        let count = unread.len().min(room.len());
        room[..count].copy_from_slice(&unread[..count]);
        self.reply.at += count;
        Ok((count, self.reply.at == self.reply.body.len()))
    }

    /// Writes a body: the first time in place of what there is, then behind it.
    pub fn write_body(&mut self, kind: BodyKind, bytes: &[u8]) -> Result<(), Misuse> {
        let body = match kind {
            BodyKind::Request => {
                self.before_next("the body of the request")?;
                self.written.get_or_insert_default()
            }
            BodyKind::Response => {
                self.while_held("the body of the response")?;
                if !std::mem::replace(&mut self.reply.written, true) {
                    self.reply.body = BytesMut::new();
                    self.reply.at = 0;
                    self.reply.resized = true;
                }
                &mut self.reply.body
            }
        };
        if bytes.len() > self.most_body.saturating_sub(body.len()) {
            let most = self.most_body;
            return Err(Misuse(format!("the body is larger than {most} bytes")));
        }
        body.extend_from_slice(bytes);
        Ok(())
    }

    /// The status of a response that is held back.
    pub fn status(&self) -> Result<u32, Misuse> {
        match self.buffers_response() {
            true => Ok(self.reply.status.unwrap_or_default().as_u16().into()),
            false => Err(unbuffered("the status")),
        }
    }

    pub fn set_status(&mut self, status: u32) -> Result<(), Misuse> {
        self.while_held("the status")?;
        let valid = u16::try_from(status).ok().filter(|status| *status >= 200);
        let parsed = valid.and_then(|status| StatusCode::from_u16(status).ok());
        let none = || Misuse(format!("{status} is no status of a response"));
        self.reply.status = Some(parsed.ok_or_else(none)?);
        Ok(())
    }

    fn before_next(&self, what: &str) -> Result<(), Misuse> {
        match self.after_next {
            true => Err(Misuse(format!(
                "{what} is out of reach once the request has gone on"
            ))),
            false => Ok(()),
        }
    }

    fn while_held(&self, what: &str) -> Result<(), Misuse> {
        match self.after_next && !self.buffers_response() {
            true => Err(unbuffered(what)),
            false => Ok(()),
        }
    }

    /// The request as it goes on.
    pub fn forward(&mut self) -> Request<Body> {
        self.after_next = true;
        let mut request = Request::new(());
        *request.method_mut() = self.request.method.clone();
        *request.uri_mut() = self.request.uri.clone();
        *request.version_mut() = self.request.version;
        *request.headers_mut() = self.request.headers.clone();
        *request.extensions_mut() = std::mem::take(&mut self.request.extensions);
        let Some(written) = self.written.take() else {
            // Q-wasm-read-body: what the guest has read is still there.
            return request.map(|()| self.incoming.whole());
        };
        let headers = request.headers_mut();
        let trailers = std::mem::take(self.incoming.trailers());
        headers.remove(header::TRANSFER_ENCODING);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(written.len()));
        request.map(|()| joined(written.freeze(), None, trailers))
    }

    /// Takes the response that came, for the guest to look at.
    pub fn hold(&mut self, response: response::Parts, body: &[u8], trailers: HeaderMap) {
        let reply = &mut self.reply;
        reply.status = Some(response.status);
        reply.headers.extend(response.headers);
        reply.trailers.extend(trailers);
        reply.extensions = response.extensions;
        reply.resized |= !reply.body.is_empty();
        reply.body.extend_from_slice(body);
        reply.written = false;
    }

    /// The response that the guest has made, or held back.
    pub fn reply(self) -> Response<Body> {
        let after_next = self.after_next;
        let Reply {
            status,
            headers,
            trailers,
            body,
            resized,
            extensions,
            ..
        } = self.reply;
        let mut response = Response::new(());
        *response.status_mut() = status.unwrap_or_default();
        *response.headers_mut() = headers;
        *response.extensions_mut() = extensions;
        finish(
            response,
            resized || !after_next,
            body.freeze(),
            None,
            trailers,
        )
    }

    /// The response that came, behind what the guest has written of it before.
    pub fn beside(self, response: Response<Body>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        let mut headers = self.reply.headers;
        headers.extend(std::mem::take(&mut parts.headers));
        parts.headers = headers;
        parts.status = self.reply.status.unwrap_or(parts.status);
        let first = self.reply.body.freeze();
        let resized = !first.is_empty();
        let response = Response::from_parts(parts, ());
        finish(response, resized, first, Some(body), self.reply.trailers)
    }
}

fn finish(
    mut response: Response<()>,
    resized: bool,
    first: Bytes,
    rest: Option<Body>,
    trailers: HeaderMap,
) -> Response<Body> {
    let headers = response.headers_mut();
    // The server knows how long it is.
    if resized || !trailers.is_empty() {
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
    }
    // HTTP/1.1 sends those that are announced.
    for name in trailers.keys() {
        if let Ok(name) = HeaderValue::from_str(name.as_str()) {
            headers.append(header::TRAILER, name);
        }
    }
    response.map(|()| joined(first, rest, trailers))
}

fn unbuffered(what: &str) -> Misuse {
    Misuse(format!(
        "{what} is out of reach once the request has gone on, unless buffer_response is enabled before"
    ))
}

#[cfg(test)]
mod tests;
