//! Why a SET was refused (RFC 8935 §2.4).

use crate::signal::accepted::Origin;
use crate::time::Span;

/// Why a SET was refused: an error code of RFC 8935 §2.4, and a description for the transmitter's operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct SetError {
    /// The error code.
    pub code: SetErrorCode,
    /// The description. It contains text of the SET only where `interpret::printable` cleaned it.
    pub description: String,
    /// The names of the signal, if it is authenticated.
    pub origin: Option<Box<Origin>>,
    /// After how long the transmitter may push it again, if that may have another outcome.
    pub retry_after: Option<Span>,
}

/// The registered error codes (RFC 8935 §7.1, SSF 1.0 §8.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the registered codes")]
pub enum SetErrorCode {
    InvalidRequest,
    InvalidKey,
    InvalidIssuer,
    InvalidAudience,
    AuthenticationFailed,
    AccessDenied,
    /// Not a registered code and never sent: the keys of the transmitter are not available yet. Answered with 503, so
    /// that the SET is pushed again.
    KeysUnavailable,
    /// Not a registered code and never sent: the event would permit something, and its time is in the future. Answered
    /// with 503, so that the SET is pushed again.
    TooEarly,
    InvalidState,
}

impl SetErrorCode {
    /// Every code.
    pub const ALL: [SetErrorCode; 9] = [
        SetErrorCode::InvalidRequest,
        SetErrorCode::InvalidKey,
        SetErrorCode::InvalidIssuer,
        SetErrorCode::InvalidAudience,
        SetErrorCode::AuthenticationFailed,
        SetErrorCode::AccessDenied,
        SetErrorCode::KeysUnavailable,
        SetErrorCode::TooEarly,
        SetErrorCode::InvalidState,
    ];

    /// The code as the member `err` of the answer has it.
    pub fn code(self) -> &'static str {
        match self {
            SetErrorCode::InvalidRequest => "invalid_request",
            SetErrorCode::InvalidKey => "invalid_key",
            SetErrorCode::InvalidIssuer => "invalid_issuer",
            SetErrorCode::InvalidAudience => "invalid_audience",
            SetErrorCode::AuthenticationFailed => "authentication_failed",
            SetErrorCode::AccessDenied => "access_denied",
            SetErrorCode::KeysUnavailable => "keys_unavailable",
            SetErrorCode::TooEarly => "too_early",
            SetErrorCode::InvalidState => "invalid_state",
        }
    }

    /// An error with this code.
    pub(crate) fn because(self, description: impl Into<String>) -> SetError {
        let retry_after = matches!(self, SetErrorCode::KeysUnavailable | SetErrorCode::TooEarly).then_some(Span(1));
        SetError { code: self, description: description.into(), origin: None, retry_after }
    }
}
