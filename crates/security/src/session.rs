//! TLS session caches with a limited life. Resuming a session skips the certificate check, so a session must not
//! outlive a change of the anchors, nor its peer's certificate by more than an hour.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use tokio::sync::watch;

use crate::TrustBundle;

/// Sessions a server remembers, or peers a client remembers.
const SESSIONS: usize = 256;
/// Sessions are forgotten after this time.
const LIFE: Duration = Duration::from_secs(3600);

/// A cache that is replaced by an empty one when it is too old or the anchors have changed.
#[derive(Debug)]
pub(crate) struct Sessions<C> {
    anchors: watch::Receiver<Arc<TrustBundle>>,
    current: Mutex<Current<C>>,
    fresh: fn() -> Arc<C>,
}

#[derive(Debug)]
struct Current<C> {
    cache: Arc<C>,
    anchors: Arc<TrustBundle>,
    since: Instant,
}

pub(crate) type ServerSessions = Sessions<ServerSessionMemoryCache>;
pub(crate) type ClientSessions = Sessions<ClientSessionMemoryCache>;

impl ServerSessions {
    pub(crate) fn server(anchors: watch::Receiver<Arc<TrustBundle>>) -> Self {
        Self::new(anchors, || ServerSessionMemoryCache::new(SESSIONS))
    }
}

impl ClientSessions {
    pub(crate) fn client(anchors: watch::Receiver<Arc<TrustBundle>>) -> Self {
        Self::new(anchors, || {
            Arc::new(ClientSessionMemoryCache::new(SESSIONS))
        })
    }
}

impl<C> Sessions<C> {
    fn new(anchors: watch::Receiver<Arc<TrustBundle>>, fresh: fn() -> Arc<C>) -> Self {
        let now = anchors.borrow().clone();
        let current = Current {
            cache: fresh(),
            anchors: now,
            since: Instant::now(),
        };
        Self {
            anchors,
            current: Mutex::new(current),
            fresh,
        }
    }

    fn cache(&self) -> Arc<C> {
        let anchors = self.anchors.borrow().clone();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.since.elapsed() > LIFE || !Arc::ptr_eq(&current.anchors, &anchors) {
            *current = Current {
                cache: (self.fresh)(),
                anchors,
                since: Instant::now(),
            };
        }
        current.cache.clone()
    }
}

impl StoresServerSessions for ServerSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.cache().put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache().get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache().take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl ClientSessionStore for ClientSessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.cache().set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache().kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.cache().set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.cache().tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.cache().remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.cache().insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache().take_tls13_ticket(server)
    }
}
