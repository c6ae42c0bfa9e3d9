//! The numbers by which a guest names things.

use super::Misuse;

/// What a guest asks for before: bits, of which one that is not known means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// The body of the request can be read, and goes on.
    pub const BUFFER_REQUEST: u32 = 1;
    /// The response is held back until the guest has seen it.
    pub const BUFFER_RESPONSE: u32 = 2;
    /// There are trailers.
    pub const TRAILERS: u32 = 4;

    /// The same and some more, of those that there are.
    pub fn with(self, bits: u32) -> Self {
        let all = Self::BUFFER_REQUEST | Self::BUFFER_RESPONSE | Self::TRAILERS;
        Self(self.0 | bits & all)
    }

    /// As they are told to the guest.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The response is held back.
    pub fn buffers_response(self) -> bool {
        self.0 & Self::BUFFER_RESPONSE != 0
    }
}

/// Whose headers are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    Request,
    Response,
    RequestTrailers,
    ResponseTrailers,
}

impl TryFrom<u32> for HeaderKind {
    type Error = Misuse;

    fn try_from(number: u32) -> Result<Self, Misuse> {
        Ok(match number {
            0 => Self::Request,
            1 => Self::Response,
            2 => Self::RequestTrailers,
            3 => Self::ResponseTrailers,
            _ => return Err(Misuse(format!("there is no kind {number} of headers"))),
        })
    }
}

/// Whose body is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    Request,
    Response,
}

impl TryFrom<u32> for BodyKind {
    type Error = Misuse;

    fn try_from(number: u32) -> Result<Self, Misuse> {
        match number {
            0 => Ok(Self::Request),
            1 => Ok(Self::Response),
            _ => Err(Misuse(format!("there is no kind {number} of bodies"))),
        }
    }
}
