//! Topics and the filters that subscriptions name: `+` stands for one level, `#` at the end for all that follow, and
//! `$share/<group>/` before a filter shares its messages between the members of a group.

use component::{Error, Result};

/// What the wire can carry.
const LONGEST: usize = u16::MAX as usize;

/// A filter that a server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    text: String,
    /// Where the pattern begins behind `$share/<group>/`.
    pattern: usize,
}

impl Filter {
    /// Checks it (MQTT 3.1.1, 4.7).
    ///
    /// # Errors
    /// Where no server would take it.
    pub fn new(text: &str) -> Result<Self> {
        let wrong =
            |problem: &str| Error::invalid_request(format!("mqtt: topic {text:?} {problem}"));
        let pattern = match text.strip_prefix(SHARE) {
            None => 0,
            Some(rest) => match rest.split_once('/') {
                Some((group, _)) if !group.is_empty() && !group.contains(['+', '#']) => {
                    SHARE.len() + group.len() + 1
                }
                _ => return Err(wrong("names no group to share with")),
            },
        };
        let levels = &text[pattern..];
        if levels.is_empty() || text.len() > LONGEST || text.contains('\0') {
            return Err(wrong("is empty, too long or has a zero byte"));
        }
        let mut parts = levels.split('/').peekable();
        while let Some(level) = parts.next() {
            let last = parts.peek().is_none();
            let fits = match level {
                "+" => true,
                "#" => last,
                _ => !level.contains(['+', '#']),
            };
            if !fits {
                return Err(wrong(
                    "has a wildcard beside other characters, or # before its end",
                ));
            }
        }
        Ok(Self {
            text: text.to_owned(),
            pattern,
        })
    }

    /// As subscribed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How closely it names a topic; nothing where it does not match. Without wildcards is closest, then more characters.
    pub fn closeness(&self, topic: &str) -> Option<usize> {
        let pattern = &self.text[self.pattern..];
        if pattern == topic {
            return Some(usize::MAX);
        }
        // Topics of the server itself are not reached by a leading wildcard.
        if topic.starts_with('$') && pattern.starts_with(['+', '#']) {
            return None;
        }
        let mut levels = topic.split('/');
        for wanted in pattern.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return Some(pattern.len()),
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return None,
            }
        }
        levels.next().is_none().then_some(pattern.len())
    }
}

const SHARE: &str = "$share/";

/// Whether a topic can be published to.
///
/// # Errors
/// Where no server would take it.
pub fn check_topic(topic: &str) -> Result<()> {
    let problem = match topic {
        "" => "is empty",
        _ if topic.len() > LONGEST => "is too long",
        _ if topic.contains(['+', '#', '\0']) => "has a wildcard or a zero byte",
        _ => return Ok(()),
    };
    Err(Error::invalid_request(format!("mqtt: the topic {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_whole_levels() {
        for (filter, topic, matches) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("+/+", "/b", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$share/g/a/+", "a/b", true),
            ("$share/g//a", "/a", true),
        ] {
            let filter = Filter::new(filter).unwrap();
            assert_eq!(
                filter.closeness(topic).is_some(),
                matches,
                "{filter:?} {topic}"
            );
        }
    }

    #[test]
    fn what_no_server_takes_is_refused() {
        for filter in [
            "",
            "a+",
            "a/#/b",
            "#a",
            "a\0",
            "$share/g/",
            "$share//a",
            "$share/g",
        ] {
            assert!(Filter::new(filter).is_err(), "{filter:?}");
        }
        for topic in ["", "a/+", "#", "a\0b", &"x".repeat(LONGEST + 1)] {
            assert!(check_topic(topic).is_err(), "{topic:?}");
        }
        check_topic("a/b").unwrap();
    }

    #[test]
    fn the_closest_filter_names_most() {
        let closeness = |filter: &str| Filter::new(filter).unwrap().closeness("a/b");
        assert!(closeness("a/b") > closeness("a/+"));
        assert!(closeness("a/+") > closeness("#"));
    }
}
