//! Matching of request paths against configured patterns, in the manner of Go's `ServeMux`: `{name}` for
//! one segment, `{name...}` or a trailing slash for the rest, `{$}` for the end; the more specific
//! pattern wins. The result is a metric label, so what does not match must not become one.

use crate::Error;

/// Compiled patterns (contract 3.4, `metrics.http.pathMatching`).
#[derive(Debug, Default)]
pub struct PathMatcher {
    patterns: Vec<Pattern>,
    raw_fallback: bool,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

// The order is the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    End,
    One,
    Rest,
}

impl PathMatcher {
    /// Compiles patterns and, for each, the same pattern behind the service invocation prefix. With
    /// `raw_fallback` (increased cardinality) a path without a match stands for itself.
    ///
    /// # Errors
    /// When a pattern has an unclosed or misplaced wildcard, or when there are too many.
    pub fn new(paths: &[String], raw_fallback: bool) -> Result<Self, Error> {
        let mut texts = Vec::with_capacity(paths.len() * 2);
        for path in paths {
            let path = normalise(path);
            if !path.starts_with("/v1.0/invoke/") {
                texts.push(format!("/v1.0/invoke/{{app_id}}/method{path}"));
            }
            texts.push(path);
        }
        if texts.len() > MAX_PATTERNS {
            let reason = "there are too many patterns";
            return Err(Error::Pattern {
                pattern: texts.swap_remove(MAX_PATTERNS),
                reason,
            });
        }
        texts.sort();
        texts.dedup();
        let raw_fallback =
            raw_fallback && !texts.is_empty() && !texts.iter().any(|text| text == "/");
        let patterns = texts
            .into_iter()
            .map(Pattern::compile)
            .collect::<Result<_, _>>()?;
        Ok(PathMatcher {
            patterns,
            raw_fallback,
        })
    }

    /// Whether there is anything to match against.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The label for a path: the best pattern, the path itself under `raw_fallback`, or nothing.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<String> {
        if !self.is_enabled() || path.is_empty() {
            return None;
        }
        let path = normalise(path);
        let cleaned = clean(&path);
        let best = self.best(&cleaned);
        if !best.is_some_and(|best| best.exact(&cleaned)) && !cleaned.ends_with('/') {
            // A pattern for a subtree also stands for its root without the slash.
            let with_slash = format!("{cleaned}/");
            if let Some(tree) = self
                .best(&with_slash)
                .filter(|tree| tree.exact(&with_slash))
            {
                return Some(tree.text.clone());
            }
        }
        match best {
            Some(best) => Some(best.text.clone()),
            None if self.raw_fallback => Some(path),
            None => None,
        }
    }

    fn best(&self, path: &str) -> Option<&Pattern> {
        let matching = self.patterns.iter().filter(|pattern| pattern.matches(path));
        matching.min_by(|a, b| a.segments.iter().map(rank).cmp(b.segments.iter().map(rank)))
    }
}

impl Pattern {
    fn compile(text: String) -> Result<Self, Error> {
        let fail = |reason| Error::Pattern {
            pattern: text.clone(),
            reason,
        };
        let mut segments = Vec::new();
        let parts: Vec<&str> = text.trim_start_matches('/').split('/').collect();
        let last = parts.len() - 1;
        for (index, part) in parts.into_iter().enumerate() {
            let segment = match part.strip_prefix('{').map(|rest| rest.strip_suffix('}')) {
                None if part.is_empty() && index == last => Segment::Rest,
                None if part.contains(['{', '}']) => {
                    return Err(fail("a wildcard has to be a whole segment"));
                }
                None => Segment::Literal(part.to_owned()),
                Some(None) => return Err(fail("a wildcard is not closed")),
                Some(Some("")) => return Err(fail("a wildcard has no name")),
                Some(Some("$")) => Segment::End,
                Some(Some(name)) if name.ends_with("...") => Segment::Rest,
                Some(Some(_)) => Segment::One,
            };
            if index != last && matches!(segment, Segment::End | Segment::Rest) {
                return Err(fail("only the last segment can match the rest"));
            }
            segments.push(segment);
        }
        Ok(Pattern { segments, text })
    }

    fn matches(&self, path: &str) -> bool {
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        for segment in &self.segments {
            let matched = match (segment, parts.next()) {
                (Segment::Rest, part) => return part.is_some(),
                (Segment::End, part) => return part == Some("") && parts.next().is_none(),
                (Segment::Literal(literal), Some(part)) => literal == part,
                (Segment::One, Some(part)) => !part.is_empty(),
                (_, None) => false,
            };
            if !matched {
                return false;
            }
        }
        parts.next().is_none()
    }

    /// Whether a match left nothing to a trailing wildcard.
    fn exact(&self, path: &str) -> bool {
        self.segments.last() != Some(&Segment::Rest)
            || (path.ends_with('/') && self.segments.len() == path.matches('/').count())
    }
}

fn rank(segment: &Segment) -> u8 {
    match segment {
        Segment::Literal(_) => 0,
        Segment::End => 1,
        Segment::One => 2,
        Segment::Rest => 3,
    }
}

