//! The broker of the tests: a queue per topic, from which a message is gone once it is acknowledged. It begins to answer a
//! subscription with its first message, as servers in Go do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, StreamExt, stream};
use proto::components::v1::{
    pub_sub_server::{PubSub, PubSubServer},
    *,
};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use crate::server::{Answer, Served};

/// What the process was told, and what it knows.
#[derive(Default)]
pub struct Told {
    /// The metadata of each `Init`.
    pub inits: Vec<BTreeMap<String, String>>,
    /// `Init` calls under way.
    pub initialising: usize,
    /// The process has its metadata.
    pub is_ready: bool,
    /// Who published last.
    pub publisher: String,
    pub pauses: usize,
    pub resumes: usize,
    /// Ids of the messages that were acknowledged, and what was wrong.
    pub acks: Vec<(String, Option<String>)>,
    /// Subscriptions that are open.
    pub open: usize,
    is_paused: bool,
    next: u64,
    topics: BTreeMap<String, BTreeMap<u64, PublishRequest>>,
}

/// The process.
pub struct Queue {
    features: Vec<String>,
    told: Mutex<Told>,
    /// Something of it has changed.
    changed: Notify,
    /// `Init` is never answered.
    pub silent: bool,
    /// `Pause` is known.
    pub pausable: bool,
}

/// Serves `pubsub.memory`.
pub fn serve(features: &[&str], change: impl FnOnce(&mut Queue)) -> Served<Queue> {
    let mut queue = Queue {
        features: features.iter().map(|one| (*one).to_owned()).collect(),
        told: Mutex::default(),
        changed: Notify::new(),
        silent: false,
        pausable: true,
    };
    change(&mut queue);
    let queue = Arc::new(queue);
    let routes = Routes::new(PubSubServer::new(Service(Arc::clone(&queue))));
    Served::start(queue, routes, &["PubSub"])
}

impl Queue {
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no test panics in between")
    }

    fn change<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        let changed = change(&mut self.told());
        self.changed.notify_waiters();
        changed
    }

    /// Another process takes its place: the messages are elsewhere, the metadata are gone.
    pub fn forget(&self) {
        self.change(|told| told.is_ready = false);
    }

    /// Puts a message into the queue.
    pub fn push(&self, message: PublishRequest) {
        self.change(|told| {
            told.next += 1;
            let topic = told.topics.entry(message.topic.clone()).or_default();
            topic.insert(told.next, message);
        });
    }

    /// Waits until it was told something.
    pub async fn wait(&self, what: &str, mut look: impl FnMut(&Told) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if look(&self.told()) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        waited.unwrap_or_else(|_| panic!("{what}: not within 20 s"));
    }

    fn check_ready(&self) -> Result<(), Status> {
        match self.told().is_ready {
            true => Ok(()),
            false => Err(Status::failed_precondition("it has no metadata")),
        }
    }
}

/// Counts a call for as long as it is under way.
struct UnderWay<'q>(&'q Queue);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.change(|told| told.initialising -= 1);
    }
}

/// One subscription. What it has not acknowledged goes back as it ends.
struct Pull {
    queue: Arc<Queue>,
    topic: String,
    requests: Streaming<PullMessagesRequest>,
    under_way: BTreeMap<u64, PublishRequest>,
}

impl Drop for Pull {
    fn drop(&mut self) {
        let back = std::mem::take(&mut self.under_way);
        self.queue.change(|told| {
            told.open -= 1;
            told.topics
                .entry(self.topic.clone())
                .or_default()
                .extend(back);
        });
    }
}

impl Pull {
    fn take(&mut self) -> Option<PullMessagesResponse> {
        let mut told = self.queue.told();
        if told.is_paused {
            return None;
        }
        let (id, message) = told.topics.get_mut(&self.topic)?.pop_first()?;
        drop(told);
        self.under_way.insert(id, message.clone());
        Some(PullMessagesResponse {
            data: message.data,
            topic_name: message.topic,
            metadata: message.metadata,
            content_type: message.content_type,
            id: id.to_string(),
        })
    }

