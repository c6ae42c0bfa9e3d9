//! Which components the sockets of a folder serve, as gRPC server reflection tells.

use std::{
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use component::{
    Catalog, Family, Fields, InputBinding, Open, OutputBinding, PubSub, Registration, SecretStore,
    StateStore, catalog::Taken,
};
use futures::{StreamExt, stream};
use tonic::{Code, Status, transport::Channel};

use crate::{bindings, pubsub, secrets, socket, state};

/// Longest that a socket may take to say what it serves.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Most sockets of a folder that are looked at.
const MOST_SOCKETS: usize = 256;
/// Sockets that are asked at the same time.
const AT_ONCE: usize = 16;
const FAMILY: &str = "pluggable";

// The services that are known.
const STATE_STORE: &str = "dapr.proto.components.v1.StateStore";
const PUBSUB: &str = "dapr.proto.components.v1.PubSub";
const INPUT_BINDING: &str = "dapr.proto.components.v1.InputBinding";
const OUTPUT_BINDING: &str = "dapr.proto.components.v1.OutputBinding";
const SECRET_STORE: &str = "dapr.proto.components.v1.SecretStore";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("connecting")]
    Connect(#[source] tonic::transport::Error),
    #[error("asking for its services: {} {}", component::error::code_name(.0.code() as i32), .0.message())]
    Reflection(Status),
    #[error("no answer within {} s", ANSWER_LIMIT.as_secs())]
    Silent,
}

struct Found {
    name: String,
    path: PathBuf,
}

struct Served {
    socket: socket::Socket,
    services: Vec<String>,
}

/// Adds a component type for every known service that a socket of `folder` serves; `name.sock` serves `state.name`,
/// `pubsub.name` or both.
/// What cannot be read or does not answer is logged and left out.
pub async fn discover(folder: &Path, catalog: &mut Catalog) {
    let sockets = match sockets(folder).await {
        Ok(sockets) => sockets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let folder = folder.display();
            tracing::warn!("cannot list the pluggable components of {folder}: {error}");
            return;
        }
    };
    let mut answers = stream::iter(sockets)
        .map(|socket| async move {
            let answer = ask(&socket).await;
            (socket, answer)
        })
        .buffered(AT_ONCE);
    while let Some((socket, answer)) = answers.next().await {
        match answer {
            Ok(served) => register(&socket, &served, catalog),
            Err(error) => tracing::warn!(
                "pluggable component {} is left out: {}",
                socket.path.display(),
                component::error::chain(&error)
            ),
        }
    }
}

/// The sockets of a folder in the order of their names; of several with one name, the last is used.
async fn sockets(folder: &Path) -> io::Result<Vec<Found>> {
    let mut entries = tokio::fs::read_dir(folder).await?;
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        // A link to a socket is as good as the socket.
        let socket = match tokio::fs::metadata(&path).await {
            Ok(metadata) => metadata.file_type().is_socket(),
            Err(_) => false,
        };
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let (true, Some(name)) = (socket, stem) else {
            let path = path.display();
            tracing::warn!("{path} is not a socket of a pluggable component");
            continue;
        };
        if found.len() == MOST_SOCKETS {
            let folder = folder.display();
            tracing::warn!("{folder} has more than {MOST_SOCKETS} sockets: the rest is left out");
            break;
        }
        found.push(Found {
            name: name.to_owned(),
            path: path.clone(),
        });
    }
    found.sort_by(|one, other| other.path.cmp(&one.path));
    found.dedup_by(|one, other| one.name == other.name);
    found.reverse();
    Ok(found)
}

async fn ask(found: &Found) -> Result<Served, Error> {
    let asking = async {
        let socket = socket::Socket::connect(found.path.clone())
            .await
            .map_err(Error::Connect)?;
        let services = services(&socket.channel())
            .await
            .map_err(Error::Reflection)?;
        Ok(Served { socket, services })
    };
    tokio::time::timeout(ANSWER_LIMIT, asking)
        .await
        .unwrap_or(Err(Error::Silent))
}

/// Adds a type for each service that is known.
fn register(found: &Found, served: &Served, catalog: &mut Catalog) {
    let (name, socket) = (found.name.as_str(), &served.socket);
    let mut is_known = false;
    for service in &served.services {
        let added = match service.as_str() {
            STATE_STORE => add(&mut catalog.state, name, socket, |socket, open| async {
                let store = state::Pluggable::open(socket, open).await?;
                Ok(Arc::new(store) as Arc<dyn StateStore>)
            }),
            PUBSUB => add(&mut catalog.pubsub, name, socket, |socket, open| async {
                let broker = pubsub::Pluggable::open(socket, open).await?;
                Ok(Arc::new(broker) as Arc<dyn PubSub>)
            }),
            INPUT_BINDING => add(
                &mut catalog.input_bindings,
                name,
                socket,
                |socket, open| async {
                    let input = bindings::Input::open(socket, open).await?;
                    Ok(Arc::new(input) as Arc<dyn InputBinding>)
                },
            ),
            OUTPUT_BINDING => add(
                &mut catalog.output_bindings,
                name,
                socket,
                |socket, open| async {
                    let output = bindings::Output::open(socket, open).await?;
                    Ok(Arc::new(output) as Arc<dyn OutputBinding>)
                },
            ),
            SECRET_STORE => add(&mut catalog.secrets, name, socket, |socket, open| async {
                let store = secrets::Pluggable::open(socket, open).await?;
                Ok(Arc::new(store) as Arc<dyn SecretStore>)
            }),
            _ => continue,
        };
        is_known = true;
        match added {
            Ok(()) => tracing::info!(
                "pluggable component '{name}' was successfully registered for '{service}'"
            ),
            // Q-pluggable-names: what is built in must not change under a configuration that names it.
            Err(taken) => {
                let path = found.path.display();
                tracing::warn!("pluggable component {path} is left out: {taken}");
            }
        }
    }
    if !is_known {
        let path = found.path.display();
        tracing::warn!("{path} serves no component that is known");
    }
}

fn add<T, F, Fut>(
    family: &mut Family<T>,
    name: &str,
    socket: &socket::Socket,
    open: F,
) -> Result<(), Taken>
where
    T: ?Sized,
    F: Fn(socket::Socket, Open) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = component::Result<Arc<T>>> + Send + 'static,
{
    let socket = socket.clone();
    let registration = Registration::new(FAMILY, name, Fields::unknown());
    family.add(registration, move |arguments| {
        open(socket.clone(), arguments)
    })
}

/// Full names of the services, by the older protocol that every SDK speaks, else by the newer.
async fn services(channel: &Channel) -> Result<Vec<String>, Status> {
    match older(channel.clone()).await {
        Err(status) if status.code() == Code::Unimplemented => newer(channel.clone()).await,
        answer => answer,
    }
}

macro_rules! list_services {
    ($name:ident, $version:ident) => {
        async fn $name(channel: Channel) -> Result<Vec<String>, Status> {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            // The stream stays open until the answer is here: some servers take its end for the end of the call.
            let requests = stream::iter([request]).chain(stream::pending());
            let mut answers = ServerReflectionClient::new(channel)
                .server_reflection_info(requests)
                .await?
                .into_inner();
            let answer = answers.message().await?;
            match answer.and_then(|answer| answer.message_response) {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    Ok(list.service.into_iter().map(|one| one.name).collect())
                }
                Some(MessageResponse::ErrorResponse(error)) => Err(Status::new(
                    Code::from(error.error_code),
                    error.error_message,
                )),
                _ => Err(Status::internal("the answer lists no services")),
            }
        }
    };
}

list_services!(older, v1alpha);
list_services!(newer, v1);
