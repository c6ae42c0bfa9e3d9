//! Which requests a middleware is for: `pathFilter`. A path is judged in every form in which it may be read behind the
//! middleware, so that none is a way around it. Q-middleware-readings

use component::{Error, Result};
use regex::Regex;

/// A regular expression for paths; without one, all of them.
pub struct Filter(Option<Regex>);

impl Filter {
    /// Reads `pathFilter`.
    ///
    /// # Errors
    /// Where it is no regular expression.
    pub fn open(expression: Option<&str>) -> Result<Self> {
        let compiled = expression.map(Regex::new).transpose();
        let compiled = compiled.map_err(|error| Error::invalid_metadata("pathFilter", error))?;
        Ok(Self(compiled))
    }

    /// Whether any reading of a path is meant.
    pub fn covers(&self, path: &str) -> bool {
        let Some(expression) = &self.0 else {
            return true;
        };
        let readings = values::path::requested(path);
        readings.iter().any(|reading| expression.is_match(reading))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_is_a_way_around() {
        let filter = Filter::open(Some("^/v1.0/invoke/app/method/secret$")).unwrap();
        let method = "/v1.0/invoke/app/method/";
        for covered in [
            "secret",
            "%73ecret",
            "x/../secret",
            "x/%2e%2e/secret",
            "%2573ecret",
            "/secret/",
        ] {
            let path = format!("{method}{covered}");
            let path = path.trim_end_matches('/');
            assert!(filter.covers(path), "{path}");
        }
        assert!(!filter.covers("/v1.0/invoke/app/method/public"));
        assert!(Filter::open(None).unwrap().covers("/anything"));
        assert!(Filter::open(Some("(")).is_err());
    }
}
