//! The reasons for refusals: the same codes in logs, metrics, answers and documentation.

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request needs a credential and has none (RFC 6750 §3.1: a challenge without an error code).
    TokenMissing,
    /// More than one credential, or a credential header that is ambiguous.
    CredentialsAmbiguous,
    /// Not a JWT but an opaque token, which only its issuer can read. Use a token of the kind that RFC 9068 defines.
    TokenOpaque,
    /// Not a valid JWS in compact serialization (RFC 7515).
    TokenMalformed,
    /// Longer than the maximum length of a token.
    TokenTooLarge,
    /// `typ` is not that of an access token of this issuer (RFC 9068 §4), or the claims belong to another kind of
    /// token.
    TokenType,
    /// The issuer does not allow `alg`, or the key named by `kid` is not for it (RFC 8725 §3.1).
    AlgorithmRefused,
    /// No issuer with this `iss` is configured.
    IssuerUnknown,
    /// `kid` is missing, or the issuer has no such key.
    KeyUnknown,
    /// The keys of the issuer could not be fetched yet, or have expired.
    KeysUnavailable,
    /// The signature is not valid.
    SignatureInvalid,
    /// The source of the token sent too many bad signatures; the signature was not checked.
    TooManyFailures,
    /// `aud` does not contain an audience of this service.
    AudienceMismatch,
    /// `exp` has passed.
    TokenExpired,
    /// `nbf` or `iat` is in the future.
    TokenNotYetValid,
    /// `exp - iat` is greater than the issuer's `max_lifetime`.
    LifetimeExceeded,
    /// The session began longer ago than the issuer's `max_session`.
    SessionTooOld,
    /// A required claim is missing, or a claim has the wrong shape.
    ClaimInvalid,
    /// The token is in a place that is configured for another issuer.
    TokenMisplaced,
    /// The token has no binding, although the issuer's configuration or the scheme requires one.
    BindingMissing,
    /// The presenter is not the one that the token is bound to: other certificate, workload or key (RFC 8705 §3, RFC
    /// 9449 §7).
    BindingMismatch,
    /// The token is bound to a key, and the request has no DPoP proof.
    DpopProofMissing,
    /// The DPoP proof fails one of the checks of RFC 9449 §4.3.
    DpopProofInvalid,
    /// The DPoP proof was used before (RFC 9449 §11.1).
    DpopProofReplayed,
    /// The DPoP proof has no nonce of this server, or an old one (RFC 9449 §9).
    DpopNonceRequired,
    /// The token may be used once, and was used before.
    TokenUsed,
    /// A signal revoked this token.
    TokenRevoked,
    /// A signal revoked the session of the token.
    SessionRevoked,
    /// A signal revoked the sessions of the user up to a point in time.
    UserRevoked,
    /// A signal revoked the client, actor, device or tenant of the token.
    PrincipalRevoked,
    /// A signal reported that the task of the token is completed.
    TaskCompleted,
    /// No rule matches the request.
    RuleMissing,
    /// The matching rule denies the request.
    RuleDenied,
    /// The scope of the grant does not contain what the rule requires.
    ScopeInsufficient,
    /// No object of `authorization_details` covers the request (RFC 9396).
    DetailInsufficient,
    /// A claim does not have the value that the rule requires.
    ClaimMismatch,
    /// The rule does not accept the delegation of the token (RFC 8693 §4.1).
    ActorRefused,
    /// The source address is outside the networks of the rule.
    SourceRefused,
    /// The rule does not accept the workload that sent the request.
    PeerRefused,
    /// The device is not compliant, or its compliance is unknown.
    DeviceNotCompliant,
    /// The risk level is too high, or unknown.
    RiskTooHigh,
    /// The condition of the rule is false.
    ConditionFailed,
    /// The condition of the rule could not be evaluated, for example because a claim is missing.
    ConditionError,
    /// The user was authenticated longer ago than the rule allows (RFC 9470, `max_age`).
    AuthenticationTooOld,
    /// The authentication of the user is weaker than the rule requires (RFC 9470, `acr_values`).
    AssuranceInsufficient,
    /// `:path` is ambiguous or malformed.
    PathRefused,
    /// `:authority` is ambiguous or malformed.
    HostRefused,
    /// The pushed state cannot be read.
    StateUnavailable,
    /// The pushed state was full when a signal came that may be about this grant.
    StateSaturated,
    /// The use of a proof or single-use token cannot be recorded: the memory for used ones is full.
    ReplaySaturated,
    /// The transmitter of signals was heard of longer ago than the rule allows.
    StateStale,
    /// The filter has not caught up with the feed of its hub, or the feed does not cover the issuer of the token.
    StateNotReady,
    /// The filter failed internally; it refuses the request.
    InternalError,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: &[Reason] = &[
        Reason::TokenMissing,
        Reason::CredentialsAmbiguous,
        Reason::TokenOpaque,
        Reason::TokenMalformed,
        Reason::TokenTooLarge,
        Reason::TokenType,
        Reason::AlgorithmRefused,
        Reason::IssuerUnknown,
        Reason::KeyUnknown,
        Reason::KeysUnavailable,
        Reason::SignatureInvalid,
        Reason::TooManyFailures,
        Reason::AudienceMismatch,
        Reason::TokenExpired,
        Reason::TokenNotYetValid,
        Reason::LifetimeExceeded,
        Reason::SessionTooOld,
        Reason::ClaimInvalid,
        Reason::TokenMisplaced,
        Reason::BindingMissing,
        Reason::BindingMismatch,
        Reason::DpopProofMissing,
        Reason::DpopProofInvalid,
        Reason::DpopProofReplayed,
        Reason::DpopNonceRequired,
        Reason::TokenUsed,
        Reason::TokenRevoked,
        Reason::SessionRevoked,
        Reason::UserRevoked,
        Reason::PrincipalRevoked,
        Reason::TaskCompleted,
        Reason::RuleMissing,
        Reason::RuleDenied,
        Reason::ScopeInsufficient,
        Reason::DetailInsufficient,
        Reason::ClaimMismatch,
        Reason::ActorRefused,
        Reason::SourceRefused,
        Reason::PeerRefused,
        Reason::DeviceNotCompliant,
        Reason::RiskTooHigh,
        Reason::ConditionFailed,
        Reason::ConditionError,
        Reason::AuthenticationTooOld,
        Reason::AssuranceInsufficient,
        Reason::PathRefused,
        Reason::HostRefused,
        Reason::StateUnavailable,
        Reason::StateSaturated,
        Reason::ReplaySaturated,
        Reason::StateStale,
        Reason::StateNotReady,
        Reason::InternalError,
    ];

    /// The code: lower-case words joined by `_`.
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// A short English phrase for people, without any data of the request.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// The class of answer that the client gets.
    pub fn class(self) -> Class {
        self.row().1
    }

    fn row(self) -> (&'static str, Class, &'static str) {
        use Class::*;
        match self {
            Reason::TokenMissing => ("token_missing", Unauthenticated, "Access token missing"),
            Reason::CredentialsAmbiguous => ("credentials_ambiguous", BadRequest, "More than one credential"),
            Reason::TokenOpaque => ("token_opaque", InvalidToken, "Access token opaque, not a JWT"),
            Reason::TokenMalformed => ("token_malformed", InvalidToken, "Access token malformed"),
            Reason::TokenTooLarge => ("token_too_large", InvalidToken, "Access token too large"),
            Reason::TokenType => ("token_type", InvalidToken, "Not an access token"),
            Reason::AlgorithmRefused => ("algorithm_refused", InvalidToken, "Signature algorithm refused"),
            Reason::IssuerUnknown => ("issuer_unknown", InvalidToken, "Issuer unknown"),
            Reason::KeyUnknown => ("key_unknown", InvalidToken, "Signing key unknown"),
            Reason::KeysUnavailable => ("keys_unavailable", Unavailable, "Keys of the issuer unavailable"),
            Reason::SignatureInvalid => ("signature_invalid", InvalidToken, "Signature invalid"),
            Reason::TooManyFailures => {
                ("too_many_failures", TooManyRequests, "Too many bad signatures from this address")
            }
            Reason::AudienceMismatch => ("audience_mismatch", InvalidToken, "Access token is for another audience"),
            Reason::TokenExpired => ("token_expired", InvalidToken, "Access token expired"),
            Reason::TokenNotYetValid => ("token_not_yet_valid", InvalidToken, "Access token not yet valid"),
            Reason::LifetimeExceeded => ("lifetime_exceeded", InvalidToken, "Access token lives too long"),
            Reason::SessionTooOld => ("session_too_old", InvalidToken, "Session too old"),
            Reason::ClaimInvalid => ("claim_invalid", InvalidToken, "Claim missing or invalid"),
            Reason::TokenMisplaced => ("token_misplaced", InvalidToken, "Access token in the wrong place"),
            Reason::BindingMissing => ("binding_missing", InvalidToken, "Access token not bound to its presenter"),
            Reason::BindingMismatch => ("binding_mismatch", InvalidToken, "Access token bound to another presenter"),
            Reason::DpopProofMissing => ("dpop_proof_missing", InvalidProof, "DPoP proof missing"),
            Reason::DpopProofInvalid => ("dpop_proof_invalid", InvalidProof, "DPoP proof invalid"),
            Reason::DpopProofReplayed => ("dpop_proof_replayed", InvalidProof, "DPoP proof used before"),
            Reason::DpopNonceRequired => ("dpop_nonce_required", NonceRequired, "DPoP proof needs a new nonce"),
            Reason::TokenUsed => ("token_used", InvalidToken, "Access token used before"),
            Reason::TokenRevoked => ("token_revoked", InvalidToken, "Grant revoked"),
            Reason::SessionRevoked => ("session_revoked", InvalidToken, "Session revoked"),
            Reason::UserRevoked => ("user_revoked", InvalidToken, "Sessions of the user revoked"),
            Reason::PrincipalRevoked => ("principal_revoked", InvalidToken, "Client, actor, device or tenant revoked"),
            Reason::TaskCompleted => ("task_completed", InvalidToken, "Grant completed"),
            Reason::RuleMissing => ("rule_missing", Forbidden, "Nothing allows this request"),
            Reason::RuleDenied => ("rule_denied", Forbidden, "Request denied"),
            Reason::ScopeInsufficient => ("scope_insufficient", InsufficientScope, "Outside the scope of the grant"),
            Reason::DetailInsufficient => ("detail_insufficient", InsufficientDetails, "Outside the task of the grant"),
            Reason::ClaimMismatch => ("claim_mismatch", Forbidden, "A claim has another value"),
            Reason::ActorRefused => ("actor_refused", Forbidden, "Delegation not accepted"),
            Reason::SourceRefused => ("source_refused", Forbidden, "Source address not accepted"),
            Reason::PeerRefused => ("peer_refused", Forbidden, "Workload not accepted"),
            Reason::DeviceNotCompliant => ("device_not_compliant", Forbidden, "Device not known to be compliant"),
            Reason::RiskTooHigh => ("risk_too_high", Forbidden, "Risk too high or unknown"),
            Reason::ConditionFailed => ("condition_failed", Forbidden, "A condition does not hold"),
            Reason::ConditionError => ("condition_error", Forbidden, "A condition could not be evaluated"),
            Reason::AuthenticationTooOld => {
                ("authentication_too_old", InsufficientAuthentication, "More recent authentication required")
            }
            Reason::AssuranceInsufficient => {
                ("assurance_insufficient", InsufficientAuthentication, "Stronger authentication required")
            }
            Reason::PathRefused => ("path_refused", BadRequest, "Request path refused"),
            Reason::HostRefused => ("host_refused", BadRequest, "Request host refused"),
            Reason::StateUnavailable => ("state_unavailable", Unavailable, "Authorization state unavailable"),
            Reason::StateSaturated => ("state_saturated", Unavailable, "Authorization state full"),
            Reason::ReplaySaturated => ("replay_saturated", Unavailable, "Memory of used proofs and tokens full"),
            Reason::StateStale => ("state_stale", Unavailable, "Authorization state too old"),
            Reason::StateNotReady => ("state_not_ready", Unavailable, "Authorization state not ready"),
            Reason::InternalError => ("internal_error", Unavailable, "Authorization failed"),
        }
    }
}

