//! Configuration operations.

use ::configuration::{Error, Followed};
use component::configuration::{Items, Request};
use futures::{StreamExt, stream};
use proto::{
    common::v1::ConfigurationItem,
    runtime::v1::{
        GetConfigurationRequest, GetConfigurationResponse, SubscribeConfigurationRequest,
        SubscribeConfigurationResponse, UnsubscribeConfigurationRequest,
        UnsubscribeConfigurationResponse,
    },
};

use super::{Api, Operation, Route, rpc};
use crate::{
    ApiError, CallContext, Reason, grpc::Outgoing, http::configuration as codec,
    reason::configuration as reason, reason::general,
};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "GetConfiguration",
        "configuration",
        &[
            rpc!("GetConfiguration", "v1", get_configuration),
            rpc!("GetConfigurationAlpha1", "v1alpha1", get_configuration),
        ],
        &[
            Route {
                methods: &["GET"],
                path: "/v1.0/configuration/{store}",
                codec: |api, call| Box::pin(codec::get(api, call)),
            },
            Route {
                methods: &["GET"],
                path: "/v1.0-alpha1/configuration/{store}",
                codec: |api, call| Box::pin(codec::get(api, call)),
            },
        ],
    ),
    Operation::new(
        "SubscribeConfiguration",
        "configuration",
        &[
            rpc!(server_stream "SubscribeConfiguration", "v1", subscribe_configuration),
            rpc!(server_stream "SubscribeConfigurationAlpha1", "v1alpha1", subscribe_configuration),
        ],
        &[
            Route {
                methods: &["GET"],
                path: "/v1.0/configuration/{store}/subscribe",
                codec: |api, call| Box::pin(codec::subscribe(api, call)),
            },
            Route {
                methods: &["GET"],
                path: "/v1.0-alpha1/configuration/{store}/subscribe",
                codec: |api, call| Box::pin(codec::subscribe(api, call)),
            },
        ],
    ),
    Operation::new(
        "UnsubscribeConfiguration",
        "configuration",
        &[
            rpc!("UnsubscribeConfiguration", "v1", unsubscribe_configuration),
            rpc!(
                "UnsubscribeConfigurationAlpha1",
                "v1alpha1",
                unsubscribe_configuration
            ),
        ],
        &[
            Route {
                methods: &["GET"],
                path: "/v1.0/configuration/{store}/{id}/unsubscribe",
                codec: |api, call| Box::pin(codec::unsubscribe(api, call)),
            },
            Route {
                methods: &["GET"],
                path: "/v1.0-alpha1/configuration/{store}/{id}/unsubscribe",
                codec: |api, call| Box::pin(codec::unsubscribe(api, call)),
            },
        ],
    ),
];

impl Api {
    /// Reads keys.
    pub async fn get_configuration(
        &self,
        _call: &CallContext,
        request: GetConfigurationRequest,
    ) -> Result<GetConfigurationResponse, ApiError> {
        let items = self
            .configuration_items(
                &request.store_name,
                Request {
                    keys: request.keys,
                    metadata: request.metadata,
                },
            )
            .await?;
        Ok(GetConfigurationResponse {
            items: on_the_wire(items),
        })
    }

    pub(crate) async fn configuration_items(
        &self,
        store: &str,
        request: Request,
    ) -> Result<Items, ApiError> {
        let stores = &self.options.configuration;
        stores.get(store, &request).await.map_err(|error| {
            configuration_error(&error, &reason::GET, || {
                let keys = request.keys.join(" ");
                format!("failed to get [{keys}] from Configuration store {store}: {error}")
            })
        })
    }

    /// Follows keys for as long as the stream lasts. The first message has the id alone.
    pub async fn subscribe_configuration(
        &self,
        _call: &CallContext,
        request: SubscribeConfigurationRequest,
    ) -> Result<Outgoing<SubscribeConfigurationResponse>, ApiError> {
        let store = request.store_name;
        let request = Request {
            keys: request.keys,
            metadata: request.metadata,
        };
        let keys = request.keys.join(" ");
        let followed = self.options.configuration.follow(&store, request).await;
        let followed = followed.map_err(|error| not_followed(&error, &store, &keys))?;
        let hello = SubscribeConfigurationResponse {
            id: followed.id().to_owned(),
            ..SubscribeConfigurationResponse::default()
        };
        let rest = stream::unfold(followed, |followed| Box::pin(next(followed)));
        Ok(stream::iter([Ok(hello)]).chain(rest).boxed())
    }

