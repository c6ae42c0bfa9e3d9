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
    /// The streams of the operator end; what happens until they are open again is not told.
    Lose,
    /// The sidecar does what is due; each opening may fail.
    Act(Vec<bool>),
    Wait(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
struct Cluster {
    truth: Truth,
    events: Option<Vec<Event>>,
}

impl Cluster {
    fn tell(&mut self, event: Event) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }

    fn list(&self) -> Listing {
        let written = self
            .truth
            .iter()
            .map(|(name, asked)| written(*name, *asked));
        Listing {
            written: written.collect(),
            ..Listing::default()
        }
    }
}

fn written(name: usize, asked: Asked) -> Written {
    Written {
        resource: resource(name, asked).into(),
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
                Moment::Lose => {}
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
            truth: Truth::new(),
            events: Some(Vec::new()),
        };
        cluster.truth.insert(0, Asked { component_type: "state.one", in_scope: true });
        let (mut desired, mut sidecar) = started(cluster.list());
        for moment in moments {
            match moment {
                Moment::Write(name, asked) => {
                    cluster.truth.insert(name, asked);
                    cluster.tell(Event::Is(Box::new(written(name, asked))));
                }
                Moment::Delete(name) => {
                    cluster.truth.remove(&name);
                    cluster.tell(Event::Gone((Component::KIND, NAMES[name].to_owned())));
                }
                Moment::Break(_) => {}
                Moment::Look => match &mut cluster.events {
                    Some(events) => {
                        let events = std::mem::take(events);
                        sidecar.take(events.into_iter().filter_map(|event| desired.take(event)));
                    }
                    None => {
                        cluster.events = Some(Vec::new());
                        sidecar.take(desired.replace(cluster.list()));
                    }
                },
                Moment::Lose => cluster.events = None,
                Moment::Act(opens) => sidecar.act(opens.into_iter()),
                Moment::Wait(seconds) => sidecar.now += Duration::from_secs(seconds),
            }
        }
        // A list only where something was lost: events alone have to do.
        match cluster.events.take() {
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
