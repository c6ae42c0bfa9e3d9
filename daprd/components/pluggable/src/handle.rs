//! What one component resource calls through: the process behind the socket knows the resource's metadata before anything
//! else is asked of it, also a process that has taken the place of another. Q-pluggable-restart

use std::marker::PhantomData;

use component::{Error, ErrorKind, Open, Result, capabilities};
use proto::components::v1 as pb;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::{
    failure,
    held::{Call, Held},
    service::{Featured, Service},
    socket::{Caller, Instance, Socket},
};

/// One instance of a component, whose service is `S`.
pub struct Handle<S> {
    socket: Socket,
    caller: Caller,
    metadata: pb::MetadataRequest,
    /// How many connections had ended when the metadata were handed over last.
    told: Mutex<u64>,
    closed: CancellationToken,
    held: Held,
    service: PhantomData<fn() -> S>,
}

impl<S: Service> Handle<S> {
    /// Hands the metadata over.
    ///
    /// # Errors
    /// The component's; or its name does not fit into a header.
    pub async fn open(socket: Socket, open: &Open) -> Result<Self> {
        let properties = open
            .metadata
            .iter()
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .collect();
        let handle = Self {
            caller: Instance::new(&open.name)?.on(socket.channel()),
            metadata: pb::MetadataRequest { properties },
            told: Mutex::new(socket.lost()),
            socket,
            closed: CancellationToken::new(),
            held: Held::default(),
            service: PhantomData,
        };
        handle.tell().await?;
        Ok(handle)
    }

    async fn tell(&self) -> Result<()> {
        let telling = S::tell(self.caller.clone(), self.metadata.clone());
        telling.await.map_err(failure::plain)
    }

    /// For a call to a process that knows the metadata.
    ///
    /// # Errors
    /// The component's, where it has to be told anew; or the component is closed.
    pub async fn caller(&self) -> Result<Caller> {
        if self.closed.is_cancelled() {
            return Err(Error::new(ErrorKind::Unavailable, "component is closed"));
        }
        let lost = self.socket.lost();
        let mut told = self.told.lock().await;
        if *told < lost {
            self.tell().await?;
            *told = lost;
        }
        Ok(self.caller.clone())
    }

    /// The same, for calls of the kind's own service.
    ///
    /// # Errors
    /// As [`Handle::caller`].
    pub async fn client(&self) -> Result<S> {
        Ok(S::over(self.caller().await?))
    }

    /// Asks whether the component is well.
    ///
    /// # Errors
    /// As [`Handle::caller`]; the component's.
    pub async fn ping(&self) -> Result<()> {
        let mut client = self.client().await?;
        client.check().await.map_err(failure::plain)
    }

    /// For a call that says nothing to a process that does not know the metadata.
    pub fn unchecked(&self) -> Caller {
        self.caller.clone()
    }

    /// Keeps the component from being closed until `call` is over: what was settled has been told then.
    pub fn hold(&self, call: impl Future<Output = ()> + Send + 'static) -> Call {
        self.held.hold(call)
    }

    /// Calls fail from now on. On return those that are held are over, if they end in time.
    pub async fn close(&self) {
        self.end();
        self.held.finish().await;
    }

    /// The same without waiting.
    pub fn end(&self) {
        self.closed.cancel();
    }

    /// Until it is closed.
    pub fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }
}

impl<S: Featured> Handle<S> {
    /// Asks what the component can do.
    ///
    /// # Errors
    /// As [`Handle::caller`]; the component's.
    pub async fn features(&self) -> Result<Vec<String>> {
        let mut client = self.client().await?;
        client.declared().await.map_err(failure::plain)
    }
}

/// Declared features as capabilities. What no capability is called does not count, and names are taken in any case.
pub fn declared<C: capabilities::Capability>(features: &[String]) -> capabilities::Set<C> {
    let all = C::ALL.iter().copied();
    all.filter(|capability| {
        let mut names = features.iter();
        names.any(|name| name.eq_ignore_ascii_case(capability.name()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use component::pubsub::Capability::{BulkPublish, MessageTtl};

    use super::*;

    #[test]
    fn features_in_any_case_and_no_others() {
        let features = ["bulk_pubsub", "", "MESSAGE_TTL", "MESSAGE_TTL", "\u{0}?"];
        let features = features.map(str::to_owned);
        assert_eq!(declared(&features), [BulkPublish, MessageTtl].into());
    }
}
