//! The streams that the hub makes and keeps at transmitters, as meant.

use reqwest::Url;
use std::path::PathBuf;
use std::time::Duration;

/// A stream that the hub manages.
#[derive(Debug, Clone)]
pub struct ManagedStream {
    /// The feed that it belongs to.
    pub feed: String,
    /// The name of the stream within the feed, as the configuration of the feed tells streams apart.
    pub name: String,
    /// `iss` of its SETs.
    pub issuer: String,
    /// `aud` of its SETs is one of these. Empty only while a stream is made that has no configuration yet.
    pub audiences: Vec<String>,
    /// The issuer URL that its metadata is found from.
    pub url: Url,
    /// How signals come.
    pub delivery: Delivery,
    /// How the hub authenticates at the transmitter.
    pub credentials: Credentials,
    /// The URIs of the events to ask for.
    pub events: Vec<String>,
    /// A stream that exists and is to be taken over.
    pub adopted: Option<String>,
    /// How often to ask for a verification.
    pub verify: Duration,
}

/// How signals come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The hub polls (RFC 8936).
    Poll {
        /// How long a poll may wait.
        wait: Duration,
    },
    /// The transmitter pushes (RFC 8935).
    Push {
        /// Where to.
        endpoint: Url,
    },
}

/// How the hub authenticates at a transmitter. Secrets stand in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A bearer token.
    Token(PathBuf),
    /// OAuth 2.0 client credentials (RFC 6749 §4.4).
    Client(Client),
}

/// An OAuth 2.0 client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// What it proves itself with.
    pub proof: Proof,
    /// The token endpoint; `None`: the metadata has it.
    pub token_endpoint: Option<Url>,
}

/// What an OAuth client proves itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A secret, sent by this method; `None`: by what the server supports.
    Secret(PathBuf, Option<SecretMethod>),
    /// A private key in PEM, with its `kid` (`private_key_jwt`).
    Key(PathBuf, Option<String>),
}

/// How a client secret is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretMethod {
    /// In the header (`client_secret_basic`).
    Basic,
    /// In the body (`client_secret_post`).
    Post,
    /// It signs an assertion (`client_secret_jwt`).
    Jwt,
}

impl ManagedStream {
    /// Under which name the store keeps what is known of it, and who holds it. It does not depend on what other streams
    /// are configured.
    pub fn key(&self) -> String {
        format!("ssf/{}/{} {}", self.feed, self.issuer, self.audiences.join(" "))
    }
}
