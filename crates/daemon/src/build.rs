//! What was built: the version that metadata, logs and metrics show, fixed at compile time.

/// Version of this build, `edge` unless the build set `DAPR_VERSION`.
/// Always `edge`, `N.N.N` or `N.N.N-rc.N`, which is all that clients accept.
#[must_use]
pub fn version() -> &'static str {
    match option_env!("DAPR_VERSION") {
        Some(version) if well_formed(version) => version,
        _ => "edge",
    }
}

/// Commit of this build, empty unless the build set `DAPR_COMMIT`.
#[must_use]
pub fn commit() -> &'static str {
    option_env!("DAPR_COMMIT").unwrap_or("")
}

fn well_formed(version: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (core, candidate) = match version.split_once("-rc.") {
        Some((core, candidate)) => (core, Some(candidate)),
        None => (version, None),
    };
    core.split('.').count() == 3 && core.split('.').all(digits) && candidate.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_forms() {
        for good in ["1.18.0", "10.0.11", "1.18.0-rc.1"] {
            assert!(well_formed(good), "{good}");
        }
        for bad in [
            "",
            "1.18",
            "v1.18.0",
            "1.18.0-rc.",
            "1.18.0-beta.1",
            "1.18.0.1",
            "1..0",
        ] {
            assert!(!well_formed(bad), "{bad}");
        }
        assert!(version() == "edge" || well_formed(version()));
    }
}
