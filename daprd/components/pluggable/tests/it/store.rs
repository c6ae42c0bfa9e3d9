//! The state store of the tests: a map of values whose entity tags count writes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use proto::components::v1::{
    state_store_server::{StateStore, StateStoreServer},
    transactional_state_operation::Request as Step,
    transactional_state_store_server::{TransactionalStateStore, TransactionalStateStoreServer},
    transactional_store_multi_max_size_server::{
        TransactionalStoreMultiMaxSize, TransactionalStoreMultiMaxSizeServer,
    },
    *,
};
use tonic::{Code, Request, Response, Status, service::Routes};
use tonic_types::{ErrorDetails, StatusExt};

use crate::server::{Answer, Served};

/// What the server was told.
#[derive(Clone, Default)]
pub struct Seen {
    pub properties: BTreeMap<String, String>,
    pub instances: Vec<String>,
    pub size_questions: usize,
}

#[derive(Clone)]
struct Memory {
    features: Vec<String>,
    seen: Arc<Mutex<Seen>>,
    values: Arc<Mutex<BTreeMap<String, (Bytes, u64)>>>,
}

/// Serves `state.memory`.
pub fn serve(features: &[&str]) -> Served<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let memory = Memory {
        features: features.iter().map(|one| (*one).to_owned()).collect(),
        seen: Arc::clone(&seen),
        values: Arc::default(),
    };
    let routes = Routes::new(StateStoreServer::new(memory.clone()))
        .add_service(TransactionalStateStoreServer::new(memory.clone()))
        .add_service(TransactionalStoreMultiMaxSizeServer::new(memory));
    Served::start(seen, routes, &["StateStore"])
}

impl Memory {
    fn write(&self, request: SetRequest) -> Result<(), Status> {
        let mut values = self.values.lock().unwrap();
        let current = values.get(&request.key).map_or(0, |(_, version)| *version);
        if let Some(etag) = request.etag
            && etag.value != current.to_string()
        {
            let details = ErrorDetails::with_bad_request_violation("etag", "it moved");
            return Err(Status::with_error_details(
                Code::FailedPrecondition,
                "no",
                details,
            ));
        }
        values.insert(request.key, (request.value, current + 1));
        Ok(())
    }

    fn read(&self, key: &str) -> Option<(Bytes, Option<Etag>)> {
        let values = self.values.lock().unwrap();
        let (value, version) = values.get(key)?.clone();
        let value_of_tag = version.to_string();
        Some((
            value,
            Some(Etag {
                value: value_of_tag,
            }),
        ))
    }

    fn remove(&self, key: &str) {
        self.values.lock().unwrap().remove(key);
    }
}

#[tonic::async_trait]
impl StateStore for Memory {
    async fn init(&self, request: Request<InitRequest>) -> Answer<InitResponse> {
        let instance = request.metadata().get("x-component-instance").unwrap();
        let mut seen = self.seen.lock().unwrap();
        seen.instances.push(instance.to_str().unwrap().to_owned());
        seen.properties = request.into_inner().metadata.unwrap().properties;
        Ok(Response::new(InitResponse {}))
    }

    async fn features(&self, _: Request<FeaturesRequest>) -> Answer<FeaturesResponse> {
        let features = self.features.clone();
        Ok(Response::new(FeaturesResponse { features }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Answer<PingResponse> {
        Ok(Response::new(PingResponse {}))
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        let key = request.into_inner().key;
        if key == "broken" {
            let pairs = [
                ("kit_error", "true"),
                ("http_code", "506"),
                ("tag", "get-tag"),
            ];
            let metadata: HashMap<String, String> = pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
            let details = ErrorDetails::with_error_info("reason", "domain", metadata);
            return Err(Status::with_error_details(
                Code::DataLoss,
                "get-error",
                details,
            ));
        }
        let (data, etag) = self.read(&key).unwrap_or_default();
        Ok(Response::new(GetResponse {
            data,
            etag,
            ..GetResponse::default()
        }))
    }

    async fn set(&self, request: Request<SetRequest>) -> Answer<SetResponse> {
        self.write(request.into_inner())?;
        Ok(Response::new(SetResponse {}))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        self.remove(&request.into_inner().key);
        Ok(Response::new(DeleteResponse {}))
    }

    async fn bulk_get(&self, request: Request<BulkGetRequest>) -> Answer<BulkGetResponse> {
        let asked = request.into_inner().items.into_iter().rev();
        let items = asked
            .filter_map(|item| {
                let (data, etag) = self.read(&item.key)?;
                Some(BulkStateItem {
                    key: item.key,
                    data,
                    etag,
                    ..BulkStateItem::default()
                })
            })
            .collect();
        Ok(Response::new(BulkGetResponse { items }))
    }

    async fn bulk_set(&self, request: Request<BulkSetRequest>) -> Answer<BulkSetResponse> {
        for item in request.into_inner().items {
            self.write(item)?;
        }
        Ok(Response::new(BulkSetResponse {}))
    }

    async fn bulk_delete(&self, request: Request<BulkDeleteRequest>) -> Answer<BulkDeleteResponse> {
        for item in request.into_inner().items {
            self.remove(&item.key);
        }
        Ok(Response::new(BulkDeleteResponse {}))
    }
}

#[tonic::async_trait]
impl TransactionalStateStore for Memory {
    async fn transact(
        &self,
        request: Request<TransactionalStateRequest>,
    ) -> Answer<TransactionalStateResponse> {
        for operation in request.into_inner().operations {
            match operation.request.unwrap() {
                Step::Set(request) => self.write(request)?,
                Step::Delete(request) => self.remove(&request.key),
            }
        }
        Ok(Response::new(TransactionalStateResponse {}))
    }
}

#[tonic::async_trait]
impl TransactionalStoreMultiMaxSize for Memory {
    async fn multi_max_size(
        &self,
        _: Request<MultiMaxSizeRequest>,
    ) -> Answer<MultiMaxSizeResponse> {
        self.seen.lock().unwrap().size_questions += 1;
        Ok(Response::new(MultiMaxSizeResponse { max_size: 2 }))
    }
}
