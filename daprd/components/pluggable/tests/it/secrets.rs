//! A secret store in a process of its own.

use std::{collections::BTreeMap, sync::Arc};

use component::secrets::Capability;
use component_conformance::{open, secrets};
use proto::components::v1::{
    secret_store_server::{SecretStore, SecretStoreServer},
    *,
};
use tonic::{Request, Response, Status, service::Routes};

use crate::server::{Answer, NAME, Served};

/// Knows one secret.
struct Vault;

#[tonic::async_trait]
impl SecretStore for Vault {
    async fn init(
        &self,
        request: Request<SecretStoreInitRequest>,
    ) -> Answer<SecretStoreInitResponse> {
        assert!(request.metadata().contains_key("x-component-instance"));
        Ok(Response::new(SecretStoreInitResponse {}))
    }

    async fn features(&self, _: Request<FeaturesRequest>) -> Answer<FeaturesResponse> {
        let features = vec!["MULTIPLE_KEY_VALUES_PER_SECRET".to_owned()];
        Ok(Response::new(FeaturesResponse { features }))
    }

    async fn get(&self, request: Request<GetSecretRequest>) -> Answer<GetSecretResponse> {
        match request.into_inner().key.as_str() {
            "known" => Ok(Response::new(GetSecretResponse { data: secret() })),
            other => Err(Status::not_found(format!("there is no {other}"))),
        }
    }

    async fn bulk_get(&self, _: Request<BulkGetSecretRequest>) -> Answer<BulkGetSecretResponse> {
        let row = SecretResponse { secrets: secret() };
        let data = [("known".to_owned(), row)].into();
        Ok(Response::new(BulkGetSecretResponse { data }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Answer<PingResponse> {
        Ok(Response::new(PingResponse {}))
    }
}

fn secret() -> BTreeMap<String, String> {
    [("key".to_owned(), "value".to_owned())].into()
}

#[tokio::test]
async fn it_keeps_what_secret_stores_promise() {
    let routes = Routes::new(SecretStoreServer::new(Vault));
    let served = Served::start(Arc::new(()), routes, &["SecretStore"]);
    let catalog = served.catalog().await;
    let opened = catalog.secrets.open(NAME, "v1", open("vault", &[])).await;
    let store = opened.unwrap();
    let table = &[Capability::MultipleKeyValuesPerSecret];
    secrets::suite(store.as_ref(), table, ("known", "key", "value")).await;
}
