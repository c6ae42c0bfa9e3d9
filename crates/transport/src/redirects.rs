//! Redirects of HTTP clients. What a request carries is meant for whom it was addressed to: elsewhere, nobody gets the headers
//! that it was given, under whatever name a secret stands in them. Q-redirects

#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header};
use url::Url;

/// Most redirects of one request; the next one is its answer.
pub const MOST_REDIRECTS: usize = 10;

/// What becomes of a redirect to another origin: another scheme, host or port (RFC 6454).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It is followed, without the headers of the request.
    Bare,
    /// It is the answer: a client that shows a certificate would show it there as well.
    Never,
}

/// Sends a request, and where its answer is a redirect another one, as often as [`MOST_REDIRECTS`]. A body is sent once: a
/// redirect that asks for it again (307, 308) is the answer, and so is one without an address for HTTP.
///
/// # Errors
/// Those of `send`.
pub async fn follow<B, R, E, Sent>(
    request: Request<B>,
    elsewhere: Elsewhere,
    send: impl Fn(Request<B>) -> Sent,
) -> Result<Response<R>, E>
where
    B: http_body::Body + Default,
    Sent: Future<Output = Result<Response<R>, E>>,
{
    let mut sent = Asked {
        url: Url::parse(&request.uri().to_string()).ok(),
        method: request.method().clone(),
        headers: request.headers().clone(),
        has_body: !request.body().is_end_stream(),
    };
    let mut answer = send(request).await?;
    for _ in 0..MOST_REDIRECTS {
        let Some(next) = sent.next(answer.status(), answer.headers(), elsewhere) else {
            break;
        };
        let Some(request) = next.request() else {
            break;
        };
        answer = send(request).await?;
        sent = next;
    }
    Ok(answer)
}

/// A request, as far as it decides on the next one.
struct Asked {
    /// None where it is none that anything could be relative to.
    url: Option<Url>,
    method: Method,
    headers: HeaderMap,
    has_body: bool,
}

impl Asked {
    /// What a redirect asks for, where it is one that is followed (RFC 9110 15.4).
    fn next(&self, status: StatusCode, answer: &HeaderMap, elsewhere: Elsewhere) -> Option<Self> {
        let keeps = match status.as_u16() {
            301..=303 => false,
            307 | 308 if !self.has_body => true,
            _ => return None,
        };
        let from = self.url.as_ref()?;
        let location = answer.get(header::LOCATION)?.to_str().ok()?;
        let url = from.join(location).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let mut headers = self.headers.clone();
        if url.origin() != from.origin() {
            if elsewhere == Elsewhere::Never {
                return None;
            }
            headers = bare(&headers);
        }
        let mut method = self.method.clone();
        if !keeps {
            if method != Method::HEAD {
                method = Method::GET;
            }
            for name in OF_BODY {
                headers.remove(name);
            }
        }
        Some(Self {
            url: Some(url),
            method,
            headers,
            has_body: false,
        })
    }

    fn request<B: Default>(&self) -> Option<Request<B>> {
        let uri: Uri = self.url.as_ref()?.as_str().parse().ok()?;
        let mut request = Request::new(B::default());
        *request.uri_mut() = uri;
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        Some(request)
    }
}

/// What says nothing but which form of an answer is wanted.
fn bare(headers: &HeaderMap) -> HeaderMap {
    let mut left = HeaderMap::new();
    for name in [header::ACCEPT, header::ACCEPT_LANGUAGE] {
        for value in headers.get_all(&name) {
            left.append(name.clone(), value.clone());
        }
    }
    left
}

/// Headers that describe a body.
const OF_BODY: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
];
