//! What a session keeps, who shares it, and what comes through it.

use component::pubsub::{Limits, Redelivery};

use super::*;

#[tokio::test]
async fn a_message_says_whether_it_was_retained() {
    let server = Server::start("").await;
    let broker = client(&server, "a").await;
    for (topic, metadata) in [("kept", ("retain", "true")), ("passing", ("retain", "f"))] {
        let request = message(topic, "m", &[metadata]);
        broker.publish(&request).await.unwrap();
    }
    let mut kept = subscribe(&*broker, "kept").await;
    let mut passing = subscribe(&*broker, "passing").await;
    let delivery = next(&mut kept).await;
    assert_eq!(delivery.message.metadata["retained"], "true");
    settle(delivery).await;
    silent(&mut passing).await;
    publish(&*broker, "passing", "m").await;
    let delivery = next(&mut passing).await;
    assert_eq!(delivery.message.metadata["retained"], "false");
    let unclear = message("kept", "m", &[("retain", "maybe")]);
    let error = broker.publish(&unclear).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}

/// The message that failed stays with the one who delivers it again, and others of its topic behind it.
#[tokio::test]
async fn messages_are_delivered_again_in_place_and_in_order() {
    let server = Server::start("").await;
    let broker = client(&server, "a").await;
    let mut deliveries = subscribe(&*broker, "t/+").await;
    assert!(matches!(deliveries.redelivery(), Redelivery::InPlace(_)));
    for data in ["1", "2", "3"] {
        publish(&*broker, "t/x", data).await;
    }
    let first = next(&mut deliveries).await;
    assert_eq!(first.order_key.as_deref(), Some("t/x"));
    let second = next(&mut deliveries).await;
    // The subscription ends before they were done with: both are there again, before the third.
    drop(deliveries);
    drop((second, first));
    let mut deliveries = subscribe(&*broker, "t/+").await;
    for expected in ["1", "2", "3"] {
        assert_eq!(receive(&mut deliveries).await, expected);
    }
    silent(&mut deliveries).await;
}

/// What was not acknowledged when a component closed is there for the next one of the same client, and only that.
#[tokio::test]
async fn the_session_is_kept_for_the_next_component() {
    let server = Server::start("").await;
    let broker = client(&server, "a").await;
    let mut deliveries = subscribe(&*broker, "t").await;
    for data in ["done", "left"] {
        publish(&*broker, "t", data).await;
    }
    assert_eq!(receive(&mut deliveries).await, "done");
    let left = next(&mut deliveries).await;
    broker.close().await;
    assert!(matches!(
        deliveries.next().await,
        Err(component::pubsub::Ended::Closed)
    ));
    let late = left.ack.settle(Outcome::Ok).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(deliveries);
    publish(&*client(&server, "other").await, "t", "meanwhile").await;
    let broker = client(&server, "a").await;
    let mut deliveries = subscribe(&*broker, "t").await;
    for expected in ["left", "meanwhile"] {
        assert_eq!(receive(&mut deliveries).await, expected);
    }
    silent(&mut deliveries).await;
}

/// The server throws the older of two clients with one id out: a component that is opened in place of another takes over.
#[tokio::test]
async fn a_component_takes_over_from_another() {
    let server = Server::start("").await;
    let old = client(&server, "a").await;
    let mut ended = subscribe(&*old, "t").await;
    publish(&*old, "t", "held").await;
    let held = next(&mut ended).await;
    let new = client(&server, "a").await;
    let mut deliveries = subscribe(&*new, "t").await;
    old.close().await;
    drop((held, ended));
    publish(&*new, "t", "new").await;
    for expected in ["held", "new"] {
        assert_eq!(receive(&mut deliveries).await, expected);
    }
    silent(&mut deliveries).await;
}

/// A subscription whose messages nobody takes does not keep the others from theirs, nor anybody from publishing, as long as
/// the server sends on.
#[tokio::test]
async fn a_slow_subscriber_is_waited_for() {
    const MESSAGES: usize = 1500;
    let server = Server::start("max_inflight_messages 0\nmax_queued_messages 0").await;
    let broker = client(&server, "a").await;
    let request = SubscribeRequest {
        topic: "slow".to_owned(),
        limits: Limits::default().at_most(1),
        ..SubscribeRequest::default()
    };
    let mut slow = broker.subscribe(request).await.unwrap();
    // More than are held, so that the component has to stop reading; each is acknowledged to the publisher all the same.
    for number in 0..MESSAGES {
        publish(&*broker, "slow", number.to_string()).await;
    }
    for number in 0..MESSAGES {
        assert_eq!(receive(&mut slow).await, number.to_string());
    }
    silent(&mut slow).await;
}

