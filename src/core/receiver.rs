//! The receiver of pushed signals (RFC 8935): one POST in, one answer out.

use crate::duplicate;
use crate::jws::Unverified;
use crate::keyring::Owner;
use crate::policy::Policy;
use crate::signal::{self, MAX_SET, SetError, SetErrorCode, Signal};
use crate::signature::CheckSignature;
use crate::state::{self, Store, StoreError};
use crate::time::Timestamp;
use serde_json::json;

/// What the receiver did with a push.
#[derive(Debug)]
pub enum Received {
    /// Applied: whatever starts from now on meets it. 202.
    Applied(Signal),
    /// Not a SET for us: 400. Or one whose keys are not there yet: 503.
    Refused(SetError),
    /// Another SET of the same name came before and said something else; the first stands. 400.
    Contradicts(Signal),
    /// The signal is good and the state could not take it; the transmitter must push it again. 503.
    Failed(Signal, StoreError),
    /// Not a push at all: 404, 405, 413 or 415.
    NotAPush(u16),
}

/// The head of a push, as it stands before the body came.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// `:method`.
    pub method: Vec<u8>,
    /// `:path`.
    pub path: Vec<u8>,
    /// `content-type`.
    pub content_type: Vec<u8>,
    /// `authorization`.
    pub authorization: Option<Vec<u8>>,
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
                b"authorization" => head.authorization = Some(value.to_vec()),
                _ => {}
            }
        }
        head
    }

    /// Whether a body is worth waiting for; else the status to answer with.
    pub fn check(&self, policy: &Policy) -> Result<(), u16> {
        let path = self.path.split(|byte| *byte == b'?').next().unwrap_or_default();
        if path != policy.signals().path().as_bytes() {
            return Err(404);
        }
        if self.method != b"POST" {
            return Err(405);
        }
        let media_type = self.content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if media_type.eq_ignore_ascii_case(b"application/secevent+jwt") { Ok(()) } else { Err(415) }
    }
}

/// Takes a push in: verifies `body`, applies it to the state, and only then says so.
pub fn receive(
    policy: &Policy,
    head: &Head,
    body: &[u8],
    ports: &mut (impl Store + CheckSignature),
    now: Timestamp,
) -> Received {
    if let Err(status) = head.check(policy) {
        return Received::NotAPush(status);
    }
    let signal = match signal::read(
        body,
        head.authorization.as_deref(),
        policy.signals().transmitters(),
        policy.issuers(),
        ports,
        now,
    ) {
        Ok(signal) => signal,
        Err(error) => return Received::Refused(error),
    };
    match take_in(ports, &signal, now) {
        Ok(true) => Received::Applied(signal),
        Ok(false) => Received::Contradicts(signal),
        Err(error) => Received::Failed(signal, error),
    }
}

/// Whose keys a push lacks, that was refused for want of them. Nothing of it is believed: it only says what to fetch.
pub fn lacks_keys_of(policy: &Policy, body: &[u8]) -> Option<Owner> {
    let jws = Unverified::parse(body, MAX_SET).ok()?;
    let name = jws.claims().get("iss")?.as_str()?;
    let at = policy.signals().transmitters().iter().position(|transmitter| transmitter.name == name)?;
    Some(Owner::Transmitter(at))
}

/// Takes a signal into the state. `Ok(false)`: another of its name was there before and said something else. A signal
/// that could not be taken in whole is not remembered, so that it can come again.
pub fn take_in(store: &mut impl Store, signal: &Signal, now: Timestamp) -> Result<bool, StoreError> {
    if duplicate::contradicts(store, signal.print())? {
        return Ok(false);
    }
    state::apply(store, signal.pulse().transmitter, signal.entries(), now)?;
    duplicate::remember(store, signal.print())?;
    state::hear(store, signal.pulse(), now)?;
    Ok(true)
}

/// The status, headers and body of the answer.
pub fn answer(received: &Received) -> (u16, Vec<(&'static str, String)>, String) {
    let mut headers = vec![("cache-control", "no-store".to_owned())];
    match received {
        Received::Applied(_) => (202, headers, String::new()),
        // Not the transmitter's fault: it pushes again (RFC 8935 §2.1).
        Received::Refused(error) if error.code == SetErrorCode::KeysUnavailable => {
            headers.push(("retry-after", "1".to_owned()));
            (503, headers, String::new())
        }
        Received::Contradicts(_) => {
            answer(&Received::Refused(SetErrorCode::InvalidRequest.because("jti was used before for something else")))
        }
        Received::Refused(error) => {
            headers.push(("content-type", "application/json".to_owned()));
            headers.push(("content-language", "en".to_owned()));
            let body = json!({"err": error.code.code(), "description": error.description});
            (400, headers, body.to_string())
        }
        Received::Failed(..) => {
            headers.push(("retry-after", "1".to_owned()));
            (503, headers, String::new())
        }
        Received::NotAPush(status) => {
            if *status == 405 {
                headers.push(("allow", "POST".to_owned()));
            }
            (*status, headers, String::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, NOW, sign};
    use crate::jws::Unverified;
    use crate::key::{Algorithm, Key};
    use crate::signature::PureRust;
    use crate::state::{MemoryStore, Slot, Stored, set_up};

    struct Ports(MemoryStore);

    impl Store for Ports {
        fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
            self.0.read(slot)
        }

        fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
            self.0.swap(slot, bytes, cas)
        }

        fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
            self.0.seed(slot, bytes)
        }
    }

    impl CheckSignature for Ports {
        fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
            PureRust.check(token, key, algorithm)
        }
    }

    fn policy() -> Policy {
        let config = json!({
            "role": "receiver",
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
            "signals": {"transmitters": [{
                "issuer": "https://idp.example", "audience": "us", "keys": {"inline": fixture::jwks()},
                "subjects": ["https://jit.example"], "authorization": "Bearer stream-secret"
            }]}
        });
        crate::config::load(config.to_string().as_bytes()).unwrap().policy
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
        let mut store = MemoryStore::default();
        set_up(&mut store, 1).unwrap();
        answer(&receive(&policy(), &head, body, &mut Ports(store), NOW)).0
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
        let received = receive(&policy(), &head, &set(), &mut Ports(MemoryStore::default()), NOW);
        assert_eq!(answer(&received).0, 503);
    }
}
