//! A Kubernetes API server in memory, for tests: objects with versions, streaming watches, bookmarks, pages, selectors,
//! patches and evictions, and everything that goes wrong with a real one on request: latency, answers that never
//! come, streams that fall silent, refusals, conflicts, compaction, and events that arrive late or twice.
//!
//! It is a tower service, or a server on a socket, and keeps to tokio's clock, so a test with paused time may wait minutes in no time.
//! What it does not do: validation but of a few rules, defaults, and rights (a refusal is a [`Fault`]).
#![deny(missing_docs)]

mod answer;
mod apply;
mod fault;
mod kinds;
mod request;
mod selector;
mod storage;
mod validation;
mod verbs;
mod watch;

use std::io;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch as signal;
use tower::BoxError;

pub use answer::Answer;
pub use fault::{Fault, On};
pub use request::{Seen, Target};

use crate::answer::AnswerBody;
use crate::fault::Faults;
use crate::storage::Storage;

/// Answers a request instead of the storage; `None` leaves it to the storage.
type Script = Box<dyn Fn(&Seen) -> Option<Answer> + Send>;

/// Looks at an object before it is written, and may change or refuse it.
type Admission = Box<dyn Fn(&Target, &mut Value) -> Result<(), String> + Send>;

/// The API server. Clones are the same one.
#[derive(Clone)]
pub struct Fake(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Counts what watches have to look at.
    turns: signal::Sender<u64>,
}

#[derive(Default)]
struct State {
    storage: Storage,
    faults: Faults,
    log: Vec<Seen>,
    script: Option<Script>,
    admission: Option<Admission>,
    /// What it says its own version is; nothing says that it does not know (404).
    release: Option<(String, String)>,
    /// Whether a watch from a version that is gone is refused at once, rather than by its first event.
    gone_at_once: bool,
}

