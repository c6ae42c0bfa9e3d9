//! What a load calls, and a connection over which it does. Requests are encoded once, before the clock runs: what is
//! measured is the other side.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::runtime::Runtime;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use transport::{ChannelOptions, Connector, Stream};

use super::arrivals::{Arrivals, STAMP};

/// A call to a port of the loopback address.
#[derive(Clone)]
pub(super) struct Target {
    port: u16,
    call: Call,
    body: Bytes,
    /// Bytes of an answer that is not a failure in disguise.
    answer: RangeInclusive<usize>,
    /// Where in the body the time goes, and who reads it.
    stamp: Option<(usize, Arrivals)>,
    /// How its connections are secured, if they are.
    tls: Option<Arc<ClientConfig>>,
    /// Each call has the next number in place of [`NUMBER`] in its path.
    numbers: Option<Arc<AtomicU64>>,
}

#[derive(Clone)]
enum Call {
    Http {
        method: Method,
        path: String,
        content_type: &'static str,
    },
    /// A unary RPC, by its path.
    Grpc(&'static str),
    /// Commands in one write, and how many replies they get.
    Redis(usize),
}

impl Target {
    pub fn http(port: u16, method: Method, path: &str, content_type: &'static str) -> Self {
        let call = Call::Http {
            method,
            path: path.to_owned(),
            content_type,
        };
        Target::new(port, call, Bytes::new())
    }

    pub fn grpc(port: u16, path: &'static str, message: &impl prost::Message) -> Self {
        Target::new(port, Call::Grpc(path), message.encode_to_vec().into())
    }

    /// Commands whose replies are integers or strings.
    pub fn redis(port: u16, commands: &[Vec<String>]) -> Self {
        let mut bytes = Vec::new();
        for words in commands {
            bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
            for word in words {
                bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
            }
        }
        Target::new(port, Call::Redis(commands.len()), bytes.into())
    }

    fn new(port: u16, call: Call, body: Bytes) -> Self {
        Target {
            port,
            call,
            body,
            answer: 0..=0,
            stamp: None,
            tls: None,
            numbers: None,
        }
    }

    /// Over TLS.
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Each call is about something that no call was about before.
    pub fn numbered(mut self) -> Self {
        self.numbers = Some(Arc::default());
        self
    }

    /// How many bytes an answer has; unless it is said, none.
    pub fn answers(mut self, bytes: RangeInclusive<usize>) -> Self {
        self.answer = bytes;
        self
    }

    /// Each call that is measured carries its time in place of [`STAMP`], for `arrivals`.
    pub fn stamped(mut self, arrivals: &Arrivals) -> Result<Self> {
        let at = self
            .body
            .windows(STAMP.len())
            .position(|window| window == STAMP.as_bytes())
            .context("the body has no place for a time")?;
        self.stamp = Some((at, arrivals.clone()));
        Ok(self)
    }

    fn name(&self) -> String {
        match &self.call {
            Call::Http { method, path, .. } => format!("{method} {path}"),
            Call::Grpc(path) => (*path).to_owned(),
            Call::Redis(_) => "Redis".to_owned(),
        }
    }
}

/// One connection to a target.
pub(super) struct Connection<'a> {
    target: &'a Target,
    wire: Wire,
}

enum Wire {
    Http(SendRequest<Full<Bytes>>),
    Grpc(tonic::client::Grpc<Channel>),
    Redis(BufStream<Stream>),
}

impl<'a> Connection<'a> {
    /// Connects, and makes one call that is not measured.
    pub fn open(runtime: &Runtime, target: &'a Target) -> Result<Self> {
        let open = async {
            let wire = Wire::connect(runtime, target).await?;
            let mut connection = Connection { target, wire };
            connection.call(None).await?;
            anyhow::Ok(connection)
        };
        runtime
            .block_on(open)
            .with_context(|| format!("calling {} on port {}", target.name(), target.port))
    }