#[tokio::test]
async fn a_group_shares_its_messages() {
    const MESSAGES: usize = 20;
    let server = Server::start("").await;
    let (one, other) = (client(&server, "a").await, client(&server, "b").await);
    let mut ones = subscribe(&*one, "$share/group/t/#").await;
    let mut others = subscribe(&*other, "$share/group/t/#").await;
    for number in 0..MESSAGES {
        publish(&*one, "t/x", number.to_string()).await;
    }
    let mut shares = [0, 0];
    for _ in 0..MESSAGES {
        let (share, delivery) = tokio::select! {
            delivery = ones.next() => (0, delivery),
            delivery = others.next() => (1, delivery),
        };
        shares[share] += 1;
        settle(delivery.unwrap()).await;
    }
    assert!(shares[0] > 0 && shares[1] > 0, "{shares:?}");
    silent(&mut ones).await;
    silent(&mut others).await;
}

/// A subscription that says so is forgotten with its end; others go on being collected for.
#[tokio::test]
async fn a_subscription_is_forgotten_where_it_says_so() {
    let server = Server::start("").await;
    let broker = client(&server, "a").await;
    let request = SubscribeRequest {
        topic: "passing".to_owned(),
        metadata: [("unsubscribeOnClose".to_owned(), "true".to_owned())].into(),
        ..SubscribeRequest::default()
    };
    drop(broker.subscribe(request).await.unwrap());
    drop(subscribe(&*broker, "kept").await);
    // Until its end has arrived, messages still come for it; a retained one tells nothing, so new ones are sent.
    let observer = client(&server, "b").await;
    server::until("the subscription is forgotten", async || {
        publish(&*observer, "passing", "m").await;
        let mut again = subscribe(&*broker, "passing").await;
        let came = tokio::time::timeout(SILENCE, again.next()).await;
        if let Ok(Ok(delivery)) = came {
            settle(delivery).await;
            return false;
        }
        true
    })
    .await;
    publish(&*observer, "kept", "m").await;
    let mut kept = subscribe(&*broker, "kept").await;
    assert_eq!(receive(&mut kept).await, "m");
}

/// What comes for a subscription that nobody comes back to must not use up what the server sends ahead.
#[tokio::test]
async fn a_withdrawn_subscription_silences_nobody() {
    // More than Mosquitto sends without an acknowledgement.
    const MESSAGES: usize = 50;
    let mut server = Server::start("").await;
    let broker = client(&server, "a").await;
    let mut kept = subscribe(&*broker, "kept").await;
    let mut gone = subscribe(&*broker, "gone/+").await;
    publish(&*broker, "gone/x", "m").await;
    assert_eq!(receive(&mut gone).await, "m");
    gone.withdraw();
    for number in 0..MESSAGES {
        publish(&*broker, "gone/x", number.to_string()).await;
    }
    publish(&*broker, "kept", "m").await;
    assert_eq!(receive(&mut kept).await, "m");
    // The same where the server hears of it later.
    let gone = subscribe(&*broker, "gone/+").await;
    server.stop().await;
    server::until("the connection is lost", async || {
        broker.ping().await.is_err()
    })
    .await;
    gone.withdraw();
    server.start_again().await;
    let publisher = client(&server, "b").await;
    for number in 0..MESSAGES {
        publish(&*publisher, "gone/x", number.to_string()).await;
    }
    publish(&*publisher, "kept", "again").await;
    assert_eq!(receive(&mut kept).await, "again");
}

/// Two components of one client id throw each other out for as long as both come back: the one that was replaced does not.
#[tokio::test]
async fn a_component_that_was_replaced_yields() {
    let server = Server::start("").await;
    let old = client(&server, "a").await;
    drop(subscribe(&*old, "t").await);
    let new = client(&server, "a").await;
    let mut deliveries = subscribe(&*new, "t").await;
    let is_thrown_out = async {
        while new.ping().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let thrown_out = tokio::time::timeout(COMING_BACK, is_thrown_out).await;
    assert!(thrown_out.is_err(), "the old one has come back");
    publish(&*new, "t", "m").await;
    assert_eq!(receive(&mut deliveries).await, "m");
    // It is needed again.
    publish(&*old, "t", "again").await;
    assert_eq!(receive(&mut deliveries).await, "again");
}

/// Longer than a connection waits before it is made anew.
const COMING_BACK: Duration = Duration::from_secs(1);
