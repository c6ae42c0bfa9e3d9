//! Server-sent events, read out of a body.

use bytes::{Buf, BytesMut};
use component::Body;
use http_body_util::BodyExt;

use crate::Error;

/// One event; `kind` is empty where the server gave none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub kind: String,
    pub data: Vec<u8>,
}

/// The events of a body.
pub struct Events {
    body: Body,
    lines: Lines,
}

impl Events {
    /// No event, and no line, may have more bytes than `limit`.
    pub fn new(body: Body, limit: usize) -> Self {
        Self {
            body,
            lines: Lines::new(limit),
        }
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// [`Error::BrokenOff`] where the body breaks off, [`Error::Unusable`] where an event is too large.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.lines.next()? {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| Error::broken_off(error.to_string()))?;
            if let Ok(bytes) = frame.into_data() {
                self.lines.buffer.extend_from_slice(&bytes);
            }
        }
    }
}

/// The lines of a stream, put together to events.
struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that have been looked through.
    seen: usize,
    /// The line before ended with a carriage return, so that a line feed belongs to it.
    after_return: bool,
    event: Event,
    has_data: bool,
    limit: usize,
}

impl Lines {
    fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            seen: 0,
            after_return: false,
            event: Event::default(),
            has_data: false,
            limit,
        }
    }

    fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.has_data) {
                    return Ok(Some(event));
                }
                continue;
            }
            self.field(&line);
            self.check(self.event.data.len())?;
        }
        self.check(self.buffer.len())?;
        Ok(None)
    }

    fn check(&self, length: usize) -> Result<(), Error> {
        match length > self.limit {
            true => Err(Error::unusable(format!(
                "a message of more than {} bytes",
                self.limit
            ))),
            false => Ok(()),
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        if self.after_return && !self.buffer.is_empty() {
            self.after_return = false;
            if self.buffer[0] == b'\n' {
                self.buffer.advance(1);
            }
        }
        let rest = &self.buffer[self.seen..];
        let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.seen = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.seen + at);
        self.seen = 0;
        self.after_return = self.buffer[0] == b'\r';
        self.buffer.advance(1);
        Some(line)
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.event.kind = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
            }
            // Comments, ids, and how long to wait.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str], limit: usize) -> Result<Vec<(String, String)>, Error> {
        let mut lines = Lines::new(limit);
        let mut all = Vec::new();
        for piece in pieces {
            lines.buffer.extend_from_slice(piece.as_bytes());
            while let Some(event) = lines.next()? {
                all.push((event.kind, String::from_utf8(event.data).unwrap()));
            }
        }
        Ok(all)
    }

    #[test]
    fn events_are_read_however_they_come() {
        let text =
            ": hello\nevent: message\ndata: {\"a\":\ndata: 1}\nid: 7\n\n\ndata:b\n\ndata\n\n";
        let expected: Vec<(String, String)> = [("message", "{\"a\":\n1}"), ("", "b"), ("", "")]
            .map(|(kind, data)| (kind.to_owned(), data.to_owned()))
            .into();
        for ends in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', ends);
            let pieces: Vec<String> = text.chars().map(String::from).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(read(&[&text], 64).unwrap(), expected);
            assert_eq!(read(&pieces, 64).unwrap(), expected);
        }
        assert!(read(&["data: unfinished\n"], 64).unwrap().is_empty());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        assert!(read(&[&"x".repeat(65)], 64).is_err());
        assert!(read(&["data: 12345678\n", "data: 12345678\n"], 16).is_err());
    }
}
