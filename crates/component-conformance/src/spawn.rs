//! What a component is opened with in a test: a sidecar of its own, and tasks that end with the test.

use std::{future::Future, pin::Pin, sync::Arc};

use component::{Instance, Lent, Metadata, Open, Spawn};
use tokio::task::JoinSet;

/// Owns the loops of the components under test; dropping it ends them.
#[derive(Default)]
pub struct Tasks(std::sync::Mutex<JoinSet<()>>);

impl Spawn for Tasks {
    fn spawn(&self, _: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0
            .lock()
            .expect("a test that panics holds no lock")
            .spawn(task);
    }
}

/// The arguments of a constructor: the component `name` in a sidecar of the app `conformance`.
pub fn open(name: &str, metadata: &[(&str, &str)]) -> Open {
    let instance = Instance {
        app_id: "conformance".to_owned(),
        ..Instance::default()
    };
    Open::new(
        name,
        Metadata::from_iter(metadata.iter().copied()),
        Arc::new(instance),
        Arc::new(Tasks::default()),
        Lent::default(),
    )
}
