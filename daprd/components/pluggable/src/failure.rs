//! What a failed call means: entity tags, errors that the component wants shown as they are, and everything else.

use component::{
    Error, ErrorKind,
    error::{Presented, code_name},
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorInfo, StatusExt};

/// The field whose violation means the entity tag.
const ETAG: &str = "etag";

/// An error of any call. It keeps the code, by which policies retry.
pub fn plain(status: Status) -> Error {
    let code = status.code() as i32;
    let detail = only_detail(&status);
    let error = if let Some(ErrorDetail::ErrorInfo(info)) = &detail
        && let Some(presented) = presented(&status, info)
    {
        Error::new(kind(status.code()), status.message()).with_presented(presented)
    } else {
        let name = code_name(code);
        let text = format!("rpc error: code = {name} desc = {}", status.message());
        Error::new(kind(status.code()), text)
    };
    error.with_grpc_code(code)
}

/// An error of a write, which may be about its entity tag.
pub fn write(status: Status) -> Error {
    if let Some(ErrorDetail::BadRequest(detail)) = only_detail(&status)
        && let [violation] = detail.field_violations.as_slice()
        && violation.field == ETAG
    {
        let description = &violation.description;
        match status.code() {
            Code::FailedPrecondition => {
                let text = format!("possible etag mismatch. error from state store: {description}");
                return Error::new(ErrorKind::EtagMismatch, text);
            }
            Code::InvalidArgument => {
                let text = format!("invalid etag value: {description}");
                return Error::new(ErrorKind::EtagInvalid, text);
            }
            _ => {}
        }
    }
    plain(status)
}

/// An error of deleting several keys, which may say that some were not there.
pub fn bulk_delete(status: Status) -> Error {
    if status.code() == Code::Internal
        && let Some(ErrorDetail::ErrorInfo(info)) = only_detail(&status)
        && let Some(expected) = number(&info, "expected")
        && let Some(affected) = number(&info, "affected")
    {
        let text = format!("delete affected only {affected} rows, expected {expected}");
        return Error::new(ErrorKind::Internal, text);
    }
    write(status)
}

/// An error of a transaction, which has no form of its own and says nothing of entity tags.
///
/// Compat: Q-pluggable-transaction: callers get a failed transaction, whatever status the component has chosen.
pub fn transaction(status: Status) -> Error {
    let code = status.code() as i32;
    let error = plain(status);
    Error::new(error.kind(), error.to_string()).with_grpc_code(code)
}

fn number(info: &ErrorInfo, field: &str) -> Option<i64> {
    info.metadata.get(field)?.parse().ok()
}

/// Details count only if there is exactly one, and it is of a known kind.
fn only_detail(status: &Status) -> Option<ErrorDetail> {
    let all = tonic_types::Status::decode(status.details()).ok()?.details;
    if all.len() != 1 {
        return None;
    }
    status.check_error_details_vec().ok()?.pop()
}

fn presented(status: &Status, info: &ErrorInfo) -> Option<Presented> {
    if info.metadata.get("kit_error")? != "true" {
        return None;
    }
    Some(Presented {
        http: info.metadata.get("http_code")?.parse().ok()?,
        grpc: status.code() as i32,
        tag: info.metadata.get("tag").cloned().unwrap_or_default(),
        reason: info.reason.clone(),
        domain: info.domain.clone(),
    })
}

fn kind(code: Code) -> ErrorKind {
    match code {
        Code::NotFound => ErrorKind::NotFound,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            ErrorKind::InvalidRequest
        }
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Unauthorized,
        Code::ResourceExhausted => ErrorKind::RateLimited,
        Code::Unavailable | Code::DeadlineExceeded => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    fn owned(fields: &[(&str, &str)]) -> HashMap<String, String> {
        let fields = fields.iter();
        fields
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn kit(fields: &[(&str, &str)]) -> Status {
        let details = ErrorDetails::with_error_info("why", "where", owned(fields));
        Status::with_error_details(Code::DataLoss, "get-error", details)
    }

    #[test]
    fn plain_errors_name_the_code() {
        let error = plain(Status::new(Code::Cancelled, "no"));
        assert_eq!(error.grpc_code(), Some(1));
        assert_eq!(error.to_string(), "rpc error: code = Canceled desc = no");
        assert_eq!(error.presented(), None);
    }

    #[test]
    fn only_a_complete_mark_makes_an_error_presented() {
        let full = [("kit_error", "true"), ("http_code", "506"), ("tag", "t")];
        let error = plain(kit(&full));
        let presented = error.presented().unwrap();
        assert_eq!((presented.http, presented.grpc), (506, 15));
        assert_eq!((&*presented.tag, &*presented.reason), ("t", "why"));
        assert_eq!(
            error.to_string(),
            "api error: code = DataLoss desc = get-error"
        );
        for fields in [
            &full[1..],
            &full[..1],
            &[("kit_error", "true"), ("http_code", "x")],
        ] {
            let error = plain(kit(fields));
            assert_eq!(error.presented(), None, "{fields:?}");
            assert_eq!(
                error.to_string(),
                "rpc error: code = DataLoss desc = get-error"
            );
        }
        let mut two = ErrorDetails::with_error_info("why", "where", owned(&full));
        two.set_resource_info("state", "s", "", "");
        let status = Status::with_error_details(Code::Internal, "no", two);
        assert_eq!(plain(status).presented(), None);
    }

    #[test]
    fn entity_tags_are_told_by_code_and_field() {
        let told = |code, field: &str| {
            let violation = vec![FieldViolation::new(field, "it moved")];
            let details = ErrorDetails::with_bad_request(violation);
            write(Status::with_error_details(code, "no", details))
        };
        let mismatch = told(Code::FailedPrecondition, "etag");
        assert_eq!(mismatch.kind(), ErrorKind::EtagMismatch);
        assert_eq!(
            mismatch.to_string(),
            "possible etag mismatch. error from state store: it moved"
        );
        let invalid = told(Code::InvalidArgument, "etag");
        assert_eq!(invalid.kind(), ErrorKind::EtagInvalid);
        let other = told(Code::InvalidArgument, "key");
        assert_eq!(other.kind(), ErrorKind::InvalidRequest);
    }

    #[test]
    fn transactions_just_fail() {
        let full = [("kit_error", "true"), ("http_code", "506"), ("tag", "t")];
        let error = transaction(kit(&full));
        assert_eq!(error.presented(), None);
        assert_eq!(
            error.to_string(),
            "api error: code = DataLoss desc = get-error"
        );
        let details = ErrorDetails::with_bad_request_violation("etag", "it moved");
        let status = Status::with_error_details(Code::FailedPrecondition, "no", details);
        let error = transaction(status);
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert_eq!(
            error.to_string(),
            "rpc error: code = FailedPrecondition desc = no"
        );
    }

    #[test]
    fn rows_that_were_not_deleted_are_counted() {
        let metadata = owned(&[("expected", "3"), ("affected", "1")]);
        let details = ErrorDetails::with_error_info("r", "d", metadata);
        let status = Status::with_error_details(Code::Internal, "no", details);
        assert_eq!(
            bulk_delete(status).to_string(),
            "delete affected only 1 rows, expected 3"
        );
    }
}
