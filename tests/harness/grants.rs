//! Grants for tests of signals: each has names of its own, signals can name it, and its requests show what a signal
//! did.

use serde_json::{Value, json};

use crate::{
    client::{Http, Request},
    mint::{self, Jwt, unique},
    orders,
    refusal::{assert_allowed, assert_refused},
    sidecar::Sidecar,
};

/// How many requests [`Grant::meets`] sends. Each has a connection of its own, so every worker gets some of them.
const REQUESTS: usize = 8;

/// A token, and the names in it. No other grant of this process has any of these names.
pub struct Grant {
    /// The user, `sub`.
    pub user: String,
    /// The task, `txn`.
    pub task: String,
    /// The session, `sid`.
    pub session: String,
    /// The device, `device_id`.
    pub device: String,
    /// The token. It also has an `email`, `USER@example.org`.
    pub token: Jwt,
}

impl Grant {
    /// A grant that meets every rule of [`rules`].
    pub fn new() -> Self {
        let [user, task, session, device] = ["user", "task", "sess", "dev"].map(unique);
        let token = mint::token()
            .user(&user)
            .task(&task)
            .session(&session)
            .claim("device_id", device.as_str())
            .claim("email", format!("{user}@example.org"))
            .claim("scope", "orders.read orders.refund")
            .claim("acr", "phr");
        Self { user, task, session, device, token }
    }

    /// Sets a claim of the token.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.token = self.token.claim(name, value);
        self
    }

    /// The token, as a subject (RFC 9493).
    pub fn of_token(&self) -> Value {
        json!({"format": "jwt_id", "iss": orders::ISSUER, "jti": self.token.id()})
    }

    /// The user, as a subject.
    pub fn of_user(&self) -> Value {
        json!({"format": "iss_sub", "iss": orders::ISSUER, "sub": self.user})
    }

    /// The task, as a subject.
    pub fn of_task(&self) -> Value {
        json!({"format": "complex", "task": {"format": "opaque", "id": self.task}})
    }

    /// The session, as a subject.
    pub fn of_session(&self) -> Value {
        json!({"format": "complex", "session": {"format": "opaque", "id": self.session}})
    }

    /// The device, as a subject.
    pub fn of_device(&self) -> Value {
        json!({"format": "complex", "device": {"format": "opaque", "id": self.device}})
    }

    /// Panics unless every worker lets a request of this grant to `path` pass, or refuses it for `reason`.
    pub async fn meets(&self, sidecar: &Sidecar, path: &str, reason: Option<&str>) {
        let request = Request::get(path).bearer(&self.token.sign());
        for number in 0..REQUESTS {
            let answer = sidecar.send(Http::BOTH[number % 2], &request).await.unwrap();
            match reason {
                Some(reason) => assert_refused(sidecar, &answer, reason),
                None => assert_allowed(sidecar, &answer),
            }
        }
    }
}

impl Default for Grant {
    fn default() -> Self {
        Self::new()
    }
}

/// A rule for the path `/NAME`, with these requirements.
pub fn rule(name: &str, require: Value) -> Value {
    json!({"name": name, "match": {"path": format!("/{name}")}, "require": require})
}

/// A rule for each kind of requirement that a signal can change, and then `more`.
pub fn rules(more: impl IntoIterator<Item = Value>) -> Value {
    let common = [
        rule("open", json!({})),
        rule("refund", json!({"scope": "orders.refund"})),
        rule("device", json!({"device": {"status": "compliant", "unknown": "allow"}})),
        rule("risk", json!({"risk": {"below": "HIGH", "unknown": "allow"}})),
        rule("acr", json!({"acr": ["phr"]})),
    ];
    common.into_iter().chain(more).collect()
}
