//! State operations.

use std::collections::BTreeMap;

use ::pubsub::{Transaction, outbox};
use blocks::state::Error;
use component::{
    ErrorKind,
    query::Query,
    state::{
        Capability, Concurrency, Consistency, DeleteRequest, GetRequest, Item, Operation as Step,
        QueryRequest, SetRequest,
    },
};
use proto::{
    common::v1::{Etag, StateItem, StateOptions, state_options},
    runtime::v1::{
        BulkStateItem, DeleteBulkStateRequest, DeleteStateRequest, ExecuteStateTransactionRequest,
        GetBulkStateRequest, GetBulkStateResponse, GetStateRequest, GetStateResponse,
        QueryStateItem, QueryStateRequest, QueryStateResponse, SaveStateRequest,
    },
};
use serde_json::value::RawValue;
use values::json;

use super::{Api, Operation, Route, rpc};
use crate::{
    ApiError, CallContext, Reason, Transport, http::state as codec, reason::state as reason,
};

const JSON: &str = "application/json";

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

    /// Applies operations as one.
    pub async fn execute_state_transaction(
        &self,
        call: &CallContext,
        request: ExecuteStateTransactionRequest,
    ) -> Result<(), ApiError> {
        let store = request.store_name;
        self.check_transactions(call, &store)?;
        let mut steps = Vec::with_capacity(request.operations.len());
        for operation in request.operations {
            let item = operation.request.unwrap_or_default();
            steps.push(match operation.operation_type.as_str() {
                "upsert" => Step::Upsert(self.set_request(call, &store, item)?),
                "delete" => Step::Delete(delete_request(item)),
                other => {
                    return Err(ApiError::new(
                        &reason::UNSUPPORTED_OPERATION,
                        format!("operation type {other} not supported"),
                    ));
                }
            });
        }
        let transaction = Transaction {
            store,
            operations: steps,
            metadata: request.metadata,
            json_values: call.transport == Transport::Http,
            trace: call.trace.clone(),
        };
        let outbox = self.options.pubsub.outbox();
        outbox
            .transact(transaction)
            .await
            .map_err(|error| match error {
                outbox::Error::State(error) => {
                    self.state_error(call, error, &reason::TRANSACTION, |cause| {
                        format!("error while executing state transaction: {cause}")
                    })
                }
                outbox::Error::Publish(error) => {
                    let message = format!("error while publishing outbox message: {error}");
                    let details = [
                        ("appID", self.options.app_id.clone()),
                        ("error", error.to_string()),
                    ];
                    ApiError::new(&crate::reason::pubsub::OUTBOX, message).metadata(details)
                }
            })
    }

    /// Answers a JSON query.
    pub async fn query_state(
        &self,
        call: &CallContext,
        request: QueryStateRequest,
    ) -> Result<QueryStateResponse, ApiError> {
        let store = request.store_name;
        let failed = |cause: String| format!("state store {store} query failed: {cause}");
        let queryable = self.options.state.has(&store, Capability::QueryApi);
        // Compat: Q-state-missing-store: the query alone does not name the app.
        let queryable = queryable.map_err(|error| {
            let grpc = CallContext {
                transport: Transport::Grpc,
                ..call.clone()
            };
            self.state_error(&grpc, error, &reason::QUERY, failed)
        })?;
        if !queryable {
            let error = Error::QueriesUnsupported {
                store: store.clone(),
            };
            return Err(self.state_error(call, error, &reason::QUERY, failed));
        }
        let query = request.query.parse::<Query>().map_err(|error| {
            let cause = format!("failed to parse JSON query body: {error}");
            ApiError::new(&reason::QUERY, failed(cause)).resource("state", &store, "")
        })?;
        let answer = self
            .options
            .state
            .query(
                &store,
                QueryRequest {
                    query,
                    metadata: request.metadata,
                },
            )
            .await
            .map_err(|error| {
                self.state_error(call, error, &reason::QUERY, failed)
                    .resource("state", &store, "")
            })?;
        let results = answer
            .items
            .into_iter()
            .map(|row| query_item(row.key, row.result))
            .collect();
        Ok(QueryStateResponse {
            results,
            token: answer.token.unwrap_or_default(),
            metadata: answer.metadata,
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

    /// A block's error as a reason; `failed` and `message` are for what the component itself said.
    fn state_error(
        &self,
        call: &CallContext,
        error: Error,
        failed: &'static Reason,
        message: impl FnOnce(String) -> String,
    ) -> ApiError {
        let text = error.to_string();
        let about = |row: &'static Reason, store: &str| {
            ApiError::new(row, text.clone()).resource("state", store, "")
        };
        match &error {
            Error::NotConfigured { .. } => self.store_missing(call, &reason::NOT_CONFIGURED, text),
            Error::NotFound { .. } => self.store_missing(call, &reason::NOT_FOUND, text),
            Error::IllegalKey { store, key } => {
                // Compat: Q-state-illegal-key: the HTTP API tells the error as the gRPC one would print it, and does not name
                // the key of a transaction's operation.
                let (text, field) = match call.transport {
                    Transport::Grpc => (text, key.as_str()),
                    Transport::Http => (
                        format!("api error: code = InvalidArgument desc = {text}"),
                        if failed == &reason::TRANSACTION {
                            ""
                        } else {
                            key
                        },
                    ),
                };
                ApiError::new(&reason::ILLEGAL_KEY, text)
                    .field(field)
                    .resource("state", store, "")
            }
            Error::TransactionsUnsupported { store } => {
                about(&reason::TRANSACTIONS_UNSUPPORTED, store).help(
                    "https://docs.dapr.io/reference/components-reference/supported-state-stores/",
                    "Check the list of state stores and the features they support",
                )
            }
            Error::TooManyOperations { store, count, most } => {
                about(&reason::TOO_MANY_OPERATIONS, store).metadata([
                    ("currentOpsTransaction", count.to_string()),
                    ("maxOpsPerTransaction", most.to_string()),
                ])
            }
            Error::QueriesUnsupported { store } => about(&reason::QUERIES_UNSUPPORTED, store),
            Error::Component(said) => match said.presented() {
                Some(presented) => {
                    ApiError::presenting(failed, message(text), said.message(), presented.clone())
                }
                None => ApiError::new(failed, message(text)),
            },
        }
    }

    fn set_request(
        &self,
        call: &CallContext,
        store: &str,
        item: StateItem,
    ) -> Result<SetRequest, ApiError> {
        let (concurrency, consistency) = options(item.options);
        let mut request = SetRequest {
            content_type: item.metadata.get("contentType").cloned(),
            key: item.key,
            value: item.value,
            etag: etag(item.etag),
            metadata: item.metadata,
            concurrency,
            consistency,
        };
        let is_json = request.content_type.as_deref() == Some(JSON);
        if call.transport == Transport::Grpc && is_json {
            // Compat: Q-state-grpc-json: what says that it is JSON has to be, and is stored in the form of the HTTP API.
            let value: &RawValue = serde_json::from_slice(&request.value)
                .map_err(|problem| ApiError::new(&reason::VALUE, problem.to_string()))?;
            if !self.options.state.is_encrypted(store) {
                request.value = json::canonical(value).into();
            }
        }
        if call.transport == Transport::Http {
            // Values of the HTTP API are JSON; bytes that came over gRPC may be anything.
            let content_type = &mut request.content_type;
            content_type.get_or_insert_with(|| JSON.to_owned());
            // Compat: Q-state-encrypted-text: encrypted stores keep the text of a JSON string without its quotes. Other values
            // keep their JSON.
            if self.options.state.is_encrypted(store)
                && let Ok(value) = serde_json::from_slice::<&RawValue>(&request.value)
                && let Some(text) = json::string(value)
            {
                request.value = text.into_owned().into();
            }
        }
        Ok(request)
    }

    fn store_missing(&self, call: &CallContext, row: &'static Reason, text: String) -> ApiError {
        let error = ApiError::new(row, text);
        match call.transport {
            // Compat: Q-state-missing-store: only the HTTP API names the app in the details.
            Transport::Http => error.metadata([("appID", self.options.app_id.as_str())]),
            Transport::Grpc => error,
        }
    }
}

/// Which row of three: the write lost against another, its entity tag is none, or the store failed.
fn etag_reason(
    error: &Error,
    mismatch: &'static Reason,
    invalid: &'static Reason,
    other: &'static Reason,
) -> &'static Reason {
    match error {
        Error::Component(error) => match error.kind() {
            ErrorKind::EtagMismatch => mismatch,
            ErrorKind::EtagInvalid => invalid,
            _ => other,
        },
        _ => other,
    }
}

