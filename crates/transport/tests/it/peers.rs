//! One address that opens connection after connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transport::{Connector, PeerGate, ServerOptions, Stream};

use crate::{DEADLINE, get, start, tcp};

#[tokio::test]
async fn an_address_has_so_many_connections_and_others_have_theirs() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = refused.clone();
    let gate = PeerGate::new(2, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let options = ServerOptions {
        peers: Some(gate.clone()),
        max_connections: 3,
        ..ServerOptions::default()
    };
    let server = start(tcp(), options);
    let connect = async || {
        let dialled = Connector::plain().connect(&server.uri).await;
        dialled.expect("the kernel accepts").into_stream()
    };
    let mut held = vec![connect().await, connect().await];
    for stream in &mut held {
        answered(stream).await;
    }
    // Far more than there are slots: what is refused gives its slot back.
    for _ in 0..10 {
        let mut rest = Vec::new();
        let read = async { connect().await.read_to_end(&mut rest).await };
        let _ = timeout(DEADLINE, read).await.expect("closed at once");
        assert!(rest.is_empty());
    }
    assert_eq!(refused.load(Ordering::Relaxed), 10);
    held.clear();
    timeout(DEADLINE, async {
        while gate.peers() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the places of connections that ended are free");
    let (status, _) = get(Connector::plain(), false, &server.uri, "/again").await;
    assert_eq!(status, 200);
    server.shutdown.cancel();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
}

async fn answered(stream: &mut Stream) {
    let request = b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let read = timeout(DEADLINE, stream.read(&mut [0; 512])).await;
    assert!(read.expect("in time").expect("an answer") > 0);
}
