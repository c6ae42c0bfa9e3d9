//! What is asked for and what runs, over random lives of the resources of a namespace: created, changed, changed back and
//! deleted, in files and in a cluster, with files that break, streams that are lost, and components that do not open.

use std::{collections::BTreeMap, fs, time::Duration};

use crds::{component::Spec, files};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof, proptest},
};
use tokio::time::Instant;

use super::*;
use crate::{
    components::plan::{Plan, Step},
    resources::disk::Disk,
};

const APP: &str = "app";
const NAMES: [&str; 3] = ["a", "b", "c"];

/// One moment in the life of the resources, or of the sidecar.
#[derive(Clone, Debug)]
enum Moment {
    /// A component is created or changed. Few values, so that it is often changed back.
    Write(usize, Asked),
    Delete(usize),
    /// The file breaks (or is sound again with its next write); a cluster refuses such a thing.
    Break(usize),
    /// The source is looked at: files are read, events arrive.
    Look,
    /// A list comes before the events of what it says already.
    List,
    /// Something that was told comes again, by its place among that.
    Repeat(usize),
    /// The streams of the operator end; what happens until they are open again is not told.
    Lose,
    /// The sidecar does what is due; each opening may fail.
    Act(Vec<bool>),
    Wait(u64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    component_type: &'static str,
    in_scope: bool,
}

fn moment() -> impl Strategy<Value = Moment> {
    let name = 0..NAMES.len();
    let types = prop_oneof![Just("state.one"), Just("state.two"), Just("pubsub.one")];
    let asked =
        (types, any::<bool>(), any::<bool>()).prop_map(|(component_type, one, other)| Asked {
            component_type,
            in_scope: one || other,
        });
    prop_oneof![
        4 => (name.clone(), asked).prop_map(|(name, asked)| Moment::Write(name, asked)),
        2 => name.clone().prop_map(Moment::Delete),
        1 => name.prop_map(Moment::Break),
        3 => Just(Moment::Look),
        1 => Just(Moment::List),
        1 => any::<usize>().prop_map(Moment::Repeat),
        1 => Just(Moment::Lose),
        3 => vec(any::<bool>(), 0..3).prop_map(Moment::Act),
        1 => (0_u64..90).prop_map(Moment::Wait),
    ]
}

/// What there is, by name, as its users know it.
type Truth = BTreeMap<usize, Asked>;

fn resource(name: usize, asked: Asked) -> Component {
    let spec = Spec {
        component_type: asked.component_type.to_owned(),
        ..Spec::default()
    };
    let mut component = Component::new(NAMES[name], spec);
    component.scopes = vec![if asked.in_scope { APP } else { "other" }.to_owned()];
    component
}

fn expected(truth: &Truth) -> Vec<(&str, &str)> {
    let here = truth.iter().filter(|(_, asked)| asked.in_scope);
    here.map(|(name, asked)| (NAMES[*name], asked.component_type))
        .collect()
}

/// The sidecar's side: what it has been told, and what it has made of that.
struct Sidecar {
    plan: Plan,
    now: Instant,
}

impl Sidecar {
    fn take(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::Component(component) => self.plan.want(component, self.now),
                Change::ComponentGone(name) => self.plan.unwant(&name, self.now),
                other => panic!("{other:?}"),
            }
        }
    }

    fn act(&mut self, mut opens: impl Iterator<Item = bool>) {
        while let Some(step) = self.plan.next(self.now) {
            match step {
                Step::Open {
                    component,
                    generation,
                    ..
                } => {
                    if opens.next().unwrap_or(true) {
                        self.plan.opened(component, generation, self.now);
                    } else {
                        self.plan.failed(&component, true, self.now, 1.0);
                    }
                }
                Step::Close(component) => self.plan.closed(component.name(), self.now),
            }
        }
    }

    /// Once everything opens and every pause is over.
    fn settle(&mut self) {
        self.now += Duration::from_secs(3600);
        self.act(std::iter::empty());
        assert_eq!(self.plan.due(self.now), None);
        assert_eq!(self.plan.failures().count(), 0);
    }

    fn running(&self) -> Vec<(&str, &str)> {
        let running = self.plan.running();
        running
            .map(|it| (it.name(), &*it.spec.component_type))
            .collect()
    }
}

