//! Transactions and queries.

use ::pubsub::{Transaction, outbox};
use blocks::state::Error;
use component::{
    query::Query,
    state::{Capability, Operation as Step, QueryRequest},
};
use proto::runtime::v1::{ExecuteStateTransactionRequest, QueryStateRequest, QueryStateResponse};

use super::message::{delete_request, query_item};
use crate::{Api, ApiError, CallContext, Transport, reason::state as reason};

impl Api {
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
}
