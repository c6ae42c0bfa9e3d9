//! The engine with hosts in process, and tables of placement that the test gives out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use app_channel::AppChannel;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use blocks::{Intake, registry, state::Stores};
use component::Catalog;
use component_conformance::Tasks;
use futures::{StreamExt, stream};
use http::HeaderMap;
use placement_table::{Host as Member, Ring, Rings};
use resiliency::Policies;
use security::Expect;
use telemetry::{GrpcMetrics, HttpMetrics, Meter, MetricOptions, http_metrics::HttpOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::Code;

use crate::{
    ActorId, Engine, Error, Kind, Members, Options, Request, Response,
    host::{Answers, Firing, Host},
    wire,
};

pub(crate) const OWN: &str = "127.0.0.1:1";

/// An engine that nothing runs, which hosts `kind`, and is its only host.
pub(crate) fn engine(host: Arc<dyn Host>) -> Engine {
    let engine = engine_of(None);
    engine.0.hosting.suspend(false);
    engine.host([("kind".to_owned(), Kind::new(host))]);
    engine.0.pulse.recovered();
    owner(&engine, OWN);
    engine
}

/// An engine that nothing runs, with an app at this port.
fn engine_of(port: Option<u16>) -> Engine {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let registry = prometheus::Registry::new();
    let meter = Meter::new(&registry, MetricOptions::default()).expect("a fresh registry");
    let policies = Policies::compile(&[], meter.clone()).expect("no policies");
    let policies = Arc::new(ArcSwap::new(policies));
    let options = security::Options::without_identity("app", &registry);
    let (security, _) = security::new(options).expect("no mTLS");
    let (app, _) = AppChannel::new(app_channel::Options {
        app_id: "app".into(),
        port,
        address: "127.0.0.1".into(),
        protocol: app_channel::Protocol::Http,
        token: None,
        max_concurrency: None,
        pipeline: Arc::default(),
        max_message: 1 << 20,
        health: None,
        http_metrics: HttpMetrics::new(&meter, &HttpOptions::default()).expect("no rules"),
        grpc_metrics: GrpcMetrics::new(&meter),
    });
    let stores = registry::Options {
        catalog: Arc::new(Catalog::default()),
        namespace: "default".into(),
        policies: Arc::clone(&policies),
        meter: meter.clone(),
    };
    Engine::new(Options {
        app_id: "app".into(),
        namespace: "default".into(),
        address: OWN.into(),
        placement: Members {
            addresses: vec![OWN.into()],
            lookup: false,
            expect: Expect::Any,
        },
        disseminate_timeout: Duration::from_secs(30),
        app,
        ask_config: port.is_some(),
        state: Stores::new(stores, "app".into(), true),
        peers: peers::Pool::new(peers::Options {
            security: security.clone(),
            max_idle: Duration::from_secs(60),
            collect_interval: Duration::from_secs(60),
            max_header_bytes: 64 << 10,
            metrics: GrpcMetrics::new(&meter),
            unreachable: Arc::new(|_| {}),
        }),
        security,
        policies,
        meter,
        clock: Arc::new(values::SystemClock),
        spawn: Arc::new(Tasks::default()),
        max_message: 1 << 20,
        connected: Box::new(|| {}),
    })
}

/// Gives out a table in which all actors of `kind` have one host.
pub(crate) fn owner(engine: &Engine, address: &str) {
    let host = Member {
        address: address.to_owned(),
        app_id: "app".to_owned(),
    };
    let rings = Rings::from([("kind".to_owned(), Ring::new([host], 100))]);
    engine.0.directory.install(rings);
    engine.0.directory.settle();
}

pub(crate) fn request(method: &str) -> Request {
    Request {
        actor: ActorId {
            kind: "kind".to_owned(),
            id: "1".to_owned(),
        },
        method: method.to_owned(),
        query: String::new(),
        content_type: String::new(),
        headers: HeaderMap::new(),
        data: bytes::Bytes::new(),
    }
}

/// Counts its calls, and answers three times where it is followed, or for ever.
#[derive(Default)]
struct Counting(AtomicU32);

fn answer(text: &str) -> Response {
    Response {
        status: 200,
        data: text.to_owned().into(),
        ..Response::default()
    }
}

#[async_trait]
impl Host for Counting {
    async fn call(&self, _: Request) -> Result<Response, Error> {
        let calls = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(answer(&calls.to_string()))
    }

    async fn follow(&self, request: Request) -> Result<Answers, Error> {
        let three = stream::iter(["a", "b", "c"]).map(|text| Ok(answer(text)));
        match &*request.method {
            "endless" => Ok(three.chain(stream::pending()).boxed()),
            _ => Ok(three.boxed()),
        }
    }

    async fn remind(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn timer(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn deactivate(&self, _: &ActorId) -> Result<(), Error> {
        Ok(())
    }
}

/// An app, which answers once.
#[derive(Default)]
pub(crate) struct Plain {
    /// It never takes leave of an actor.
    pub hangs: bool,
}

#[async_trait]
impl Host for Plain {
    async fn call(&self, _: Request) -> Result<Response, Error> {
        Ok(Response::default())
    }

    async fn remind(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn timer(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn deactivate(&self, _: &ActorId) -> Result<(), Error> {
        match self.hangs {
            true => std::future::pending().await,
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn an_actor_that_is_followed_answers_again_and_again() {
    let engine = engine(Arc::new(Counting::default()));
    let answers = engine.follow(request("three")).await.unwrap();
    let texts: Vec<_> = answers.map(|answer| answer.unwrap().data).collect().await;
    assert_eq!(texts, ["a", "b", "c"]);
    let remote = wire::into_request(request("three"));
    let replies = engine.followed(remote, None).await.unwrap();
    let replies: Vec<_> = replies.map(Result::unwrap).collect().await;
    assert_eq!(replies.len(), 3);
    assert_eq!(wire::from_response(replies[2].clone()).data, "c");
}

#[tokio::test]
async fn whoever_follows_leaves_the_turn_to_others_and_hears_of_the_end() {
    let engine = engine(Arc::new(Counting::default()));
    let mut answers = engine.follow(request("endless")).await.unwrap();
    engine.invoke(request("call")).await.unwrap();
    for _ in 0..3 {
        answers.next().await.unwrap().unwrap();
    }
    engine.drain(|_| true, Duration::MAX).await;
    let last = answers.next().await;
    assert!(matches!(last, Some(Err(Error::Deactivated(_)))), "{last:?}");
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn an_app_is_not_followed() {
    let engine = engine(Arc::new(Plain::default()));
    let refused = engine
        .followed(wire::into_request(request("any")), None)
        .await;
    let refused = refused.err().expect("a refusal");
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("actor type kind"), "{refused}");
}

#[tokio::test]
async fn names_of_other_sidecars_stay_in_their_place() {
    let host = Arc::new(Counting::default());
    let engine = engine(host.clone());
    let call = |method: &str, id: &str| {
        let mut request = request(method);
        request.actor.id = id.to_owned();
        engine.called(wire::into_request(request), None)
    };
    call("a/b", "x||y").await.unwrap();
    for (method, id) in [("../../x", "1"), ("a?b", "1"), ("a", "../1"), ("a", "..")] {
        let refused = call(method, id).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{method} {id}");
    }
    assert_eq!(host.0.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_was_stopped_calls_no_actor_until_it_has_heard_of_placement() {
    let host = Arc::new(Counting::default());
    let engine = engine(host.clone());
    let actor = request("call").actor;
    engine.invoke(request("call")).await.unwrap();
    engine.active_here(&actor).await.unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    // The state of an actor that may be another's is not written, either.
    let refused = engine.active_here(&actor).await;
    assert!(
        matches!(refused, Err(Error::InstanceMissing)),
        "{refused:?}"
    );
    let call = engine.invoke(request("call"));
    let mut call = Box::pin(call);
    let early = tokio::time::timeout(Duration::from_secs(1), &mut call).await;
    assert!(early.is_err());
    assert_eq!(host.0.load(Ordering::Relaxed), 1);
    engine.0.directory.clear();
    engine.0.pulse.recovered();
    owner(&engine, OWN);
    call.await.unwrap();
    assert_eq!(host.0.load(Ordering::Relaxed), 2);
}

/// Is called, and does not answer.
struct Stuck;

#[async_trait]
impl Host for Stuck {
    async fn call(&self, _: Request) -> Result<Response, Error> {
        std::future::pending().await
    }

    async fn remind(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn timer(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn deactivate(&self, _: &ActorId) -> Result<(), Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_not_written_while_its_app_takes_leave() {
    let engine = engine(Arc::new(Stuck));
    let actor = request("call").actor;
    let active = || {
        futures::FutureExt::now_or_never(engine.active_here(&actor)).is_some_and(|it| it.is_ok())
    };
    let call = engine.invoke(request("call"));
    let lost = async {
        tokio::task::yield_now().await;
        assert!(active());
        engine.lose(Duration::from_secs(2));
        let going = engine.0.active.going();
        let mut lost = Box::pin(async {
            for cell in &going {
                cell.gone().await;
            }
        });
        let early = tokio::time::timeout(Duration::from_secs(1), &mut lost).await;
        assert!(early.is_err() && active(), "calls at it have their time");
        let late = tokio::time::timeout(Duration::from_secs(2), &mut lost).await;
        assert!(late.is_err() && !active(), "and no more");
    };
    let _ = tokio::join!(tokio::time::timeout(Duration::from_secs(30), call), lost);
}

/// What the app hosts is found out also where it did not answer the first time.
#[tokio::test]
async fn an_app_that_does_not_answer_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let engine = engine_of(Some(listener.local_addr().unwrap().port()));
    engine.0.hosting.suspend(false);
    let app = async {
        drop(listener.accept().await.unwrap());
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            // A connection may be made and left again.
            if stream.read(&mut request).await.unwrap_or(0) > 0 {
                let body = r#"{"entities":["late"]}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.unwrap();
            }
        }
    };
    let asked = async {
        engine.start().await;
        assert!(!engine.hosts("late"));
        let mut advertised = engine.0.hosting.advertised();
        let hosted = advertised.wait_for(|names| names.contains("late"));
        let hosted = tokio::time::timeout(Duration::from_secs(20), hosted).await;
        hosted.expect("it is asked again").unwrap();
        engine.stop().await;
        assert!(!engine.hosts("late"));
    };
    tokio::select! {
        () = app => {}
        () = asked => {}
    }
}
