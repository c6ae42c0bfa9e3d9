//! The connections to the server: one that publishes, one that consumes, for the server holds up a connection that publishes
//! more than it can take, acknowledgements and all. Each is made when it is first needed, and made anew after it broke.

use std::{sync::Arc, time::Duration};

use async_rs::TokioRuntime;
use component::{Error, ErrorKind, Result};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use lapin::{Channel, ConnectionProperties, auth::AuthProvider};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::failure,
    metadata::Settings,
    socket::{self, Cut},
};

/// Longest wait for a connection to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for an answer of the server to what it answers at once.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that is open, or was. Without its last owner it ends.
pub struct Connection {
    inner: lapin::Connection,
    cut: Cut,
}

impl Connection {
    /// A channel of its own.
    ///
    /// # Errors
    /// Where the connection is broken, or has as many as it may.
    pub async fn channel(&self) -> Result<Channel> {
        let opened = within(
            ANSWER_TIMEOUT,
            "opening a channel",
            self.inner.create_channel(),
        );
        let opened = opened.await;
        // One that does not answer is of no use to others either.
        if let Err(error) = &opened
            && error.kind() == ErrorKind::Unavailable
            && !self.is_blocked()
        {
            self.give_up();
        }
        opened
    }

    /// Whether it is in use still.
    pub fn is_up(&self) -> bool {
        self.inner.status().connected()
    }

    /// Whether the server takes no messages for now.
    pub fn is_blocked(&self) -> bool {
        self.inner.status().blocked()
    }

    /// Cuts it off. What was to be sent is forgotten.
    pub fn give_up(&self) {
        self.cut.off();
    }

    async fn close(&self) {
        if self.is_up() {
            let goodbye = self.inner.close(200, "closed".into());
            // One way or the other it is over.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
        }
        self.give_up();
    }
}

/// Everybody who waits for the same attempt gets its outcome.
type Attempt = Shared<BoxFuture<'static, Result<Arc<Connection>, Arc<Error>>>>;

/// A connection by what it is for.
struct Purpose {
    what: &'static str,
    current: Mutex<Option<Attempt>>,
}

/// Both connections.
pub struct Client {
    settings: Settings,
    publishing: Purpose,
    consuming: Purpose,
    closed: CancellationToken,
}

impl Client {
    /// Connects, so that a wrong address or password is found now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Unauthorized`], naming the host.
    pub async fn open(settings: Settings) -> Result<Self> {
        let purpose = |what| Purpose {
            what,
            current: Mutex::new(None),
        };
        let client = Self {
            settings,
            publishing: purpose("publishing"),
            consuming: purpose("consuming"),
            closed: CancellationToken::new(),
        };
        client.publishing().await?;
        Ok(client)
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connection for publishing.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub async fn publishing(&self) -> Result<Arc<Connection>> {
        self.connection(&self.publishing).await
    }

    /// The connection for consuming.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub async fn consuming(&self) -> Result<Arc<Connection>> {
        self.connection(&self.consuming).await
    }

    async fn connection(&self, purpose: &Purpose) -> Result<Arc<Connection>> {
        loop {
            self.check_open()?;
            let attempt = {
                let mut current = purpose.current.lock();
                current
                    .get_or_insert_with(|| self.attempt(purpose.what))
                    .clone()
            };
            let outcome = tokio::select! {
                outcome = attempt.clone() => outcome,
                () = self.closed.cancelled() => return Err(closed()),
            };
            let broken = outcome
                .as_ref()
                .map_or(true, |connection| !connection.is_up());
            if broken {
                let mut current = purpose.current.lock();
                if current.as_ref().is_some_and(|other| other.ptr_eq(&attempt)) {
                    *current = None;
                }
            }
            match outcome {
                Ok(connection) if !broken => return Ok(connection),
                Ok(_) => {}
                Err(error) => {
                    let again = Error::new(error.kind(), error.message());
                    let cause = std::error::Error::source(&*error).map(ToString::to_string);
                    return Err(match cause {
                        Some(cause) => again.with_source(cause),
                        None => again,
                    });
                }
            }
        }
    }

    fn attempt(&self, what: &'static str) -> Attempt {
        let settings = self.settings.clone();
        let dial = async move { dial(&settings, what).await.map(Arc::new).map_err(Arc::new) };
        dial.boxed().shared()
    }

    /// Whether it was not closed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub fn check_open(&self) -> Result<()> {
        match self.closed.is_cancelled() {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    /// Until it is closed.
    pub fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Ends both connections; there are none after that.
    pub async fn close(&self) {
        self.closed.cancel();
        let open = |purpose: &Purpose| {
            let attempt = purpose.current.lock().take();
            attempt
                .and_then(|attempt| attempt.peek().cloned())
                .and_then(Result::ok)
        };
        let (one, other) = (open(&self.publishing), open(&self.consuming));
        let open = one.into_iter().chain(other);
        futures::future::join_all(open.map(|one| async move { one.close().await })).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "component is closed")
}

async fn dial(settings: &Settings, what: &str) -> Result<Connection> {
    let address = &settings.address;
    // The library goes on connecting on its thread when nobody waits any more.
    let cut = Cut::default();
    let attempt = Unfinished(Some(cut.clone()));
    let mut properties = ConnectionProperties::default();
    if let Some(name) = &settings.client_name {
        properties = properties.with_connection_name(name.as_str().into());
    }
    if settings.external {
        properties = properties.with_auth_provider(Certificate);
    }
    let (tls, limit, held) = (settings.tls.clone(), address.dial_timeout, cut.clone());
    let connect = async move |uri, runtime| {
        let dialled = socket::connect(&uri, &runtime, tls.clone(), &held);
        let dialled = tokio::time::timeout(limit, dialled).await;
        Ok(dialled.map_err(std::io::Error::from)??)
    };
    let authority = &address.uri.authority;
    let told = format!(
        "connecting to rabbitmq at {}:{} for {what}",
        authority.host, authority.port
    );
    let connector = lapin::Connection::connector(
        address.uri.clone(),
        TokioRuntime::tokio_current(),
        connect,
        properties,
    );
    let inner = within(limit, &told, connector).await?;
    attempt.succeeded();
    Ok(Connection { inner, cut })
}

/// An attempt to connect: given up, it ends.
struct Unfinished(Option<Cut>);

impl Unfinished {
    fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(cut) = self.0.take() {
            cut.off();
        }
    }
}

/// The certificate of the connection says who we are.
struct Certificate;

impl AuthProvider for Certificate {}

/// What the library does, within a time.
///
/// # Errors
/// Its own, or [`ErrorKind::Unavailable`] once the time is over.
pub async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(|error| failure(what, error)),
        Err(late) => Err(Error::unavailable(what, late)),
    }
}
