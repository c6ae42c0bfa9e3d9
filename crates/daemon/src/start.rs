//! From the command line to the exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio_util::sync::CancellationToken;

use crate::Program;
use crate::exit::Exit;
use crate::tasks::{Daemon, Registries};
use crate::{arguments, descriptors, endpoints, log, panics, pulse, signals};

/// The whole life of a program: parses flags, installs the crypto provider, logger and panic hook,
/// serves metrics and health, runs `run` to its end, stops what is left, and says how it went.
///
/// `run` builds the parts, spawns them on the [`Daemon`] and returns [`Daemon::wait`].
pub fn main<P, F, Fut>(run: F) -> ExitCode
where
    P: Program,
    F: FnOnce(P, Daemon) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    // Everything that speaks TLS would panic without it; an error means that it is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let program = match parse::<P>(std::env::args_os().collect()) {
        Ok(program) => program,
        Err(exit) => return exit.into(),
    };
    match begin(program, run) {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            fail(&error);
            Exit::Failure.into()
        }
    }
}

fn parse<P: Program>(args: Vec<OsString>) -> Result<P, Exit> {
    let args = arguments::normalise(args, P::command().as_ref());
    P::parse(args).map_err(|stop| stop.print())
}

fn begin<P, F, Fut>(program: P, run: F) -> anyhow::Result<()>
where
    P: Program,
    F: FnOnce(P, Daemon) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    log::install(&program.log(), P::scope())?;
    tracing::info!(
        "starting {} -- version {} -- commit {}",
        P::NAME,
        crate::version(),
        crate::commit()
    );
    tracing::info!("log level set to: {}", program.log().level);
    descriptors::raise();
    let runtime = runtime().context("the runtime cannot start")?;
    let result = runtime.block_on(live(program, run));
    // A blocking call that hangs (a name lookup, say) must not hold up the exit.
    runtime.shutdown_timeout(BLOCKING_GRACE);
    result
}

async fn live<P, F, Fut>(program: P, run: F) -> anyhow::Result<()>
where
    P: Program,
    F: FnOnce(P, Daemon) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let registries = Registries::new()?;
    panics::install(registries.panics());
    let daemon = Daemon::new(registries.clone(), P::GRACE);
    // The servers outlast the program's own tasks, so that its end can be watched.
    let end = CancellationToken::new();
    let chassis = tokio_util::task::TaskTracker::new();
    chassis.spawn(signals::watch(daemon.shutdown())?);
    chassis.spawn(pulse::beat(end.clone()));
    let metrics = program.metrics();
    if metrics.enabled {
        let server = endpoints::metrics(&metrics, registries, end.clone())?;
        daemon.spawn_until(&chassis, server);
    }
    if let Some(options) = program.health() {
        let server = endpoints::health(&options, daemon.health().clone(), end.clone())?;
        daemon.spawn_until(&chassis, server);
    }
    let result = run_to_end(run(program, daemon.clone()), &daemon, P::GRACE).await;
    let stopped = daemon.stop().await;
    end.cancel();
    result.and(stopped)
}

/// A program that ignores shutdown is cut off, since orchestrators would kill it without a word.
async fn run_to_end(
    run: impl Future<Output = anyhow::Result<()>>,
    daemon: &Daemon,
    grace: Duration,
) -> anyhow::Result<()> {
    let shutdown = daemon.shutdown();
    tokio::select! {
        result = run => result,
        () = async {
            shutdown.cancelled().await;
            // Its own wait has the same limit and names the tasks, so it goes first.
            tokio::time::sleep(grace + BLOCKING_GRACE).await;
        } => Err(anyhow!("shutdown took longer than {grace:?}")),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKERS))
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name("worker")
        .enable_all()
        .build()
}

fn fail(error: &anyhow::Error) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(level = "fatal", "{error:#}");
    } else {
        // Without a logger (a wrong log level) the text still has to reach someone.
        let _ = writeln!(std::io::stderr(), "{error:#}");
    }
}

/// Each worker has a heap and a stack; on a machine with many cores they would break the memory target.
const MAX_WORKERS: usize = 4;

/// Name lookups, files and embedded databases; more of them at once only queue on the disk.
const MAX_BLOCKING: usize = 64;

/// How long calls on blocking threads may take at the very end.
const BLOCKING_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HealthOptions, LogOptions, MetricsOptions};

    #[derive(Debug)]
    struct Flags(Vec<OsString>);

    impl Program for Flags {
        const NAME: &'static str = "test";
        fn parse(args: Vec<OsString>) -> Result<Self, crate::Stop> {
            let mut command = clap::Command::new("x").version("1");
            if args.len() > 2 {
                let unknown = clap::error::ErrorKind::UnknownArgument;
                return Err(command.error(unknown, "no").into());
            }
            if args.iter().any(|arg| arg == "--version") {
                command.try_get_matches_from(args.clone())?;
            }
            Ok(Flags(args))
        }
        fn log(&self) -> LogOptions {
            LogOptions {
                level: "info".into(),
                json: false,
                file: None,
                app_id: None,
            }
        }
        fn metrics(&self) -> MetricsOptions {
            MetricsOptions {
                enabled: true,
                host: "127.0.0.1".into(),
                port: 0,
            }
        }
        fn health(&self) -> Option<HealthOptions> {
            None
        }
    }

    #[test]
    fn usage_errors_have_their_own_code() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let flags = parse::<Flags>(args(&["prog", "-port=1"])).unwrap();
        assert_eq!(flags.0, args(&["prog", "--port=1"]));
        assert_eq!(
            parse::<Flags>(args(&["prog", "a", "b"])).unwrap_err(),
            Exit::Usage
        );
        for version in ["-version", "--version"] {
            let asked = parse::<Flags>(args(&["prog", version]));
            assert_eq!(asked.unwrap_err(), Exit::Success);
        }
    }

    #[tokio::test]
    async fn errors_of_run_and_of_tasks_come_out() {
        let result = live(Flags(vec![]), |_, daemon| async move {
            daemon.spawn("part", async { Err(anyhow!("down")) });
            daemon.wait().await
        });
        assert_eq!(
            format!("{:#}", result.await.unwrap_err()),
            "part failed: down"
        );
        let result = live(Flags(vec![]), |_, _| async { Err(anyhow!("bad setting")) });
        assert_eq!(result.await.unwrap_err().to_string(), "bad setting");
        let result = live(Flags(vec![]), |_, daemon| async move {
            let token = daemon.shutdown();
            daemon.spawn("part", async move {
                token.cancelled().await;
                Ok(())
            });
            Ok(())
        });
        assert!(result.await.is_ok());
    }
}
