//! Answers of workers that reach another sidecar than the one that waits for them: behind a load balancer a worker's stream and its
//! answers go to any of the replicas (the feature `WorkflowsClusteredDeployment`). Such an answer is handed to the internal
//! actor whose id is that of the actor that waits, so placement puts both on one host.

use std::sync::Arc;

use actors::{
    ActorId, Error, Kind, Request, Response,
    host::{Firing, Host},
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use proto::durabletask::{ActivityResponse, WorkflowResponse};
use telemetry::{Counter, Meter};
use tokio_util::sync::CancellationToken;

use super::{Unknown, Workers};
use crate::{Actors, Names};

/// Takes the answers of workers. Clones share it.
#[derive(Clone)]
pub struct Completions {
    workers: Workers,
    remote: Option<Arc<Remote>>,
}

struct Remote {
    actors: Arc<dyn Actors>,
    /// The type of the actors that take answers in.
    kind: String,
    routes: Counter,
    /// The namespace as metrics show it.
    label: String,
}

impl Completions {
    /// Answers to what waits at this sidecar.
    pub fn local(workers: Workers) -> Self {
        Self {
            workers,
            remote: None,
        }
    }

    /// Answers to what waits at any sidecar of the app.
    pub fn clustered(
        workers: Workers,
        actors: Arc<dyn Actors>,
        names: &Names,
        label: String,
        meter: &Meter,
    ) -> Self {
        let routes = meter.counter(
            "runtime/workflow/completion/route/count",
            "The number of ways that completions of work items took.",
            &["namespace", "task_type", "route"],
        );
        let (waits, namespace) = (routes.clone(), label.clone());
        workers.on_wait(move |what| waits.add(&[&namespace, what, "wait_local"], 1));
        let remote = Remote {
            actors,
            kind: names.executor(),
            routes,
            label,
        };
        Self {
            workers,
            remote: Some(Arc::new(remote)),
        }
    }

    /// A worker's answer to a turn.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn workflow(&self, response: WorkflowResponse) -> Result<(), Unknown> {
        let elsewhere =
            |remote: &Remote| remote.envelope(&response.instance_id, WORKFLOW, &response);
        let there = self.remote.as_deref().map(elsewhere);
        let (own, token) = (&self.workers, response.completion_token.clone());
        let here = own.complete_workflow(response);
        self.relay(here, &token, WORKFLOW, there).await
    }

    /// A worker's answer to an activity.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn activity(&self, response: ActivityResponse) -> Result<(), Unknown> {
        let id = format!("{}::{}", response.instance_id, response.task_id);
        let elsewhere = |remote: &Remote| remote.envelope(&id, ACTIVITY, &response);
        let there = self.remote.as_deref().map(elsewhere);
        let (own, token) = (&self.workers, response.completion_token.clone());
        let here = own.complete_activity(response);
        self.relay(here, &token, ACTIVITY, there).await
    }

    async fn relay(
        &self,
        here: Result<(), Unknown>,
        token: &str,
        what: &str,
        there: Option<Request>,
    ) -> Result<(), Unknown> {
        let (Some(remote), Some(request)) = (&self.remote, there) else {
            return here;
        };
        if here.is_ok() {
            remote.count(what, "complete_local");
            return here;
        }
        // What was given out here and is known here no more is late, wherever it goes.
        if self.workers.is_own(token) {
            return here;
        }
        let sent = remote.actors.invoke(request).await;
        sent.map_err(|error| {
            tracing::debug!("an answer of a worker cannot be passed on: {error}");
            Unknown
        })?;
        remote.count(what, "complete_actor");
        Ok(())
    }

    /// Takes answers in from other sidecars while there are workers, until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let Some(remote) = self.remote.clone() else {
            return;
        };
        let host: Arc<dyn Host> = Arc::new(Rendezvous(self.workers.clone()));
        let mut present = self.workers.present();
        let follow = async {
            while present.wait_for(|present| *present).await.is_ok() {
                let kind = Kind::new(Arc::clone(&host));
                remote.actors.host(vec![(remote.kind.clone(), kind)]);
                if present.wait_for(|present| !*present).await.is_err() {
                    break;
                }
                remote.actors.withdraw(&host).await;
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }
}

impl Remote {
    fn envelope(&self, id: &str, what: &'static str, message: &impl Message) -> Request {
        Request {
            actor: ActorId {
                kind: self.kind.clone(),
                id: id.to_owned(),
            },
            method: COMPLETE.to_owned(),
            query: String::new(),
            content_type: "application/x-protobuf".to_owned(),
            headers: HeaderMap::from_iter([(TASK_TYPE, HeaderValue::from_static(what))]),
            data: message.encode_to_vec().into(),
        }
    }

    fn count(&self, what: &str, route: &str) {
        self.routes.add(&[&self.label, what, route], 1);
    }
}

/// The actors that take answers in: there is nothing to them but the way.
struct Rendezvous(Workers);

