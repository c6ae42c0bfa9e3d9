//! Spans as log lines (`tracing.stdout`).

use std::time::SystemTime;

use super::Record;

/// Logs each span.
pub(super) fn send(batch: &[Record]) {
    for record in batch {
        let parent = hex::encode(record.parent.unwrap_or_default());
        tracing::info!(
            target: "dapr.runtime.trace",
            "[{}] Trace: {} Span: {parent}/{} Time: [{} ->  {}] Annotations: []",
            record.name,
            record.context.trace_id(),
            record.context.span_id(),
            time(record.start),
            time(record.end),
        );
    }
}

fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| "-".to_owned(), |at| at.to_string())
}
