//! The older HTTP transport: a stream of events on which everything comes, and an address that it names, where everything goes.

use std::sync::Arc;

use async_trait::async_trait;
use blocks::Tasks;
use bytes::Bytes;
use component::body;
use http::{HeaderValue, Request, StatusCode, header};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::{
    Json, Limits, Transport,
    duplex::Waiting,
    events::Events,
    http::{accepted, posted},
};
use crate::{Error, auth::Credentials, endpoint::Http, error::within};

pub struct Sse {
    line: Arc<Line>,
    waiting: Waiting,
    /// Ends the reading.
    _open: DropGuard,
}

/// Where messages go.
struct Line {
    url: Url,
    credentials: Credentials,
}

impl Sse {
    /// # Errors
    /// Where the server does not say where messages go.
    pub async fn open(http: Http, limits: Limits, tasks: &Tasks) -> Result<Self, Error> {
        let Http {
            url, credentials, ..
        } = http;
        let mut request = Request::new(body::empty());
        let uri = url.as_str().parse();
        *request.uri_mut() = uri.map_err(|_| Error::unusable(format!("{url} is no URL")))?;
        let events = HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert(header::ACCEPT, events);
        let answer = credentials.send(request).await?;
        let answer = accepted(answer, &credentials).await;
        let answer = answer.map_err(|(_, error)| error)?;
        let mut events = Events::new(answer.into_body(), limits.message);
        let target = loop {
            match events.next().await? {
                Some(event) if event.kind == "endpoint" => break target(&url, &event.data)?,
                Some(_) => {}
                None => {
                    return Err(Error::closed(
                        "the stream ended before it named an endpoint",
                    ));
                }
            }
        };
        let line = Arc::new(Line {
            url: target,
            credentials,
        });
        let (waiting, open) = (Waiting::default(), CancellationToken::new());
        let reading = read(events, Arc::clone(&line), waiting.clone(), limits);
        let until = open.clone();
        tasks.spawn("MCP server's events", async move {
            until.run_until_cancelled(reading).await;
        });
        Ok(Self {
            line,
            waiting,
            _open: open.drop_guard(),
        })
    }
}

/// The address stays at the server that was asked: it gets the credentials.
fn target(base: &Url, data: &[u8]) -> Result<Url, Error> {
    let text = String::from_utf8_lossy(data);
    let target = base.join(text.trim());
    let target =
        target.map_err(|error| Error::unusable(format!("the endpoint {text:?}: {error}")))?;
    match target.origin() == base.origin() {
        true => Ok(target),
        false => Err(Error::unusable(format!(
            "the endpoint {target} is at another server"
        ))),
    }
}

async fn read(mut events: Events, line: Arc<Line>, waiting: Waiting, limits: Limits) {
    let reason = loop {
        match events.next().await {
            Ok(Some(event)) if matches!(event.kind.as_str(), "" | "message") => {
                for answer in waiting.take(&event.data) {
                    // Where the server does not hear that it is heard, it does something about it.
                    let _ = within(limits.timeout, line.send(answer)).await;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => break "the stream of events has ended".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    waiting.close(&reason);
}

impl Line {
    async fn send(&self, message: Bytes) -> Result<(), Error> {
        let request = posted(&self.url, message)?;
        let answer = self.credentials.send(request).await?;
        let answer = accepted(answer, &self.credentials).await;
        answer.map(drop).map_err(|(status, error)| match status {
            // The server has forgotten the session: a new one is to be opened.
            StatusCode::NOT_FOUND | StatusCode::GONE => Error::closed(error.to_string()),
            _ => error,
        })
    }
}

#[async_trait]
impl Transport for Sse {
    async fn request(&self, id: u64, message: Bytes) -> Result<Json, Error> {
        let ticket = self.waiting.enter(id)?;
        self.line.send(message).await?;
        ticket.answer().await
    }

    async fn notify(&self, message: Bytes) -> Result<(), Error> {
        self.line.send(message).await
    }
}