fn delete_request(item: StateItem) -> DeleteRequest {
    let (concurrency, consistency) = options(item.options);
    DeleteRequest {
        key: item.key,
        etag: etag(item.etag),
        metadata: item.metadata,
        concurrency,
        consistency,
    }
}

/// A present but empty entity tag is none.
fn etag(etag: Option<Etag>) -> Option<String> {
    etag.map(|etag| etag.value)
        .filter(|value| !value.is_empty())
}

fn options(options: Option<StateOptions>) -> (Concurrency, Consistency) {
    let options = options.unwrap_or_default();
    let concurrency = match options.concurrency() {
        state_options::StateConcurrency::ConcurrencyFirstWrite => Concurrency::FirstWrite,
        state_options::StateConcurrency::ConcurrencyLastWrite => Concurrency::LastWrite,
        state_options::StateConcurrency::ConcurrencyUnspecified => Concurrency::Unspecified,
    };
    (concurrency, consistency(options.consistency))
}

fn consistency(number: i32) -> Consistency {
    match state_options::StateConsistency::try_from(number) {
        Ok(state_options::StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(state_options::StateConsistency::ConsistencyStrong) => Consistency::Strong,
        _ => Consistency::Unspecified,
    }
}

fn bulk_item(key: String, result: component::Result<Option<Item>>) -> BulkStateItem {
    match result {
        Ok(item) => {
            let item = item.unwrap_or_default();
            BulkStateItem {
                key,
                data: item.value,
                etag: item.etag.unwrap_or_default(),
                error: String::new(),
                metadata: item.metadata,
            }
        }
        Err(error) => BulkStateItem {
            key,
            error: component::error::chain(&error),
            metadata: BTreeMap::new(),
            ..BulkStateItem::default()
        },
    }
}

fn query_item(key: String, result: component::Result<Option<Item>>) -> QueryStateItem {
    let row = bulk_item(key, result);
    QueryStateItem {
        key: row.key,
        data: row.data,
        etag: row.etag,
        error: row.error,
    }
}
