//! Streams of sidecars, and which of them a job may go down. Streams take turns; one that does not read gets nothing more
//! until it does, and keeps nobody from the others.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use proto::scheduler::v1::{JobTargetType, WatchJobsRequestInitial};

use crate::names;

/// Tells streams apart; never used twice.
pub(crate) type StreamId = u64;

/// All streams.
#[derive(Default)]
pub(crate) struct Routes {
    streams: HashMap<StreamId, Stream>,
    routes: HashMap<String, Route>,
}

/// One stream.
struct Stream {
    routes: Vec<String>,
    /// The limits it asked for.
    gates: Vec<String>,
    /// Messages and bytes that it may still be sent.
    messages: usize,
    bytes: usize,
    sent: u64,
    flights: HashMap<u64, Flight>,
}

impl Stream {
    fn has_room(&self) -> bool {
        self.messages > 0 && self.bytes > 0
    }
}

/// A job on its way, until its result.
pub(crate) struct Flight {
    pub slot: u32,
    pub revision: u64,
    pub sent: Timestamp,
    pub kind: &'static str,
    /// Where it is inside.
    pub gates: Vec<String>,
}

/// Where jobs of an app or of an actor type go.
#[derive(Default)]
struct Route {
    streams: Vec<StreamId>,
    turn: usize,
    /// Jobs that are due and wait for a stream, or for room in one; the oldest first.
    waiting: BTreeSet<(i64, u32)>,
}

/// Who takes a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    Stream(StreamId),
    /// All streams have enough for now.
    Busy,
    /// There is no stream.
    Nobody,
}

impl Routes {
    /// A stream begins; its routes.
    pub fn add(
        &mut self,
        stream: StreamId,
        initial: &WatchJobsRequestInitial,
        gates: Vec<String>,
    ) -> Vec<String> {
        let types = &initial.accept_job_types;
        let accepts = |kind: JobTargetType| types.is_empty() || types.contains(&kind.into());
        let mut routes = Vec::new();
        if accepts(JobTargetType::Job) {
            routes.push(names::app_route(&initial.namespace, &initial.app_id));
        }
        if accepts(JobTargetType::ActorReminder) {
            let types: BTreeSet<&String> = initial.actor_types.iter().collect();
            let types = types.into_iter();
            routes.extend(types.map(|kind| names::actor_route(&initial.namespace, kind)));
        }
        for route in &routes {
            let route = self.routes.entry(route.clone()).or_default();
            route.streams.push(stream);
        }
        let state = Stream {
            routes: routes.clone(),
            gates,
            messages: MESSAGES,
            bytes: BYTES,
            sent: 0,
            flights: HashMap::new(),
        };
        self.streams.insert(stream, state);
        routes
    }

    /// A stream has ended. What was on its way there, and the limits it asked for.
    pub fn remove(&mut self, stream: StreamId) -> Option<(Vec<Flight>, Vec<String>)> {
        self.withdraw(stream);
        let gone = self.streams.remove(&stream)?;
        let mut flights: Vec<_> = gone.flights.into_iter().collect();
        flights.sort_unstable_by_key(|(id, _)| *id);
        let flights = flights.into_iter().map(|(_, flight)| flight).collect();
        Some((flights, gone.gates))
    }

    /// A stream gets nothing more.
    pub fn withdraw(&mut self, stream: StreamId) {
        let Some(left) = self.streams.get_mut(&stream) else {
            return;
        };
        for name in std::mem::take(&mut left.routes) {
            if let Some(route) = self.routes.get_mut(&name) {
                route.streams.retain(|other| *other != stream);
                self.forget_if_idle(&name);
            }
        }
    }

    /// Streams there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whose turn it is.
    pub fn pick(&mut self, route: &str) -> Pick {
        let Some(route) = self.routes.get_mut(route) else {
            return Pick::Nobody;
        };
        if route.streams.is_empty() {
            return Pick::Nobody;
        }
        for step in 0..route.streams.len() {
            let turn = (route.turn + step) % route.streams.len();
            let id = route.streams[turn];
            if self.streams.get(&id).is_some_and(Stream::has_room) {
                route.turn = turn + 1;
                return Pick::Stream(id);
            }
        }
        Pick::Busy
    }

    /// Whether some stream takes a job.
    pub fn has_room(&self, route: &str) -> bool {
        let mut streams = self
            .routes
            .get(route)
            .into_iter()
            .flat_map(|route| &route.streams);
        streams.any(|id| self.streams.get(id).is_some_and(Stream::has_room))
    }

    /// Notes that a job goes to a stream; the id of the flight.
    pub fn depart(&mut self, stream: StreamId, flight: Flight) -> Option<u64> {
        let stream = self.streams.get_mut(&stream)?;
        stream.messages = stream.messages.saturating_sub(1);
        stream.sent += 1;
        stream.flights.insert(stream.sent, flight);
        Some(stream.sent)
    }

