//! Streams of operators that answer a call for news only when there is some, or know no such call; and the lists behind them.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use component::{Body, body};
use crds::Kind;
use futures::{future, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use proto::operator::v1::{ListWorkflowAccessPolicyResponse, SubscriptionUpdateEvent};
use serde_json::json;
use transport::{ChannelOptions, Connector, Listener, ServerOptions};

use super::*;

/// A test fails that waits for longer.
const DEADLINE: Duration = Duration::from_secs(10);

type Part = Result<Frame<Bytes>, Infallible>;

fn message(message: &impl prost::Message) -> Part {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.encoded_len().try_into().unwrap());
    message.encode(&mut frame).unwrap();
    Ok(Frame::data(frame.freeze()))
}

fn subscription() -> SubscriptionUpdateEvent {
    let resource = json!({
        "apiVersion": "dapr.io/v2alpha1", "kind": "Subscription", "metadata": {"name": "orders"},
        "spec": {"pubsubname": "bus", "topic": "orders", "routes": {"default": "/orders"}},
    });
    SubscriptionUpdateEvent {
        subscription: resource.to_string().into_bytes().into(),
        ..SubscriptionUpdateEvent::default()
    }
}

/// Lists are empty, and there is news of subscriptions alone; calls for the others stay without an answer.
async fn answer<B>(request: http::Request<B>) -> Result<http::Response<Body>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
    let parts = match method {
        "SubscriptionUpdate" => {
            let news = stream::iter([message(&subscription())]);
            news.chain(stream::pending()).boxed()
        }
        name if name.ends_with("Update") => future::pending().await,
        _ => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            stream::iter([message(&()), Ok(Frame::trailers(trailers))]).boxed()
        }
    };
    let mut response = http::Response::new(body::streamed(StreamBody::new(parts)));
    let kind = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}

/// The namespace has a policy, and nothing else.
async fn one_policy<B>(request: http::Request<B>) -> Result<http::Response<Body>, Infallible> {
    if !request.uri().path().ends_with("/ListWorkflowAccessPolicy") {
        return answer(request).await;
    }
    let policy = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "WorkflowAccessPolicy", "metadata": {"name": "orders"},
        "spec": {"rules": []},
    });
    let list = ListWorkflowAccessPolicyResponse {
        policies: vec![policy.to_string().into_bytes().into()],
    };
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let parts = stream::iter([message(&list), Ok(Frame::trailers(trailers))]);
    let mut response = http::Response::new(body::streamed(StreamBody::new(parts)));
    let kind = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}

#[tokio::test]
async fn policies_are_listed_with_the_rest() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let options = ServerOptions::default();
    let service = tower::service_fn(one_policy);
    let server = transport::serve(listener, options, service, shutdown.clone());
    let options = ChannelOptions::default();
    let channel = transport::channel(uri.parse().unwrap(), Connector::plain(), options);
    let operator = Operator::new(channel, "shop".to_owned(), None);
    let listed = async {
        let listing = operator.list().await;
        shutdown.cancel();
        listing.unwrap().written
    };
    let ((), written) = tokio::join!(server, listed);
    let [one] = &written[..] else {
        panic!("one resource: {}", written.len());
    };
    let crds::Resource::WorkflowAccessPolicy(policy) = &one.resource else {
        panic!("a policy");
    };
    assert_eq!(policy.name(), "orders");
}

/// What an operator of an older version is asked, in order. It knows no stream but that of Subscriptions.
#[derive(Clone, Default)]
struct Older(std::sync::Arc<Mutex<Vec<String>>>);

impl Older {
    async fn answer<B>(
        self,
        request: http::Request<B>,
    ) -> Result<http::Response<Body>, Infallible> {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or_default().to_owned();
        self.0.lock().push(method.clone());
        match method.as_str() {
            "SubscriptionUpdate" => future::pending().await,
            name if name.ends_with("Update") => {
                let mut response = http::Response::new(body::empty());
                let headers = response.headers_mut();
                let kind = http::HeaderValue::from_static("application/grpc");
                headers.insert("content-type", kind);
                let unimplemented = http::HeaderValue::from_static("12");
                headers.insert("grpc-status", unimplemented);
                Ok(response)
            }
            _ => answer(request).await,
        }
    }

    fn asked(&self, what: impl Fn(&str) -> bool) -> usize {
        self.0.lock().iter().filter(|method| what(method)).count()
    }
}

#[tokio::test]
async fn lists_are_read_behind_the_streams_also_where_some_of_these_are_unknown() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let (shutdown, older) = (CancellationToken::new(), Older::default());
    let asked = older.clone();
    let service = tower::service_fn(move |request| older.clone().answer(request));
    let options = ServerOptions::default();
    let server = transport::serve(listener, options, service, shutdown.clone());
    let options = ChannelOptions::default();
    let channel = transport::channel(uri.parse().unwrap(), Connector::plain(), options);
    let operator = Operator::new(channel, "shop".to_owned(), None);
    let desired = Desired::new("app", Configuration::default());
    let (changes, _incoming) = mpsc::channel(super::super::CHANGES);
    let hour = Duration::from_secs(3600);
    let watch = operator.watch(desired, changes, hour, shutdown.clone());
    let seen = async {
        let listed = async {
            while asked.asked(|method| method.starts_with("List")) < 6 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let listed = tokio::time::timeout(DEADLINE, listed).await;
        shutdown.cancel();
        listed.expect("lists in time");
    };
    let ((), watched, ()) = tokio::join!(server, watch, seen);
    watched.unwrap();
    let calls = asked.0.lock().clone();
    let first_list = calls.iter().position(|method| method.starts_with("List"));
    assert_eq!(first_list, Some(STREAMS), "{calls:?}");
}

#[tokio::test]
async fn a_quiet_stream_keeps_no_other_from_being_opened() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let service = tower::service_fn(answer);
    let server = transport::serve(
        listener,
        ServerOptions::default(),
        service,
        shutdown.clone(),
    );
    let channel = transport::channel(
        uri.parse().unwrap(),
        Connector::plain(),
        ChannelOptions::default(),
    );
    let operator = Operator::new(channel, "shop".to_owned(), None);
    let desired = Desired::new("app", Configuration::default());
    let (changes, mut incoming) = mpsc::channel(super::super::CHANGES);
    let watch = operator.watch(
        desired,
        changes,
        Duration::from_secs(3600),
        shutdown.clone(),
    );
    let seen = async {
        let change = tokio::time::timeout(DEADLINE, incoming.recv()).await;
        shutdown.cancel();
        change.expect("news in time")
    };
    let ((), watched, change) = tokio::join!(server, watch, seen);
    watched.unwrap();
    let Some(Change::Subscription(subscription)) = change else {
        panic!("{change:?}");
    };
    assert_eq!(subscription.name(), "orders");
}
