//! Server-side apply: a program says what it wants of an object under its own name, and the API server leaves everything else
//! as others have said it. What others have said differently is a conflict, of which the log tells before it is taken over. Q-server-side-apply

use std::future::Future;

/// Applies by `attempt`, which is called with whether to take fields over from others: not at first, but once it is said who
/// they are. So it is for fields that are for this program alone to write.
///
/// # Errors
/// What the API server refuses otherwise.
pub async fn apply<T, F>(what: &str, attempt: impl Fn(bool) -> F) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    match attempt(false).await {
        Err(error) if is_conflict(&error) => {
            tracing::warn!("{what} is taken over from others: {error}");
            attempt(true).await
        }
        ended => ended,
    }
}

/// Whether others have said something else. What was read in another version is refused with the same code, and stays so.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.message.starts_with("Apply failed"))
}