/// One slash at the start, and no doubled ones.
pub(crate) fn normalise(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    out.push('/');
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

/// Resolves `.` and `..`.
fn clean(path: &str) -> String {
    if !path.contains("/.") {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The label that a path gets under increased cardinality: ids are cut out of the paths of Dapr's own
/// APIs and of actor callbacks, everything else stays as it is.
pub(crate) fn verbose_label(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let path = normalise(path);
    let mut parts: Vec<&str> = path[1..].splitn(6, '/').collect();
    if parts.len() < 3 {
        return path;
    }
    if parts[0] == "actors" {
        parts[2] = "{id}";
        // Compat: Q-metric-actor-path, this one label has no slash in front.
        return parts.join("/");
    }
    match parts[1] {
        "state" | "secrets" => format!("/{}", parts[..3].join("/")),
        "actors" if parts.len() >= 5 => {
            parts[3] = "{id}";
            format!("/{}", parts[..5].join("/"))
        }
        "workflows" => workflow_label(&mut parts).unwrap_or(path),
        _ => path,
    }
}

fn workflow_label(parts: &mut [&str]) -> Option<String> {
    match parts.len() {
        0..=3 => None,
        4 => {
            parts[3] = "{instanceId}";
            Some(format!("/{}", parts.join("/")))
        }
        5 if parts[4].starts_with("start") => Some(format!("/{}/start", parts[..4].join("/"))),
        count => {
            parts[3] = "{instanceId}";
            if count == 6 && parts[4] == "raiseEvent" && !parts[5].is_empty() {
                parts[5] = "{eventName}";
                return Some(format!("/{}", parts.join("/")));
            }
            Some(format!("/{}", parts[..5].join("/")))
        }
    }
}

/// Each pattern is tried for each request.
const MAX_PATTERNS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(paths: &[&str], raw: bool) -> PathMatcher {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        PathMatcher::new(&paths, raw).unwrap()
    }

    fn find(paths: &[&str], path: &str) -> Option<String> {
        matcher(paths, false).find(path)
    }

    #[test]
    fn the_more_specific_pattern_wins() {
        let paths = [
            "/orders/{id}",
            "/orders/1234",
            "/orders/",
            "/",
            "/a/{x}/c",
            "/a/b/{y...}",
        ];
        let cases = [
            ("/orders/1", "/orders/{id}"),
            ("/orders/1234", "/orders/1234"),
            ("/orders/1/items", "/orders/"),
            ("/orders", "/orders/"),
            ("//orders//1", "/orders/{id}"),
            ("/x/../orders/1", "/orders/{id}"),
            ("/a/b/c", "/a/b/{y...}"),
            ("/a/z/c", "/a/{x}/c"),
            ("/else", "/"),
            (
                "/v1.0/invoke/app/method/orders/7",
                "/v1.0/invoke/{app_id}/method/orders/{id}",
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(find(&paths, path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn no_match_is_no_label() {
        assert_eq!(find(&["/orders/{id}"], "/orders"), None);
        assert_eq!(find(&["/orders/{id}"], "/orders/"), None);
        assert_eq!(
            find(&["/orders/{$}"], "/orders/"),
            Some("/orders/{$}".into())
        );
        assert_eq!(find(&["/orders/{$}"], "/orders/x"), None);
        assert_eq!(matcher(&["/x"], true).find("/y//z"), Some("/y/z".into()));
        assert_eq!(matcher(&[], true).find("/y"), None);
    }

    #[test]
    fn bad_patterns() {
        for bad in ["/a{b}", "/{", "/{}", "/{x...}/b", "/{$}/b"] {
            assert!(PathMatcher::new(&[bad.to_owned()], false).is_err(), "{bad}");
        }
    }

    #[test]
    fn verbose_labels() {
        let cases = [
            ("", ""),
            ("/healthz", "/healthz"),
            ("v1//state/store/key/x", "/v1/state/store"),
            ("/v1.0/secrets/vault/name", "/v1.0/secrets/vault"),
            ("/v1/actors/Demo/1/timer/name", "/v1/actors/Demo/{id}/timer"),
            ("/v1/actors/Demo/1", "/v1/actors/Demo/1"),
            ("/actors/Demo/1/method/m", "actors/Demo/{id}/method/m"),
            (
                "/v1.0-alpha1/workflows/w/1234",
                "/v1.0-alpha1/workflows/w/{instanceId}",
            ),
            (
                "/v1.0/workflows/w/name/start",
                "/v1.0/workflows/w/name/start",
            ),
            (
                "/v1.0/workflows/w/12/pause",
                "/v1.0/workflows/w/{instanceId}/pause",
            ),
            (
                "/v1.0/workflows/w/12/raiseEvent/e",
                "/v1.0/workflows/w/{instanceId}/raiseEvent/{eventName}",
            ),
            (
                "/v1.0/invoke/app/method/a/b/c",
                "/v1.0/invoke/app/method/a/b/c",
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(verbose_label(path), expected, "{path}");
        }
    }
}
