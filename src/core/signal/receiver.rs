//! The receiver of pushed signals (RFC 8935): reads one POST, applies it, answers it.

use crate::index::TransmitterIndex;
use crate::jose::jws::Unverified;
use crate::jose::key::NoKey;
use crate::jose::signature::CheckSignature;
use crate::keys::keyring::{Keyring, Owner};
use crate::ports::Ports;
use crate::signal::accepted::Signal;
use crate::signal::set;
use crate::signal::set::MAX_SET;
use crate::signal::set_error::{SetError, SetErrorCode};
use crate::signal::signals::Signals;
use crate::state::revocations;
use crate::state::seen_sets::{self, Memory};
use crate::state::store::{Store, StoreError};
use crate::time::{Span, Timestamp};
use crate::token::issuer::Issuer;
use serde_json::json;
use std::fmt;

/// The outcome of a push.
#[derive(Debug)]
pub enum Received {
    /// Applied: every request that starts from now on sees it. 202.
    Applied(Signal),
    /// Not a SET for this receiver: 400. Or one that may be accepted later: 503.
    Refused(SetError),
    /// Another SET with the same `jti` and other contents came before and stays in effect. 400.
    Contradicts(Signal),
    /// The signal is valid but could not be stored; the transmitter must push it again. 503.
    Failed(Signal, StoreError),
    /// Not a push: 404, 405, 413 or 415. Or the filter could not check anything: 503.
    NotAPush(u16),
}

/// The headers of a push, before its body has come.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// `:method`.
    pub method: Vec<u8>,
    /// `:path`.
    pub path: Vec<u8>,
    /// `content-type`.
    pub content_type: Vec<u8>,
    /// Whether the body is compressed or otherwise encoded (`content-encoding`).
    pub encoded: bool,
    /// `authorization`.
    pub authorization: Option<SecretBytes>,
}

/// The value of a header that must not be shown: `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// The value.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Head {
    /// Reads the header map.
    pub fn from_headers<'h>(headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>) -> Head {
        let mut head = Head::default();
        for (name, value) in headers {
            match name {
                b":method" => head.method = value.to_vec(),
                b":path" => head.path = value.to_vec(),
                b"content-type" => head.content_type = value.to_vec(),
                b"content-encoding" => {
                    let encodings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    head.encoded |=
                        encodings.into_iter().any(|one| !one.is_empty() && !one.eq_ignore_ascii_case(b"identity"));
                }
                b"authorization" => head.authorization = Some(SecretBytes(value.to_vec())),
                _ => {}
            }
        }
        head
    }

    /// Whether to read the body; otherwise the status to answer with.
    pub fn check(&self, signals: &Signals) -> Result<(), u16> {
        let path = self.path.split(|byte| *byte == b'?').next().unwrap_or_default();
        if path != signals.path().as_bytes() {
            return Err(404);
        }
        if self.method != b"POST" {
            return Err(405);
        }
        let media_type = self.content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_set = media_type.eq_ignore_ascii_case(b"application/secevent+jwt");
        if is_set && !self.encoded { Ok(()) } else { Err(415) }
    }
}

/// Handles a push: verifies `body`, applies it to the state, and only then reports success.
pub fn receive<C>(
    signals: &Signals,
    issuers: &[Issuer],
    head: &Head,
    body: &[u8],
    ports: &mut Ports<impl Store, impl CheckSignature, C>,
    now: Timestamp,
) -> Received {
    if let Err(status) = head.check(signals) {
        return Received::NotAPush(status);
    }
    let (authorization, transmitters) = (head.authorization.as_ref().map(SecretBytes::reveal), signals.transmitters());
    let signal = match set::read(body, authorization, transmitters, issuers, &mut ports.signatures, now) {
        Ok(signal) => signal,
        Err(error) => return Received::Refused(error),
    };
    match store_signal(&mut ports.store, &signal, now) {
        Ok(true) => Received::Applied(signal),
        Ok(false) => Received::Contradicts(signal),
        Err(error) => Received::Failed(signal, error),
    }
}