    /// Follows keys; an app is called with each change. Answers the id.
    pub(crate) async fn subscribe_app_to_configuration(
        &self,
        store: &str,
        request: Request,
    ) -> Result<String, ApiError> {
        let keys = request.keys.join(" ");
        let stores = &self.options.configuration;
        let id = stores.follow_for_app(store, request).await;
        id.map_err(|error| not_followed(&error, store, &keys))
    }

    /// Ends a subscription. One that is not there is an answer, not an error.
    pub async fn unsubscribe_configuration(
        &self,
        _call: &CallContext,
        request: UnsubscribeConfigurationRequest,
    ) -> Result<UnsubscribeConfigurationResponse, ApiError> {
        let id = request.id;
        // The store is not looked at here: ids are unique.
        match self.options.configuration.end(None, &id).await {
            Ok(()) => Ok(UnsubscribeConfigurationResponse {
                ok: true,
                message: String::new(),
            }),
            Err(_) => {
                let row = &reason::UNSUBSCRIBE;
                self.options.errors.record(row.code, row.category);
                let message = not_ended(&id, "subscription does not exist");
                Ok(UnsubscribeConfigurationResponse { ok: false, message })
            }
        }
    }

    /// Ends a subscription on a store.
    ///
    /// # Errors
    /// Where there is no such store; inside, why the subscription cannot be ended.
    pub(crate) async fn unsubscribe_app_from_configuration(
        &self,
        store: &str,
        id: &str,
    ) -> Result<Result<(), String>, ApiError> {
        match self.options.configuration.end(Some(store), id).await {
            Ok(()) => Ok(Ok(())),
            Err(error @ Error::NoSubscription { .. }) => {
                let row = &reason::UNSUBSCRIBE;
                self.options.errors.record(row.code, row.category);
                Ok(Err(not_ended(id, &error.to_string())))
            }
            Err(error) => Err(configuration_error(&error, &reason::UNSUBSCRIBE, || {
                not_ended(id, &error.to_string())
            })),
        }
    }
}

type Message = Result<SubscribeConfigurationResponse, ApiError>;

async fn next(mut followed: Followed) -> Option<(Message, Followed)> {
    let items = followed.next().await?;
    let message = SubscribeConfigurationResponse {
        id: followed.id().to_owned(),
        items: on_the_wire(items),
    };
    Some((Ok(message), followed))
}

fn on_the_wire<M: FromIterator<(String, ConfigurationItem)>>(items: Items) -> M {
    let items = items.into_iter().map(|(key, item)| {
        let item = ConfigurationItem {
            value: item.value,
            version: item.version,
            metadata: item.metadata.into_iter().collect(),
        };
        (key, item)
    });
    items.collect()
}

fn not_ended(id: &str, cause: &str) -> String {
    format!("failed to unsubscribe to configuration request {id}: {cause}")
}

fn not_followed(error: &Error, store: &str, keys: &str) -> ApiError {
    configuration_error(error, &reason::SUBSCRIBE, || {
        format!("failed to subscribe [{keys}] from Configuration store {store}: {error}")
    })
}

fn configuration_error(
    error: &Error,
    failed: &'static Reason,
    message: impl FnOnce() -> String,
) -> ApiError {
    match error {
        Error::NotConfigured => ApiError::new(&reason::NOT_CONFIGURED, error.to_string()),
        Error::NotFound { .. } => ApiError::new(&reason::NOT_FOUND, error.to_string()),
        Error::NoApp => ApiError::new(&general::NO_APP_CHANNEL, error.to_string()),
        Error::TooMany { .. }
        | Error::NoSubscription { .. }
        | Error::Closed
        | Error::Component(_) => ApiError::new(failed, message()),
    }
}
