//! Why a SET was refused (RFC 8935 §2.4).

use crate::signal::accepted::Origin;
use crate::time::Span;

/// Why a SET was refused: an error code of RFC 8935 §2.4 and a sentence for the transmitter's operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct SetError {
    /// The code.
    pub code: SetErrorCode,
    /// The sentence. It holds no text of the SET beyond what was checked to be harmless.
    pub description: String,
    /// What the signal is called, where it is authentic.
    pub origin: Option<Box<Origin>>,
    /// When it may be pushed again with another outcome, where it may.
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
    /// Not a registered code and never sent: the keys of the transmitter are not there yet. 503, to be pushed again.
    KeysUnavailable,
    /// Not a registered code and never sent: it would permit something at a time that is still to come. 503, to be
    /// pushed again.
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

    /// The code as it stands in `err`.
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

    /// An error of this code.
    pub fn because(self, description: impl Into<String>) -> SetError {
        let retry_after = matches!(self, SetErrorCode::KeysUnavailable | SetErrorCode::TooEarly).then_some(Span(1));
        SetError { code: self, description: description.into(), origin: None, retry_after }
    }
}