impl State {
    /// The answer about what is no object.
    fn without_target(&self, seen: &Seen) -> Answer {
        match &self.release {
            Some((major, minor)) if seen.path == "/version" => Answer::object(json!({
                "major": major, "minor": minor, "gitVersion": format!("v{major}.{minor}.0"), "gitCommit": "",
                "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            })),
            _ => kinds::answer(seen).unwrap_or_else(|| Answer::status(404)),
        }
    }
}

/// Who writes what the test puts there.
const SOMEBODY: &str = "somebody";

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// An API server without objects. It knows every kind.
    pub fn new() -> Self {
        let turns = signal::Sender::new(0);
        Self(Arc::new(Shared {
            state: Mutex::default(),
            turns,
        }))
    }

    /// An API server that answers with `script` what that has an answer for.
    pub fn scripted(script: impl Fn(&Seen) -> Option<Answer> + Send + 'static) -> Self {
        let fake = Self::new();
        fake.change(|state| state.script = Some(Box::new(script)));
        fake
    }

    /// A plain client of it, without deadlines.
    pub fn client(&self) -> Client {
        Client::new(self.service(), "default")
    }

    /// The service behind a client.
    pub fn service(
        &self,
    ) -> impl tower::Service<
        Request<Body>,
        Response = Response<AnswerBody>,
        Error = BoxError,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static {
        let fake = self.clone();
        tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                fake.serve(&head, &body).await
            }
        })
    }

    /// Serves on a socket, for programs that connect by themselves. Connections end with the future.
    pub async fn listen(&self, listener: TcpListener) {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                Ok((socket, _)) = listener.accept() => connections.push(self.connection(socket)),
                Some(()) = connections.next() => {}
            }
        }
    }

    async fn connection(&self, socket: TcpStream) {
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            let fake = self.clone();
            // A boxed error keeps the future from being sent to another thread.
            async move { fake.receive(request).await.map_err(io::Error::other) }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        // A client that goes away is none of a server's business.
        let _ = connection
            .serve_connection(TokioIo::new(socket), service)
            .await;
    }

    async fn receive(self, request: Request<Incoming>) -> Result<Response<AnswerBody>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        self.serve(&head, &body).await
    }

    async fn serve(&self, head: &Parts, body: &[u8]) -> Result<Response<AnswerBody>, BoxError> {
        let seen = Seen::new(head, body);
        let target = Target::of(&seen);
        let faults = {
            let mut state = self.0.state.lock();
            state.log.push(seen.clone());
            target
                .as_ref()
                .map(|target| state.faults.of(&seen.verb, target))
                .unwrap_or_default()
        };
        let mut mute = false;
        for fault in faults {
            match fault {
                Fault::Latency(latency) => tokio::time::sleep(latency).await,
                Fault::Hang => return std::future::pending().await,
                Fault::Mute => mute = true,
                Fault::Stall => return Ok(answer::stalled()),
                Fault::Break => return Err("connection reset by the fake".into()),
                Fault::Status(code) => return Ok(Answer::status(code).into_response()),
            }
        }
        let response = self.respond(&seen, target);
        if mute {
            return std::future::pending().await;
        }
        Ok(response)
    }

    fn respond(&self, seen: &Seen, target: Option<Target>) -> Response<AnswerBody> {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        if let Some(answer) = state.script.as_ref().and_then(|script| script(seen)) {
            return answer.into_response();
        }
        let Some(target) = target else {
            return state.without_target(seen).into_response();
        };
        if seen.verb == "watch" {
            let turns = self.0.turns.subscribe();
            return watch::open(self, state, seen, &target, turns);
        }
        let before = state.storage.version();
        let answer = verbs::answer(state, seen, &target);
        let changed = state.storage.version() != before;
        drop(guard);
        if changed {
            self.turn();
        }
        answer.into_response()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.0.state.lock());
        self.turn();
        result
    }

    fn turn(&self) {
        self.0.turns.send_modify(|turns| *turns += 1);
    }

    /// Puts an object there, as somebody else would; `path` is that of its collection. Returns its version.
    pub fn put(&self, path: &str, object: Value) -> u64 {
        self.change(|state| state.storage.put(path, object, SOMEBODY))
    }

    /// Takes an object away, as somebody else would.
    pub fn remove(&self, path: &str, namespace: &str, name: &str) {
        self.change(|state| state.storage.remove(path, namespace, name));
    }

    /// Who has written a field of an object, which is given as its steps with dots between: `spec.ports.[port=80].name`.
    pub fn managers(&self, path: &str, namespace: &str, name: &str, field: &str) -> Vec<String> {
        self.change(|state| state.storage.managers(path, namespace, name, field))
    }

    /// An object as it stands.
    pub fn object(&self, path: &str, namespace: &str, name: &str) -> Option<Value> {
        self.change(|state| state.storage.get(path, namespace, name).cloned())
    }

    /// Forgets old events and lists: who watches or pages on from there is told that it is gone (410).
    pub fn compact(&self) {
        self.change(|state| state.storage.compact());
    }

    /// Says what version of Kubernetes this is.
    pub fn set_version(&self, major: &str, minor: &str) {
        self.change(|state| state.release = Some((major.to_owned(), minor.to_owned())));
    }

    /// Lets a watch from a forgotten version fail as a request, rather than by its first event.
    pub fn refuse_old_watches(&self) {
        self.change(|state| state.gone_at_once = true);
    }

    /// Ends all watches, as a server that restarts does.
    pub fn drop_watches(&self) {
        self.change(|state| state.storage.end_watches());
    }

    /// Sends a bookmark to the watches of a collection.
    pub fn bookmark(&self, path: &str) {
        self.change(|state| state.storage.bookmark(path));
    }

    /// Sends an event to the watches of a collection that is not what happened: a duplicate, an old one.
    pub fn inject(&self, path: &str, kind: &str, object: Value) {
        self.change(|state| state.storage.inject(path, kind, object));
    }

    /// Makes the collection of a kind unknown (404), or known again.
    pub fn define(&self, path: &str, known: bool) {
        self.change(|state| state.storage.define(path, known));
    }

    /// Lets something go wrong from now on.
    pub fn fault(&self, on: On, fault: Fault) {
        self.change(|state| state.faults.add(on, fault));
    }

    /// Ends all faults; what hangs goes on hanging.
    pub fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// Shows every object to `admission` before it is written.
    pub fn admit(
        &self,
        admission: impl Fn(&Target, &mut Value) -> Result<(), String> + Send + 'static,
    ) {
        self.change(|state| state.admission = Some(Box::new(admission)));
    }

    /// The requests so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.state.lock().log.clone()
    }

    /// Method and path of the requests so far.
    pub fn lines(&self) -> Vec<String> {
        let line = |seen: &Seen| format!("{} {}", seen.method, seen.path);
        self.0.state.lock().log.iter().map(line).collect()
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.0.turns.receiver_count()
    }

    /// Waits until a condition on the server holds.
    ///
    /// # Panics
    /// When it does not hold within a minute.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "not within a minute: {what}");
    }
}
