//! What a transaction says to subscribers: an event for each write, with the data of the write or of its projection. Pure.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use bytes::Bytes;
use component::state::{Operation, SetRequest};
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::{
    cloud_event::{self, Parts},
    content_type, json,
};

/// A fresh id of an event, which is the key of its marker as well.
pub fn new_marker() -> String {
    format!("{MARKER_PREFIX}{}", cloud_event::new_id())
}

/// The operation that says in the store that a write was committed.
pub fn mark(marker: String) -> Operation {
    Operation::Upsert(SetRequest {
        key: marker,
        value: Bytes::from_static(MARKER_VALUE),
        ..SetRequest::default()
    })
}

/// How many operations a transaction has in the end: without projections, with a marker for each write.
pub fn committed(operations: &[Operation]) -> usize {
    let count = |operation: &Operation| match operation {
        Operation::Upsert(write) if is_projection(write) => 0,
        Operation::Upsert(_) => 2,
        Operation::Delete(_) => 1,
    };
    operations.iter().map(count).sum()
}

/// What is committed, and what is only said of a write, by its key.
pub fn split(operations: Vec<Operation>) -> (Vec<Operation>, HashMap<String, SetRequest>) {
    let mut committed = Vec::with_capacity(2 * operations.len());
    let mut projections = HashMap::new();
    for operation in operations {
        match operation {
            Operation::Upsert(write) if is_projection(&write) => {
                projections.insert(write.key.clone(), write);
            }
            operation => committed.push(operation),
        }
    }
    (committed, projections)
}

fn is_projection(write: &SetRequest) -> bool {
    let said = write.metadata.get("outbox.projection");
    said.is_some_and(|said| values::is_truthy(said))
}

/// What an event carries.
pub struct Payload<'w> {
    bytes: Cow<'w, [u8]>,
    content_type: &'w str,
}

impl<'w> Payload<'w> {
    /// What a write holds. Where values are JSON and the write does not call itself so, strings are their text and the rest
    /// is its JSON. Q-outbox-text
    pub fn of(write: &'w SetRequest, json_values: bool) -> Self {
        let content_type = write.metadata.get("contentType").map_or("", String::as_str);
        let is_text = json_values && !content_type::is_json(content_type);
        let text = if is_text {
            let value = serde_json::from_slice::<&RawValue>(&write.value).ok();
            value.and_then(json::string)
        } else {
            None
        };
        let bytes = match text {
            Some(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            None => Cow::Borrowed(&*write.value),
        };
        Self {
            bytes,
            content_type,
        }
    }

    /// The event around it; `metadata` are those of the write.
    pub fn event(
        &self,
        parts: Parts<'_>,
        id: &str,
        metadata: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Bytes {
        let parts = Parts {
            content_type: self.content_type,
            ..parts
        };
        cloud_event::event_of_write(parts, id, &self.bytes, metadata, now).into()
    }
}

/// Keys of markers begin with it; they have no prefix of the app.
pub const MARKER_PREFIX: &str = "outbox-";

/// Any value would do; this is what other sidecars of the app write.
const MARKER_VALUE: &[u8] = b"0";
