//! Who goes before whom, and who is given up.

use futures::{FutureExt, future::BoxFuture, poll};

use super::*;

fn turns(messages: usize) -> Arc<Turns> {
    Arc::new(Turns::new(Limits {
        messages,
        ..Limits::default()
    }))
}

fn enter(turns: &Arc<Turns>) -> Turn {
    turns.enter(Some("k".to_owned()))
}

fn is_now<T>(future: impl Future<Output = T>) -> bool {
    future.now_or_never().is_some()
}

#[tokio::test]
async fn those_before_look_once_more_and_go_first() {
    let turns = turns(100);
    let (mut first, mut second, third) = (enter(&turns), enter(&turns), enter(&turns));
    for turn in [&mut first, &mut second] {
        let look = turn.look();
        turn.is_missing(look);
    }
    assert!(!is_now(first.hurried()));
    let mut comes: BoxFuture<'_, bool> = third.comes().boxed();
    assert!(poll!(&mut comes).is_pending());
    assert!(is_now(first.hurried()) && is_now(second.hurried()));
    let look = first.look();
    assert!(!is_now(first.hurried()), "once is enough");
    first.is_missing(look);
    second.look();
    let mut second_comes = second.comes().boxed();
    assert!(poll!(&mut second_comes).is_pending());
    assert!(is_now(first.hurried()), "and once for each");
    let look = first.look();
    first.is_missing(look);
    assert!(second_comes.await, "the first is not committed");
    assert!(
        poll!(&mut comes).is_pending(),
        "the second is, and goes first"
    );
    drop(second);
    assert!(comes.await);
}

#[tokio::test]
async fn nobody_waits_for_one_that_steps_aside_or_is_of_another_order() {
    let turns = turns(100);
    let (mut first, second) = (enter(&turns), enter(&turns));
    let other = turns.enter(Some("other".to_owned()));
    let free = turns.enter(None);
    assert!(is_now(other.comes()) && is_now(free.comes()));
    let mut comes = second.comes().boxed();
    assert!(poll!(&mut comes).is_pending());
    first.step_aside();
    assert!(comes.await);
}

#[tokio::test]
async fn what_is_behind_one_that_goes_back_goes_back_as_well() {
    let turns = turns(100);
    let (mut first, second) = (enter(&turns), enter(&turns));
    first.look();
    assert!(first.comes().await);
    first.give_back();
    drop(first);
    assert!(!second.comes().await);
}

#[test]
fn the_one_that_has_waited_longest_is_given_up() {
    for (messages, most) in [(1, 0), (6, 3), (512, MOST_LATE)] {
        let turns = turns(messages);
        let mut late: Vec<Turn> = (0..=most).map(|_| enter(&turns)).collect();
        late.iter_mut().for_each(Turn::stays);
        let given_up: Vec<_> = late.iter().map(|turn| is_now(turn.given_up())).collect();
        assert!(given_up[0], "{messages}");
        assert!(given_up[1..].iter().all(|given_up| !given_up), "{messages}");
    }
}
