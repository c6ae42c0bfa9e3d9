//! Orders on their way to one stream. A new lock makes what was not read yet pointless, so that there are never
//! more than the three orders of one round, however slowly a peer reads.

use tokio::sync::watch;

use crate::dissemination::Order;

/// Both ends.
pub(crate) fn mailbox() -> (Sender, Receiver) {
    let (sender, receiver) = watch::channel(Round::default());
    let receiver = Receiver {
        watch: receiver,
        number: 0,
        taken: 0,
    };
    (Sender(sender), receiver)
}

#[derive(Default)]
struct Round {
    number: u64,
    orders: Vec<Order>,
}

#[derive(Clone)]
pub(crate) struct Sender(watch::Sender<Round>);

impl Sender {
    pub fn put(&self, order: Order) {
        self.0.send_modify(|round| {
            if matches!(order, Order::Lock(_) | Order::Table(..)) {
                round.number += 1;
                round.orders.clear();
            }
            round.orders.push(order);
        });
    }

    /// The other end has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

pub(crate) struct Receiver {
    watch: watch::Receiver<Round>,
    number: u64,
    taken: usize,
}

impl Receiver {
    /// The next order, or `None` when there will be no more. Nothing is lost if this is cancelled.
    pub async fn next(&mut self) -> Option<Order> {
        loop {
            if let Some(order) = self.unread() {
                return Some(order);
            }
            self.watch.changed().await.ok()?;
        }
    }

    fn unread(&mut self) -> Option<Order> {
        let round = self.watch.borrow_and_update();
        if round.number != self.number {
            self.number = round.number;
            self.taken = 0;
        }
        let order = round.orders.get(self.taken).cloned()?;
        self.taken += 1;
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn a_lock_replaces_what_was_not_read_and_nothing_else_does() {
        let (sender, mut receiver) = mailbox();
        for version in 1..1000 {
            sender.put(Order::Table(version, Bytes::new()));
        }
        sender.put(Order::Lock(1000));
        assert_eq!(receiver.next().await, Some(Order::Lock(1000)));
        sender.put(Order::Update(1000, Bytes::new()));
        sender.put(Order::Unlock(1000));
        let update = Order::Update(1000, Bytes::new());
        assert_eq!(receiver.next().await, Some(update));
        assert_eq!(receiver.next().await, Some(Order::Unlock(1000)));
        drop(sender);
        assert_eq!(receiver.next().await, None);
    }
}
