//! What an operation answers: a message, and metadata beside it where it has some.

use http::HeaderMap;

/// A message with metadata: headers of the HTTP response, or initial metadata of the gRPC call. Metadata of a failure travel in
/// its status, as trailers.
#[derive(Clone, Debug, Default)]
pub struct Reply<R> {
    pub message: R,
    pub metadata: HeaderMap,
}

/// What a front end can encode: a message alone, or a [`Reply`].
pub trait IntoReply {
    type Message: prost::Message + Default + 'static;

    fn into_reply(self) -> Reply<Self::Message>;
}

impl<R: prost::Message + Default + 'static> IntoReply for R {
    type Message = R;

    fn into_reply(self) -> Reply<R> {
        Reply {
            message: self,
            metadata: HeaderMap::new(),
        }
    }
}

impl<R: prost::Message + Default + 'static> IntoReply for Reply<R> {
    type Message = R;

    fn into_reply(self) -> Reply<R> {
        self
    }
}
