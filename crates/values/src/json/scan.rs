//! Walks over text that is known to be JSON. On any other text it ends early, and never panics.

use std::borrow::Cow;

use memchr::memchr2;

/// Where one is in a text.
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The first byte of the next value, which tells its kind.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes
            .get(self.at)
            .is_some_and(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',' | b':'))
        {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Steps into an object or array.
    pub(super) fn open(&mut self) {
        self.peek();
        self.skip(1);
    }

    /// Whether a member or item follows; otherwise steps out of the object or array.
    pub(super) fn more(&mut self) -> bool {
        match self.peek() {
            Some(b'}' | b']') => {
                self.skip(1);
                false
            }
            next => next.is_some(),
        }
    }

    /// The text of a string between its quotes.
    pub(super) fn string(&mut self) -> &'t str {
        let whole = self.value();
        let inner = whole.strip_prefix('"').unwrap_or(whole);
        inner.strip_suffix('"').unwrap_or(inner)
    }

    /// The text of a whole value, however deep.
    pub(super) fn value(&mut self) -> &'t str {
        self.peek();
        let begin = self.at;
        let bytes = self.text.as_bytes();
        let mut open = 0_usize;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => self.quoted(),
                b'{' | b'[' => {
                    open += 1;
                    self.skip(1);
                }
                b'}' | b']' if open > 0 => {
                    open -= 1;
                    self.skip(1);
                }
                b'}' | b']' | b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if open == 0 => break,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            if open == 0 {
                break;
            }
        }
        self.text.get(begin..self.at).unwrap_or_default()
    }

    fn quoted(&mut self) {
        self.skip(1);
        // Most of what is sent is inside of strings, so what is plain there is passed over at once.
        while let Some(rest) = self.text.as_bytes().get(self.at..) {
            let Some(plain) = memchr2(b'"', b'\\', rest) else {
                self.at = self.text.len();
                return;
            };
            if rest[plain] == b'"' {
                self.skip(plain + 1);
                return;
            }
            self.skip(plain + 2);
        }
    }

    fn skip(&mut self, count: usize) {
        self.at = self.text.len().min(self.at + count);
    }
}

/// The text that the inside of a JSON string stands for. Halves of surrogate pairs become U+FFFD, as Go has it.
pub(super) fn unescape(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut escape = rest[at + 1..].chars();
        let character = match escape.next() {
            Some('u') => {
                let (character, after) = unicode(escape.as_str());
                out.push(character);
                rest = after;
                continue;
            }
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(itself) => itself,
            None => char::REPLACEMENT_CHARACTER,
        };
        out.push(character);
        rest = escape.as_str();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character of what follows `\u`, and what follows it.
fn unicode(text: &str) -> (char, &str) {
    let Some((first, rest)) = hex(text) else {
        return (char::REPLACEMENT_CHARACTER, text);
    };
    if let Some(character) = char::from_u32(first) {
        return (character, rest);
    }
    if (0xd800..0xdc00).contains(&first)
        && let Some((second, after)) = rest.strip_prefix("\\u").and_then(hex)
        && (0xdc00..0xe000).contains(&second)
        && let Some(character) =
            char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    {
        return (character, after);
    }
    (char::REPLACEMENT_CHARACTER, rest)
}

fn hex(text: &str) -> Option<(u32, &str)> {
    let digits = text.get(..4)?;
    let value = u32::from_str_radix(digits, 16).ok()?;
    Some((value, &text[4..]))
}
