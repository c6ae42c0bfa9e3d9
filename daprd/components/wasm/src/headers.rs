//! Headers and trailers as a guest sees them: names in lower case and sorted, values as bytes.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::exchange::Misuse;

/// What a header costs beside its name and value, so that many empty ones count as well.
const EACH: usize = 32;

/// What a guest does to the values of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One value in place of all.
    Set,
    /// One more.
    Add,
    /// None any more.
    Remove,
}

/// Texts that end with a NUL each, and how many there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    pub count: u32,
    pub bytes: Vec<u8>,
}

impl List {
    fn of<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut list = Self::default();
        for text in texts {
            list.count += 1;
            list.bytes.extend_from_slice(text);
            list.bytes.push(0);
        }
        list
    }
}

/// The names of all headers.
pub fn names(headers: &HeaderMap) -> List {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    List::of(names.into_iter().map(str::as_bytes))
}

/// The values of a name, which is found in any case. What no name can be has none.
pub fn values(headers: &HeaderMap, name: &[u8]) -> Result<List, Misuse> {
    Ok(sought(name)?.map_or_else(List::default, |name| {
        let values = headers.get_all(name).iter();
        List::of(values.map(HeaderValue::as_bytes))
    }))
}

/// Changes the values of a name; `left` is how many bytes may still be written.
pub fn change(
    headers: &mut HeaderMap,
    change: Change,
    name: &[u8],
    value: &[u8],
    left: &mut usize,
) -> Result<(), Misuse> {
    if change == Change::Remove {
        sought(name)?.and_then(|name| headers.remove(name));
        return Ok(());
    }
    let name = self::name(name)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| {
        Misuse(format!(
            "the value of the header {name} has bytes that no header may have"
        ))
    })?;
    let too_much = || Misuse("the headers that were written are too large".to_owned());
    let cost = name.as_str().len() + value.len() + EACH;
    *left = left.checked_sub(cost).ok_or_else(too_much)?;
    let written = match change {
        Change::Add => headers.try_append(name, value).map(|_| ()),
        Change::Set | Change::Remove => headers.try_insert(name, value).map(|_| ()),
    };
    written.map_err(|_| too_much())
}

fn sought(name: &[u8]) -> Result<Option<HeaderName>, Misuse> {
    match name.is_empty() {
        true => self::name(name).map(Some),
        false => Ok(HeaderName::from_bytes(name).ok()),
    }
}

fn name(name: &[u8]) -> Result<HeaderName, Misuse> {
    HeaderName::from_bytes(name).map_err(|_| {
        let name = String::from_utf8_lossy(name);
        Misuse(format!("{name:?} is no name of a header"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_bounded() {
        let mut headers = HeaderMap::new();
        let mut left = 100;
        let mut add = |value: &[u8]| change(&mut headers, Change::Add, b"X-A", value, &mut left);
        add(b"1").unwrap();
        add(b"22").unwrap();
        assert!(add(b"3").is_err(), "33 bytes");
        assert!(add(b"a\nb").is_err(), "a line break");
        let listed = values(&headers, b"x-a").unwrap();
        assert_eq!((listed.count, &*listed.bytes), (2, &b"1\x0022\0"[..]));
        assert_eq!(names(&headers).bytes, b"x-a\0");
        assert_eq!(values(&headers, b"x a").unwrap(), List::default());
        assert!(values(&headers, b"").is_err());
        change(&mut headers, Change::Remove, b"X-a", b"", &mut 0).unwrap();
        assert_eq!(names(&headers), List::default());
    }
}
