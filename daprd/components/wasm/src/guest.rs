//! An instance of a guest, and a call of it: in slices of fuel, between which others have their turn, and with pauses, in which
//! the host gets what the guest waits for.

use std::time::Duration;

use component::body::ReadError;
use http::StatusCode;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use wasmi::{Func, Memory, ResumableCall, Store, Val};

use crate::{
    abi::Pause,
    exchange::{Exchange, Features},
    memory::{Spent, two},
    meter::Meter,
    settings::{BODY_WAIT, MOST_SLEEP, WAIT},
    state::State,
    text,
    wasi::{RANDOM_AT_ONCE, filled},
};

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum Failure {
    /// The guest did something that it may not, or gave up.
    #[error("{0}")]
    Trap(String),
    /// It has used up its fuel.
    #[error("the guest has run for {0} instructions without an end")]
    Endless(u64),
    /// It wanted to sleep for longer than it may.
    #[error("the guest wants to sleep for more than {MOST_SLEEP:?}")]
    Asleep,
    /// The body that it reads is too large, or broke off.
    #[error(transparent)]
    Body(#[from] ReadError),
    /// More of the body did not come.
    #[error("the body did not come within {BODY_WAIT:?}")]
    Late,
    /// All instances are taken, and stay so.
    #[error(
        "all instances of the guest (maxInstances) are in use, and none has become free within {WAIT:?}; a request that comes \
         back through the same middleware needs one more"
    )]
    Busy,
}

impl Failure {
    /// The guest's own doing.
    pub fn trap(reason: impl ToString) -> Self {
        Self::Trap(text::reason(reason))
    }

    /// What the caller is answered.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Trap(_) | Self::Endless(_) | Self::Asleep => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Body(ReadError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(ReadError::Broken(_)) => StatusCode::BAD_REQUEST,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// How a start function came to an end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Returned,
    Exited(i32),
}

/// An instance.
pub struct Guest {
    store: Store<State>,
    memory: Memory,
    request: Func,
    response: Func,
    fuel: u64,
}

/// What a guest exports.
pub struct Exports {
    pub memory: Memory,
    pub request: Func,
    pub response: Func,
}

impl Guest {
    /// That has so much fuel for each call.
    pub fn new(store: Store<State>, exports: Exports, fuel: u64) -> Self {
        Self {
            store,
            memory: exports.memory,
            request: exports.request,
            response: exports.response,
            fuel,
        }
    }

    /// Runs the function by which its language begins.
    ///
    /// # Errors
    /// Where it fails, or ends with another code than 0.
    pub async fn start(&mut self, start: Func) -> Result<(), Failure> {
        match self.run(start, &[], &mut []).await? {
            End::Returned | End::Exited(0) => Ok(()),
            End::Exited(code) => Err(exited(code)),
        }
    }

    /// What it has enabled for all exchanges.
    pub fn features(&self) -> Features {
        self.store.data().features
    }

    /// Hands it a request. What comes next is to have it, where there is a context, which the guest is handed again with the
    /// response.
    ///
    /// # Errors
    /// Where it does not come to an end; it is of no more use then.
    pub async fn handle_request(&mut self, exchange: Exchange) -> Result<Option<u32>, Failure> {
        self.store.data_mut().exchange = Some(Box::new(exchange));
        let mut results = [Val::I64(0)];
        self.call(self.request, &[], &mut results).await?;
        let [Val::I64(result)] = results else {
            return Err(Failure::trap("handle_request gives no number"));
        };
        let (context, next) = ((result as u64 >> 32) as u32, result as u32);
        Ok((next != 0).then_some(context))
    }

    /// Hands it the response; `failed` where there is none.
    ///
    /// # Errors
    /// As of a request.
    pub async fn handle_response(&mut self, context: u32, failed: bool) -> Result<(), Failure> {
        let arguments = [Val::I32(context as i32), Val::I32(failed.into())];
        self.call(self.response, &arguments, &mut []).await
    }

    /// What it is called for.
    ///
    /// # Errors
    /// Where there is nothing.
    pub fn exchange(&mut self) -> Result<&mut Exchange, Failure> {
        let exchange = self.store.data_mut().exchange();
        exchange.map_err(Failure::trap)
    }

    /// Ends what it was called for.
    ///
    /// # Errors
    /// Where there is nothing.
    pub fn end(&mut self) -> Result<Exchange, Failure> {
        let exchange = self.store.data_mut().exchange.take();
        let none = || Failure::trap("there is no request");
        exchange.map(|exchange| *exchange).ok_or_else(none)
    }

