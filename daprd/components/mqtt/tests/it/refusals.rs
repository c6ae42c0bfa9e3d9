//! Servers that refuse, or say what nobody understands.

use std::process::Command;

use component::pubsub::Ended;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;

#[tokio::test]
async fn who_is_not_known_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&file)
        .args(["user", "p@ss"])
        .status()
        .unwrap();
    assert!(made.success());
    let lines = format!("allow_anonymous false\npassword_file {}", file.display());
    let server = Server::start_in(folder, &lines).await;
    let open = async |login: &str| {
        let url = format!("tcp://{login}{}", server.address);
        broker(&[("url", &*url)]).await
    };
    let broker = open("user:p%40ss@").await.unwrap();
    broker.ping().await.unwrap();
    for login in ["", "user@", "user:other@"] {
        let error = open(login).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{login}: {error}");
        assert!(error.to_string().contains(&server.address), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let address = format!(
        "127.0.0.1:{}",
        component_conformance::ports::reserve().release()
    );
    let url = format!("tcp://{address}");
    let error = broker(&[("url", &*url)]).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn what_no_server_takes_is_not_sent() {
    let server = Server::start("").await;
    let broker = client(&server, "a").await;
    let large = Bytes::from(vec![0; 64 << 20]);
    for request in [
        message("", "m", &[]),
        message("a/+", "m", &[]),
        message("t", large, &[]),
    ] {
        let error = broker.publish(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    }
    let request = SubscribeRequest {
        topic: "a/#/b".to_owned(),
        ..SubscribeRequest::default()
    };
    let error = broker.subscribe(request).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    broker.ping().await.expect("the connection is as it was");
}

/// A server that breaks the connection over a message gets it a few times, and then whoever publishes is told.
#[tokio::test]
async fn a_message_that_breaks_the_connection_is_given_up() {
    let server = Server::start("max_packet_size 1000").await;
    let broker = client(&server, "a").await;
    let request = message("t", vec![b'x'; 2000], &[]);
    let error = broker.publish(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    publish(&*broker, "t", "small").await;
}

/// Far above the library's own limit of 10 KiB.
#[tokio::test]
async fn large_messages_pass() {
    let server = Server::start("").await;
    let broker = client(&server, "a").await;
    let mut deliveries = subscribe(&*broker, "t").await;
    let large = Bytes::from(vec![b'x'; 8 << 20]);
    publish(&*broker, "t", large.clone()).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.message.data.len(), large.len());
}

/// A packet that cannot be read is sent again on each connection: subscriptions end, for a reason that waiting does not
/// mend, and no connection is made for them before somebody subscribes again.
#[tokio::test]
async fn a_packet_that_cannot_be_read_ends_the_subscriptions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.spawn(answer(stream));
        }
    });
    let broker = broker(&[("url", &*url)]).await.unwrap();
    let mut deliveries = subscribe(&*broker, "t").await;
    let request = SubscribeRequest {
        topic: "poison".to_owned(),
        ..SubscribeRequest::default()
    };
    let error = broker.subscribe(request).await.err().unwrap();
    assert!(!error.kind().is_transient(), "{error}");
    let ended = tokio::time::timeout(PATIENCE, deliveries.next()).await;
    let Err(Ended::Failed(error)) = ended.unwrap() else {
        panic!("goes on");
    };
    assert!(!error.kind().is_transient(), "{error}");
    let publishes = broker.ping().await;
    publishes.expect("the one that publishes is another connection");
    drop(deliveries);
    let _again = subscribe(&*broker, "t").await;
}

/// Takes anybody and any subscription, but for one that is answered with a packet of a kind that there is not.
async fn answer(mut stream: TcpStream) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        let is_poison = bytes[..count].windows(6).any(|word| word == b"poison");
        let answer: &[u8] = match bytes[0] >> 4 {
            1 => &[0x20, 2, 0, 0],
            8 if is_poison => &[0xf0, 0],
            8 => &[0x90, 3, bytes[2], bytes[3], 1],
            _ => &[],
        };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
