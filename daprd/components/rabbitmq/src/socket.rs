//! The sockets of the client library: connected within a time, encrypted as our metadata say, and with a way to cut them off,
//! for the library has none. It serves each on a thread of its own, which ends with the socket.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::Arc,
};

use async_rs::{TokioRuntime, traits::Reactor};
use lapin::{AsyncTcpStream, tcp::RustlsConnector, uri::AMQPUri};
use parking_lot::Mutex;
use rustls::ClientConfig;

/// A stream as the library has it.
pub type Stream = AsyncTcpStream<<TokioRuntime as Reactor>::TcpStream>;

/// Connects, with TLS where there is a configuration for it.
///
/// # Errors
/// Where there is no connection, or it was cut meanwhile.
pub async fn connect(
    uri: &AMQPUri,
    runtime: &TokioRuntime,
    tls: Option<Arc<ClientConfig>>,
    cut: &Cut,
) -> io::Result<Stream> {
    let authority = &uri.authority;
    let addresses = runtime.to_socket_addrs((authority.host.clone(), authority.port));
    let stream = runtime.tcp_connect(addresses).await?;
    let held = stream.get_ref().as_fd().try_clone_to_owned()?;
    cut.hold(TcpStream::from(held))?;
    let stream = AsyncTcpStream::Plain(stream);
    match tls {
        None => Ok(stream),
        Some(tls) => {
            let connector = RustlsConnector::from(tls);
            stream.into_rustls(&connector, &authority.host).await
        }
    }
}

/// Cuts a connection off, also one that is being made.
#[derive(Clone, Default)]
pub struct Cut(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    over: bool,
    socket: Option<TcpStream>,
}

impl Cut {
    /// What is sent from now on fails, and what is read ends.
    pub fn off(&self) {
        let mut held = self.0.lock();
        held.over = true;
        if let Some(socket) = held.socket.take() {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn hold(&self, socket: TcpStream) -> io::Result<()> {
        let mut held = self.0.lock();
        if held.over {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        held.socket = Some(socket);
        Ok(())
    }
}
