//! The retries Dapr makes on its own account, under names that resources may override (contract 10.1).

use std::time::Duration;

use crate::backoff::{Growth, Settings};
use crate::matching::Matching;
use crate::policy::Retry;

/// An override of a built-in retry cannot go below this many retries.
pub const FEWEST_RETRIES: u32 = 3;

/// A retry Dapr makes without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// Transport failures on the way to another sidecar.
    ServiceRetries,
    /// Transport failures on the way to an actor's host.
    ActorRetries,
    /// Reminders that could not be delivered.
    ActorReminderRetries,
    /// Components and subscriptions that do not start.
    InitializationRetries,
    /// Actors that no host knows yet; resources cannot override it.
    ActorNotFoundRetries,
}

impl Builtin {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 5] = [
        Self::ServiceRetries,
        Self::ActorRetries,
        Self::ActorReminderRetries,
        Self::InitializationRetries,
        Self::ActorNotFoundRetries,
    ];

    /// The name of the retry policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServiceRetries => "DaprBuiltInServiceRetries",
            Self::ActorRetries => "DaprBuiltInActorRetries",
            Self::ActorReminderRetries => "DaprBuiltInActorReminderRetries",
            Self::InitializationRetries => "DaprBuiltInInitializationRetries",
            Self::ActorNotFoundRetries => "DaprBuiltInActorNotFoundRetries",
        }
    }

    /// The built-in policy of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.name() == name)
    }

    /// Whether resources cannot change it.
    pub const fn is_protected(self) -> bool {
        matches!(self, Self::ActorNotFoundRetries)
    }

    /// What it does unless a resource says otherwise.
    pub fn retry(self) -> Retry {
        let constant = |retries| Settings {
            growth: Growth::Constant {
                delay: Duration::from_secs(1),
            },
            max_retries: Some(retries),
        };
        let backoff = match self {
            Self::ServiceRetries | Self::ActorRetries => constant(3),
            Self::ActorNotFoundRetries => constant(5),
            Self::ActorReminderRetries => Settings {
                growth: Growth::exponential(Duration::from_secs(60)),
                max_retries: None,
            },
            Self::InitializationRetries => Settings {
                growth: Growth::Exponential {
                    initial: Duration::from_millis(500),
                    longest: Duration::from_secs(1),
                    multiplier: 1.5,
                    randomization: 0.5,
                    max_elapsed: Some(Duration::from_secs(10)),
                },
                max_retries: Some(3),
            },
        };
        Retry {
            backoff,
            matching: Matching::default(),
        }
    }
}
