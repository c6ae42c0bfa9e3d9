//! A server that ends, and one that is not there.

use std::collections::BTreeSet;

use component::{
    ErrorKind,
    pubsub::{Ended, Outcome},
};

use crate::{
    KEPT, broker, next, open_broker, publish, request,
    server::{server, server_alone, until},
    topic,
};

#[tokio::test]
async fn nobody_listening_is_told_with_the_address() {
    let error = open_broker(&[("hostname", "127.0.0.1:1")])
        .await
        .err()
        .expect("an error");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn wrong_passwords_and_hosts_are_refused() {
    let (server, _turn) = server().await;
    for url in [
        format!("amqp://guest:wrong@127.0.0.1:{}", server.port),
        format!("amqp://127.0.0.1:{}/nowhere", server.port),
    ] {
        let error = open_broker(&[("connectionString", &url)])
            .await
            .err()
            .expect("an error");
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{url}: {error:?}");
    }
}

/// What was published comes, whatever the server does meanwhile, on queues of both kinds.
#[tokio::test]
async fn a_restart_of_the_server_loses_nothing() {
    const ALL: usize = 20;
    let (server, _turn) = server_alone().await;
    let broker = broker(
        server,
        &[&KEPT[..], &[("reconnectWaitSeconds", "100ms")]].concat(),
    )
    .await;
    for (kind, gently) in [("classic", false), ("quorum", true)] {
        let topic = topic("restart");
        let request = request(&topic, &[("queueType", kind)]);
        let mut deliveries = broker
            .subscribe(request.clone())
            .await
            .expect("a subscription");
        for number in 0..ALL {
            publish(&*broker, &topic, &number.to_string(), &[])
                .await
                .expect("is published");
        }
        let mut missing: BTreeSet<String> = (0..ALL).map(|number| number.to_string()).collect();
        let first = next(&mut deliveries).await;
        match gently {
            true => server.stop(),
            false => server.kill(),
        }
        // Its channel is gone: it comes again.
        until("the channel is closed", async || {
            deliveries.next().await.is_err()
        })
        .await;
        let error = first.ack.settle(Outcome::Ok).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        server.begin();
        until("publishing goes on", async || {
            publish(&*broker, &topic, "after", &[]).await.is_ok()
        })
        .await;
        missing.insert("after".to_owned());
        let mut again = broker.subscribe(request).await;
        until("the queue is there", async || {
            if again.is_err() {
                again = broker
                    .subscribe(crate::request(&topic, &[("queueType", kind)]))
                    .await;
            }
            again.is_ok()
        })
        .await;
        let mut deliveries = again.expect("a subscription");
        while !missing.is_empty() {
            let delivery = next(&mut deliveries).await;
            missing.remove(&*String::from_utf8_lossy(&delivery.message.data));
            delivery.ack.settle(Outcome::Ok).await.expect("is settled");
        }
        broker.ping().await.expect("answers");
        drop(deliveries);
    }
}

#[tokio::test]
async fn a_component_that_is_closed_ends_its_subscriptions_and_publishes_no_more() {
    let (server, _turn) = server().await;
    let broker = broker(server, &KEPT).await;
    let topic = topic("closed");
    let mut deliveries = broker
        .subscribe(request(&topic, &[]))
        .await
        .expect("a subscription");
    broker.close().await;
    assert!(matches!(deliveries.next().await, Err(Ended::Closed)));
    let error = publish(&*broker, &topic, "m", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(broker.ping().await.is_err());
}

/// A server that takes the connection and never says a word: opening ends, and so does the connection.
#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("amqp://127.0.0.1:{port}?connection_timeout=300");
    let fields = [("connectionString", url.as_str())];
    let (error, accepted) = futures::future::join(open_broker(&fields), listener.accept()).await;
    assert_eq!(
        error.err().expect("an error").kind(),
        ErrorKind::Unavailable
    );
    let (mut stream, _) = accepted.unwrap();
    let mut said = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said);
    let ended = tokio::time::timeout(crate::PATIENCE, ended).await;
    ended.expect("the connection ends").unwrap();
    assert_eq!(&said[..4], b"AMQP");
}