/// The classes of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 400, `invalid_request`; gRPC 3.
    BadRequest,
    /// 401 with a bare challenge; gRPC 16.
    Unauthenticated,
    /// 401, `invalid_token` (RFC 6750 §3.1: expired, revoked, malformed or invalid); gRPC 16.
    InvalidToken,
    /// 401, `invalid_dpop_proof` (RFC 9449 §7.1); gRPC 16.
    InvalidProof,
    /// 401, `use_dpop_nonce` (RFC 9449 §9) with `DPoP-Nonce`; gRPC 16.
    NonceRequired,
    /// 401, `insufficient_user_authentication` (RFC 9470); gRPC 16.
    InsufficientAuthentication,
    /// 403 without an OAuth error; gRPC 7.
    Forbidden,
    /// 403, `insufficient_scope`; gRPC 7.
    InsufficientScope,
    /// 403, `insufficient_authorization_details` (draft-zehavi-oauth-rar-metadata-04: RFC 6750 has no code for a request
    /// outside `authorization_details`); gRPC 7.
    InsufficientDetails,
    /// 429 with `Retry-After` (RFC 6585 §4); gRPC 8.
    TooManyRequests,
    /// 503 with `Retry-After`; gRPC 14.
    Unavailable,
}

impl Class {
    /// The HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Class::BadRequest => 400,
            Class::Unauthenticated
            | Class::InvalidToken
            | Class::InvalidProof
            | Class::NonceRequired
            | Class::InsufficientAuthentication => 401,
            Class::Forbidden | Class::InsufficientScope | Class::InsufficientDetails => 403,
            Class::TooManyRequests => 429,
            Class::Unavailable => 503,
        }
    }

    /// The gRPC status code.
    pub fn grpc_status(self) -> i32 {
        match self {
            Class::BadRequest => 3,
            Class::Unauthenticated
            | Class::InvalidToken
            | Class::InvalidProof
            | Class::NonceRequired
            | Class::InsufficientAuthentication => 16,
            Class::Forbidden | Class::InsufficientScope | Class::InsufficientDetails => 7,
            Class::TooManyRequests => 8,
            Class::Unavailable => 14,
        }
    }

    /// The `error` of the challenge (RFC 6750 §3.1), if there is one.
    pub fn oauth_error(self) -> Option<&'static str> {
        match self {
            Class::BadRequest => Some("invalid_request"),
            Class::InvalidToken => Some("invalid_token"),
            Class::InvalidProof => Some("invalid_dpop_proof"),
            Class::NonceRequired => Some("use_dpop_nonce"),
            Class::InsufficientScope => Some("insufficient_scope"),
            Class::InsufficientDetails => Some("insufficient_authorization_details"),
            Class::InsufficientAuthentication => Some("insufficient_user_authentication"),
            Class::Unauthenticated | Class::Forbidden | Class::TooManyRequests | Class::Unavailable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_words() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            assert!(seen.insert(reason.code()), "{} stands twice", reason.code());
            assert!(reason.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }

    /// RFC 6750 §3: error_description may hold %x20-21 / %x23-5B / %x5D-7E only.
    #[test]
    fn titles_fit_a_challenge() {
        for reason in Reason::ALL {
            assert!(reason.title().bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\'));
        }
    }
}
