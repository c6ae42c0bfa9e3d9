//! Real servers for tests, as child processes.

mod etcd;
mod mosquitto;
mod rabbitmq;

pub use etcd::Etcd;
pub use mosquitto::Mosquitto;
pub use rabbitmq::RabbitMq;
