//! A registry that is asked, is away, and knows nothing.

use std::{future::Future, pin::Pin};

use tokio::sync::mpsc;

use super::*;
use crate::Spawn;

/// What the registry says next, and how often it was asked.
#[derive(Default)]
struct Registry(Mutex<(Vec<String>, bool, usize)>);

#[async_trait]
impl Lookup for Registry {
    async fn lookup(&self, _: &Target) -> Result<Vec<String>> {
        self.0.lock().2 += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let said = self.0.lock();
        match said.1 {
            true => Err(Error::new(ErrorKind::Unavailable, "away")),
            false => Ok(said.0.clone()),
        }
    }
}

impl Registry {
    fn says(&self, addresses: &[&str]) {
        self.0.lock().0 = addresses.iter().map(|it| (*it).to_owned()).collect();
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Tasks(mpsc::UnboundedSender<Task>);

impl Spawn for Tasks {
    fn spawn(&self, _: &str, task: Task) {
        self.0.send(task).expect("the test listens");
    }
}

fn made() -> (
    Cached<Registry>,
    Scope,
    mpsc::UnboundedReceiver<Task>,
    Target,
) {
    let (sender, tasks) = mpsc::unbounded_channel();
    let target = Target {
        app_id: "app".into(),
        namespace: "ns".into(),
        port: 1,
    };
    let cached = Cached::new(Registry::default());
    (
        cached,
        Scope::new("names", Arc::new(Tasks(sender))),
        tasks,
        target,
    )
}

#[tokio::test(start_paused = true)]
async fn calls_take_turns_and_the_registry_is_asked_behind_them() {
    let (cached, scope, mut tasks, target) = made();
    let error = cached.resolve(&target, &scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    cached.registry().says(&["a", "b"]);
    tokio::time::advance(ABSENT).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(cached.resolve(&target, &scope).await.unwrap());
    }
    assert_eq!(seen, ["a", "b", "a", "b"]);
    assert_eq!(cached.registry().0.lock().2, 2, "asked once since");
    cached.registry().says(&["c"]);
    tokio::time::advance(FRESH).await;
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "a");
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "b");
    tasks.try_recv().expect("one lookup").await;
    assert!(tasks.try_recv().is_err(), "and no second");
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "c");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_is_missed_only_after_a_while() {
    let (cached, scope, mut tasks, target) = made();
    cached.registry().says(&["a"]);
    cached.resolve(&target, &scope).await.unwrap();
    cached.registry().0.lock().1 = true;
    tokio::time::advance(FRESH).await;
    cached.resolve(&target, &scope).await.unwrap();
    tasks.try_recv().expect("a lookup").await;
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "a");
    tokio::time::advance(KEPT).await;
    let error = cached.resolve(&target, &scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn an_address_in_doubt_comes_last_and_has_the_registry_asked() {
    let (cached, scope, mut tasks, target) = made();
    cached.registry().says(&["a", "b"]);
    cached.resolve(&target, &scope).await.unwrap();
    cached.doubt("a");
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "b");
    tasks.try_recv().expect("a lookup").await;
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "b");
    cached.doubt("b");
    assert!(
        cached.resolve(&target, &scope).await.is_ok(),
        "the last resort"
    );
    tokio::time::advance(DOUBT).await;
    tasks.recv().await.expect("a lookup").await;
    let both = [
        cached.resolve(&target, &scope).await.unwrap(),
        cached.resolve(&target, &scope).await.unwrap(),
    ];
    assert_ne!(both[0], both[1]);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_not_known_is_asked_for_once_a_second() {
    let (cached, scope, _tasks, target) = made();
    for _ in 0..100 {
        let error = cached.resolve(&target, &scope).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "couldn't find service: app");
    }
    assert_eq!(cached.registry().0.lock().2, 1);
    tokio::time::advance(ABSENT).await;
    cached.registry().says(&["a"]);
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_unknown_apps_has_a_limit() {
    let (cached, scope, _tasks, mut target) = made();
    let apps: Vec<Target> = (0..=MAX_APPS)
        .map(|app| Target {
            app_id: app.to_string(),
            ..target.clone()
        })
        .collect();
    for some in apps.chunks(MAX_LOOKUPS) {
        let asked = some.iter().map(|target| cached.resolve(target, &scope));
        let asked = futures::future::join_all(asked).await;
        assert!(asked.iter().all(Result::is_err));
    }
    assert_eq!(cached.known.lock().absent.len(), MAX_APPS);
    assert!(cached.known.lock().lookups.is_empty());
    tokio::time::advance(ABSENT).await;
    target.app_id = "one more".to_owned();
    assert!(cached.resolve(&target, &scope).await.is_err());
    assert_eq!(cached.known.lock().absent.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_who_want_to_know_wait_for_one_lookup() {
    let (cached, scope, _tasks, target) = made();
    let registry = cached.registry();
    registry.0.lock().1 = true;
    let ask = || cached.resolve(&target, &scope);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    for error in [one, two, three] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(registry.0.lock().2, 1, "and hear the same error");
    *registry.0.lock() = (vec!["a".to_owned()], false, 0);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(registry.0.lock().2, 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_need_not_have_asked() {
    let (cached, scope, _tasks, target) = made();
    cached.registry().says(&["a"]);
    let mut first = Box::pin(cached.resolve(&target, &scope));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(cached.resolve(&target, &scope));
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await.unwrap(), "a");
    assert_eq!(cached.registry().0.lock().2, 1);
    tokio::time::advance(KEPT).await;
    let mut alone = Box::pin(cached.resolve(&target, &scope));
    assert!(futures::poll!(&mut alone).is_pending());
    drop(alone);
    assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "a");
    assert_eq!(cached.registry().0.lock().2, 3, "asked anew");
}

#[test]
fn one_that_was_known_and_is_no_more_is_not_asked_for_at_each_call() {
    let (_, _, _, target) = made();
    let (mut known, now) = (Known::default(), Instant::now());
    known
        .learn(&target, Ok(vec!["a".to_owned()]), now)
        .unwrap_or_else(|failure| panic!("{}", failure.text));
    let gone = || Err(Error::new(ErrorKind::NotFound, "gone"));
    let soon = now + FRESH;
    assert!(known.learn(&target, gone(), soon).is_err());
    assert!(matches!(known.step(&target, soon), Step::Use(_)));
    assert!(matches!(known.step(&target, soon + ABSENT), Step::Renew(_)));
    let late = now + KEPT;
    assert!(known.learn(&target, gone(), late).is_err());
    assert!(matches!(known.step(&target, late), Step::Absent(text) if text.contains("gone")));
    assert!(matches!(known.step(&target, late + ABSENT), Step::Ask));
}
