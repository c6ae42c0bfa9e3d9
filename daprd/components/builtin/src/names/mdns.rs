//! Name resolution by mDNS on the local network, for laptops: every sidecar announces itself as an instance of one service
//! type, and remembers the others it hears of.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use component::{Component, Error, ErrorKind, NameResolver, Open, Result, names::Target};
use mdns_sd::{IfKind, Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

/// The service type of sidecars; the app id is a property, because service names are limited to 15 bytes.
///
/// Compat: Q-mdns-records: upstream announces one service per app id, without a protocol label.
const SERVICE: &str = "_dapr._tcp.local.";

/// Properties of an instance.
const APP_ID: &str = "app";

/// How long a resolution waits for an app that is not known yet.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an instance that could not be reached has to say that it is still there before it is forgotten (RFC 6762
/// section 10.4). Others of the app are preferred meanwhile.
const DOUBT: Duration = Duration::from_secs(10);

/// How long the address of one that did not say so is still the last resort: the network may have lost the question, and
/// this long its record would have counted without it.
const LAST_RESORT: Duration = Duration::from_secs(120);

/// Most instances that are remembered; a network with more is no laptop.
const MAX_INSTANCES: usize = 4096;

/// Announces this sidecar and resolves others.
pub struct Mdns {
    daemon: ServiceDaemon,
    own_name: String,
    known: Arc<Known>,
    turn: AtomicUsize,
}

/// Instances heard of, by their full name.
#[derive(Default)]
struct Known {
    instances: Mutex<BTreeMap<String, Instance>>,
    changed: watch::Sender<u64>,
}

struct Instance {
    app_id: String,
    address: String,
    trust: Trust,
}

/// How far an address is believed in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Known,
    /// It could not be reached, and has until then to say that it is there.
    Doubted(Instant),
    /// It has not said so, and is forgotten then.
    Lost(Instant),
}

impl Instance {
    /// Which addresses are tried first.
    fn rank(&self, now: Instant) -> u8 {
        match self.trust {
            Trust::Known => 0,
            Trust::Doubted(until) => u8::from(now < until),
            Trust::Lost(_) => 2,
        }
    }
}

impl Mdns {
    /// Announces this sidecar and starts to listen.
    ///
    /// # Errors
    /// Where the network allows no multicast.
    pub fn open(open: Open) -> Result<Self> {
        let instance = &open.instance;
        let daemon = ServiceDaemon::new().map_err(|error| failed("cannot start", error))?;
        let address: IpAddr = instance.host_address.parse().map_err(|_| {
            Error::invalid_request(format!("{:?} is no IP address", instance.host_address))
        })?;
        if address.is_loopback() {
            // What is reached by loopback only has no business on the network.
            let only_loopback = daemon
                .disable_interface(IfKind::All)
                .and_then(|()| daemon.enable_interface(IfKind::LoopbackV4));
            only_loopback.map_err(|error| failed("cannot choose the interface", error))?;
        }
        // A label holds 63 bytes, which an app id may need for itself; the id is a property.
        let own = uuid::Uuid::new_v4().simple().to_string();
        let host = format!("{own}.local.");
        let properties = [(APP_ID, instance.app_id.as_str())];
        let mut info = ServiceInfo::new(
            SERVICE,
            &own,
            &host,
            address,
            instance.internal_port,
            &properties[..],
        )
        .map_err(|error| failed("cannot describe this sidecar", error))?;
        // Names are unique by construction: nobody has to be asked first.
        info.set_requires_probe(false);
        let own_name = info.get_fullname().to_owned();
        let events = daemon
            .browse(SERVICE)
            .map_err(|error| failed("cannot browse", error))?;
        daemon
            .register(info)
            .map_err(|error| failed("cannot announce this sidecar", error))?;
        let known = Arc::new(Known::default());
        let listening = listen(events, Arc::clone(&known));
        open.tasks.spawn("mdns", Box::pin(listening));
        Ok(Self {
            daemon,
            own_name,
            known,
            turn: AtomicUsize::new(0),
        })
    }
}

fn failed(what: &str, error: mdns_sd::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("mDNS {what}")).with_source(error)
}

/// Until the daemon is shut down.
async fn listen(events: Receiver<ServiceEvent>, known: Arc<Known>) {
    while let Ok(event) = events.recv_async().await {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let address = service.addresses.iter().next().map(|ip| ip.to_ip_addr());
                let app_id = service.txt_properties.get_property_val_str(APP_ID);
                if let (Some(address), Some(app_id)) = (address, app_id) {
                    let instance = Instance {
                        app_id: app_id.to_owned(),
                        address: std::net::SocketAddr::new(address, service.port).to_string(),
                        trust: Trust::Known,
                    };
                    known.put(service.fullname.clone(), instance);
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                known.remove(&name);
            }
            _ => {}
        }
    }
}

