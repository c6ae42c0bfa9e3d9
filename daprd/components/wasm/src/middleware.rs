//! `middleware.http.wasm`: requests and responses pass a guest.

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Body, Component, Error, ErrorKind, HttpMiddleware, Open, Result, Scope,
    body::ReadError,
    middleware::{Next, answer},
};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    bodies::Incoming,
    exchange::Exchange,
    guest::{Failure, Guest},
    pool::Pool,
    program::{Options, Program},
    settings::{self, BODY_WAIT, Limits},
    source,
};

/// A module as middleware.
pub struct Wasm {
    name: Arc<str>,
    limits: Limits,
    pool: Pool,
    _scope: Scope,
}

impl Wasm {
    /// Reads the module and makes a first instance of it, so that what does not fit is told now.
    ///
    /// # Errors
    /// Names the field, or what is wrong with the module.
    pub async fn open(open: Open) -> Result<Self> {
        let (settings, limits) = settings::read(&open.metadata)?;
        let module = source::read(&settings.url, &open).await?;
        let name: Arc<str> = open.name.into();
        let options = Options {
            name: Arc::clone(&name),
            config: settings
                .guest_config
                .unwrap_or_default()
                .into_bytes()
                .into(),
            limits,
            strict: settings.strict_sandbox,
            clock: open.lent.clock,
        };
        let program = spawn_blocking(move || Program::new(&module, options)).await;
        let program =
            program.map_err(|error| Error::internal("the module was not translated", error))??;
        let pool = Pool::new(program, limits.instances, &open.scope)
            .await
            .map_err(|failure| {
                Error::new(
                    ErrorKind::InvalidMetadata,
                    "the module of the field url does not start",
                )
                .with_source(failure)
            })?;
        Ok(Self {
            name,
            limits,
            pool,
            _scope: open.scope,
        })
    }

    async fn pass(
        &self,
        request: Request<Body>,
        next: Next<'_>,
    ) -> Result<Response<Body>, Failure> {
        let mut taken = self.pool.take().await?;
        let guest = taken.guest();
        let exchange = Exchange::new(request, guest.features(), self.limits.body);
        let Some(context) = guest.handle_request(exchange).await? else {
            let exchange = guest.end()?;
            taken.give_back();
            return Ok(exchange.reply());
        };
        let request = guest.exchange()?.forward();
        let response = next.run(request).await;
        let response = self.after(guest, context, response).await?;
        taken.give_back();
        Ok(response)
    }

    /// Shows the guest a response: before it has been sent, where it wants that.
    async fn after(
        &self,
        guest: &mut Guest,
        context: u32,
        response: Response<Body>,
    ) -> Result<Response<Body>, Failure> {
        if !guest.exchange()?.buffers_response() {
            // Q-wasm-early: its body is still on its way.
            guest.handle_response(context, false).await?;
            return Ok(guest.end()?.beside(response));
        }
        let (mut parts, body) = response.into_parts();
        let mut incoming = Incoming::new(body, self.limits.body);
        let filled = timeout(BODY_WAIT, incoming.fill(usize::MAX)).await;
        let failed = match filled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure::Body(error)),
            Err(_) => Some(Failure::Late),
        };
        let (body, trailers) = match &failed {
            None => incoming.all(),
            Some(failure) => {
                tracing::warn!(
                    "wasm component {}: a response is not there for the guest: {failure}",
                    self.name
                );
                parts.status = missing(failure);
                parts.headers = HeaderMap::new();
                Default::default()
            }
        };
        guest.exchange()?.hold(parts, &body, trailers);
        guest.handle_response(context, failed.is_some()).await?;
        Ok(guest.end()?.reply())
    }
}

/// The status in place of a response that could not be read.
fn missing(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Body(ReadError::TooLarge { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
        Failure::Late => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

impl Component for Wasm {}

#[async_trait]
impl HttpMiddleware for Wasm {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        match self.pass(request, next).await {
            Ok(response) => response,
            // Q-wasm-failure: the reason is for the log.
            Err(failure) => {
                tracing::error!("wasm component {}: {failure}", self.name);
                match failure {
                    // This one is not the guest's.
                    Failure::Busy => answer::text(failure.status(), failure.to_string()),
                    _ => answer::status(failure.status()),
                }
            }
        }
    }
}
