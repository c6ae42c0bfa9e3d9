//! What is published waits for the subscriptions, where a new connection has to ask for them again.

use std::sync::Arc;

use component_conformance::proxy::Proxy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::*;

/// Keeps no sessions, and answers subscriptions when it is told to.
struct Server {
    address: String,
    withheld: watch::Sender<bool>,
    seen: Arc<Seen>,
    _task: JoinSet<()>,
}

/// What has come so far.
#[derive(Default)]
struct Seen {
    connections: watch::Sender<u32>,
    subscriptions: watch::Sender<u32>,
    messages: watch::Sender<u32>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address").to_string();
        let (withheld, seen) = (watch::Sender::new(false), Arc::<Seen>::default());
        let (withhold, sees) = (withheld.subscribe(), Arc::clone(&seen));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(answer(stream, withhold.clone(), Arc::clone(&sees)));
            }
        });
        Self {
            address,
            withheld,
            seen,
            _task: task,
        }
    }
}

async fn answer(mut stream: TcpStream, mut withheld: watch::Receiver<bool>, seen: Arc<Seen>) {
    let count = |what: &watch::Sender<u32>| what.send_modify(|count| *count += 1);
    let mut bytes = [0; 1024];
    // A client that waits for its answer sends one packet at a time.
    while let Ok(1..) = stream.read(&mut bytes).await {
        let answer: Vec<u8> = match bytes[0] >> 4 {
            1 => {
                count(&seen.connections);
                vec![0x20, 2, 0, 0]
            }
            3 => {
                count(&seen.messages);
                let id = 4 + usize::from(bytes[3]);
                vec![0x40, 2, bytes[id], bytes[id + 1]]
            }
            8 => {
                count(&seen.subscriptions);
                if withheld.wait_for(|withheld| !withheld).await.is_err() {
                    return;
                }
                vec![0x90, 3, bytes[2], bytes[3], 1]
            }
            _ => continue,
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn reaches(what: &watch::Sender<u32>, count: u32) {
    let mut what = what.subscribe();
    let reached = timeout(PATIENCE, what.wait_for(|now| *now >= count)).await;
    reached.expect("in time").expect("the server is there");
}

#[tokio::test]
async fn messages_wait_for_the_subscriptions_of_a_new_connection() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server.address).await;
    let url = format!("tcp://{}", proxy.address);
    let broker = broker(&[("url", &*url), ("cleanSession", "true")])
        .await
        .unwrap();
    let _deliveries = subscribe(&*broker, "t").await;
    server.withheld.send_replace(true);
    proxy.cut();
    let publishing = publish(&*broker, "t", "m");
    let meanwhile = async {
        reaches(&server.seen.subscriptions, 2).await;
        reaches(&server.seen.connections, 4).await;
        let early = timeout(SILENCE, reaches(&server.seen.messages, 1)).await;
        assert!(early.is_err(), "nobody hears it yet");
        server.withheld.send_replace(false);
    };
    tokio::join!(publishing, meanwhile);
    assert_eq!(*server.seen.messages.borrow(), 1);
    // A server that does not answer holds nothing up for good.
    server.withheld.send_replace(true);
    proxy.cut();
    publish(&*broker, "t", "m").await;
    let begun = Instant::now();
    publish(&*broker, "t", "m").await;
    assert!(begun.elapsed() < Duration::from_secs(2), "it has waited");
}
