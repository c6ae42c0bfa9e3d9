//! The process suites: the real programs as black boxes, spoken to over their own wire only. One module per
//! boundary; `resources` holds what several of them load into a sidecar.

mod actors;
mod app_start;
mod bad_input;
mod bindings;
mod brokers;
mod configuration;
mod early;
mod holders;
mod injector;
mod invoke;
mod jobs;
mod lock;
mod metadata_health;
mod metrics;
mod mtls;
mod operator;
mod outbox;
mod placement;
mod pubsub;
mod redis;
mod reload;
mod replicas;
mod resources;
mod rotation;
mod scheduler;
mod scheduler_replicas;
mod sdk;
mod sdk_actors;
mod shutdown;
mod state_grpc;
mod state_http;
mod upstream_chart;
mod version;
