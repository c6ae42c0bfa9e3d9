//! The channel to one socket, the mark by which a component tells its instances apart, and a count of lost connections.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use component::{Error, ErrorKind};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::io::InspectReader;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// Carries the name of the component resource on every call.
const INSTANCE: &str = "x-component-instance";
/// The authority of a socket, which has no host.
const AUTHORITY: &str = "http://localhost";
/// Largest message that a component may answer with, in bytes: values may be larger than the 4 MiB that gRPC takes.
pub const MOST_MESSAGE: usize = 64 << 20;

/// What clients of a component call through.
pub type Caller = InterceptedService<Channel, Instance>;

/// One socket, for all components behind it.
#[derive(Clone, Debug)]
pub struct Socket {
    channel: Channel,
    lost: Arc<AtomicU64>,
}

/// Counts the end of a connection, when it is dropped with it.
struct Connection(Arc<AtomicU64>);

impl Connection {
    fn keep(&self) {}
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Socket {
    /// Connects; later, a broken connection is made anew by the next call.
    ///
    /// # Errors
    /// Where nobody listens.
    pub async fn connect(path: PathBuf) -> Result<Self, tonic::transport::Error> {
        let lost = Arc::<AtomicU64>::default();
        let count = Arc::clone(&lost);
        let connector = tower::service_fn(move |_| {
            let (path, count) = (path.clone(), Arc::clone(&count));
            async move {
                let stream = UnixStream::connect(path).await?;
                let connection = Connection(count);
                let watched = InspectReader::new(stream, move |_: &[u8]| connection.keep());
                Ok::<_, std::io::Error>(TokioIo::new(watched))
            }
        });
        let channel = Endpoint::from_static(AUTHORITY)
            .connect_with_connector(connector)
            .await?;
        Ok(Self { channel, lost })
    }

    /// For calls that are about no instance.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// How many connections have ended so far: behind the next one there may be another process.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }
}

/// Marks calls with the name of a component.
#[derive(Clone, Debug)]
pub struct Instance(MetadataValue<Ascii>);

impl Instance {
    /// # Errors
    /// For a name that no header can carry.
    pub fn new(name: &str) -> Result<Self, Error> {
        MetadataValue::try_from(name.as_bytes())
            .map(Self)
            .map_err(|error| {
                let message = format!("component name {name:?} does not fit into a header");
                Error::new(ErrorKind::InvalidRequest, message).with_source(error)
            })
    }

    pub fn on(self, channel: Channel) -> Caller {
        InterceptedService::new(channel, self)
    }
}

impl Interceptor for Instance {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(INSTANCE, self.0.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_carry_the_name() {
        let mut instance = Instance::new("größe").unwrap();
        let request = instance.call(Request::new(())).unwrap();
        let value = request.metadata().get(INSTANCE).unwrap();
        assert_eq!(value.as_bytes(), "größe".as_bytes());
        assert!(Instance::new("a\nb").is_err());
    }
}
