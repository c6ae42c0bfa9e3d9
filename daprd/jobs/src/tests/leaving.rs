//! Streams that are left while something is under way on them.

use proto::extensions::jobs::UNDELIVERED;

use super::*;

#[tokio::test]
async fn a_stream_that_is_left_gives_its_results_first() {
    let mut scheduler = Fake::start();
    let world = World::new(&[&scheduler.address]);
    world.engine.start().await;
    let mut session = scheduler.stream().await;
    session.trigger(job(7, "slow")).await;
    let drained = async {
        // The app has the job before the sidecar ends.
        session.trigger(job(8, "quick")).await;
        assert_eq!(session.result().await.id, 8);
        let drain = world.engine.drain();
        let open = async {
            tokio::task::yield_now().await;
            world.gate.add_permits(1);
            let result = session.result().await;
            assert_eq!((result.id, result.status()), (7, Status::Success));
        };
        tokio::join!(drain, open);
    };
    soon(drained).await;
}

/// What still comes on it would wait until all that is under way is done.
#[tokio::test]
async fn a_stream_that_is_left_gives_back_what_still_comes() {
    let mut scheduler = Fake::start();
    scheduler.takes_back.store(true, Ordering::Release);
    let world = World::new(&[&scheduler.address]);
    world.engine.start().await;
    let mut session = scheduler.stream().await;
    session.trigger(job(7, "slow")).await;
    assert_eq!(outcome(&mut session, job(8, "good")).await, Status::Success);
    let drained = async {
        let given_back = async {
            let left = session.result().await;
            assert_eq!((left.id, left.status), (0, UNDELIVERED));
            session.trigger(job(9, "good")).await;
            let back = session.result().await;
            assert_eq!((back.id, back.status), (9, UNDELIVERED));
            world.gate.add_permits(1);
            let result = session.result().await;
            assert_eq!((result.id, result.status()), (7, Status::Success));
        };
        tokio::join!(world.engine.drain(), given_back);
    };
    soon(drained).await;
}

#[tokio::test]
async fn a_scheduler_that_never_closes_keeps_nobody_from_stopping() {
    let mut scheduler = Fake::start();
    let world = World::new(&[&scheduler.address]);
    world.engine.start().await;
    let hung = [scheduler.stream().await, scheduler.stream().await];
    soon(world.engine.stop()).await;
    soon(world.engine.drain()).await;
    drop(hung);
}