/// A sidecar that has started with what there is at first.
fn started(listing: Listing) -> (Desired, Sidecar) {
    let mut desired = Desired::new(APP, Configuration::default());
    desired.replace(listing);
    let mut sidecar = Sidecar {
        plan: Plan::default(),
        now: Instant::now(),
    };
    for component in desired.components() {
        sidecar.plan.want(component.clone(), sidecar.now);
    }
    (desired, sidecar)
}

/// Resources in files, one a component. A broken file keeps what was read from it before.
struct Folder {
    directory: tempfile::TempDir,
    /// What the files hold; `None` for a broken one.
    files: BTreeMap<usize, Option<Asked>>,
    /// What the files have last been seen to hold.
    seen: Truth,
}

impl Folder {
    fn disk(&self) -> Disk {
        Disk {
            directories: vec![self.directory.path().to_owned()],
            configurations: Vec::new(),
            namespace: String::new(),
            app_id: APP.to_owned(),
        }
    }

    fn write(&mut self, name: usize, asked: Option<Asked>) {
        let text = asked.map_or_else(
            || "kind: [".to_owned(),
            |asked| serde_json::to_string(&resource(name, asked)).unwrap(),
        );
        fs::write(self.path(name), text).unwrap();
        self.files.insert(name, asked);
    }

    fn delete(&mut self, name: usize) {
        if self.files.remove(&name).is_some() {
            fs::remove_file(self.path(name)).unwrap();
        }
    }

    fn path(&self, name: usize) -> std::path::PathBuf {
        self.directory.path().join(format!("{}.yaml", NAMES[name]))
    }

    fn look(&mut self) -> Listing {
        self.seen.retain(|name, _| self.files.contains_key(name));
        for (name, asked) in &self.files {
            if let Some(asked) = asked {
                self.seen.insert(*name, *asked);
            }
        }
        self.disk().list().unwrap()
    }
}

/// Resources in a cluster, of which events tell while the streams are open.
#[derive(Default)]
struct Cluster {
    truth: Truth,
    versions: BTreeMap<usize, u64>,
    version: u64,
    /// What is on its way; `None` while the streams are lost.
    events: Option<Vec<Event>>,
    told: Vec<Event>,
}

impl Cluster {
    fn write(&mut self, name: usize, asked: Asked) {
        self.version += 1;
        self.truth.insert(name, asked);
        self.versions.insert(name, self.version);
        self.tell(Event::Is(Box::new(written(name, asked, self.version))));
    }

    fn delete(&mut self, name: usize) {
        if self.truth.remove(&name).is_some() {
            let version = self.versions[&name];
            let version = Version::of(&versioned(name, Asked::default(), version));
            self.tell(Event::Gone(
                (Component::KIND, NAMES[name].to_owned()),
                version,
            ));
        }
    }

    fn tell(&mut self, event: Event) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }

    /// What has come, unless the streams are lost.
    fn take(&mut self) -> Option<Vec<Event>> {
        let events = std::mem::take(self.events.as_mut()?);
        self.told.extend(events.iter().cloned());
        Some(events)
    }

    fn list(&self) -> Listing {
        let written = self
            .truth
            .iter()
            .map(|(name, asked)| written(*name, *asked, self.versions[name]));
        Listing {
            written: written.collect(),
            ..Listing::default()
        }
    }
}

fn versioned(name: usize, asked: Asked, version: u64) -> Component {
    let mut component = resource(name, asked);
    component.metadata.resource_version = Some(version.to_string());
    component
}

fn written(name: usize, asked: Asked, version: u64) -> Written {
    let component = versioned(name, asked, version);
    Written {
        version: Version::of(&component),
        resource: component.into(),
        origin: NAMES[name].to_owned(),
    }
}

