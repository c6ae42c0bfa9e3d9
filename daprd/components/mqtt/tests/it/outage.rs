//! Servers that go away and come back, and connections that break.

use component_conformance::proxy::Proxy;

use super::*;

/// Nothing is lost over a restart, and nothing comes twice: neither what was settled before it, nor what was settled while
/// the server was away.
#[tokio::test]
async fn a_restart_loses_nothing() {
    for qos in ["1", "2"] {
        let mut server = Server::start("").await;
        let fields = [("url", &*server.url()), ("consumerID", "a"), ("qos", qos)];
        let broker = broker(&fields).await.unwrap();
        let mut deliveries = subscribe(&*broker, "t/#").await;
        for data in ["settled", "settled meanwhile", "held", "waiting"] {
            publish(&*broker, "t/x", data).await;
        }
        assert_eq!(receive(&mut deliveries).await, "settled");
        let meanwhile = next(&mut deliveries).await;
        let held = next(&mut deliveries).await;
        let lost = broker.ping();
        lost.await.expect("the server answers");
        server.stop().await;
        server::until("the connection is lost", async || {
            broker.ping().await.is_err()
        })
        .await;
        settle(meanwhile).await;
        // A message that is published meanwhile waits for the server.
        let request = message("t/x", "published meanwhile", &[]);
        let publishing = broker.publish(&request);
        let (published, ()) = tokio::join!(publishing, server.start_again());
        published.unwrap();
        assert_eq!(receive(&mut deliveries).await, "waiting");
        assert_eq!(receive(&mut deliveries).await, "published meanwhile");
        settle(held).await;
        silent(&mut deliveries).await;
        broker.close().await;
        // The session has nothing left either.
        let next_life = client(&server, "a").await;
        let mut deliveries = subscribe(&*next_life, "t/#").await;
        silent(&mut deliveries).await;
    }
}

/// A server that has lost the session is told of all subscriptions again.
#[tokio::test]
async fn subscriptions_are_restored() {
    let mut server = Server::start("").await;
    let fields = [
        ("url", &*server.url()),
        ("consumerID", "a"),
        ("cleanSession", "true"),
    ];
    let broker = broker(&fields).await.unwrap();
    let mut one = subscribe(&*broker, "one").await;
    let mut other = subscribe(&*broker, "other/+").await;
    server.stop().await;
    server.start_again().await;
    // Nothing is kept for a clean session, so what is published before it is back is not for it.
    for (topic, deliveries) in [("one", &mut one), ("other/x", &mut other)] {
        server::until("a message arrives again", async || {
            publish(&*broker, topic, "m").await;
            let came = tokio::time::timeout(SILENCE, deliveries.next()).await;
            matches!(came, Ok(Ok(_)))
        })
        .await;
    }
}

/// Where the connection breaks while messages are acknowledged, each comes at least once, and in the end the server has
/// nothing left.
#[tokio::test]
async fn a_cut_while_acknowledging_loses_nothing() {
    const MESSAGES: usize = 40;
    let server = Server::start("").await;
    let proxy = Proxy::start(&server.address).await;
    let url = format!("tcp://{}", proxy.address);
    let broker = broker(&[("url", &*url), ("consumerID", "a")])
        .await
        .unwrap();
    let publisher = client(&server, "b").await;
    let mut deliveries = subscribe(&*broker, "t").await;
    let mut missing: std::collections::BTreeSet<String> =
        (0..MESSAGES).map(|number| number.to_string()).collect();
    for number in &missing {
        publish(&*publisher, "t", number.clone()).await;
    }
    let mut taken = 0;
    while !missing.is_empty() {
        let delivery = next(&mut deliveries).await;
        missing.remove(&text(&delivery));
        taken += 1;
        match taken {
            // Before, and after the acknowledgement may have been written.
            5 | 25 => {
                proxy.cut();
                settle(delivery).await;
            }
            15 | 35 => {
                settle(delivery).await;
                proxy.cut();
            }
            _ => settle(delivery).await,
        }
    }
    // Of what was cut off, some may still come again, once there is a connection: before what is published last.
    publish(&*publisher, "t", "last").await;
    loop {
        let delivery = next(&mut deliveries).await;
        let text = text(&delivery);
        settle(delivery).await;
        if text == "last" {
            break;
        }
    }
    broker.close().await;
    let next_life = client(&server, "a").await;
    let mut left = subscribe(&*next_life, "t").await;
    silent(&mut left).await;
}

/// The retained message comes with the subscription, not with each connection.
#[tokio::test]
async fn a_new_connection_does_not_bring_retained_messages_again() {
    let server = Server::start("").await;
    let proxy = Proxy::start(&server.address).await;
    let url = format!("tcp://{}", proxy.address);
    let broker = broker(&[("url", &*url), ("consumerID", "a")])
        .await
        .unwrap();
    let publisher = client(&server, "b").await;
    let retained = message("t", "retained", &[("retain", "true")]);
    publisher.publish(&retained).await.unwrap();
    let mut deliveries = subscribe(&*broker, "t").await;
    assert_eq!(receive(&mut deliveries).await, "retained");
    // Its answer comes behind the acknowledgement.
    let _other = subscribe(&*broker, "other").await;
    proxy.cut();
    publish(&*publisher, "t", "new").await;
    assert_eq!(receive(&mut deliveries).await, "new");
    silent(&mut deliveries).await;
}
