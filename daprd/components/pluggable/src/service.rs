//! What every kind of component is asked in the same way, whatever its service is called.

use async_trait::async_trait;
use proto::components::v1::{
    self as pb, input_binding_client::InputBindingClient,
    output_binding_client::OutputBindingClient, pub_sub_client::PubSubClient,
    secret_store_client::SecretStoreClient, state_store_client::StateStoreClient,
};
use tonic::Status;

use crate::socket::{Caller, MOST_MESSAGE};

/// The client of one kind's service.
#[async_trait]
pub trait Service: Sized + Send + 'static {
    /// A client that takes answers as large as those of its kind may be.
    fn over(caller: Caller) -> Self;

    /// Hands the metadata over.
    async fn tell(caller: Caller, metadata: pb::MetadataRequest) -> Result<(), Status>;

    /// Asks whether the component is well.
    async fn check(&mut self) -> Result<(), Status>;
}

/// A kind whose components say what they can do.
#[async_trait]
pub trait Featured: Service {
    /// Names of what they can do.
    async fn declared(&mut self) -> Result<Vec<String>, Status>;
}

/// Largest answer where none holds a value, in bytes: what gRPC takes by default.
const MOST_ANSWER: usize = 4 << 20;

macro_rules! service {
    ($client:ident, $init:ident, $most:ident) => {
        #[async_trait]
        impl Service for $client<Caller> {
            fn over(caller: Caller) -> Self {
                Self::new(caller).max_decoding_message_size($most)
            }

            async fn tell(caller: Caller, metadata: pb::MetadataRequest) -> Result<(), Status> {
                let metadata = Some(metadata);
                let request = pb::$init { metadata };
                Self::new(caller).init(request).await.map(drop)
            }

            async fn check(&mut self) -> Result<(), Status> {
                self.ping(pb::PingRequest {}).await.map(drop)
            }
        }
    };
    ($client:ident, $init:ident, $most:ident, featured) => {
        service!($client, $init, $most);

        #[async_trait]
        impl Featured for $client<Caller> {
            async fn declared(&mut self) -> Result<Vec<String>, Status> {
                let answer = self.features(pb::FeaturesRequest {}).await?;
                Ok(answer.into_inner().features)
            }
        }
    };
}

service!(StateStoreClient, InitRequest, MOST_MESSAGE, featured);
service!(
    SecretStoreClient,
    SecretStoreInitRequest,
    MOST_MESSAGE,
    featured
);
service!(PubSubClient, PubSubInitRequest, MOST_ANSWER, featured);
service!(OutputBindingClient, OutputBindingInitRequest, MOST_MESSAGE);
service!(InputBindingClient, InputBindingInitRequest, MOST_ANSWER);