impl Known {
    fn put(&self, name: String, instance: Instance) {
        let mut instances = self.instances.lock();
        if instances.len() < MAX_INSTANCES || instances.contains_key(&name) {
            instances.insert(name, instance);
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// One that has said goodbye, or has not answered, is gone; in the second case not at once.
    fn remove(&self, name: &str) {
        let mut instances = self.instances.lock();
        match instances.get_mut(name) {
            Some(instance) if instance.trust != Trust::Known => {
                instance.trust = Trust::Lost(Instant::now() + LAST_RESORT);
            }
            _ => drop(instances.remove(name)),
        }
    }

    /// One of the app's addresses, of those that are believed in most; `turn` goes around them.
    fn find(&self, app_id: &str, turn: &AtomicUsize) -> Option<String> {
        let now = Instant::now();
        let mut instances = self.instances.lock();
        instances.retain(|_, it| !matches!(it.trust, Trust::Lost(until) if until <= now));
        let of_app = || instances.values().filter(|it| it.app_id == app_id);
        let best = of_app().map(|it| it.rank(now)).min()?;
        let candidates: Vec<_> = of_app().filter(|it| it.rank(now) == best).collect();
        let at = turn.fetch_add(1, Ordering::Relaxed);
        let chosen = candidates.get(at.checked_rem(candidates.len())?)?;
        Some(chosen.address.clone())
    }

    /// Doubts the instances at an address, and names those that were not in doubt.
    fn doubt(&self, address: &str) -> Vec<String> {
        let now = Instant::now();
        let mut instances = self.instances.lock();
        let here = instances
            .iter_mut()
            .filter(|(_, it)| it.address == address && it.rank(now) == 0);
        let doubted = here.map(|(name, instance)| {
            instance.trust = Trust::Doubted(now + DOUBT);
            name.clone()
        });
        doubted.collect()
    }
}

#[async_trait]
impl Component for Mdns {
    async fn close(&self) {
        // Says goodbye, so that others forget this instance at once, then ends the daemon's thread.
        if let Ok(status) = self.daemon.unregister(&self.own_name) {
            let _ = tokio::time::timeout(RESOLVE_TIMEOUT, status.recv_async()).await;
        }
        let _ = self.daemon.shutdown();
    }
}

#[async_trait]
impl NameResolver for Mdns {
    async fn resolve(&self, target: &Target) -> Result<String> {
        let mut changes = self.known.changed.subscribe();
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, async {
            loop {
                changes.borrow_and_update();
                if let Some(address) = self.known.find(&target.app_id, &self.turn) {
                    return address;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        found.await.map_err(|_| {
            Error::new(
                ErrorKind::NotFound,
                format!("couldn't find service: {}", target.app_id),
            )
        })
    }

    fn doubt(&self, address: &str) {
        for name in self.known.doubt(address) {
            // Without an answer it is removed like one that has said goodbye.
            if let Err(error) = self.daemon.verify(name, DOUBT) {
                tracing::debug!("mDNS cannot ask for {address} again: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(instances: &[(&str, &str)]) -> Known {
        let known = Known::default();
        for (name, address) in instances {
            let instance = Instance {
                app_id: "app".to_owned(),
                address: (*address).to_owned(),
                trust: Trust::Known,
            };
            known.put((*name).to_owned(), instance);
        }
        known
    }

    #[test]
    fn addresses_of_an_app_take_turns() {
        let known = known(&[("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")]);
        let turn = AtomicUsize::new(0);
        let first = known.find("app", &turn).unwrap();
        assert_ne!(known.find("app", &turn).unwrap(), first);
        assert_eq!(known.find("app", &turn).unwrap(), first);
        assert_eq!(known.find("other", &turn), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_in_doubt_comes_last_for_a_while() {
        let known = known(&[("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")]);
        let turn = AtomicUsize::new(0);
        let next = || known.find("app", &turn).unwrap();
        assert_eq!(known.doubt("127.0.0.1:1"), ["a"]);
        assert!(known.doubt("127.0.0.1:1").is_empty(), "asked for once");
        assert_eq!([next(), next()], ["127.0.0.1:2", "127.0.0.1:2"]);
        known.doubt("127.0.0.1:2");
        assert_ne!(next(), next(), "where all are in doubt, all take turns");
        tokio::time::advance(DOUBT).await;
        assert_ne!(next(), next());
        assert_eq!(known.doubt("127.0.0.1:1"), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_the_last_resort_and_then_forgotten() {
        let known = known(&[("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")]);
        let turn = AtomicUsize::new(0);
        let next = || known.find("app", &turn);
        known.doubt("127.0.0.1:1");
        known.remove("a");
        tokio::time::advance(DOUBT).await;
        assert_eq!(
            [next(), next()],
            ["127.0.0.1:2", "127.0.0.1:2"].map(|it| Some(it.to_owned()))
        );
        known.remove("b");
        assert_eq!(next().unwrap(), "127.0.0.1:1", "the other has said goodbye");
        tokio::time::advance(LAST_RESORT).await;
        assert_eq!(next(), None);
    }
}
