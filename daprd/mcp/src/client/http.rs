//! The streamable HTTP transport: each message is a request of its own, whose answer is JSON or a stream of events.

use async_trait::async_trait;
use bytes::Bytes;
use component::{Body, body};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use url::Url;

use super::{
    Json, Transport,
    events::Events,
    rpc::{self, Message},
};
use crate::{Error, auth::Credentials, endpoint::Http};

pub struct Streamable {
    url: Url,
    credentials: Credentials,
    limit: usize,
    /// What each request carries once the server has said it.
    agreed: Mutex<HeaderMap>,
}

impl Streamable {
    pub fn new(http: Http, limit: usize) -> Self {
        Self {
            url: http.url,
            credentials: http.credentials,
            limit,
            agreed: Mutex::default(),
        }
    }

    async fn post(&self, message: Bytes) -> Result<Response<Body>, Error> {
        let mut request = posted(&self.url, message)?;
        let headers = request.headers_mut();
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, accept);
        headers.extend(self.agreed.lock().clone());
        let answer = self.credentials.send(request).await?;
        let answer = match accepted(answer, &self.credentials).await {
            // The server has forgotten the session: a new one is to be opened.
            Err((StatusCode::NOT_FOUND, error)) if self.agreed.lock().contains_key(&SESSION) => {
                return Err(Error::closed(error.to_string()));
            }
            Err((_, error)) => return Err(error),
            Ok(answer) => answer,
        };
        if let Some(session) = answer.headers().get(&SESSION) {
            self.agreed.lock().insert(SESSION, session.clone());
        }
        Ok(answer)
    }

    /// The answer among messages, where it is one of them. What the server asks is answered.
    async fn answer(&self, id: u64, bytes: &[u8]) -> Result<Option<Json>, Error> {
        let mut found = None;
        for message in rpc::read(bytes)? {
            match message {
                Message::Answer(of, outcome) if of == id => found = Some(outcome?),
                Message::Question(answer) => drop(self.post(answer).await?),
                Message::Answer(..) | Message::Other => {}
            }
        }
        Ok(found)
    }

    async fn read(&self, id: u64, answer: Response<Body>) -> Result<Json, Error> {
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            let mut events = Events::new(answer.into_body(), self.limit);
            while let Some(event) = events.next().await? {
                // An event without data only says that the stream is there.
                if event.data.is_empty() {
                    continue;
                }
                if let Some(found) = self.answer(id, &event.data).await? {
                    return Ok(found);
                }
            }
            return Err(Error::broken_off("the stream ended"));
        }
        let whole = body::read(answer.into_body(), self.limit).await;
        let whole = whole.map_err(|error| match error {
            body::ReadError::TooLarge { .. } => Error::unusable(error.to_string()),
            body::ReadError::Broken(_) => Error::broken_off(error.to_string()),
        })?;
        let found = self.answer(id, &whole).await?;
        found.ok_or_else(|| Error::unusable("a message without the answer"))
    }
}

#[async_trait]
impl Transport for Streamable {
    async fn request(&self, id: u64, message: Bytes) -> Result<Json, Error> {
        let answer = self.post(message).await?;
        self.read(id, answer).await.map_err(Error::once_sent)
    }

    async fn notify(&self, message: Bytes) -> Result<(), Error> {
        self.post(message).await.map(drop)
    }

    fn settled(&self, version: &str) {
        if let Ok(version) = HeaderValue::from_str(version) {
            self.agreed.lock().insert(VERSION, version);
        }
    }

    async fn close(&self) {
        let agreed = self.agreed.lock().clone();
        if !agreed.contains_key(&SESSION) {
            return;
        }
        if let Ok(uri) = self.url.as_str().parse() {
            let mut request = Request::new(body::empty());
            *request.method_mut() = Method::DELETE;
            *request.uri_mut() = uri;
            request.headers_mut().extend(agreed);
            // A server may not know of goodbyes.
            let _ = self.credentials.send(request).await;
        }
    }
}

/// A message on its way to a server.
///
/// # Errors
/// Where the URL is none for HTTP.
pub fn posted(url: &Url, message: Bytes) -> Result<Request<Body>, Error> {
    let mut request = Request::new(body::full(message));
    *request.method_mut() = Method::POST;
    let uri = url.as_str().parse();
    *request.uri_mut() = uri.map_err(|_| Error::unusable(format!("{url} is no URL")))?;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(request)
}

/// An answer with a status of success, or what the server says instead.
///
/// # Errors
/// With the status.
pub async fn accepted(
    answer: Response<Body>,
    credentials: &Credentials,
) -> Result<Response<Body>, (StatusCode, Error)> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status == StatusCode::UNAUTHORIZED {
        credentials.refused().await;
    }
    let text = body::read(answer.into_body(), MOST_REFUSAL).await;
    let text = text.unwrap_or_default();
    let text: String = String::from_utf8_lossy(&text).chars().take(200).collect();
    let error = Error::unusable(format!("the server answers {status}: {}", text.trim()));
    Err((status, error))
}

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Most bytes that are read of a refusal, to tell why.
const MOST_REFUSAL: usize = 64 << 10;