/// The transmitter whose keys must be fetched, if a push was refused because of missing keys. The SET is not verified:
/// it only decides what to fetch.
pub fn lacks_keys_of(signals: &Signals, body: &[u8]) -> Option<Owner> {
    let jws = Unverified::parse(body, MAX_SET).ok()?;
    let transmitters = signals.transmitters();
    let candidates = set::candidates(jws.claims(), transmitters);
    let lacks = |at: &&TransmitterIndex| {
        let keys = at.of(transmitters).map(|transmitter| &transmitter.keys);
        let is_unknown = |keys: &Keyring| {
            let found = jws.algorithm().map(|algorithm| keys.last().candidates(jws.kid(), algorithm));
            found.is_some_and(|found| match found {
                Ok(candidates) => !candidates.is_named(),
                Err(lack) => lack == NoKey::Unknown,
            })
        };
        keys.is_some_and(|keys| keys.source().is_some() && is_unknown(keys))
    };
    // If no transmitter lacks the key, the keys of the first are too old.
    candidates.iter().find(lacks).or(candidates.first()).map(|at| Owner::Transmitter(*at))
}

/// Stores a signal in the state. `Ok(false)`: another SET with the same `jti` and other contents was stored before. A
/// signal that could not be stored completely is not remembered, so that it can be pushed again.
pub fn store_signal(store: &mut impl Store, signal: &Signal, now: Timestamp) -> Result<bool, StoreError> {
    let memory = seen_sets::recall(store, signal.fingerprint())?;
    if memory == Memory::Other {
        return Ok(false);
    }
    // A SET that is dated in the future takes effect when it first comes, however often it is pushed again.
    if memory == Memory::New || !signal.is_dated_ahead() {
        revocations::apply(store, signal.heartbeat().transmitter, signal.entries(), now)?;
    }
    seen_sets::remember(store, signal.fingerprint())?;
    revocations::record_heartbeat(store, signal.heartbeat(), now)?;
    Ok(true)
}

