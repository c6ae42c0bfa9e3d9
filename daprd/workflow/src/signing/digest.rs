//! The bytes that are signed: digests of events as they are stored, and a form of inputs and outputs that is the same in all languages.

use bytes::Bytes;
use icu_normalizer::ComposingNormalizerBorrowed;
use prost::Message;
use proto::durabletask::{HistoryEvent, TaskFailureDetails};
use sha2::{Digest as _, Sha256};

use super::{Error, invalid};

/// A SHA-256.
pub type Digest = [u8; 32];

pub fn of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Events as they are stored and signed. They are encoded once: other bytes of the same message would be another event.
pub fn encoded(events: &[HistoryEvent]) -> Vec<Bytes> {
    let encode = |event: &HistoryEvent| Bytes::from(event.encode_to_vec());
    events.iter().map(encode).collect()
}

/// The digest of a run of events, each with its length before it.
pub fn of_events(events: &[Bytes]) -> Digest {
    let mut hash = Sha256::new();
    for event in events {
        put(&mut hash, event);
    }
    hash.finalize().into()
}

/// Where a piece of history belongs that is shown to others, so that it cannot be shown as that of another instance.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    pub instance: &'c str,
    pub workflow: &'c str,
}

/// What a signature is over: the signature before, the events, and where they belong.
pub fn message(previous: &[u8], events: &[u8], context: Option<Context<'_>>) -> Vec<u8> {
    let mut message = [previous, events].concat();
    for text in context.iter().flat_map(|it| [it.instance, it.workflow]) {
        message.extend(length(text.len()));
        message.extend(text.as_bytes());
    }
    message
}

/// The digest of what something was given and came to, both in their canonical form.
pub fn of_exchange(input: &[u8], output: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    put(&mut hash, input);
    put(&mut hash, output);
    hash.finalize().into()
}

/// The canonical form of an input, or of an output of what was completed.
pub fn canonical(text: Option<&str>) -> Vec<u8> {
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    let text = normalizer.normalize(text.unwrap_or_default());
    text.as_bytes().to_vec()
}

/// The canonical form of a failure.
///
/// # Errors
/// [`Error::Invalid`] where failures are inside each other more than 32 deep.
pub fn canonical_failure(details: Option<&TaskFailureDetails>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let nothing = TaskFailureDetails::default();
    let mut next = Some(details.unwrap_or(&nothing));
    let mut depth = 0;
    while let Some(details) = next {
        if depth == DEEPEST {
            return invalid(format!(
                "failures are inside each other more than {DEEPEST} deep"
            ));
        }
        depth += 1;
        let trace = details.stack_trace.as_deref().unwrap_or_default();
        for text in [&details.error_type, &details.error_message, trace] {
            let text = canonical(Some(text));
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(text);
        }
        next = details.inner_failure.as_deref();
        bytes.push(u8::from(next.is_some()));
    }
    Ok(bytes)
}

fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(length(bytes.len()));
    hash.update(bytes);
}

fn length(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}

/// Deepest chain of failures.
const DEEPEST: usize = 32;
