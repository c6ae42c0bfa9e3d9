//! A call in which both sides go on talking: the component sends messages, and is told what became of each.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use component::{Error, ErrorKind, Result};
use futures::{
    Stream, StreamExt, TryFutureExt,
    future::BoxFuture,
    stream::{self, BoxStream, Peekable},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use tonic::{Response, Status, Streaming};

use crate::failure;

/// How long a component may take to end a call in which nothing more is said.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// A call that is to be answered with messages.
pub type Call<In> = BoxFuture<'static, Result<Response<Streaming<In>>, Status>>;

/// What is said to the component. A type of its own, because tasks cannot be told to own a stream behind a pointer.
pub struct Said<Out>(BoxStream<'static, Out>);

impl<Out> Stream for Said<Out> {
    type Item = Out;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Out>> {
        self.0.poll_next_unpin(context)
    }
}

/// Both directions. Dropping it ends the call.
pub struct Exchange<Out, In> {
    outgoing: mpsc::Sender<Out>,
    incoming: Peekable<BoxStream<'static, Result<In, Status>>>,
    given_back: Arc<Notify>,
}

impl<Out, In> Exchange<Out, In>
where
    Out: Send + 'static,
    In: Send + 'static,
{
    /// Begins a call with what is said `first`; `capacity` is how much may wait until the component takes it. On return the
    /// call is on its way: many components answer with nothing before their first message.
    ///
    /// # Errors
    /// The call's, where it has ended at once.
    pub async fn open(
        first: Option<Out>,
        capacity: usize,
        call: impl FnOnce(Said<Out>) -> Call<In>,
    ) -> Result<Self> {
        let (outgoing, said) = mpsc::channel(capacity.max(1));
        let (begin, has_begun) = oneshot::channel();
        let first = stream::once(async move {
            // Whoever opens may have given up.
            let _ = begin.send(());
            stream::iter(first)
        });
        let rest = stream::unfold(said, |mut said| async move {
            said.recv().await.map(|one| (one, said))
        });
        let requests = Said(first.flatten().chain(rest).boxed());
        let answer = call(requests).map_ok(Response::into_inner);
        let mut incoming = answer.try_flatten_stream().boxed().peekable();
        let answered = Pin::new(&mut incoming).peek();
        let ended = tokio::select! {
            biased;
            Ok(()) = has_begun => None,
            answer = answered => match answer {
                Some(Ok(_)) => None,
                Some(Err(status)) => Some(failure::plain(status.clone())),
                None => Some(silent_end()),
            },
        };
        match ended {
            Some(error) => Err(error),
            None => Ok(Self {
                outgoing,
                incoming,
                given_back: Arc::default(),
            }),
        }
    }

    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why the component has ended the call.
    pub async fn next(&mut self) -> Result<In> {
        match self.incoming.next().await {
            Some(Ok(message)) => Ok(message),
            Some(Err(status)) => Err(failure::plain(status)),
            None => Err(silent_end()),
        }
    }

    /// What a message is settled with.
    pub fn settling(&self) -> Settling<Out> {
        Settling {
            outgoing: self.outgoing.downgrade(),
            given_back: Some(Arc::clone(&self.given_back)),
        }
    }

    /// Says something, if there is room for it.
    pub fn say(&self, message: Out) {
        let _ = self.outgoing.try_send(message);
    }

    /// Until a message was given back. The protocol has no word for that, but a component delivers what it was told nothing
    /// of once the call has ended.
    pub fn given_back(&self) -> impl Future<Output = Error> + Send + use<Out, In> {
        let given_back = Arc::clone(&self.given_back);
        async move {
            given_back.notified().await;
            Error::new(
                ErrorKind::Unavailable,
                "a message was given back, which the component learns from the end of the call",
            )
        }
    }

    /// Ends the call once everything that was said has been taken. Messages that still come are not taken.
    pub async fn leave(self) {
        drop(self.outgoing);
        let rest = self.incoming.take_while(|one| {
            let goes_on = one.is_ok();
            async move { goes_on }
        });
        // What does not end by itself ends as it is dropped.
        let _ = timeout(LEAVE_LIMIT, rest.for_each(|_| async {})).await;
    }
}

fn silent_end() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the component has ended the call without a reason",
    )
}

/// Tells the component what became of one message. Dropped before that, the message is given back.
pub struct Settling<Out> {
    outgoing: mpsc::WeakSender<Out>,
    given_back: Option<Arc<Notify>>,
}

impl<Out> Settling<Out> {
    /// # Errors
    /// Where the call has ended: the component delivers the message again.
    pub async fn tell(mut self, what: Out) -> Result<()> {
        let over = || {
            let text = "the call of the message has ended: the component delivers it again";
            Error::new(ErrorKind::Unavailable, text)
        };
        let outgoing = self.outgoing.upgrade().ok_or_else(over)?;
        outgoing.send(what).await.map_err(|_| over())?;
        self.given_back = None;
        Ok(())
    }
}

impl<Out> Drop for Settling<Out> {
    fn drop(&mut self) {
        if let Some(given_back) = self.given_back.take() {
            given_back.notify_one();
        }
    }
}
