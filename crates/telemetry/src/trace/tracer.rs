//! Makes spans, and hands finished ones to the exporters.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::context::TraceContext;
use super::export::ExportTask;
use super::options::TraceOptions;
use super::sampler::Sampler;
use super::span::{Kind, MAX_ATTRIBUTES, MAX_EVENTS, Record, Span, Status};
use crate::Error;

/// Makes spans. Cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    inner: Arc<Inner>,
}

struct Inner {
    sampler: Sampler,
    /// Without it nothing is recorded and contexts pass through unchanged.
    provider: bool,
    /// Present when someone wants the spans.
    queue: Option<mpsc::Sender<Record>>,
}

impl Tracer {
    /// A tracer, and the task that exports its spans.
    ///
    /// # Errors
    /// When an exporter's endpoint or header is malformed.
    pub fn new(options: &TraceOptions) -> Result<(Self, ExportTask), Error> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let task = ExportTask::new(options, receiver)?;
        let inner = Inner {
            sampler: Sampler::new(&options.sampling_rate),
            // A sampling rate without an exporter still makes trace ids.
            provider: task.exports() || !options.sampling_rate.is_empty(),
            queue: task.exports().then_some(sender),
        };
        Ok((
            Tracer {
                inner: Arc::new(inner),
            },
            task,
        ))
    }

    /// A tracer that never records and makes no ids.
    #[must_use]
    pub fn disabled() -> Self {
        let inner = Inner {
            sampler: Sampler::new("0"),
            provider: false,
            queue: None,
        };
        Tracer {
            inner: Arc::new(inner),
        }
    }

    /// Whether requests are traced at all; with a sampling rate of 0 they are not, and answers carry no
    /// trace headers.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.inner.sampler.is_off()
    }

    /// Starts a span below `parent`, or a new trace.
    #[must_use]
    pub fn start(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        parent: Option<&TraceContext>,
    ) -> Span {
        let inner = &*self.inner;
        if !inner.provider {
            return Span::silent(parent.cloned());
        }
        let span_id = id::<8>();
        let trace_id = parent.map_or_else(id::<16>, TraceContext::trace_id_bytes);
        let sampled = inner.sampler.samples(trace_id, parent);
        let context = match parent {
            Some(parent) => Some(parent.child(span_id, sampled)),
            None => TraceContext::new(trace_id, span_id, sampled),
        };
        let (Some(context), Some(queue), true) = (context.clone(), &inner.queue, sampled) else {
            return Span::silent(context);
        };
        let now = SystemTime::now();
        let record = Record {
            name: name.into(),
            kind,
            context,
            parent: parent.map(TraceContext::span_id_bytes),
            start: now,
            end: now,
            attributes: Vec::new(),
            events: Vec::new(),
            status: Status::Unset,
        };
        Span::recording(record, queue.clone())
    }

    /// Whether spans are made here: without it a context passes through as it came.
    #[must_use]
    pub fn makes_spans(&self) -> bool {
        self.inner.provider
    }

    /// Says a span that has ended, where its trace is recorded and somebody wants it.
    pub fn record(&self, mut record: Record) {
        let Some(queue) = self.inner.queue.as_ref() else {
            return;
        };
        if !record.context.is_sampled() {
            return;
        }
        record.attributes.truncate(MAX_ATTRIBUTES);
        record.events.truncate(MAX_EVENTS);
        // As with any span that ends: a full queue drops it.
        let _ = queue.try_send(record);
    }
}

/// An id that is not zero, which W3C does not allow. Ids have to differ, not to be secret.
fn id<const N: usize>() -> [u8; N] {
    let mut id = [0; N];
    while id == [0; N] {
        fastrand::fill(&mut id);
    }
    id
}

/// Finished spans that wait for export.
const QUEUE: usize = 2048;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tracer(rate: &str, stdout: bool) -> Tracer {
        let options = TraceOptions {
            sampling_rate: rate.into(),
            stdout,
            ..TraceOptions::default()
        };
        Tracer::new(&options).unwrap().0
    }

    #[test]
    fn ids_differ() {
        let seen: HashSet<[u8; 16]> = (0..1000).map(|_| id()).collect();
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn spans_follow_their_parent() {
        let tracer = tracer("1", true);
        let root = tracer.start("root", Kind::Client, None);
        assert!(root.is_sampled());
        let child = tracer.start("child", Kind::Server, root.context());
        let (root, child) = (root.context().unwrap(), child.context().unwrap());
        assert_eq!(root.trace_id(), child.trace_id());
        assert_ne!(root.span_id(), child.span_id());
        let unsampled = TraceContext::new([1; 16], [2; 8], false)
            .unwrap()
            .with_state("a=b");
        let span = tracer.start("x", Kind::Server, Some(&unsampled));
        assert!(!span.is_sampled() && !span.context().unwrap().is_sampled());
        assert_eq!(span.context().unwrap().tracestate(), Some("a=b"));
    }

    #[test]
    fn without_exporters() {
        let span = tracer("1", false).start("x", Kind::Client, None);
        assert!(!span.is_sampled());
        assert!(
            span.context().unwrap().is_sampled(),
            "ids are made for the sake of others"
        );
        assert!(
            tracer("", false)
                .start("x", Kind::Client, None)
                .context()
                .is_none()
        );
        let parent = TraceContext::new([1; 16], [2; 8], true).unwrap();
        let disabled = Tracer::disabled();
        assert!(!disabled.is_enabled());
        assert_eq!(
            disabled.start("x", Kind::Client, Some(&parent)).context(),
            Some(&parent)
        );
    }
}
