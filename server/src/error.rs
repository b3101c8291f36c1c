//! What a refusal looks like: `{"error":{"code","message","details"}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use run_agent_core::id::IdError;
use run_agent_core::store::{AppendError, OpenError, ReadError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::work::Failed;

/// Why a request was not answered as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    BadRequest,
    NotFound,
    Conflict,
    MethodNotAllowed,
    Forbidden,
    Unauthorized,
    TooManyRequests,
    Internal,
}

impl Code {
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of every answer that is not the one asked for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorBody {
    pub error: Told,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Told {
    pub code: Code,
    /// One line: what, where, and what to do.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

/// A refusal, on its way to the client.
#[derive(Debug, Clone)]
pub struct Refused {
    pub code: Code,
    pub message: String,
    /// Another status than the code's own: a body that is too large, a type that is not taken.
    pub status: Option<StatusCode>,
    pub details: Option<serde_json::Value>,
}

impl Refused {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: None, details: None }
    }

    #[must_use]
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Something failed here, and is told with its causes.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        tracing::error!(%message, "a request failed");
        Self::new(Code::Internal, message)
    }

    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { code, message, status, details } = self;
        let body = ErrorBody { error: Told { code, message, details } };
        (status.unwrap_or(code.status()), Json(body)).into_response()
    }
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        let Failed { code, message, hint, candidates } = failed;
        let own = match code.as_str() {
            "usage" | "invalid_name" | "ambiguous_name" => Code::BadRequest,
            "not_found" | "unknown_project" | "unknown_task" | "unknown_agent" | "unknown_run"
            | "unknown_message" => Code::NotFound,
            "locked" | "lock_timeout" | "refused" => Code::Conflict,
            _ => Code::Internal,
        };
        let details = serde_json::json!({ "reason": code, "hint": hint, "candidates": candidates });
        Self { details: Some(details), ..Self::new(own, message) }
    }
}

impl From<IdError> for Refused {
    fn from(error: IdError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotFound { .. } => Self::not_found(error.to_string()),
            OpenError::Io { .. } => Self::internal(&error),
        }
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownId { .. } | ReadError::Gone { .. } => Self::not_found(error.to_string()),
            ReadError::Incarnation { .. } | ReadError::Io { .. } => Self::internal(&error),
        }
    }
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::TooLarge { .. } | AppendError::FieldsTooLarge { .. } => Self::bad(error.to_string()),
            AppendError::LockTimeout { .. } => Self::new(Code::Conflict, error.to_string()),
            AppendError::Unsupported { .. } | AppendError::Io { .. } | AppendError::Read { .. } => {
                Self::internal(&error)
            }
        }
    }
}
