//! What workflows show of their histories to whom they ask for something: each app signs its own piece, and passes on the pieces of
//! others as they came.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use proto::durabletask::{HistoryEvent, PropagatedHistory, PropagatedHistoryChunk};

use super::{
    Error, Signer,
    chain::{Chain, Link},
    digest::Context,
    invalid,
    seals::{check_holder, fit},
};

/// Signs the pieces of this app that are not signed yet.
///
/// # Errors
/// [`Error::Key`].
pub fn sign(
    shown: &mut PropagatedHistory,
    signer: &dyn Signer,
    app_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let own = shown
        .chunks
        .iter_mut()
        .filter(|chunk| chunk.app_id == app_id && chunk.raw_signatures.is_empty());
    for chunk in own {
        let key = signer.key()?;
        if let Some(last) = chunk.raw_events.last_mut()
            && let Ok(mut event) = HistoryEvent::decode(last.clone())
        {
            let before = event.timestamp;
            fit(signer, &*key, &mut event, now)?;
            if event.timestamp != before {
                *last = event.encode_to_vec().into();
            }
        }
        let link = Link {
            events: &chunk.raw_events,
            start: 0,
            previous: None,
            certificate: 0,
            context: Some(context(chunk)),
        };
        let signature = link.sign(&*key)?;
        chunk.raw_signatures = vec![signature];
        chunk.signing_cert_chains = vec![key.chain().clone()];
    }
    Ok(())
}

/// Checks every piece: the certificates of those who have signed.
///
/// # Errors
/// [`Error::Invalid`] names the first piece that does not hold, and why.
pub fn verify(
    shown: &PropagatedHistory,
    signer: &dyn Signer,
    namespace: &str,
) -> Result<Vec<Bytes>, Error> {
    let mut chains = Vec::new();
    for (at, chunk) in shown.chunks.iter().enumerate() {
        let checked = verify_chunk(chunk, signer, namespace);
        let checked =
            checked.map_err(|error| error.within(format!("chunk {at} of app '{}'", chunk.app_id)));
        chains.extend(checked?);
    }
    Ok(chains)
}

fn verify_chunk(
    chunk: &PropagatedHistoryChunk,
    signer: &dyn Signer,
    namespace: &str,
) -> Result<Vec<Bytes>, Error> {
    let lacks = match chunk {
        chunk if chunk.app_id.is_empty() => Some("app id"),
        chunk if chunk.raw_events.is_empty() => Some("events"),
        chunk if chunk.raw_signatures.is_empty() => Some("signatures"),
        chunk if chunk.signing_cert_chains.is_empty() => Some("certificates"),
        _ => None,
    };
    if let Some(lacks) = lacks {
        return invalid(format!("it has no {lacks}"));
    }
    for (at, certificate) in chunk.signing_cert_chains.iter().enumerate() {
        check_holder(signer, certificate, &chunk.app_id, namespace)
            .map_err(|error| error.within(format!("certificate {at}")))?;
    }
    let chain = Chain {
        signatures: &chunk.raw_signatures,
        certificates: &chunk.signing_cert_chains,
        events: &chunk.raw_events,
        context: Some(context(chunk)),
    };
    let used = chain.verify(signer)?;
    let used = used
        .iter()
        .filter_map(|at| chunk.signing_cert_chains.get(*at));
    Ok(used.cloned().collect())
}

fn context(chunk: &PropagatedHistoryChunk) -> Context<'_> {
    Context {
        instance: &chunk.instance_id,
        workflow: &chunk.workflow_name,
    }
}

/// Says that signed pieces come to a sidecar that cannot check them.
pub fn warn_if_signed(shown: &PropagatedHistory) {
    let signed = |chunk: &&PropagatedHistoryChunk| !chunk.raw_signatures.is_empty();
    if let Some(chunk) = shown.chunks.iter().find(signed) {
        tracing::warn!(
            "propagated history of app '{}' is signed, and this sidecar does not sign: it is taken unverified",
            chunk.app_id
        );
    }
}
