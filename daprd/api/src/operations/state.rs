//! State operations.

mod failure;
mod message;
mod transaction;

use component::state::{Consistency, DeleteRequest, GetRequest};
use proto::runtime::v1::{
    DeleteBulkStateRequest, DeleteStateRequest, GetBulkStateRequest, GetBulkStateResponse,
    GetStateRequest, GetStateResponse, SaveStateRequest,
};

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, Transport, http::state as codec, reason::state as reason};
use failure::etag_reason;
use message::{bulk_item, consistency, delete_request, etag, options};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "GetState",
        "state",
        &[rpc!("GetState", "v1", get_state)],
        &[Route {
            methods: &["GET"],
            path: "/v1.0/state/{store}/{key}",
            codec: |api, call| Box::pin(codec::get(api, call)),
        }],
    ),
    Operation::new(
        "SaveState",
        "state",
        &[rpc!("SaveState", "v1", save_state)],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0/state/{store}",
            codec: |api, call| Box::pin(codec::save(api, call)),
        }],
    ),
    Operation::new(
        "DeleteState",
        "state",
        &[rpc!("DeleteState", "v1", delete_state)],
        &[Route {
            methods: &["DELETE"],
            path: "/v1.0/state/{store}/{key}",
            codec: |api, call| Box::pin(codec::delete(api, call)),
        }],
    ),
    Operation::new(
        "GetBulkState",
        "state",
        &[rpc!("GetBulkState", "v1", get_bulk_state)],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0/state/{store}/bulk",
            codec: |api, call| Box::pin(codec::bulk_get(api, call)),
        }],
    ),
    Operation::new(
        "DeleteBulkState",
        "state",
        &[rpc!("DeleteBulkState", "v1", delete_bulk_state)],
        &[],
    ),
    Operation::new(
        "ExecuteStateTransaction",
        "state",
        &[rpc!(
            "ExecuteStateTransaction",
            "v1",
            execute_state_transaction
        )],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0/state/{store}/transaction",
            codec: |api, call| Box::pin(codec::transact(api, call)),
        }],
    ),
    Operation::new(
        "QueryStateAlpha1",
        "state",
        &[rpc!("QueryStateAlpha1", "v1alpha1", query_state)],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0-alpha1/state/{store}/query",
            codec: |api, call| Box::pin(codec::query(api, call)),
        }],
    ),
];

impl Api {
    /// Reads a key; an absent key is an empty response.
    pub async fn get_state(
        &self,
        call: &CallContext,
        request: GetStateRequest,
    ) -> Result<GetStateResponse, ApiError> {
        let store = request.store_name;
        let key = request.key;
        let item = self
            .options
            .state
            .get(
                &store,
                GetRequest {
                    key: key.clone(),
                    metadata: request.metadata,
                    consistency: consistency(request.consistency),
                },
            )
            .await
            .map_err(|error| {
                self.state_error(call, error, &reason::GET, |cause| {
                    format!("fail to get {key} from state store {store}: {cause}")
                })
            })?;
        let item = item.unwrap_or_default();
        Ok(GetStateResponse {
            data: item.value,
            etag: item.etag.unwrap_or_default(),
            metadata: item.metadata,
        })
    }

    /// Reads several keys; a key that fails carries its error.
    pub async fn get_bulk_state(
        &self,
        call: &CallContext,
        request: GetBulkStateRequest,
    ) -> Result<GetBulkStateResponse, ApiError> {
        let requests = request
            .keys
            .into_iter()
            .map(|key| GetRequest {
                key,
                metadata: request.metadata.clone(),
                consistency: Consistency::Unspecified,
            })
            .collect();
        let parallelism = usize::try_from(request.parallelism).unwrap_or_default();
        let rows = self
            .options
            .state
            .bulk_get(&request.store_name, requests, parallelism)
            .await
            .map_err(|error| self.state_error(call, error, &reason::BULK_GET, |cause| cause))?;
        let items = rows
            .into_iter()
            .map(|row| bulk_item(row.key, row.result))
            .collect();
        Ok(GetBulkStateResponse { items })
    }

