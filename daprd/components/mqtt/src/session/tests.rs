//! What a session does with messages that come again, are given back, or belong to nobody.

use super::*;

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

fn publish(packet: u16, data: &str, dup: bool) -> Publish {
    let qos = match packet {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    let mut publish = Publish::new("t", qos, data);
    publish.pkid = packet;
    publish.dup = dup;
    publish
}

fn receive(session: &mut Session, packet: u16, data: &str, dup: bool) -> Option<u16> {
    let acknowledgement =
        session.receive("t".to_owned(), publish(packet, data, dup), Instant::now());
    acknowledgement.map(|acknowledgement| acknowledgement.packet)
}

fn take(session: &mut Session) -> Option<(u64, String)> {
    let taken = session.take(&filter("t"))?;
    let text = String::from_utf8_lossy(&taken.payload).into_owned();
    Some((taken.number, text))
}

fn packet(acknowledgement: Option<Acknowledgement>) -> Option<u16> {
    acknowledgement.map(|acknowledgement| acknowledgement.packet)
}

fn subscribed() -> Session {
    let mut session = Session::new(false);
    session.connect(false);
    session.subscribe(&filter("t"));
    session
}

#[test]
fn what_is_still_held_is_not_delivered_again() {
    let mut session = subscribed();
    receive(&mut session, 1, "a", false);
    let (number, _) = take(&mut session).unwrap();
    session.connect(true);
    assert_eq!(
        packet(session.settle(number)),
        None,
        "not sent on this connection yet"
    );
    assert_eq!(
        receive(&mut session, 1, "a", true),
        Some(1),
        "settled meanwhile"
    );
    assert_eq!(take(&mut session), None);
    session.acknowledged(1);
    assert!(session.held.is_empty() && session.by_packet.is_empty());
}

#[test]
fn a_message_settled_after_it_came_again_is_acknowledged_then() {
    let mut session = subscribed();
    receive(&mut session, 1, "a", false);
    let (number, _) = take(&mut session).unwrap();
    session.connect(true);
    assert_eq!(receive(&mut session, 1, "a", true), None);
    assert_eq!(take(&mut session), None, "it is under way");
    assert_eq!(packet(session.settle(number)), Some(1));
    assert_eq!(packet(session.settle(number)), None, "once");
}

#[test]
fn a_packet_id_used_again_is_another_message() {
    let mut session = subscribed();
    receive(&mut session, 1, "a", false);
    let (number, _) = take(&mut session).unwrap();
    session.connect(true);
    session.settle(number);
    assert_eq!(
        receive(&mut session, 1, "a", false),
        None,
        "the same bytes, and no duplicate"
    );
    let (other, text) = take(&mut session).unwrap();
    assert_eq!((other != number, &*text), (true, "a"));
    receive(&mut session, 1, "b", true);
    assert_eq!(take(&mut session).unwrap().1, "b");
}

#[test]
fn without_its_session_the_server_is_told_nothing() {
    let mut session = subscribed();
    receive(&mut session, 1, "a", false);
    receive(&mut session, 2, "b", false);
    let (number, _) = take(&mut session).unwrap();
    session.connect(false);
    assert_eq!(packet(session.settle(number)), None);
    let (number, text) = take(&mut session).unwrap();
    assert_eq!(text, "b", "what was not delivered still is");
    assert_eq!(packet(session.settle(number)), None);
    assert!(session.held.is_empty());
}

#[test]
fn what_the_server_never_sends_again_is_forgotten() {
    let mut session = subscribed();
    receive(&mut session, 1, "a", false);
    let (number, _) = take(&mut session).unwrap();
    session.settle(number);
    session.connect(true);
    assert_eq!(
        session.held.len(),
        1,
        "the acknowledgement may not have arrived"
    );
    session.connect(true);
    assert!(session.held.is_empty());
}

#[test]
fn a_released_message_goes_back_to_its_place() {
    let mut session = subscribed();
    for (packet, data) in [(1, "a"), (2, "b"), (3, "c")] {
        receive(&mut session, packet, data, false);
    }
    let (first, _) = take(&mut session).unwrap();
    let (second, _) = take(&mut session).unwrap();
    session.release(second, Instant::now());
    session.release(first, Instant::now());
    let order: Vec<_> = std::iter::from_fn(|| take(&mut session)).collect();
    let order: Vec<_> = order.iter().map(|(_, text)| &**text).collect();
    assert_eq!(order, ["a", "b", "c"]);
}

#[test]
fn messages_wait_for_their_subscriber() {
    let mut session = Session::new(false);
    session.connect(true);
    receive(&mut session, 1, "early", false);
    session.subscribe(&filter("other"));
    session.subscribe(&filter("t"));
    let (number, text) = take(&mut session).unwrap();
    assert_eq!(text, "early");
    assert!(session.unsubscribe(&filter("t"), false).is_none());
    session.release(number, Instant::now());
    session.subscribe(&filter("t"));
    assert_eq!(take(&mut session).unwrap().1, "early");
}

#[test]
fn a_forgotten_subscription_leaves_nothing_behind() {
    let mut session = Session::new(true);
    session.connect(false);
    session.subscribe(&filter("t"));
    receive(&mut session, 1, "a", false);
    receive(&mut session, 2, "b", false);
    let (number, _) = take(&mut session).unwrap();
    let left = session.unsubscribe(&filter("t"), true).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(packet(session.release(number, Instant::now())), Some(1));
    assert_eq!(session.unsettled, 0);
}

#[test]
fn no_more_is_read_than_there_is_room_for() {
    let mut session = subscribed();
    for _ in 0..MOST_HELD {
        assert!(session.has_room());
        receive(&mut session, 0, "m", false);
    }
    assert!(!session.has_room());
    let (number, _) = take(&mut session).unwrap();
    session.settle(number);
    assert!(session.has_room());
}

#[test]
fn the_closest_filter_with_a_subscriber_gets_a_message() {
    let mut session = Session::new(false);
    session.connect(false);
    for text in ["#", "t"] {
        session.subscribe(&filter(text));
    }
    receive(&mut session, 1, "a", false);
    assert!(session.take(&filter("#")).is_none());
    assert!(session.take(&filter("t")).is_some());
    session.unsubscribe(&filter("t"), false);
    receive(&mut session, 2, "b", false);
    assert!(session.take(&filter("#")).is_some());
}

#[test]
fn what_still_comes_for_a_withdrawn_subscription_is_done_with() {
    let mut session = subscribed();
    receive(&mut session, 1, "a", false);
    let (number, _) = take(&mut session).unwrap();
    assert!(session.unsubscribe(&filter("t"), true).unwrap().is_empty());
    assert_eq!(receive(&mut session, 2, "b", false), Some(2));
    assert_eq!(packet(session.release(number, Instant::now())), Some(1));
    assert_eq!(session.unsettled, 0);
    let withdrawn: Vec<_> = session.withdrawn().map(Filter::text).collect();
    assert_eq!(withdrawn, ["t"], "for a server that was not told");
    session.subscribe(&filter("t"));
    assert_eq!(session.withdrawn().count(), 0);
    receive(&mut session, 3, "c", false);
    assert_eq!(take(&mut session).unwrap().1, "c");
}

#[test]
fn what_nobody_asks_for_does_not_wait_for_ever() {
    let mut session = Session::new(false);
    session.connect(true);
    let begun = Instant::now();
    session.receive("t".to_owned(), publish(1, "a", false), begun);
    session.subscribe(&filter("other"));
    assert_eq!(session.claim_deadline(), Some(begun + MOST_UNCLAIMED));
    let early = session.abandon(begun + MOST_UNCLAIMED / 2);
    assert_eq!(early, (vec![], vec![]));
    let late = begun + MOST_UNCLAIMED;
    session.receive("t".to_owned(), publish(2, "b", false), late);
    session.receive("u".to_owned(), publish(3, "c", false), late);
    let (topics, acknowledgements) = session.abandon(late);
    let packets: Vec<_> = acknowledgements.iter().map(|one| one.packet).collect();
    assert_eq!((topics, packets), (vec!["t".to_owned()], vec![1, 2]));
    assert_eq!(receive(&mut session, 4, "d", false), Some(4), "at once");
    assert_eq!(session.claim_deadline(), Some(late + MOST_UNCLAIMED));
    // Somebody has come after all.
    session.subscribe(&filter("t"));
    receive(&mut session, 5, "e", false);
    assert_eq!(take(&mut session).unwrap().1, "e");
}
