//! Secret operations.

use blocks::secrets::Error;
use proto::runtime::v1::{
    GetBulkSecretRequest, GetBulkSecretResponse, GetSecretRequest, GetSecretResponse,
    SecretResponse,
};

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, http::secrets as codec, reason::secrets as reason};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "GetSecret",
        "secrets",
        &[rpc!("GetSecret", "v1", get_secret)],
        &[Route {
            methods: &["GET"],
            path: "/v1.0/secrets/{store}/{key}",
            codec: |api, call| Box::pin(codec::get(api, call)),
        }],
    ),
    Operation::new(
        "GetBulkSecret",
        "secrets",
        &[rpc!("GetBulkSecret", "v1", get_bulk_secret)],
        &[Route {
            methods: &["GET"],
            path: "/v1.0/secrets/{store}/bulk",
            codec: |api, call| Box::pin(codec::bulk_get(api, call)),
        }],
    ),
];

impl Api {
    /// Reads one secret.
    pub async fn get_secret(
        &self,
        _call: &CallContext,
        request: GetSecretRequest,
    ) -> Result<GetSecretResponse, ApiError> {
        let GetSecretRequest {
            store_name: store,
            key,
            metadata,
        } = request;
        let data = self
            .options
            .secrets
            .secret(&store, &key, &metadata)
            .await
            .map_err(|error| {
                secret_error(error, |cause| {
                    format!(
                        "failed getting secret with key {key} from secret store {store}: {cause}"
                    )
                })
            })?;
        Ok(GetSecretResponse { data })
    }

    /// Reads all secrets that the app may see.
    pub async fn get_bulk_secret(
        &self,
        _call: &CallContext,
        request: GetBulkSecretRequest,
    ) -> Result<GetBulkSecretResponse, ApiError> {
        let store = request.store_name;
        let all = self
            .options
            .secrets
            .all(&store, &request.metadata)
            .await
            .map_err(|error| {
                secret_error(error, |cause| {
                    format!("failed getting secrets from secret store {store}: {cause}")
                })
            })?;
        let data = all
            .into_iter()
            .map(|(name, secrets)| (name, SecretResponse { secrets }))
            .collect();
        Ok(GetBulkSecretResponse { data })
    }
}

fn secret_error(error: Error, message: impl FnOnce(String) -> String) -> ApiError {
    let text = error.to_string();
    match error {
        Error::NotConfigured => ApiError::new(&reason::NOT_CONFIGURED, text),
        Error::NotFound { .. } => ApiError::new(&reason::NOT_FOUND, text),
        Error::Denied { .. } => ApiError::new(&reason::DENIED, text),
        Error::Component(_) => ApiError::new(&reason::GET, message(text)),
    }
}