    async fn call(
        &mut self,
        func: Func,
        arguments: &[Val],
        results: &mut [Val],
    ) -> Result<(), Failure> {
        match self.run(func, arguments, results).await? {
            End::Returned => Ok(()),
            End::Exited(code) => Err(exited(code)),
        }
    }

    async fn run(
        &mut self,
        func: Func,
        arguments: &[Val],
        results: &mut [Val],
    ) -> Result<End, Failure> {
        let ended = self.in_slices(func, arguments, results).await;
        self.store.data_mut().end_call();
        ended
    }

    async fn in_slices(
        &mut self,
        func: Func,
        arguments: &[Val],
        results: &mut [Val],
    ) -> Result<End, Failure> {
        self.store.data_mut().meter = Meter::new(self.fuel);
        let (mut sleep_left, mut wait_left) = (MOST_SLEEP, BODY_WAIT);
        self.store.set_fuel(0).map_err(Failure::trap)?;
        self.refuel(0)?;
        let mut call = func.call_resumable(&mut self.store, arguments, results);
        loop {
            call = match call.map_err(Failure::trap)? {
                ResumableCall::Finished => return Ok(End::Returned),
                ResumableCall::OutOfFuel(stopped) => {
                    self.refuel(stopped.required_fuel())?;
                    tokio::task::yield_now().await;
                    stopped.resume(&mut self.store, results)
                }
                ResumableCall::HostTrap(stopped) => {
                    let error = stopped.host_error();
                    if let Some(code) = error.i32_exit_status() {
                        return Ok(End::Exited(code));
                    }
                    if error.downcast_ref::<Spent>().is_some() {
                        return Err(Failure::Endless(self.fuel));
                    }
                    let pause = error.downcast_ref::<Pause>().copied();
                    let pause = pause.ok_or_else(|| Failure::trap(error))?;
                    let answer = self.serve(pause, &mut sleep_left, &mut wait_left).await?;
                    stopped.resume(&mut self.store, &[answer], results)
                }
            };
        }
    }

    /// The next slice; what the next instruction takes is in it.
    fn refuel(&mut self, required: u64) -> Result<(), Failure> {
        let left = self.store.get_fuel().map_err(Failure::trap)?;
        let meter = &mut self.store.data_mut().meter;
        let slice = meter.slice(required.saturating_sub(left));
        let fuel = slice.ok_or(Failure::Endless(self.fuel))?;
        self.store
            .set_fuel(left.saturating_add(fuel))
            .map_err(Failure::trap)
    }

    /// Gets what the guest waits for: what its function is to give.
    async fn serve(
        &mut self,
        pause: Pause,
        sleep_left: &mut Duration,
        wait_left: &mut Duration,
    ) -> Result<Val, Failure> {
        match pause {
            Pause::Sleep { nanoseconds } => {
                let time = Duration::from_nanos(nanoseconds);
                *sleep_left = sleep_left.checked_sub(time).ok_or(Failure::Asleep)?;
                sleep(time).await;
                Ok(Val::I32(0))
            }
            Pause::Random { at, length } => {
                let end = (at as usize).saturating_add(length as usize);
                for from in (at as usize..end).step_by(RANDOM_AT_ONCE) {
                    let (memory, state) = self.memory.data_and_store_mut(&mut self.store);
                    let into = memory.get_mut(from..end.min(from + RANDOM_AT_ONCE));
                    if !state.senses.fill(into.ok_or_else(shrunk)?) {
                        return Ok(Val::I32(filled(false) as i32));
                    }
                    tokio::task::yield_now().await;
                }
                Ok(Val::I32(filled(true) as i32))
            }
            Pause::Body { at, room } => {
                let incoming = &mut self.exchange()?.incoming;
                let began = Instant::now();
                let filled = timeout(*wait_left, incoming.fill(room as usize)).await;
                filled.map_err(|_| Failure::Late)??;
                *wait_left = wait_left.saturating_sub(began.elapsed());
                let (memory, state) = self.memory.data_and_store_mut(&mut self.store);
                let exchange = state.exchange().map_err(Failure::trap)?;
                let end = (at as usize).saturating_add(room as usize);
                let into = memory.get_mut(at as usize..end);
                let (count, ended) = exchange.incoming.take(into.ok_or_else(shrunk)?);
                Ok(Val::I64(two(ended.into(), count as u32) as i64))
            }
        }
    }
}

fn shrunk() -> Failure {
    Failure::trap("the memory has shrunk")
}

fn exited(code: i32) -> Failure {
    Failure::trap(format!("the guest has ended with code {code}"))
}
