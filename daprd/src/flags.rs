//! daprd's command line and environment, as the chassis wants to know them.

use std::{ffi::OsString, time::Duration};

use daemon::{HealthOptions, LogOptions, MetricsOptions, Program, Stop};
use settings::{Action, Error, Resolved, Settings};

/// The checked settings, and what this start is for.
pub struct Flags {
    pub action: Action,
    pub settings: Resolved,
    /// What was said and does not count: deprecated flags, unreadable environment.
    pub warnings: Vec<String>,
}

impl Program for Flags {
    const NAME: &'static str = "daprd";

    /// The graceful period is a setting, and blocking shutdown may be far longer: daprd keeps its own deadlines.
    const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

    fn scope() -> String {
        "dapr.runtime".to_owned()
    }

    fn command() -> Option<clap::Command> {
        Some(settings::command())
    }

    fn parse(args: Vec<OsString>) -> Result<Self, Stop> {
        let environment = |name: &str| std::env::var(name).ok();
        let settings = Settings::from_args(args, environment).map_err(Error::into_clap)?;
        let action = settings.action();
        match action {
            Action::Version => return Err(Stop::Text(daemon::version().to_owned())),
            Action::BuildInfo => return Err(Stop::Text(build_info())),
            Action::Run | Action::Wait(_) => {}
        }
        let mut warnings: Vec<String> = settings.ignored().to_vec();
        warnings.extend(
            settings
                .deprecated()
                .map(|(flag, instead)| format!("flag --{flag} is deprecated: {instead}")),
        );
        let settings = settings.resolve().map_err(Error::into_clap)?;
        Ok(Self {
            action,
            settings,
            warnings,
        })
    }

    fn log(&self) -> LogOptions {
        let log = &self.settings.log;
        LogOptions {
            level: log.level.clone(),
            json: log.json,
            file: log.file.clone(),
            app_id: Some(self.settings.app.id.clone()),
        }
    }

    fn metrics(&self) -> MetricsOptions {
        let metrics = &self.settings.metrics;
        MetricsOptions {
            enabled: metrics.enabled && self.action == Action::Run,
            host: metrics.address.clone(),
            port: metrics.port,
        }
    }

    /// Health is part of the API.
    fn health(&self) -> Option<HealthOptions> {
        None
    }
}

/// What was built, a line each.
fn build_info() -> String {
    let (version, commit) = (daemon::version(), daemon::commit());
    format!("Version: {version}\nGit Commit: {commit}\nGit Version: {version}")
}