/// The status, headers and body of the answer. A condition that may pass is answered with 503 and the time after which
/// to push again, never with a permanent error.
pub fn answer(received: &Received) -> (u16, Vec<(&'static str, String)>, String) {
    let mut headers = vec![("cache-control", "no-store".to_owned())];
    let (status, retry_after) = match received {
        Received::Applied(_) => (202, None),
        Received::Contradicts(_) => {
            return answer(&Received::Refused(
                SetErrorCode::InvalidRequest.because("jti was used before for something else"),
            ));
        }
        // The transmitter is not at fault: it must push again (RFC 8935 §2.1).
        Received::Refused(SetError { retry_after: Some(after), .. }) => (503, Some(*after)),
        Received::Refused(error) => {
            headers.push(("content-type", "application/json".to_owned()));
            headers.push(("content-language", "en".to_owned()));
            let body = json!({"err": error.code.code(), "description": error.description});
            return (400, headers, body.to_string());
        }
        Received::Failed(..) => (503, Some(Span(1))),
        Received::NotAPush(status) => (*status, (*status == 503).then_some(Span(1))),
    };
    headers.extend(retry_after.map(|after| ("retry-after", after.0.max(1).to_string())));
    match status {
        405 => headers.push(("allow", "POST".to_owned())),
        // RFC 9110 §15.5.16: the encoding that would have been accepted.
        415 => headers.push(("accept-encoding", "identity".to_owned())),
        _ => {}
    }
    (status, headers, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::policy::Policy;
    use crate::state::revocations::set_up;
    use crate::testing::fixture::{self, NOW, sign};
    use crate::testing::ports::TestPorts;

    fn policy() -> Policy {
        let config = json!({
            "role": "receiver",
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
            "signals": {"transmitters": [{
                "issuer": "https://idp.example", "audience": "us", "keys": {"inline": fixture::jwks()},
                "subjects": ["https://jit.example"], "authorization": "Bearer stream-secret"
            }]}
        });
        crate::config::load::load(config.to_string().as_bytes()).unwrap().policy
    }

    fn push(changes: &[(&str, &str)], body: &[u8]) -> u16 {
        let mut headers = vec![
            (":method", "POST"),
            (":path", "/signals"),
            ("content-type", "application/secevent+jwt"),
            ("authorization", "Bearer stream-secret"),
        ];
        for (name, value) in changes {
            headers.retain(|(have, _)| have != name);
            headers.push((name, value));
        }
        let head = Head::from_headers(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let mut ports = TestPorts::default();
        set_up(&mut ports.store, 1).unwrap();
        answer(&receive(policy().signals(), policy().issuers(), &head, body, &mut ports, NOW)).0
    }

    fn set() -> Vec<u8> {
        let payload = json!({
            "iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": "1",
            "sub_id": {"format": "jwt_id", "iss": "https://jit.example", "jti": "tok-1"},
            "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}}
        });
        sign(&json!({"alg": "ES256", "typ": "secevent+jwt", "kid": "jit-1"}), &payload).into_bytes()
    }

    #[test]
    fn answers_by_what_came() {
        assert_eq!(push(&[], &set()), 202);
        assert_eq!(push(&[], b"garbage"), 400);
        assert_eq!(push(&[(":path", "/other")], &set()), 404);
        assert_eq!(push(&[(":method", "PUT")], &set()), 405);
        assert_eq!(push(&[("content-type", "application/json")], &set()), 415);
        assert_eq!(push(&[("content-type", "Application/SecEvent+JWT; charset=utf-8")], &set()), 202);
        for encoding in ["gzip", "br", "GZIP", "identity, gzip", "deflate"] {
            assert_eq!(push(&[("content-encoding", encoding)], &set()), 415, "{encoding}");
        }
        for encoding in ["identity", "Identity", ""] {
            assert_eq!(push(&[("content-encoding", encoding)], &set()), 202, "{encoding}");
        }
        assert_eq!(push(&[("authorization", "Bearer other-secret")], &set()), 400);
        assert_eq!(push(&[("authorization", "")], &set()), 400);
    }

    #[test]
    fn a_state_that_cannot_take_it_is_no_success() {
        let headers = [
            (":method", "POST"),
            (":path", "/signals"),
            ("content-type", "application/secevent+jwt"),
            ("authorization", "Bearer stream-secret"),
        ];
        let head = Head::from_headers(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let received = receive(policy().signals(), policy().issuers(), &head, &set(), &mut TestPorts::default(), NOW);
        assert_eq!(answer(&received).0, 503);
    }

    #[test]
    fn what_may_pass_comes_with_a_time_to_come_again() {
        let retry = |received: &Received| {
            let (status, headers, _) = answer(received);
            let after = headers.into_iter().find(|(name, _)| *name == "retry-after").map(|(_, value)| value);
            (status, after)
        };
        let mut ports = TestPorts::default();
        set_up(&mut ports.store, 1).unwrap();
        let head = Head {
            method: b"POST".to_vec(),
            path: b"/signals".to_vec(),
            content_type: b"application/secevent+jwt".to_vec(),
            authorization: Some(SecretBytes(b"Bearer stream-secret".to_vec())),
            ..Head::default()
        };
        let Received::Applied(signal) = receive(policy().signals(), policy().issuers(), &head, &set(), &mut ports, NOW)
        else {
            panic!()
        };
        for error in
            [StoreError::Failed, StoreError::Absent, StoreError::Corrupt, StoreError::Contended, StoreError::Saturated]
        {
            let failed = retry(&Received::Failed(signal.clone(), error));
            assert_eq!(failed, (503, Some("1".to_owned())), "{error}");
        }
        for code in SetErrorCode::ALL {
            let later = matches!(code, SetErrorCode::KeysUnavailable | SetErrorCode::TooEarly);
            let want = if later { (503, Some("1".to_owned())) } else { (400, None) };
            assert_eq!(retry(&Received::Refused(code.because("x"))), want, "{}", code.code());
        }
        assert_eq!(retry(&Received::NotAPush(503)), (503, Some("1".to_owned())));
        assert_eq!(retry(&Received::NotAPush(415)), (415, None));
    }
}