proptest! {
    #[test]
    fn what_files_ask_for_is_what_runs(moments in vec(moment(), 0..40)) {
        let mut folder = Folder {
            directory: tempfile::tempdir().unwrap(),
            files: BTreeMap::new(),
            seen: Truth::new(),
        };
        folder.write(0, Some(Asked { component_type: "state.one", in_scope: true }));
        let (mut desired, mut sidecar) = started(folder.look());
        for moment in moments {
            match moment {
                Moment::Write(name, asked) => folder.write(name, Some(asked)),
                Moment::Delete(name) => folder.delete(name),
                Moment::Break(name) => folder.write(name, None),
                Moment::Look => sidecar.take(desired.replace(folder.look())),
                Moment::List | Moment::Repeat(_) | Moment::Lose => {}
                Moment::Act(opens) => sidecar.act(opens.into_iter()),
                Moment::Wait(seconds) => sidecar.now += Duration::from_secs(seconds),
            }
        }
        sidecar.take(desired.replace(folder.look()));
        sidecar.settle();
        assert_eq!(sidecar.running(), expected(&folder.seen));
    }

    #[test]
    fn what_a_cluster_asks_for_is_what_runs(moments in vec(moment(), 0..40)) {
        let mut cluster = Cluster {
            events: Some(Vec::new()),
            ..Cluster::default()
        };
        cluster.write(0, Asked { component_type: "state.one", in_scope: true });
        let (mut desired, mut sidecar) = started(cluster.list());
        for moment in moments {
            match moment {
                Moment::Write(name, asked) => cluster.write(name, asked),
                Moment::Delete(name) => cluster.delete(name),
                Moment::Break(_) => {}
                Moment::Look => match cluster.take() {
                    Some(events) => {
                        sidecar.take(events.into_iter().filter_map(|event| desired.take(event)));
                    }
                    None => {
                        cluster.events = Some(Vec::new());
                        cluster.told.clear();
                        desired.reconnect();
                        sidecar.take(desired.replace(cluster.list()));
                    }
                },
                Moment::List => sidecar.take(desired.replace(cluster.list())),
                Moment::Repeat(at) => if let Some(told) = cluster.told.len().checked_sub(1) {
                    let event = cluster.told[at % (told + 1)].clone();
                    sidecar.take(desired.take(event));
                },
                Moment::Lose => cluster.events = None,
                Moment::Act(opens) => sidecar.act(opens.into_iter()),
                Moment::Wait(seconds) => sidecar.now += Duration::from_secs(seconds),
            }
        }
        // A list only where something was lost: events alone have to do.
        match cluster.take() {
            Some(events) => {
                sidecar.take(events.into_iter().filter_map(|event| desired.take(event)));
            }
            None => sidecar.take(desired.replace(cluster.list())),
        }
        sidecar.settle();
        assert_eq!(sidecar.running(), expected(&cluster.truth));
    }
}

/// Resources of kinds that are only read at the start, from text.
fn listing(texts: &[&str]) -> Listing {
    let read = texts
        .iter()
        .flat_map(|text| files::each_document("f", text));
    let written = read.map(|resource| Written {
        resource: resource.unwrap().resource,
        origin: "f".to_owned(),
        version: Version::default(),
    });
    Listing {
        written: written.collect(),
        ..Listing::default()
    }
}

#[test]
fn resiliency_is_scoped_and_only_what_it_asks_for_restarts() {
    let policy = |scope: &str, timeout: &str, label: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: r, labels: {{l: '{label}'}}}}\nspec: {{policies: {{timeouts: {{t: {timeout}}}}}}}\nscopes: [{scope}]\n"
        )
    };
    let mut desired = Desired::new(APP, Configuration::default());
    desired.replace(listing(&[&policy("other", "1s", "")]));
    assert_eq!(desired.resiliencies().count(), 0);
    let restart = [Change::Restart("Resiliency")];
    assert_eq!(desired.replace(listing(&[&policy(APP, "1s", "")])), restart);
    assert_eq!(desired.resiliencies().count(), 1);
    assert_eq!(desired.replace(listing(&[&policy(APP, "1s", "x")])), []);
    assert_eq!(
        desired.replace(listing(&[&policy(APP, "2s", "x")])),
        restart
    );
    assert_eq!(desired.replace(listing(&[])), restart);
}