    fn ack(&mut self, ack: PullMessagesRequest) {
        let id = ack.ack_message_id.parse().expect("one of its ids");
        let message = self.under_way.remove(&id).expect("a message under way");
        self.queue.change(|told| {
            let problem = ack.ack_error.map(|error| error.message);
            if problem.is_some() {
                let topic = told.topics.entry(self.topic.clone()).or_default();
                topic.insert(id, message);
            }
            told.acks.push((ack.ack_message_id, problem));
        });
    }

    async fn step(mut self) -> Option<(Result<PullMessagesResponse, Status>, Self)> {
        let queue = Arc::clone(&self.queue);
        loop {
            let changed = queue.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(message) = self.take() {
                return Some((Ok(message), self));
            }
            tokio::select! {
                () = changed => {}
                ack = self.requests.message() => match ack {
                    Ok(Some(ack)) => self.ack(ack),
                    Ok(None) | Err(_) => return None,
                },
            }
        }
    }
}

/// Serves it.
struct Service(Arc<Queue>);

impl std::ops::Deref for Service {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.0
    }
}

#[tonic::async_trait]
impl PubSub for Service {
    async fn init(&self, request: Request<PubSubInitRequest>) -> Answer<PubSubInitResponse> {
        assert!(request.metadata().contains_key("x-component-instance"));
        self.change(|told| told.initialising += 1);
        let _under_way = UnderWay(self);
        if self.silent {
            std::future::pending::<()>().await;
        }
        let properties = request.into_inner().metadata.expect("metadata").properties;
        self.change(|told| {
            told.inits.push(properties);
            told.is_ready = true;
        });
        Ok(Response::new(PubSubInitResponse {}))
    }

    async fn features(&self, _: Request<FeaturesRequest>) -> Answer<FeaturesResponse> {
        let features = self.features.clone();
        Ok(Response::new(FeaturesResponse { features }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Answer<PingResponse> {
        Ok(Response::new(PingResponse {}))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Answer<PublishResponse> {
        self.check_ready()?;
        let request = request.into_inner();
        if request.topic == "forbidden" {
            return Err(Status::permission_denied("not this topic"));
        }
        self.told().publisher.clone_from(&request.pubsub_name);
        self.push(request);
        Ok(Response::new(PublishResponse {}))
    }

    async fn bulk_publish(
        &self,
        request: Request<BulkPublishRequest>,
    ) -> Answer<BulkPublishResponse> {
        let request = request.into_inner();
        let (bad, good): (Vec<_>, Vec<_>) = request
            .entries
            .into_iter()
            .partition(|entry| entry.event == "bad");
        for entry in good {
            self.push(PublishRequest {
                data: entry.event,
                topic: request.topic.clone(),
                metadata: entry.metadata,
                ..PublishRequest::default()
            });
        }
        let failed = bad.into_iter().map(|entry| BulkPublishResponseFailedEntry {
            entry_id: entry.entry_id,
            error: "it is bad".to_owned(),
        });
        Ok(Response::new(BulkPublishResponse {
            failed_entries: failed.collect(),
        }))
    }

    type PullMessagesStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<PullMessagesResponse, Status>> + Send>>;

    async fn pull_messages(
        &self,
        request: Request<Streaming<PullMessagesRequest>>,
    ) -> Answer<Self::PullMessagesStream> {
        self.check_ready()?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|first| first.topic);
        let topic = first.ok_or_else(|| Status::invalid_argument("no topic"))?;
        if topic.name == "forbidden" {
            return Err(Status::permission_denied("not this topic"));
        }
        self.change(|told| told.open += 1);
        let pull = Pull {
            queue: Arc::clone(&self.0),
            topic: topic.name,
            requests,
            under_way: BTreeMap::new(),
        };
        let Some((message, pull)) = pull.step().await else {
            return Ok(Response::new(stream::empty().boxed()));
        };
        let rest = stream::unfold(pull, Pull::step);
        Ok(Response::new(stream::iter([message]).chain(rest).boxed()))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Answer<PauseResponse> {
        self.change(|told| {
            told.pauses += 1;
            told.is_paused = self.pausable;
        });
        match self.pausable {
            true => Ok(Response::new(PauseResponse {})),
            false => Err(Status::unimplemented("it does not pause")),
        }
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Answer<ResumeResponse> {
        self.change(|told| {
            told.resumes += 1;
            told.is_paused = false;
        });
        Ok(Response::new(ResumeResponse {}))
    }
}