#[async_trait]
impl Host for Rendezvous {
    async fn call(&self, request: Request) -> Result<Response, Error> {
        let what = request.headers.get(TASK_TYPE);
        let unreadable = |_| Error::NoMethod(format!("{COMPLETE} with what cannot be read"));
        let taken = match what.map(HeaderValue::as_bytes) {
            _ if request.method != COMPLETE => return Err(Error::NoMethod(request.method)),
            Some(b"activity") => {
                let response = ActivityResponse::decode(request.data).map_err(unreadable)?;
                self.0.complete_activity(response)
            }
            _ => {
                let response = WorkflowResponse::decode(request.data).map_err(unreadable)?;
                self.0.complete_workflow(response)
            }
        };
        if taken.is_err() {
            tracing::warn!(
                "passing over an answer to {}, which nobody waits for",
                request.actor
            );
        }
        Ok(Response {
            status: 200,
            ..Response::default()
        })
    }

    async fn remind(&self, _firing: Firing) -> Result<(), Error> {
        Err(Error::Canceled)
    }

    async fn timer(&self, _firing: Firing) -> Result<(), Error> {
        Err(Error::Canceled)
    }

    async fn deactivate(&self, _actor: &ActorId) -> Result<(), Error> {
        Ok(())
    }
}

/// The method that takes an answer in.
const COMPLETE: &str = "Complete";

/// Says what the answer is to.
const TASK_TYPE: HeaderName = HeaderName::from_static("tasktype");
const WORKFLOW: &str = "workflow";
const ACTIVITY: &str = "activity";

#[cfg(test)]
mod tests {
    use actors::host::Answers;
    use futures::{FutureExt, StreamExt};
    use parking_lot::Mutex;
    use proto::durabletask::{GetWorkItemsRequest, WorkflowRequest};
    use telemetry::MetricOptions;

    use super::*;
    use crate::workers::Limits;

    /// All actors live where they are hosted.
    #[derive(Default)]
    struct Network {
        host: Mutex<Option<Arc<dyn Host>>>,
        calls: Mutex<usize>,
    }

    #[async_trait]
    impl Actors for Network {
        async fn invoke(&self, request: Request) -> Result<Response, Error> {
            *self.calls.lock() += 1;
            let host = self.host.lock().clone();
            host.ok_or(Error::Closed)?.call(request).await
        }

        async fn follow(&self, _: Request) -> Result<Answers, Error> {
            Err(Error::Closed)
        }

        async fn wake(&self, _: ActorId, _: String) -> Result<(), Error> {
            Err(Error::Closed)
        }

        fn host(&self, kinds: Vec<(String, Kind)>) {
            assert_eq!(kinds[0].0, "dapr.internal.ns.shop.executor");
            *self.host.lock() = Some(Arc::clone(&kinds[0].1.host));
        }

        async fn withdraw(&self, _: &Arc<dyn Host>) {
            *self.host.lock() = None;
        }
    }

    fn sidecar(network: &Arc<Network>) -> (Workers, Completions) {
        let workers = Workers::new(Limits::default());
        let names = Names {
            namespace: "ns".to_owned(),
            app_id: "shop".to_owned(),
        };
        let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
        let actors = Arc::clone(network) as Arc<dyn Actors>;
        let completions =
            Completions::clustered(workers.clone(), actors, &names, String::new(), &meter);
        (workers, completions)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_finds_the_sidecar_that_waits_for_it() {
        let network = Arc::default();
        let ((workers, here), (_, elsewhere)) = (sidecar(&network), sidecar(&network));
        let mut items = workers.connect(GetWorkItemsRequest::default());
        let mut hosting = Box::pin(here.clone().run(CancellationToken::new()));
        assert!(hosting.as_mut().now_or_never().is_none());
        let request = WorkflowRequest {
            instance_id: "a".to_owned(),
            ..WorkflowRequest::default()
        };
        let work = async {
            let item = items.next().await.unwrap();
            let answer = |token: &str| WorkflowResponse {
                instance_id: "a".to_owned(),
                completion_token: token.to_owned(),
                ..WorkflowResponse::default()
            };
            // Passed over where it comes to, which is none of the worker's business.
            assert_eq!(elsewhere.workflow(answer("made up")).await, Ok(()));
            assert_eq!(
                elsewhere.workflow(answer(&item.completion_token)).await,
                Ok(())
            );
            assert_eq!(*network.calls.lock(), 2);
            let late = here.workflow(answer(&item.completion_token)).await;
            assert_eq!((late, *network.calls.lock()), (Err(Unknown), 2));
        };
        let (answered, ()) = futures::future::join(workers.workflow(request), work).await;
        assert_eq!(answered.unwrap().instance_id, "a");
        drop(items);
        assert!(hosting.as_mut().now_or_never().is_none());
        assert!(network.host.lock().is_none(), "nobody is there to answer");
    }
}
