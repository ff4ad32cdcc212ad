//! Refusals as gRPC has them, and the one place where calls are made and told of.
//!
//! What is logged is the call, the volume and the outcome: no request as a whole, so no secret.

use tonic::{Response, Status};

use crate::host::{Code, Refusal};

/// A wrong argument.
pub(super) fn invalid(sentence: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidArgument, sentence)
}

/// A text that must be there.
pub(super) fn required<'a>(name: &str, value: &'a str) -> Result<&'a str, Refusal> {
    if value.is_empty() { Err(invalid(format!("{name} is missing"))) } else { Ok(value) }
}

/// Does `work` on a thread that may block. It goes on where the caller gives up; its answer is then nobody's.
pub(super) async fn answer<T: Send + 'static>(
    call: &'static str,
    volume: &str,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<Response<T>, Status> {
    let outcome = tokio::task::spawn_blocking(work).await;
    let outcome = outcome
        .unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "a bug in permfs: see the plugin's log")));
    match outcome {
        Ok(answer) => {
            tracing::debug!(call, volume, "done");
            Ok(Response::new(answer))
        }
        Err(refusal) => {
            tracing::warn!(call, volume, code = ?refusal.code, %refusal, "refused");
            Err(status(refusal))
        }
    }
}

/// A refusal as a status.
pub(super) fn status(refusal: Refusal) -> Status {
    let code = match refusal.code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::Internal => tonic::Code::Internal,
    };
    Status::new(code, refusal.sentence)
}
