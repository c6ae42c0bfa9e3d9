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
    memory::two,
    meter::Meter,
    settings::{BODY_WAIT, MOST_SLEEP},
    state::State,
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
    #[error("all instances of the guest are in use")]
    Busy,
}

impl Failure {
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
            return Err(Failure::Trap("handle_request gives no number".to_owned()));
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
        exchange.map_err(|misuse| Failure::Trap(misuse.0))
    }

    /// Ends what it was called for.
    ///
    /// # Errors
    /// Where there is nothing.
    pub fn end(&mut self) -> Result<Exchange, Failure> {
        let exchange = self.store.data_mut().exchange.take();
        let none = || Failure::Trap("there is no request".to_owned());
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
        let mut meter = Meter::new(self.fuel);
        let (mut sleep_left, mut wait_left) = (MOST_SLEEP, BODY_WAIT);
        self.refuel(0, meter.slice(0).unwrap_or_default())?;
        let mut call = func.call_resumable(&mut self.store, arguments, results);
        loop {
            call = match call.map_err(trap)? {
                ResumableCall::Finished => return Ok(End::Returned),
                ResumableCall::OutOfFuel(stopped) => {
                    let left = self.store.get_fuel().map_err(trap)?;
                    let required = stopped.required_fuel().saturating_sub(left);
                    let slice = meter.slice(required).ok_or(Failure::Endless(self.fuel))?;
                    self.refuel(left, slice)?;
                    tokio::task::yield_now().await;
                    stopped.resume(&mut self.store, results)
                }
                ResumableCall::HostTrap(stopped) => {
                    let error = stopped.host_error();
                    if let Some(code) = error.i32_exit_status() {
                        return Ok(End::Exited(code));
                    }
                    let pause = error.downcast_ref::<Pause>().copied();
                    let Some(pause) = pause else {
                        return Err(Failure::Trap(error.to_string()));
                    };
                    let answer = self.serve(pause, &mut sleep_left, &mut wait_left).await?;
                    stopped.resume(&mut self.store, &[answer], results)
                }
            };
        }
    }

    fn refuel(&mut self, left: u64, slice: u64) -> Result<(), Failure> {
        self.store
            .set_fuel(left.saturating_add(slice))
            .map_err(trap)
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
            Pause::Body { at, room } => {
                let incoming = &mut self.exchange()?.incoming;
                let began = Instant::now();
                let filled = timeout(*wait_left, incoming.fill(room as usize)).await;
                filled.map_err(|_| Failure::Late)??;
                *wait_left = wait_left.saturating_sub(began.elapsed());
                let (memory, state) = self.memory.data_and_store_mut(&mut self.store);
                let exchange = state.exchange().map_err(|misuse| Failure::Trap(misuse.0))?;
                let end = (at as usize).saturating_add(room as usize);
                let into = memory.get_mut(at as usize..end);
                let gone = || Failure::Trap("the memory has shrunk".to_owned());
                let (count, ended) = exchange.incoming.take(into.ok_or_else(gone)?);
                Ok(Val::I64(two(ended.into(), count as u32) as i64))
            }
        }
    }
}

fn trap(error: wasmi::Error) -> Failure {
    Failure::Trap(error.to_string())
}

fn exited(code: i32) -> Failure {
    Failure::Trap(format!("the guest has ended with code {code}"))
}
