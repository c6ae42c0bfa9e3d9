//! Calls to an etcd: to one endpoint after the other, each with a deadline, and with the token of the user.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::etcd::rpc::auth_client::AuthClient;
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::lease_client::LeaseClient;
use proto::etcd::rpc::maintenance_client::MaintenanceClient;
use proto::etcd::rpc::watch_client::WatchClient;
use proto::etcd::rpc::{AuthenticateRequest, AuthenticateResponse};
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::connect::{self, Options};

type Token = MetadataValue<Ascii>;

/// The endpoints, and who asks.
pub(super) struct Client {
    channels: Vec<Channel>,
    /// The endpoint that is asked; another one once it fails.
    current: AtomicUsize,
    user: Option<(String, String)>,
    token: Mutex<Option<Token>>,
}

/// An endpoint, as a call sees it.
#[derive(Clone)]
pub(super) struct Endpoint {
    channel: Channel,
    token: Option<Token>,
}

impl Endpoint {
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// A request of the user. A member without a leader refuses it at once, also in the middle of a stream.
    pub fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }
}

impl Client {
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let Options {
            username, password, ..
        } = options;
        let user = (!username.is_empty()).then(|| (username.clone(), password.clone()));
        Ok(Self {
            channels: connect::channels(options)?,
            current: AtomicUsize::new(0),
            user,
            token: Mutex::new(None),
        })
    }

    /// Calls one endpoint after the other until one answers. What may not happen twice goes to the next one only if it was
    /// not sent.
    pub async fn call<T, F, Fut>(&self, repeatable: bool, call: F) -> Result<T, Status>
    where
        F: Fn(Endpoint) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        // Once more than there are endpoints: a token may have expired.
        for left in (0..=self.channels.len()).rev() {
            let (at, outcome) = self.attempt(&call).await;
            let status = match outcome {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => status,
            };
            let again = if is_token(&status) {
                *self.token.lock() = None;
                self.user.is_some()
            } else if is_away(&status) {
                self.leave(at);
                repeatable || was_not_sent(&status)
            } else {
                false
            };
            if !again || left == 0 {
                return Err(status);
            }
        }
        Err(Status::unavailable("no endpoint answers"))
    }

    /// One call to the present endpoint, and which one that was.
    async fn attempt<T, F, Fut>(&self, call: F) -> (usize, Result<T, Status>)
    where
        F: Fn(Endpoint) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let at = self.current.load(Ordering::Relaxed) % self.channels.len();
        let calling = async {
            let channel = self.channels[at].clone();
            let token = self.token(&channel).await?;
            call(Endpoint { channel, token }).await
        };
        let outcome = timeout(CALL, calling).await;
        let late = |_| {
            Err(Status::deadline_exceeded(format!(
                "no answer within {CALL:?}"
            )))
        };
        (at, outcome.unwrap_or_else(late))
    }

    /// Opens a stream to the present endpoint.
    pub async fn open<T, F, Fut>(&self, call: F) -> Result<T, Status>
    where
        F: Fn(Endpoint) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let (at, outcome) = self.attempt(call).await;
        if let Err(status) = &outcome {
            self.broke(at, status);
        }
        outcome
    }

    /// The present endpoint.
    pub fn endpoint(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.channels.len()
    }

    /// A stream to an endpoint has failed.
    pub fn broke(&self, at: usize, status: &Status) {
        if is_token(status) {
            *self.token.lock() = None;
        } else {
            self.leave(at);
        }
    }

    /// Goes on to the next endpoint, unless somebody has done so.
    pub fn leave(&self, at: usize) {
        let next = (at + 1) % self.channels.len();
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        // Another call may have left it, too.
        let _ = self.current.compare_exchange(at, next, set, read);
    }

    async fn token(&self, channel: &Channel) -> Result<Option<Token>, Status> {
        let Some((name, password)) = &self.user else {
            return Ok(None);
        };
        if let Some(token) = self.token.lock().clone() {
            return Ok(Some(token));
        }
        let request = AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let reply = AuthClient::new(channel.clone()).authenticate(request).await;
        let token = match reply.map(Response::into_inner) {
            Ok(AuthenticateResponse { token, .. }) => token,
            // An etcd without users takes everybody.
            Err(status) if status.message().contains("authentication is not enabled") => {
                return Ok(None);
            }
            Err(status) => return Err(status),
        };
        let token = Token::try_from(token);
        let token = token.map_err(|_| Status::internal("etcd gives a token that is none"))?;
        *self.token.lock() = Some(token.clone());
        Ok(Some(token))
    }
}

/// The token is too old, or none was given.
fn is_token(status: &Status) -> bool {
    let message = status.message();
    message.contains("invalid auth token")
        || message.contains("auth store is old")
        || message.contains("user name is empty")
}

/// Another endpoint may answer.
fn is_away(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        // A connection that breaks has no code of etcd's.
        Code::Unknown | Code::Internal => !status.message().starts_with("etcdserver:"),
        _ => false,
    }
}

/// There was no connection, or the member knew that it cannot do it.
fn was_not_sent(status: &Status) -> bool {
    let first = std::error::Error::source(status);
    let mut causes = std::iter::successors(first, |error| error.source());
    status.message().contains("no leader") || causes.any(|error| error.is::<transport::Error>())
}

/// Longest time for an answer of one endpoint.
const CALL: Duration = Duration::from_secs(5);

/// Bytes of a message: etcd's own limit.
const MAX_MESSAGE: usize = i32::MAX as usize;
