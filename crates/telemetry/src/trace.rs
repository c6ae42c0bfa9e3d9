//! Traces: W3C context in and out, sampling, spans, and their export (contract 10.7).

pub mod attribute;
mod baggage;
mod context;
mod export;
mod options;
mod sampler;
mod span;
mod tracer;

pub use baggage::{BAGGAGE, Baggage};
pub use context::{
    GRPC_TRACE_BIN, TRACEPARENT, TRACESTATE, TraceContext, inject_none, inject_none_grpc,
};
pub use export::ExportTask;
pub use options::{OtlpOptions, Protocol, TraceOptions};
pub use sampler::Sampler;
pub use span::{Attribute, Event, Kind, Record, Span, Status, Value};
pub use tracer::Tracer;