    /// Writes keys; none is fine.
    pub async fn save_state(
        &self,
        call: &CallContext,
        request: SaveStateRequest,
    ) -> Result<(), ApiError> {
        let store = request.store_name;
        self.check_state_store(call, &store)?;
        if request.states.is_empty() {
            return Ok(());
        }
        if request.states.iter().any(|item| item.key.is_empty()) {
            let message = match call.transport {
                // Compat: Q-state-empty-key: the HTTP API answers as for a malformed body.
                Transport::Http => {
                    return Err(ApiError::new(
                        &crate::reason::general::MALFORMED_REQUEST,
                        "\"key\" is a required field",
                    ));
                }
                Transport::Grpc => "state key cannot be empty",
            };
            return Err(ApiError::new(&reason::SAVE_EMPTY_KEY, message));
        }
        let items = request.states.into_iter();
        let requests = items
            .map(|item| self.set_request(call, &store, item))
            .collect::<Result<_, _>>()?;
        self.options
            .state
            .save(&store, requests)
            .await
            .map_err(|error| {
                let row = etag_reason(
                    &error,
                    &reason::SAVE_ETAG_MISMATCH,
                    &reason::SAVE_ETAG_INVALID,
                    &reason::SAVE,
                );
                self.state_error(call, error, row, |cause| {
                    format!("failed saving state in state store {store}: {cause}")
                })
            })
    }

    /// Deletes a key.
    pub async fn delete_state(
        &self,
        call: &CallContext,
        request: DeleteStateRequest,
    ) -> Result<(), ApiError> {
        let (concurrency, consistency) = options(request.options);
        let key = request.key;
        self.options
            .state
            .delete(
                &request.store_name,
                DeleteRequest {
                    key: key.clone(),
                    etag: etag(request.etag),
                    metadata: request.metadata,
                    concurrency,
                    consistency,
                },
            )
            .await
            .map_err(|error| {
                let row = etag_reason(
                    &error,
                    &reason::DELETE_ETAG_MISMATCH,
                    &reason::DELETE_ETAG_INVALID,
                    &reason::DELETE,
                );
                self.state_error(call, error, row, |cause| {
                    format!("failed deleting state with key {key}: {cause}")
                })
            })
    }

    /// Deletes several keys.
    pub async fn delete_bulk_state(
        &self,
        call: &CallContext,
        request: DeleteBulkStateRequest,
    ) -> Result<(), ApiError> {
        let store = request.store_name;
        self.check_state_store(call, &store)?;
        if request.states.is_empty() {
            return Ok(());
        }
        let requests = request.states.into_iter().map(delete_request).collect();
        self.options
            .state
            .bulk_delete(&store, requests)
            .await
            .map_err(|error| {
                let row = etag_reason(
                    &error,
                    &reason::BULK_DELETE_ETAG_MISMATCH,
                    &reason::BULK_DELETE_ETAG_INVALID,
                    &reason::BULK_DELETE,
                );
                self.state_error(call, error, row, |cause| {
                    format!("failed deleting state in state store {store}: {cause}")
                })
            })
    }

    /// The store must exist before a body is looked at.
    pub(crate) fn check_state_store(
        &self,
        call: &CallContext,
        store: &str,
    ) -> Result<(), ApiError> {
        self.options
            .state
            .check(store)
            .map_err(|error| self.state_error(call, error, &reason::GET, |cause| cause))
    }

    /// The store must apply transactions before a body is looked at.
    pub(crate) fn check_transactions(
        &self,
        call: &CallContext,
        store: &str,
    ) -> Result<(), ApiError> {
        self.options
            .state
            .check_transactional(store)
            .map_err(|error| self.state_error(call, error, &reason::TRANSACTION, |cause| cause))
    }
}
