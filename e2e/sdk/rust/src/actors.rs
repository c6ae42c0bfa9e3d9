//! An app whose actors count, and a client that calls them. The SDK passes no reentrancy id on, so nothing comes back to its actors.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use dapr::client::TonicClientWithAuth;
use dapr::server::DaprHttpServer;
use dapr::server::actor::context_client::{ActorContextClient, ActorStateOperation};
use dapr::server::actor::runtime::ActorTypeRegistration;
use dapr::server::actor::{Actor, ActorError};
use dapr::server::utils::DaprJson;
use dapr_macros::actor;
use serde::{Deserialize, Serialize};

use crate::{Problem, eventually};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// What an actor has seen so far.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Seen {
    activated: bool,
    timer: Vec<String>,
    reminder: Vec<String>,
}

#[actor]
struct Counter {
    client: ActorContextClient,
    seen: Arc<Mutex<Seen>>,
}

impl Counter {
    fn see(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn add(&self, DaprJson(amount): DaprJson<i64>) -> Json<i64> {
        let mut client = self.client.clone();
        let before = client.get_actor_state("count").await.expect("it is read");
        let before: i64 = serde_json::from_slice(&before.data).unwrap_or_default();
        let count = before + amount;
        let value = Some(serde_json::to_vec(&count).expect("a number"));
        let key = "count".to_owned();
        let change = vec![ActorStateOperation::Upsert { key, value }];
        client
            .execute_actor_state_transaction(change)
            .await
            .expect("it is stored");
        Json(count)
    }

    async fn seen(&self) -> Json<Seen> {
        Json(
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }

    async fn arm(&self) -> Json<bool> {
        let mut client = self.client.clone();
        let data = b"of the timer".to_vec();
        let timer = client.register_actor_timer(
            "tick",
            NOW,
            // It writes parts of a second in a way that no sidecar reads.
            Some(Duration::from_secs(1)),
            data,
            None,
            None,
        );
        timer.await.expect("a timer");
        let data = b"of the reminder".to_vec();
        let second = Some(Duration::from_secs(1));
        let reminder = client.register_actor_reminder("ring", NOW, second, data, None, None, None);
        reminder.await.expect("a reminder");
        Json(true)
    }

    async fn disarm(&self) -> Json<bool> {
        let mut client = self.client.clone();
        client
            .unregister_actor_timer("tick")
            .await
            .expect("no timer");
        client
            .unregister_actor_reminder("ring")
            .await
            .expect("no reminder");
        Json(true)
    }
}

#[async_trait]
impl Actor for Counter {
    async fn on_activate(&self) -> Result<(), ActorError> {
        self.see(|seen| seen.activated = true);
        Ok(())
    }

    async fn on_deactivate(&self) -> Result<(), ActorError> {
        Ok(())
    }

    async fn on_reminder(&self, name: &str, data: Vec<u8>) -> Result<(), ActorError> {
        self.see(|seen| {
            seen.reminder
                .push(format!("{name} {}", String::from_utf8_lossy(&data)))
        });
        Ok(())
    }

    async fn on_timer(&self, name: &str, data: Vec<u8>) -> Result<(), ActorError> {
        self.see(|seen| {
            seen.timer
                .push(format!("{name} {}", String::from_utf8_lossy(&data)))
        });
        Ok(())
    }
}

type Client = dapr::Client<TonicClientWithAuth>;

async fn call<T: for<'a> Deserialize<'a>>(
    client: &mut Client,
    id: &str,
    method: &str,
    input: i64,
) -> Result<T, Problem> {
    Ok(client
        .invoke_actor("Counter", id, method, input, None)
        .await?)
}

async fn calls(client: &mut Client) -> Result<(), Problem> {
    eventually("the first call", async || {
        Ok(call::<i64>(client, "first", "add", 2).await? == 2)
    })
    .await?;
    assert_eq!(call::<i64>(client, "first", "add", 3).await?, 5);
    assert_eq!(call::<i64>(client, "second", "add", 1).await?, 1);
    assert!(call::<Seen>(client, "first", "seen", 0).await?.activated);

    call::<bool>(client, "first", "arm", 0).await?;
    let mut seen = Seen::default();
    eventually("the timer and the reminder", async || {
        seen = call(client, "first", "seen", 0).await?;
        Ok(seen.timer.len() > 1 && seen.reminder.len() > 1)
    })
    .await?;
    // The SDK gives data as they come over HTTP, where bytes are base64.
    assert_eq!(seen.timer[0], "tick b2YgdGhlIHRpbWVy");
    assert_eq!(seen.reminder[0], "ring b2YgdGhlIHJlbWluZGVy");
    call::<bool>(client, "first", "disarm", 0).await?;
    let none = call::<bool>(client, "first", "none", 0).await;
    println!(
        "a method that is not there: {:?}",
        none.expect_err("it has no answer")
    );
    Ok(())
}

pub async fn run(port: u16) -> Result<(), Problem> {
    let mut server = DaprHttpServer::new().await;
    let make = |_: &str, _: &str, client| {
        Arc::new(Counter {
            client,
            seen: Arc::default(),
        }) as Arc<dyn Actor>
    };
    let counter = ActorTypeRegistration::new::<Counter>("Counter", Box::new(make))
        .register_method("add", Counter::add)
        .register_method("seen", Counter::seen)
        .register_method("arm", Counter::arm)
        .register_method("disarm", Counter::disarm);
    server.register_actor(counter).await;
    let mut client = Client::new().await?;
    tokio::select! {
        ended = server.start(Some(port)) => ended,
        outcome = calls(&mut client) => outcome,
    }
}
