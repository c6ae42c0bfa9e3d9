//! Refusing to run as root in a cluster (contract 6.4).

use anyhow::{Context as _, bail};

/// Environment variable that turns the check off when it is `true`.
const SKIP: &str = "DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK";

/// Fails when the effective user is root and the environment does not say that this is wanted.
/// Programs call it at start in Kubernetes mode.
///
/// # Errors
/// As root without the variable, and when the kernel does not tell the user.
pub fn refuse_root() -> anyhow::Result<()> {
    if std::env::var(SKIP).is_ok_and(|value| value == "true") {
        return Ok(());
    }
    let status =
        std::fs::read_to_string("/proc/self/status").context("the effective user is unknown")?;
    check(&status)
}

fn check(status: &str) -> anyhow::Result<()> {
    // "Uid:" is followed by the real, effective, saved and file system user.
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|users| users.split_whitespace().nth(1))
        .context("the effective user is unknown")?;
    if effective == "0" {
        bail!(
            "running as root is not allowed in Kubernetes: set runAsUser in the container's security context, or {SKIP}=true"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_effective_user_counts() {
        assert!(check("Name:\tx\nUid:\t0\t65532\t0\t0\n").is_ok());
        assert!(check("Uid:\t65532\t0\t65532\t0\n").is_err());
        assert!(check("Name:\tx\n").is_err());
    }
}
