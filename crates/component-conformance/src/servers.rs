//! Real servers for tests, as child processes.

mod mosquitto;
mod rabbitmq;

pub use mosquitto::Mosquitto;
pub use rabbitmq::RabbitMq;
