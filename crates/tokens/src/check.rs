//! What a token must say.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::Error;

/// Expectations on the claims of a token. Times are always checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// `aud` must contain this.
    pub audience: Option<String>,
    /// `sub` must be this.
    pub subject: Option<String>,
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// Clocks may differ by this much.
    pub skew: Duration,
}

/// The claims of a checked token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// One claim.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// All claims.
    #[must_use]
    pub fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    fn audiences(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self.0.get("aud") {
            Some(Value::String(one)) => (Some(one.as_str()), None),
            Some(Value::Array(many)) => (None, Some(many)),
            _ => (None, None),
        };
        one.into_iter()
            .chain(many.into_iter().flatten().filter_map(Value::as_str))
    }

    fn seconds(&self, claim: &'static str) -> Result<Option<f64>, Error> {
        match self.0.get(claim) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or_else(|| unsatisfied(claim, "it is no number")),
        }
    }
}

impl Check {
    /// Checks times and names at `now`.
    ///
    /// # Errors
    /// [`Error::Claim`] with the first claim that is not satisfied.
    pub fn claims(&self, claims: &Claims, now: Timestamp) -> Result<(), Error> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "seconds fit a double for millions of years"
        )]
        let now = now.as_second() as f64;
        let skew = self.skew.as_secs_f64();
        if claims
            .seconds("exp")?
            .is_some_and(|expiry| now - skew >= expiry)
        {
            return Err(unsatisfied("exp", "the token has expired"));
        }
        if claims
            .seconds("nbf")?
            .is_some_and(|begin| now + skew < begin)
        {
            return Err(unsatisfied("nbf", "the token is not valid yet"));
        }
        if claims
            .seconds("iat")?
            .is_some_and(|issued| now + skew < issued)
        {
            return Err(unsatisfied("iat", "the token was issued in the future"));
        }
        if let Some(audience) = &self.audience
            && !claims.audiences().any(|found| found == audience)
        {
            return Err(unsatisfied("aud", &format!("{audience:?} is not in it")));
        }
        for (claim, wanted) in [("sub", &self.subject), ("iss", &self.issuer)] {
            if let Some(wanted) = wanted
                && claims.text(claim) != Some(wanted)
            {
                return Err(unsatisfied(claim, &format!("it is not {wanted:?}")));
            }
        }
        Ok(())
    }
}

fn unsatisfied(claim: &'static str, reason: &str) -> Error {
    Error::Claim {
        claim,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Claims {
        Claims::new(value.as_object().unwrap().clone())
    }

    #[test]
    fn times_are_checked_with_skew() {
        let check = Check {
            skew: Duration::from_secs(300),
            ..Check::default()
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let token = claims(json!({"nbf": 1000, "iat": 1000, "exp": 2000}));
        assert!(check.claims(&token, at(699)).is_err());
        assert!(check.claims(&token, at(700)).is_ok());
        assert!(check.claims(&token, at(2299)).is_ok());
        assert!(check.claims(&token, at(2300)).is_err());
        assert!(
            check
                .claims(&claims(json!({"exp": "soon"})), at(0))
                .is_err()
        );
        assert!(check.claims(&claims(json!({})), at(0)).is_ok());
    }

    #[test]
    fn names_are_checked() {
        let check = Check {
            audience: Some("here".into()),
            subject: Some("me".into()),
            issuer: Some("them".into()),
            skew: Duration::ZERO,
        };
        let ok = |value| check.claims(&claims(value), Timestamp::UNIX_EPOCH).is_ok();
        assert!(ok(json!({"aud": "here", "sub": "me", "iss": "them"})));
        assert!(ok(
            json!({"aud": ["there", "here"], "sub": "me", "iss": "them"})
        ));
        assert!(!ok(json!({"aud": ["there"], "sub": "me", "iss": "them"})));
        assert!(!ok(json!({"aud": "here", "sub": "you", "iss": "them"})));
        assert!(!ok(json!({"aud": "here", "sub": "me"})));
        assert!(!ok(json!({"sub": "me", "iss": "them"})));
    }
}
