//! A real authorization server, `tests/oidc/server.mjs` on npm's `oidc-provider`, and `jose`, which that brings along:
//! tokens by people who have never seen the filter.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::{
    Error, Result, artefacts,
    client::{Answer, Connection, Http, Request},
    mint, orders,
};

/// Whether what `scripts/setup` gets from npm is there. If not, `test` says that it is skipped; where `CI` is set it
/// fails.
pub fn is_there(test: &str) -> bool {
    let folder = folder();
    if folder.join("node_modules/oidc-provider/package.json").is_file() {
        return true;
    }
    let why = format!("{} is not there; install node and npm and run scripts/setup", folder.display());
    assert!(env::var_os("CI").is_none(), "{test} needs npm: {why}");
    // Not `println!`, because its output is hidden when a test passes.
    let _ = writeln!(io::stderr(), "skipped: {test}: npm: {why}");
    false
}

/// A running authorization server with the name [`orders::ISSUER`], for [`orders::AUDIENCE`]. Ends when dropped.
pub struct AuthorizationServer {
    node: Child,
    address: SocketAddr,
}

/// A client that the server knows, and how its tokens are signed and bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// ES256, a bearer token.
    Plain,
    /// RS256, a bearer token.
    Rsa,
    /// Bound to the key of a DPoP proof.
    Dpop,
    /// Bound to a certificate.
    Mtls,
}

impl Client {
    fn id(self) -> &'static str {
        match self {
            Self::Plain => "agent",
            Self::Rsa => "agent-rsa",
            Self::Dpop => "agent-dpop",
            Self::Mtls => "agent-mtls",
        }
    }
}

impl AuthorizationServer {
    /// Starts it, with new keys.
    pub fn start() -> Result<Self> {
        let mut node = node("server.mjs", &[orders::ISSUER, orders::AUDIENCE])?;
        let (Some(output), Some(mut errors)) = (node.stdout.take(), node.stderr.take()) else {
            return Err(Error::new("node has no output"));
        };
        let line = BufReader::new(output).lines().next();
        let port: Option<u16> = line.and_then(|line| line.ok()?.strip_prefix("listening ")?.parse().ok());
        let Some(port) = port else {
            let (_, mut said) = (node.kill(), String::new());
            let _ = errors.read_to_string(&mut said);
            let _ = node.wait();
            return Err(Error::new(format!("the authorization server did not start:\n{said}")));
        };
        // A full pipe would stop it.
        thread::spawn(move || io::copy(&mut errors, &mut io::sink()));
        Ok(Self { node, address: (Ipv4Addr::LOCALHOST, port).into() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its token endpoint, which a DPoP proof for it names.
    pub fn token_url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// A connection to it, which takes any number of requests.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, Http::One).await
    }

    /// A request for a token to read [`orders::ORDER`] for [`orders::TASK`]: scope, resource, and
    /// `authorization_details` (RFC 9396).
    pub fn token_request(&self, client: Client) -> Request {
        let details = json!([{"type": "order", "actions": ["read"], "identifier": orders::ORDER}]);
        self.request_without_details(client, &format!("&authorization_details={}", escape(&details.to_string())))
    }

    /// A request for a token with the scope alone, and what `more` adds to the form.
    pub fn request_without_details(&self, client: Client, more: &str) -> Request {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", orders::SCOPE),
            ("resource", orders::AUDIENCE),
            ("task", orders::TASK),
        ];
        let form = form.map(|(name, value)| format!("{name}={}", escape(value))).join("&");
        let secret = STANDARD.encode(format!("{}:not-much-of-a-secret", client.id()));
        Request::new("POST", "/token")
            .host(&self.address.to_string())
            .header("authorization", format!("Basic {secret}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form + more)
    }

    /// A new token, as the server gave it.
    pub async fn token(&self, request: &Request) -> Result<String> {
        token(&self.connect().await?.send(request).await?)
    }

    /// One step of its key rotation: `announce`, `switch` or `retire`.
    pub async fn rotate(&self, step: &str) -> Result<()> {
        let request = Request::new("POST", &format!("/rotate/{step}")).host(&self.address.to_string());
        let answer = self.connect().await?.send(&request).await?;
        if answer.status == 204 { Ok(()) } else { Err(Error::new(format!("{step}: {}", answer.text()))) }
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

/// The access token in an answer of the token endpoint.
pub fn token(answer: &Answer) -> Result<String> {
    let body = answer.json();
    let token = body["access_token"].as_str().filter(|_| answer.status == 200);
    token.map(str::to_owned).ok_or_else(|| Error::new(format!("no token: {} {}", answer.status, answer.text())))
}

/// The name of the key that signed this token.
pub fn kid(token: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    header["kid"].as_str().map(str::to_owned)
}

/// Percent-encodes all that has a meaning in a form or a header.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// Runs `tests/oidc/jose.mjs` with this action and input; an error is what it said.
pub fn jose(action: &str, input: &Value) -> Result<Value> {
    run("jose.mjs", &[action], input)
}

/// Lets npm's `oauth4webapi` ask for a resource, read the challenge, and fetch the metadata that it points to:
/// `tests/oidc/discover.mjs` with this input. An error is what it said.
pub fn discover(input: &Value) -> Result<Value> {
    run("discover.mjs", &[], input)
}

fn run(script: &str, arguments: &[&str], input: &Value) -> Result<Value> {
    let mut process = node(script, arguments)?;
    if let Some(mut stdin) = process.stdin.take() {
        stdin.write_all(input.to_string().as_bytes()).map_err(Error::doing("write to node"))?;
    }
    let output = process.wait_with_output().map_err(Error::doing("run node"))?;
    if !output.status.success() {
        return Err(Error::new(String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(Error::doing("read what node said"))
}

/// Starts node on a script of `tests/oidc`. Its input is a pipe of this process, and ends with it.
fn node(script: &str, arguments: &[&str]) -> Result<Child> {
    // Node looks for modules beside the script and above it, and they are not in the repository.
    let source = artefacts::in_repository("tests/oidc").join(script);
    let (copy, place) = (folder().join(mint::unique(script)), folder().join(script));
    fs::copy(&source, &copy).map_err(Error::doing(source.display()))?;
    fs::rename(&copy, &place).map_err(Error::doing(place.display()))?;
    Command::new("node")
        .arg(&place)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::doing("run `node`"))
}

fn folder() -> PathBuf {
    artefacts::target().join("oidc")
}
