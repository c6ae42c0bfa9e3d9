//! Actors that go while others look.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::{
    ActorId, Error, Kind, Request, Response, Timer,
    host::Firing,
    tests::{OWN, engine, owner, request},
};

/// Answers with its name, once there is a place; keeps what it was asked, and that nothing overlaps.
struct Named {
    name: &'static str,
    places: Semaphore,
    entered: Notify,
    inside: AtomicBool,
    asked: Mutex<Vec<String>>,
}

impl Named {
    fn new(name: &'static str, places: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            places: Semaphore::new(places),
            entered: Notify::new(),
            inside: AtomicBool::new(false),
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl Host for Named {
    async fn call(&self, request: Request) -> Result<Response, Error> {
        assert!(
            !self.inside.swap(true, Ordering::SeqCst),
            "two at one actor"
        );
        self.asked.lock().push(request.method.clone());
        self.entered.notify_one();
        self.places.acquire().await.expect("open").forget();
        self.inside.store(false, Ordering::SeqCst);
        Ok(Response {
            status: 200,
            data: self.name.into(),
            ..Response::default()
        })
    }

    async fn remind(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn timer(&self, _: Firing) -> Result<(), Error> {
        Ok(())
    }

    async fn deactivate(&self, _: &ActorId) -> Result<(), Error> {
        self.asked.lock().push("deactivate".to_owned());
        Ok(())
    }
}

async fn call(engine: &Engine) -> String {
    let answer = engine.invoke(request("call")).await.expect("an answer");
    String::from_utf8_lossy(&answer.data).into_owned()
}

/// The app becomes healthy again while one of its actors still has a call: whoever waited for the end has given up.
#[tokio::test]
async fn what_has_begun_keeps_its_turn_where_nobody_waits_for_its_end() {
    let host = Named::new("app", 0);
    let engine = engine(host.clone());
    let app: Arc<dyn Host> = host.clone();
    let script = async {
        host.entered.notified().await;
        let withdrawn = engine.withdraw(&app);
        assert!(withdrawn.now_or_never().is_none(), "a call is at the actor");
        engine.host([("kind".to_owned(), Kind::new(Arc::clone(&app)))]);
        let second = async {
            // it waits for the first, which has no place yet
            let mut second = Box::pin(call(&engine));
            assert!((&mut second).now_or_never().is_none());
            host.places.add_permits(2);
            second.await
        };
        second.await
    };
    let (first, second) = tokio::join!(call(&engine), script);
    assert_eq!([first, second], ["app", "app"]);
    assert_eq!(*host.asked.lock(), ["call", "deactivate", "call"]);
}

#[tokio::test]
async fn one_of_two_hosts_of_a_type_takes_its_own_actors_with_it() {
    let (one, two) = (Named::new("one", 10), Named::new("two", 10));
    let engine = engine(one.clone());
    assert_eq!(call(&engine).await, "one");
    engine.host([("kind".to_owned(), Kind::new(two.clone()))]);
    assert_eq!(call(&engine).await, "one", "where it is active");
    let (one, two): (Arc<dyn Host>, Arc<dyn Host>) = (one, two);
    engine.withdraw(&one).await;
    assert_eq!(call(&engine).await, "two");
    engine.host([("kind".to_owned(), Kind::new(Arc::clone(&one)))]);
    engine.withdraw(&two).await;
    assert_eq!(call(&engine).await, "one");
    assert!(engine.hosts("kind"));
    engine.withdraw(&one).await;
    assert!(!engine.hosts("kind"));
}

#[tokio::test]
async fn an_actor_that_was_given_away_meanwhile_is_not_begun() {
    let host = Named::new("app", 10);
    let engine = engine(host.clone());
    let kind = engine.kind(&request("call").actor).expect("hosted");
    owner(&engine, "127.0.0.1:2");
    // The owner was looked up before.
    let actor = request("call").actor;
    let turn = engine.turn(&actor, &kind, None, "call").await;
    assert!(matches!(turn, Err(Error::Deactivated(_))));
    assert!(!engine.0.active.is_active(&actor));
    assert!(host.asked.lock().is_empty(), "the app has not heard of it");
    owner(&engine, OWN);
    assert_eq!(call(&engine).await, "app");
}

#[tokio::test]
async fn timers_go_with_their_actor() {
    let engine = engine(Named::new("app", 10));
    let timer = |id: &str| Timer {
        actor: ActorId {
            kind: "kind".to_owned(),
            id: id.to_owned(),
        },
        name: "t".to_owned(),
        due_time: "1h".to_owned(),
        period: String::new(),
        ttl: String::new(),
        callback: String::new(),
        data: bytes::Bytes::new(),
    };
    for id in ["1", "2"] {
        engine.register_timer(timer(id)).expect("a timer");
    }
    call(&engine).await;
    engine.drain(|_| true, Duration::MAX).await;
    let mut timers = engine.0.timers.lock();
    assert_eq!(timers.remove_all(&timer("1").actor), 0, "gone with it");
    assert_eq!(timers.remove_all(&timer("2").actor), 1, "never active");
}
