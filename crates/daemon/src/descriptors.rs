//! How many files and sockets a program may have open. Login shells and container engines set a soft limit of about a
//! thousand for the sake of programs that still use `select`; a sidecar that a thousand clients connect to needs more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, which needs no privilege. Where that fails the program goes on with what it has.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::debug!(
            "the limit of open files is {} now, it was {}",
            text(limit.maximum),
            text(limit.current)
        ),
        Err(error) => tracing::warn!(
            "the limit of open files stays at {}: {error}",
            text(limit.current)
        ),
    }
}

fn text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Soft and hard limit as the kernel tells them to others.
    fn told() -> (String, String) {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let mut words = line.unwrap().split_whitespace().skip(3);
        let mut next = || words.next().unwrap().to_owned();
        (next(), next())
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(256),
            ..limit
        };
        setrlimit(Resource::Nofile, low).unwrap();
        let (soft, hard) = told();
        assert_ne!(soft, hard, "nothing to raise, so nothing to test");
        raise();
        assert_eq!(told(), (hard.clone(), hard));
    }
}
