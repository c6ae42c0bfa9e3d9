//! Where the module comes from: a file, or a server. Read once, when the component is opened.

use std::{
    fs::File,
    io::{self, Read},
};

use component::{
    Error, ErrorKind, Open, Result, body,
    outgoing::{HttpClient, Tls},
};
use http::{Request, StatusCode};
use tokio::{task::spawn_blocking, time::timeout};
use url::Url;

use crate::{
    settings::{FETCH, MOST_MODULE},
    text::reason,
};

/// Reads the module that a URL names.
///
/// # Errors
/// [`ErrorKind::InvalidMetadata`] where the URL is none of a kind that is known, or its file cannot be read; `Unavailable` where
/// its server does not answer with the module.
pub async fn read(url: &str, open: &Open) -> Result<Vec<u8>> {
    if let Some(path) = url.strip_prefix("file://") {
        let path = path.to_owned();
        let read = spawn_blocking(move || file(&path)).await;
        return read
            .map_err(|error| Error::internal("the module was not read", error))?
            .map_err(|error| Error::invalid_metadata("url", reason(format!("{error}: {url}"))));
    }
    let parsed = Url::parse(url);
    let parsed = parsed.map_err(|error| Error::invalid_metadata("url", error))?;
    match parsed.scheme() {
        "http" | "https" => {
            let client = open.lent.http.client(&Tls::default())?;
            let fetched = timeout(FETCH, fetch(&*client, &parsed)).await;
            fetched.map_err(|_| no(&parsed, "it did not come in time"))?
        }
        other => Err(Error::invalid_metadata(
            "url",
            format!(
                "{} is not supported; file, http and https are",
                reason(other)
            ),
        )),
    }
}

fn file(path: &str) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // What never ends, or never begins, is no module.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    let mut module = Vec::new();
    file.take(MOST_MODULE as u64 + 1).read_to_end(&mut module)?;
    match module.len() > MOST_MODULE {
        true => Err(io::Error::other(format!(
            "is larger than {MOST_MODULE} bytes"
        ))),
        false => Ok(module),
    }
}

async fn fetch(client: &dyn HttpClient, url: &Url) -> Result<Vec<u8>> {
    let request = Request::get(url.as_str()).body(body::empty());
    let request = request.map_err(|error| Error::invalid_metadata("url", error))?;
    let answer = client.send(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(no(url, &format!("the answer is {}", answer.status())));
    }
    let module = body::read(answer.into_body(), MOST_MODULE).await;
    module
        .map(Into::into)
        .map_err(|error| no(url, &error.to_string()))
}

/// A user and a password in the URL are not told.
fn no(url: &Url, problem: &str) -> Error {
    let host = url.host_str().unwrap_or_default();
    let path = url.path();
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "no module at {}: {problem}",
            reason(format!("{host}{path}"))
        ),
    )
}