    /// Notes the size of a message to a stream.
    pub fn charge(&mut self, stream: StreamId, size: usize) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.bytes = stream.bytes.saturating_sub(size);
        }
    }

    /// A result has come; none for an id that is not, or no longer, on its way.
    pub fn arrive(&mut self, stream: StreamId, id: u64) -> Option<Flight> {
        self.streams.get_mut(&stream)?.flights.remove(&id)
    }

    /// A stream has passed messages on. Its routes.
    pub fn taken(&mut self, stream: StreamId, messages: usize, bytes: usize) -> Vec<String> {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return Vec::new();
        };
        stream.messages = (stream.messages + messages).min(MESSAGES);
        stream.bytes = stream.bytes.saturating_add(bytes).min(BYTES);
        stream.routes.clone()
    }

    /// A job waits for a stream.
    pub fn wait(&mut self, route: &str, due: i64, slot: u32) {
        let route = self.routes.entry(route.to_owned()).or_default();
        route.waiting.insert((due, slot));
    }

    /// A job waits no more.
    pub fn forget(&mut self, name: &str, due: i64, slot: u32) {
        if let Some(route) = self.routes.get_mut(name) {
            route.waiting.remove(&(due, slot));
            self.forget_if_idle(name);
        }
    }

    /// Takes out the job that has waited longest.
    pub fn oldest(&mut self, route: &str) -> Option<u32> {
        let route = self.routes.get_mut(route)?;
        route.waiting.pop_first().map(|(_, slot)| slot)
    }

    /// Since when the oldest job waits that a stream could take.
    pub fn oldest_due(&self) -> Option<i64> {
        let routes = self.routes.values();
        let taken = routes.filter(|route| !route.streams.is_empty());
        taken
            .filter_map(|route| route.waiting.first())
            .map(|(due, _)| *due)
            .min()
    }

    fn forget_if_idle(&mut self, name: &str) {
        let route = self.routes.get(name);
        if route.is_some_and(|route| route.streams.is_empty() && route.waiting.is_empty()) {
            self.routes.remove(name);
        }
    }
}

/// Messages that lie ready for a stream and are not sent yet (Q-scheduler-streams),
pub(crate) const MESSAGES: usize = 1024;

/// and their bytes, which one message may exceed.
const BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn initial(types: &[&str], accept: &[JobTargetType]) -> WatchJobsRequestInitial {
        WatchJobsRequestInitial {
            app_id: "app".to_owned(),
            namespace: "ns".to_owned(),
            actor_types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            accept_job_types: accept.iter().map(|kind| (*kind).into()).collect(),
            concurrency_limits: Vec::new(),
        }
    }

    fn flight() -> Flight {
        Flight {
            slot: 0,
            revision: 0,
            sent: Timestamp::UNIX_EPOCH,
            kind: "job",
            gates: Vec::new(),
        }
    }

    #[test]
    fn streams_take_turns_and_one_that_does_not_read_is_passed_over() {
        let mut routes = Routes::default();
        for stream in [1, 2] {
            routes.add(stream, &initial(&[], &[]), Vec::new());
        }
        let route = names::app_route("ns", "app");
        let picks: Vec<_> = (0..4).map(|_| routes.pick(&route)).collect();
        assert_eq!(picks, [1, 2, 1, 2].map(Pick::Stream));
        for _ in 0..MESSAGES {
            routes.depart(1, flight());
        }
        assert_eq!(routes.pick(&route), Pick::Stream(2));
        assert_eq!(routes.pick(&route), Pick::Stream(2));
        routes.depart(2, flight());
        routes.charge(2, BYTES + 1);
        assert_eq!(routes.pick(&route), Pick::Busy);
        assert_eq!(routes.taken(1, 1, 1), std::slice::from_ref(&route));
        assert_eq!(routes.pick(&route), Pick::Stream(1));
        assert_eq!(
            routes.remove(1).map(|(flights, _)| flights.len()),
            Some(MESSAGES)
        );
        routes.remove(2);
        assert_eq!(routes.pick(&route), Pick::Nobody);
        assert!(routes.routes.is_empty() && routes.streams.is_empty());
    }

    #[test]
    fn a_stream_gets_only_what_it_accepts() {
        use JobTargetType::{ActorReminder, Job};
        let mut routes = Routes::default();
        let app = names::app_route("ns", "app");
        let actor = names::actor_route("ns", "a");
        let types = ["a", "a"];
        assert_eq!(
            routes.add(1, &initial(&types, &[Job]), Vec::new()),
            std::slice::from_ref(&app)
        );
        assert_eq!(
            routes.add(2, &initial(&types, &[ActorReminder]), Vec::new()),
            std::slice::from_ref(&actor)
        );
        assert_eq!(
            routes.add(3, &initial(&types, &[]), Vec::new()),
            [app, actor]
        );
    }
}
