//! Which inputs are read: those that are loaded, while the app takes events. What begins and ends is decided here at once, under
//! a lock that no call of the app or of a component spans; readers begin, read and end in tasks of their own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use blocks::Loaded;
use component::InputBinding;
use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Inner, Input, LOG},
    reader::{Phase, Reader},
};

/// The inputs that are read, by name.
#[derive(Default)]
pub struct Readers {
    /// The app takes events.
    pub active: bool,
    /// The sidecar ends: it stays so.
    pub closed: bool,
    open: BTreeMap<String, Open>,
    /// Those that deliver what they have taken, and take nothing more.
    ending: BTreeMap<String, Vec<CancellationToken>>,
}

/// An input that is read.
struct Open {
    of: Weak<Loaded<dyn InputBinding, Input>>,
    stop: CancellationToken,
    ended: CancellationToken,
    phase: watch::Receiver<Phase>,
}

/// What has begun and what is ending.
pub struct Changes {
    open: Vec<watch::Receiver<Phase>>,
    ending: Vec<CancellationToken>,
}

impl Changes {
    /// Waits until what was begun is read, or is tried again in the background.
    pub async fn begun(self) {
        let begun = self.open.into_iter().map(|mut phase| async move {
            // One that has ended meanwhile is not waited for.
            let _ = phase.wait_for(|phase| *phase != Phase::Opening).await;
        });
        join_all(begun).await;
    }

    /// Waits until what is ending has delivered what it had taken.
    pub async fn ended(self) {
        join_all(self.ending.iter().map(CancellationToken::cancelled)).await;
    }
}

impl Readers {
    /// Those of one input, or of all, that are on their way.
    fn changes(&self, of: Option<&str>) -> Changes {
        let asked = |name: &str| of.is_none_or(|of| of == name);
        let open = self.open.iter().filter(|(name, _)| asked(name));
        let ending = self.ending.iter().filter(|(name, _)| asked(name));
        Changes {
            open: open.map(|(_, open)| open.phase.clone()).collect(),
            ending: ending.flat_map(|(_, all)| all.clone()).collect(),
        }
    }

    fn end(&mut self, name: String, open: Open) {
        open.stop.cancel();
        self.ending.entry(name).or_default().push(open.ended);
    }
}

impl Inner {
    /// Changes what is wanted, then has readers begun and ended until those read that should. On return they are on their way.
    pub fn reconcile(
        self: &Arc<Self>,
        of: Option<&str>,
        change: impl FnOnce(&mut Readers),
    ) -> Changes {
        let mut readers = self.readers.lock();
        change(&mut readers);
        readers.ending.retain(|_, all| {
            all.retain(|ended| !ended.is_cancelled());
            !all.is_empty()
        });
        let names = match readers.active && !readers.closed {
            true => self.inputs.names(),
            false => Vec::new(),
        };
        let wanted: BTreeMap<_, _> = names
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.inputs.find(&name).ok()?)))
            .collect();
        let open = std::mem::take(&mut readers.open);
        for (name, open) in open {
            let same = |loaded: &Arc<_>| std::ptr::addr_eq(Arc::as_ptr(loaded), open.of.as_ptr());
            if wanted.get(&name).is_some_and(same) {
                readers.open.insert(name, open);
            } else {
                readers.end(name, open);
            }
        }
        for (name, loaded) in wanted {
            if !readers.open.contains_key(&name) {
                let before = readers.ending.get(&name).cloned().unwrap_or_default();
                let open = self.begin(&name, loaded, before);
                readers.open.insert(name, open);
            }
        }
        readers.changes(of)
    }

    fn begin(
        self: &Arc<Self>,
        name: &str,
        loaded: Arc<Loaded<dyn InputBinding, Input>>,
        before: Vec<CancellationToken>,
    ) -> Open {
        let (phase, phases) = watch::channel(Phase::Opening);
        let open = Open {
            of: Arc::downgrade(&loaded),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            phase: phases,
        };
        let reader = Reader::new(Arc::clone(self), loaded, open.stop.clone(), phase);
        let ended = open.ended.clone().drop_guard();
        self.tasks.spawn(&format!("{LOG} {name}"), async move {
            let _ended = ended;
            reader.run(before).await;
        });
        open
    }
}