    /// Makes a call that was due at a time.
    pub async fn call(&mut self, due: Option<Instant>) -> Result<()> {
        let target = self.target;
        let body = match (&target.stamp, due) {
            (Some((at, arrivals)), Some(due)) => {
                let mut body = target.body.to_vec();
                body[*at..at + STAMP.len()].copy_from_slice(arrivals.stamp(due).as_bytes());
                body.into()
            }
            _ => target.body.clone(),
        };
        let received = match &mut self.wire {
            Wire::Http(sender) => http(sender, target, body).await?,
            Wire::Grpc(client) => {
                let Call::Grpc(path) = target.call else {
                    bail!("no RPC");
                };
                client.ready().await?;
                let path = PathAndQuery::from_static(path);
                let response = client.unary(tonic::Request::new(body), path, Raw).await?;
                response.into_inner()
            }
            Wire::Redis(stream) => {
                let Call::Redis(replies) = target.call else {
                    bail!("no command");
                };
                stream.write_all(&body).await?;
                stream.flush().await?;
                redis_replies(stream, replies).await?
            }
        };
        ensure!(
            target.answer.contains(&received),
            "the answer has {received} bytes"
        );
        Ok(())
    }
}

impl Wire {
    async fn connect(runtime: &Runtime, target: &Target) -> Result<Self> {
        let connector = Connector::maybe_tls(target.tls.clone());
        let uri = format!("http://127.0.0.1:{}", target.port).parse()?;
        if let Call::Grpc(_) = target.call {
            let channel = transport::channel(uri, connector, ChannelOptions::default());
            let client = tonic::client::Grpc::new(channel).max_decoding_message_size(LONGEST);
            return Ok(Wire::Grpc(client));
        }
        let stream = connector.connect(&uri).await?.into_stream();
        Ok(match target.call {
            Call::Redis(_) => Wire::Redis(BufStream::with_capacity(BUFFER, BUFFER, stream)),
            _ => {
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
                runtime.spawn(driver);
                Wire::Http(sender)
            }
        })
    }
}

/// Makes a call and counts the bytes of its answer.
async fn http(
    sender: &mut SendRequest<Full<Bytes>>,
    target: &Target,
    body: Bytes,
) -> Result<usize> {
    let Call::Http {
        method,
        path,
        content_type,
    } = &target.call
    else {
        bail!("no request");
    };
    let uri = match &target.numbers {
        Some(numbers) => {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            path.replace(NUMBER, &number.to_string())
        }
        None => path.clone(),
    };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "127.0.0.1")
        .header("content-type", *content_type)
        .body(Full::new(body))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    ensure!(status.is_success(), "status {status}");
    Ok(response.into_body().collect().await?.to_bytes().len())
}

/// Reads so many replies, and counts the bytes of their strings.
async fn redis_replies(stream: &mut BufStream<Stream>, replies: usize) -> Result<usize> {
    let mut received = 0;
    let mut line = String::new();
    let mut string = Vec::new();
    for _ in 0..replies {
        line.clear();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_at_checked(1) {
            Some(("$", length)) => {
                let length: usize = length.parse().context("a string that is missing")?;
                ensure!(length <= LONGEST, "a string of {length} bytes");
                string.resize(length + 2, 0); // with its end of line
                stream.read_exact(&mut string).await?;
                received += length;
            }
            Some((":" | "+", _)) => {}
            _ => bail!("Redis says {line:?}"),
        }
    }
    Ok(received)
}

/// Messages as bytes, counted when they are received.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = usize;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = usize;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<usize>, tonic::Status> {
        let length = buffer.remaining();
        buffer.advance(length);
        Ok(Some(length))
    }
}

/// Where the number of a call goes.
pub(super) const NUMBER: &str = "{number}";

/// Bytes of the longest answer that is read.
const LONGEST: usize = 64 << 20;

/// Bytes that are read from Redis, or written to it, at a time.
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_encoded() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let target = Target::redis(1, &[words(&["GET", "key"]), words(&["PING"])]);
        let expected: &[u8] = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(target.body, expected);
        assert!(matches!(target.call, Call::Redis(2)));
    }

    #[test]
    fn a_stamp_needs_a_place() {
        let target = |body: String| Target::redis(1, &[]).body(body);
        let arrivals = Arrivals::default();
        let stamped = target(format!("data {STAMP}")).stamped(&arrivals);
        assert_eq!(stamped.ok().and_then(|t| t.stamp).map(|s| s.0), Some(5));
        assert!(target("data".to_owned()).stamped(&arrivals).is_err());
    }
}
