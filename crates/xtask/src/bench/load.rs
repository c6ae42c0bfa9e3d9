//! Open-loop load: every call has its time in a schedule that does not wait for answers, and its latency counts from
//! that time. A slow answer therefore delays what comes after it on its connection, and the delay is seen.
//!
//! Each connection has an operating system thread: timers of an async runtime tick in milliseconds, far too coarse for
//! calls of a hundred microseconds.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use proto::common::v1::InvokeRequest;
use proto::runtime::v1::InvokeServiceRequest;
use proto::runtime::v1::app_callback_client::AppCallbackClient;
use proto::runtime::v1::dapr_client::DaprClient;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use transport::{ChannelOptions, Connector};

use super::process::pause;
use super::samples::Samples;

/// How much to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Calls per second over all connections.
    pub rate: u32,
    pub connections: u32,
    pub duration: Duration,
    /// Bytes of each request, and of each response.
    pub payload: usize,
}

/// What to call.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// `POST` to this URL.
    Http(Uri),
    /// `OnInvoke` of an app on this port.
    GrpcApp(u16),
    /// `InvokeService` of a sidecar on this port, for this app.
    GrpcSidecar(u16, String),
}

/// Runs the load to its end.
pub(super) fn run(target: &Target, load: Load) -> Result<Samples> {
    let start = Barrier::new(load.connections as usize);
    let interval = Duration::from_secs(u64::from(load.connections)) / load.rate;
    let calls = u32::try_from(load.duration.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..load.connections)
            .map(|index| {
                // Spread evenly, so that the calls of all connections together are evenly spaced too.
                let offset = interval * index / load.connections;
                let start = &start;
                scope.spawn(move || worker(target, load.payload, interval, offset, calls, start))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let failures = results.iter().map(|(_, failures)| failures).sum();
    Ok(Samples::new(
        results.into_iter().flat_map(|(latencies, _)| latencies),
        failures,
    ))
}

fn worker(
    target: &Target,
    payload: usize,
    interval: Duration,
    offset: Duration,
    calls: u32,
    start: &Barrier,
) -> Result<(Vec<Duration>, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Everyone reaches the barrier, or the others would wait for ever.
    let connection = Connection::open(&runtime, target, payload);
    start.wait();
    let mut connection = connection?;
    let begin = Instant::now() + offset;
    let mut latencies = Vec::with_capacity(calls as usize);
    let mut failures = 0;
    for call in 0..calls {
        let intended = begin + interval * call;
        pause(intended.saturating_duration_since(Instant::now()));
        match runtime.block_on(connection.call()) {
            Ok(()) => latencies.push(intended.elapsed()),
            Err(_) => {
                failures += 1;
                connection = Connection::open(&runtime, target, payload)?;
            }
        }
    }
    Ok((latencies, failures))
}

/// One connection and what is sent over it.
enum Connection {
    Http {
        sender: SendRequest<Full<Bytes>>,
        uri: Uri,
        body: Bytes,
    },
    GrpcApp {
        client: AppCallbackClient<Channel>,
        request: InvokeRequest,
    },
    GrpcSidecar {
        client: DaprClient<Channel>,
        request: InvokeServiceRequest,
    },
}

impl Connection {
    /// Connects, and makes one call that is not measured.
    fn open(runtime: &Runtime, target: &Target, payload: usize) -> Result<Self> {
        let mut connection = runtime.block_on(Connection::connect(runtime, target, payload))?;
        runtime
            .block_on(connection.call())
            .with_context(|| format!("calling {target:?}"))?;
        Ok(connection)
    }

    async fn connect(runtime: &Runtime, target: &Target, payload: usize) -> Result<Self> {
        let body = Bytes::from(vec![b'x'; payload]);
        let message = InvokeRequest {
            method: "echo".to_owned(),
            data: Some(prost_types::Any {
                value: body.to_vec(),
                ..prost_types::Any::default()
            }),
            content_type: "application/octet-stream".to_owned(),
            http_extension: None,
        };
        Ok(match target {
            Target::Http(uri) => {
                let authority = uri.authority().context("the URL has no host")?.as_str();
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
                runtime.spawn(driver);
                Connection::Http {
                    sender,
                    uri: uri.clone(),
                    body,
                }
            }
            Target::GrpcApp(port) => Connection::GrpcApp {
                client: AppCallbackClient::new(channel(*port)?),
                request: message,
            },
            Target::GrpcSidecar(port, app_id) => {
                let request = InvokeServiceRequest {
                    id: app_id.clone(),
                    message: Some(message),
                };
                Connection::GrpcSidecar {
                    client: DaprClient::new(channel(*port)?),
                    request,
                }
            }
        })
    }

    async fn call(&mut self) -> Result<()> {
        let (received, sent) = match self {
            Connection::Http { sender, uri, body } => {
                let request = Request::post(uri.path())
                    .header(
                        "host",
                        uri.authority().map_or("", |authority| authority.as_str()),
                    )
                    .header("content-type", "application/octet-stream")
                    .body(Full::new(body.clone()))?;
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                anyhow::ensure!(
                    response.status().is_success(),
                    "status {}",
                    response.status()
                );
                (
                    response.into_body().collect().await?.to_bytes().len(),
                    body.len(),
                )
            }
            Connection::GrpcApp { client, request } => {
                let response = client.on_invoke(request.clone()).await?.into_inner();
                (
                    length(response.data.as_ref()),
                    length(request.data.as_ref()),
                )
            }
            Connection::GrpcSidecar { client, request } => {
                let response = client.invoke_service(request.clone()).await?.into_inner();
                let sent = request
                    .message
                    .as_ref()
                    .and_then(|message| message.data.as_ref());
                (length(response.data.as_ref()), length(sent))
            }
        };
        anyhow::ensure!(
            received == sent,
            "sent {sent} bytes and got {received} back"
        );
        Ok(())
    }
}

fn length(data: Option<&prost_types::Any>) -> usize {
    data.map_or(0, |data| data.value.len())
}

fn channel(port: u16) -> Result<Channel> {
    let uri = format!("http://127.0.0.1:{port}").parse()?;
    Ok(transport::channel(
        uri,
        Connector::plain(),
        ChannelOptions::default(),
    ))
}
