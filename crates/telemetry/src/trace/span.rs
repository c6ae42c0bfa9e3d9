//! A span: under way, then recorded when it is dropped.

use std::borrow::Cow;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::context::TraceContext;

/// Which side of a call a span stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answers a remote call.
    Server,
    /// Makes a remote call.
    Client,
    /// Hands over a message.
    Producer,
    /// Takes a message.
    Consumer,
    /// Neither side of a call.
    Internal,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Integer(i64),
    /// Texts in order.
    List(Vec<String>),
}

/// An attribute: its name, and what it says.
pub type Attribute = (Cow<'static, str>, Value);

/// Something that happened while a span was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub name: Cow<'static, str>,
    /// When.
    pub at: SystemTime,
    /// More about it.
    pub attributes: Vec<Attribute>,
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing was said.
    #[default]
    Unset,
    /// It failed, with a description.
    Error(String),
}

impl Status {
    /// The status for an HTTP answer: an error from 400 on.
    #[must_use]
    pub fn from_http(status: http::StatusCode) -> Self {
        if status.as_u16() < 400 {
            return Status::Unset;
        }
        let reason = status.canonical_reason().unwrap_or("Unknown");
        Status::Error(format!("Code({}): {reason}", status.as_u16()))
    }
}

/// A span. What is not sampled only carries its context and costs nothing else.
#[derive(Debug)]
pub struct Span {
    context: Option<TraceContext>,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
struct Recording {
    record: Record,
    queue: mpsc::Sender<Record>,
}

/// A finished span on its way to the exporters. Work that outlives processes has no [`Span`]; it is said as this when it has
/// ended ([`super::Tracer::record`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is called.
    pub name: Cow<'static, str>,
    /// Which side it stands for.
    pub kind: Kind,
    /// Where it stands.
    pub context: TraceContext,
    /// The span id of the one above.
    pub parent: Option<[u8; 8]>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// At most 128 of them are exported.
    pub attributes: Vec<Attribute>,
    /// What happened meanwhile; at most 128 are exported.
    pub events: Vec<Event>,
    /// How it ended.
    pub status: Status,
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl Value {
    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Integer(_) => false,
            Self::List(list) => list.is_empty(),
        }
    }

    /// The value as one text, for exporters that know nothing else.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Integer(number) => number.to_string().into(),
            Self::List(list) => list.join(",").into(),
        }
    }
}

impl Span {
    pub(super) fn silent(context: Option<TraceContext>) -> Self {
        Span {
            context,
            recording: None,
        }
    }

    pub(super) fn recording(record: Record, queue: mpsc::Sender<Record>) -> Self {
        let context = Some(record.context.clone());
        Span {
            context,
            recording: Some(Box::new(Recording { record, queue })),
        }
    }

    /// Where this span stands, for headers of calls below it; `None` when tracing has no provider and
    /// the caller sent no context.
    #[must_use]
    pub fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// Whether anything said about the span is kept.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.recording.is_some()
    }

    /// Changes the name.
    pub fn set_name(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(recording) = &mut self.recording {
            recording.record.name = name.into();
        }
    }

    /// Adds an attribute; a later value for the same key wins, empty values are left out, and a span
    /// takes at most 128.
    pub fn set_attribute(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let (key, value) = (key.into(), value.into());
        let attributes = &mut recording.record.attributes;
        if value.is_empty() {
            return;
        }
        if let Some((_, old)) = attributes.iter_mut().find(|(known, _)| *known == key) {
            *old = value;
        } else if attributes.len() < MAX_ATTRIBUTES {
            attributes.push((key, value));
        }
    }

    /// Says how it went.
    pub fn set_status(&mut self, status: Status) {
        if let Some(recording) = &mut self.recording {
            recording.record.status = status;
        }
    }

    /// Ends the span now; dropping it does the same.
    pub fn end(self) {}
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut recording) = self.recording.take() {
            recording.record.end = SystemTime::now();
            // A full queue means that the collector cannot keep up: spans give way, requests do not.
            let _ = recording.queue.try_send(recording.record);
        }
    }
}

/// Attributes of one span.
pub(super) const MAX_ATTRIBUTES: usize = 128;

/// Events of one span.
pub(super) const MAX_EVENTS: usize = 128;
