//! Configuration over HTTP: items stand bare, without the proto's wrapper, and what is empty is left out.

use ::configuration::item_json;
use component::{Body, configuration::Request};
use http::{Response, StatusCode};
use values::json;

use super::{Call, json_reply, no_content};
use crate::{Api, ApiError};

/// The keys and metadata of the query.
fn request(call: &Call) -> Request {
    let keys = call.query.iter().filter(|(name, _)| name == "key");
    Request {
        keys: keys.map(|(_, key)| key.clone()).collect(),
        metadata: call.metadata(),
    }
}

/// GET `/v1.0/configuration/{store}`
pub async fn get(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let store = call.param("store");
    let items = api.configuration_items(store, request(&call)).await?;
    if items.is_empty() {
        return Ok(no_content());
    }
    let items = items.iter();
    let members: Vec<String> = items
        .map(|(key, item)| format!("{}:{}", json::quote(key), item_json(item)))
        .collect();
    Ok(json_reply(format!("{{{}}}", members.join(","))))
}

/// GET `/v1.0/configuration/{store}/subscribe`
pub async fn subscribe(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let request = request(&call);
    let id = api.subscribe_app_to_configuration(call.param("store"), request);
    let id = id.await?;
    Ok(json_reply(format!("{{\"id\":{}}}", json::quote(&id))))
}

/// GET `/v1.0/configuration/{store}/{id}/unsubscribe`
pub async fn unsubscribe(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let (store, id) = (call.param("store"), call.param("id"));
    match api.unsubscribe_app_from_configuration(store, id).await? {
        Ok(()) => Ok(json_reply("{\"ok\":true}")),
        Err(message) => {
            let message = json::quote(&message);
            let mut response = json_reply(format!("{{\"message\":{message}}}"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(response)
        }
    }
}
