//! Ids of instances and apps, as callers may say them.

use crate::{ApiError, Reason, reason::workflow as reason};

/// An id that somebody asks for.
pub fn check(id: &str) -> Result<(), ApiError> {
    match id {
        "" => Err(ApiError::new(
            &reason::ID_MISSING,
            "no instance ID was provided",
        )),
        _ => Ok(()),
    }
}

/// An id that a caller chooses. Those of instances that are there may be longer, and have other characters: engines give
/// children theirs.
pub fn check_new(id: &str) -> Result<(), ApiError> {
    let invalid = |reason: &'static Reason, problem: &str| {
        Err(ApiError::new(
            reason,
            format!("workflow instance ID {problem}"),
        ))
    };
    if id.len() > MAX_ID {
        let problem = format!("exceeds the max length of {MAX_ID} characters");
        return invalid(&reason::ID_TOO_LONG, &problem);
    }
    if !is_name(id) {
        let problem =
            format!("'{id}' is invalid: only alphanumeric and underscore characters are allowed");
        return invalid(&reason::ID_INVALID, &problem);
    }
    Ok(())
}

/// Whether an id has letters, digits, dashes and underscores only.
pub fn is_name(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// Longest id that a caller may choose, in bytes: stores have limits on their keys.
const MAX_ID: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_id_is_short_and_plain() {
        for good in ["a", "A-b_9", "\u{e4}\u{4e00}", &"x".repeat(64)] {
            assert!(check_new(good).is_ok(), "{good}");
        }
        let error = check_new(&"x".repeat(65)).unwrap_err();
        assert_eq!(error.reason(), &reason::ID_TOO_LONG);
        for bad in ["a b", "a/b", "a||b", "a.b", "a::1", "\n"] {
            let error = check_new(bad).unwrap_err();
            assert_eq!(error.reason(), &reason::ID_INVALID, "{bad}");
            assert!(check(bad).is_ok(), "it may be there: {bad}");
        }
        assert_eq!(check("").unwrap_err().reason().http, 400);
    }
}