#[test]
fn a_configuration_restarts_when_it_says_something_else() {
    let mut desired = Desired::new(APP, Configuration::default());
    let mut configuration = Configuration::default();
    configuration.metadata.name = Some("c".to_owned());
    let same = Event::Configuration(Box::new(configuration.clone()));
    assert_eq!(desired.take(same), None);
    configuration.spec.features = vec![crds::configuration::Feature {
        name: "HotReload".to_owned(),
        ..Default::default()
    }];
    let list = Listing {
        configuration: Some(configuration),
        ..Listing::default()
    };
    let restart = [Change::Restart("Configuration")];
    assert_eq!(desired.replace(list.clone()), restart);
    assert_eq!(desired.replace(list), []);
}

#[test]
fn late_events_neither_change_nor_bring_back_what_a_list_knows_better() {
    let asked = |component_type| Asked {
        component_type,
        in_scope: true,
    };
    let is =
        |component_type, version| Event::Is(Box::new(written(0, asked(component_type), version)));
    let gone = |version| {
        let version = Version::of(&versioned(0, Asked::default(), version));
        Event::Gone((Component::KIND, NAMES[0].to_owned()), version)
    };
    let mut desired = Desired::new(APP, Configuration::default());
    let mut list = Listing::default();
    list.written.push(written(0, asked("state.two"), 20));
    assert_eq!(desired.replace(list).len(), 1);
    for late in [is("state.one", 9), gone(9), is("state.two", 20)] {
        assert_eq!(desired.take(late), None);
    }
    assert!(desired.take(gone(20)).is_some(), "of the version itself");
    assert_eq!(desired.take(is("state.two", 20)), None);
    assert!(desired.take(is("state.one", 21)).is_some());
    assert_eq!(desired.replace(Listing::default()).len(), 1);
    assert_eq!(desired.take(is("state.one", 21)), None);
}

#[test]
fn behind_the_list_of_another_source_versions_count_from_there() {
    let asked = |component_type| Asked {
        component_type,
        in_scope: true,
    };
    let is = |version| Event::Is(Box::new(written(0, asked("state.one"), version)));
    let mut desired = Desired::new(APP, Configuration::default());
    assert!(desired.take(is(20)).is_some());
    desired.reconnect();
    assert_eq!(desired.replace(Listing::default()).len(), 1);
    assert!(desired.take(is(3)).is_some());
    desired.reconnect();
    let mut list = Listing::default();
    list.written.push(written(0, asked("state.one"), 1));
    assert_eq!(desired.replace(list), []);
    assert_eq!(desired.take(is(1)), None);
    let other = Event::Is(Box::new(written(0, asked("state.two"), 2)));
    assert!(desired.take(other).is_some());
}

#[test]
fn a_late_configuration_does_not_restart() {
    let configuration = |version: &str, feature: &str| {
        let mut configuration = Configuration::default();
        configuration.metadata.resource_version = Some(version.to_owned());
        configuration.spec.features = vec![crds::configuration::Feature {
            name: feature.to_owned(),
            ..Default::default()
        }];
        configuration
    };
    let mut desired = Desired::new(APP, configuration("10", "new"));
    let late = Event::Configuration(Box::new(configuration("9", "old")));
    assert_eq!(desired.take(late), None);
    let gone = Event::ConfigurationGone(Version::of(&configuration("9", "old")));
    assert_eq!(desired.take(gone), None);
    let next = Event::Configuration(Box::new(configuration("11", "next")));
    assert!(desired.take(next).is_some());
}

#[test]
fn two_subscriptions_of_a_name_do_not_change_for_ever() {
    let subscription = |topic: &str| {
        format!(
            "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {{name: s}}\nspec: {{pubsubname: p, topic: {topic}}}\n"
        )
    };
    let both = listing(&[&subscription("one"), &subscription("two")]);
    let mut desired = Desired::new(APP, Configuration::default());
    assert_eq!(desired.replace(both.clone()).len(), 1);
    assert_eq!(desired.replace(both), []);
}
