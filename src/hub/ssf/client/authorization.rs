//! How the hub authorizes at a transmitter: a bearer token of a file, or one that it gets with client credentials
//! (RFC 6749 §4.4) of the authorization server that the transmitter names (RFC 9728, RFC 8414).

use crate::config::ssf::{Client, Credentials, Proof, SecretMethod};
use crate::ssf::client::assertion::{Key, assertion};
use crate::ssf::client::discovery::Metadata;
use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::http::{Ask, Body, Http};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Url};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use taskfence_core::encoding::secret::Secret;
use tokio::sync::Mutex;

/// The scopes that SSF has (SSF 1.0 §7.2).
const SCOPES: [&str; 2] = ["ssf.read", "ssf.manage"];

/// A token is used for this long at most, whatever it says.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How long a token is used that does not say when it ends.
const UNSAID: Duration = Duration::from_secs(5 * 60);

/// A file with a secret is at most this long, in bytes.
const MAX_SECRET: usize = 64 * 1024;

/// So many authorization servers of one resource are tried.
const MAX_SERVERS: usize = 3;

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Gives the `authorization` header for requests to one transmitter.
#[derive(Debug)]
pub struct Authorizer {
    credentials: Credentials,
    held: Mutex<Option<Held>>,
}

#[derive(Debug, Clone)]
struct Held {
    header: Secret,
    /// When to get another.
    renew: Instant,
}

impl Authorizer {
    /// One that has no token yet.
    pub fn new(credentials: Credentials) -> Authorizer {
        Authorizer { credentials, held: Mutex::new(None) }
    }

    /// The header. `now` is in seconds since 1970. Many at once wait for one token.
    pub async fn header(&self, http: &Http, metadata: &Metadata, now: u64) -> Result<Secret, Failure> {
        let client = match &self.credentials {
            Credentials::Token(file) => return bearer(&secret(file).await?),
            Credentials::Client(client) => client,
        };
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.renew > Instant::now()) {
            return Ok(held.header.clone());
        }
        let got = request(http, metadata, client, now).await?;
        let header = got.header.clone();
        *held = Some(got);
        Ok(header)
    }

    /// Forgets a token that was not accepted. Returns whether another may be.
    pub async fn forget(&self, refused: &Secret) -> bool {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.header == *refused) {
            *held = None;
        }
        match &self.credentials {
            // The file may have been replaced meanwhile.
            Credentials::Token(file) => {
                let again = secret(file).await.and_then(|secret| bearer(&secret));
                again.is_ok_and(|header| header != *refused)
            }
            Credentials::Client(_) => true,
        }
    }
}

/// The secret of a file, which is read each time: it may be replaced.
async fn secret(file: &Path) -> Result<Secret, Failure> {
    let bytes = read(file).await?;
    let text = bytes.trim_ascii();
    let is_one = !text.is_empty() && text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    match std::str::from_utf8(text) {
        Ok(text) if is_one => Ok(Secret::from(text.to_owned())),
        _ => {
            let what = format!("`{}` does not hold one secret on one line", file.display());
            Err(Failure::new(Step::Authorization, what, "write the secret, and nothing else, into it"))
        }
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |reason: String| {
        let what = format!("`{}` cannot be read: {reason}", file.display());
        Failure::new(Step::Authorization, what, "let the user of the hub read it")
    };
    let bytes = tokio::fs::read(file).await.map_err(|error| failed(error.to_string()))?;
    if bytes.len() > MAX_SECRET { Err(failed(format!("it has more than {MAX_SECRET} bytes"))) } else { Ok(bytes) }
}

fn bearer(token: &Secret) -> Result<Secret, Failure> {
    match token.reveal().contains(' ') {
        true => Err(Failure::new(Step::Authorization, "a bearer token has no spaces", "check `token_file`")),
        false => Ok(Secret::from(format!("Bearer {}", token.reveal()))),
    }
}

/// An authorization server, as far as it is needed.
#[derive(Debug)]
struct Server {
    token_endpoint: Url,
    /// `token_endpoint_auth_methods_supported`; empty: it does not say.
    methods: Vec<String>,
    /// What to ask for.
    scope: String,
}

async fn request(http: &Http, metadata: &Metadata, client: &Client, now: u64) -> Result<Held, Failure> {
    let server = match &client.token_endpoint {
        Some(endpoint) => Server { token_endpoint: endpoint.clone(), methods: Vec::new(), scope: SCOPES.join(" ") },
        None => server(http, metadata).await?,
    };
    let endpoint = &server.token_endpoint;
    let mut ask = Ask::new(Method::POST, endpoint.clone());
    let plain = |text: &str| Secret::from(text.to_owned());
    let mut form = vec![("grant_type", plain("client_credentials")), ("scope", plain(&server.scope))];
    let signed = |key: &Key, kid: Option<&str>| {
        let signed = assertion(key, kid, &client.id, endpoint.as_str(), now);
        signed.ok_or_else(|| Failure::new(Step::Authorization, "the assertion of the client cannot be signed", ""))
    };
    let assertion = match &client.proof {
        Proof::Key(file, kid) => {
            let key = Key::of_pem(&read(file).await?).map_err(|why| {
                let what = format!("`{}` cannot be used: {why}", file.display());
                Failure::new(Step::Authorization, what, "write a private key in PEM (PKCS #8) into it")
            })?;
            Some(signed(&key, kid.as_deref())?)
        }
        Proof::Secret(file, method) => {
            let secret = secret(file).await?;
            let method = method.unwrap_or_else(|| choose(&server.methods));
            if client.token_endpoint.is_none() && method != SecretMethod::Jwt {
                is_known(endpoint, metadata)?;
            }
            match method {
                SecretMethod::Basic => {
                    ask.authorization = Some(basic(&client.id, &secret));
                    None
                }
                SecretMethod::Post => {
                    form.extend([("client_id", plain(&client.id)), ("client_secret", secret)]);
                    None
                }
                SecretMethod::Jwt => Some(signed(&Key::of_secret(secret.reveal()), None)?),
            }
        }
    };
    if let Some(assertion) = assertion {
        form.extend([
            ("client_id", plain(&client.id)),
            ("client_assertion_type", plain(ASSERTION)),
            ("client_assertion", assertion),
        ]);
    }
    ask.body = Body::Form(form);
    let answer = http.send(Step::Authorization, ask).await?;
    let place = format!("POST {endpoint}");
    if answer.status != 200 {
        let remedy = match answer.status {
            400 | 401 => {
                "check `client_id`, the secret or key, and `method`; the client needs the grant \
                          `client_credentials` and the scopes `ssf.read` and `ssf.manage`"
            }
            404 => "check `credentials.token_endpoint`",
            _ => "",
        };
        return Err(answer.failure(Step::Authorization, &place, remedy));
    }
    held(&answer.json(Step::Authorization, &format!("what {endpoint} answers"))?)
}

/// Whether a secret may be sent to `endpoint`, which the transmitter named: to its own host alone. A transmitter that names
/// another could get the secret of a client that other services know too (RFC 9728 §7.6). An assertion is of no use
/// elsewhere, because its `aud` is the endpoint.
fn is_known(endpoint: &Url, metadata: &Metadata) -> Result<(), Failure> {
    if endpoint.host_str().is_some() && endpoint.host_str() == metadata.at.host_str() {
        return Ok(());
    }
    let what = format!("the transmitter has the token endpoint `{endpoint}`, which is not at its own host");
    let remedy = "write it as `credentials.token_endpoint` if the client secret is for that server";
    Err(Failure::new(Step::Authorization, what, remedy))
}

/// The token of an answer (RFC 6749 §5.1).
fn held(answer: &Value) -> Result<Held, Failure> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let bad = |what: &str| Failure::new(Step::Authorization, what, "");
    if !text("token_type").eq_ignore_ascii_case("bearer") {
        return Err(bad("the authorization server gives no bearer token (`token_type`)"));
    }
    let token = text("access_token");
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("the authorization server gives no `access_token`"));
    }
    let life = answer.get("expires_in").and_then(Value::as_u64).map_or(UNSAID, Duration::from_secs).min(LONGEST);
    // Renewed when a fifth of its life is left, so that none ends on its way.
    let renew = Instant::now().checked_add(life.mul_f32(0.8)).unwrap_or_else(Instant::now);
    Ok(Held { header: Secret::from(format!("Bearer {token}")), renew })
}

/// `client_secret_basic` (RFC 6749 §2.3.1): both are form-encoded first.
fn basic(id: &str, secret: &Secret) -> Secret {
    let pair = format!("{}:{}", encoded(id), encoded(secret.reveal()));
    Secret::from(format!("Basic {}", STANDARD.encode(pair)))
}

/// `application/x-www-form-urlencoded`.
fn encoded(text: &str) -> String {
    let Ok(mut url) = Url::parse("http://localhost/") else { return String::new() };
    url.query_pairs_mut().append_pair("", text);
    url.query().unwrap_or_default().trim_start_matches('=').to_owned()
}

/// The method of a server that does not support all.
fn choose(supported: &[String]) -> SecretMethod {
    let has = |name: &str| supported.iter().any(|known| known == name);
    if supported.is_empty() || has("client_secret_basic") {
        SecretMethod::Basic
    } else if has("client_secret_post") {
        SecretMethod::Post
    } else if has("client_secret_jwt") {
        SecretMethod::Jwt
    } else {
        SecretMethod::Basic
    }
}

/// The authorization server of the transmitter: the one that its metadata as a protected resource names, or that of its
/// issuer.
async fn server(http: &Http, metadata: &Metadata) -> Result<Server, Failure> {
    let resource = &metadata.configuration_endpoint;
    let (servers, scope) = match get(http, &inserted(resource, "oauth-protected-resource")).await? {
        // RFC 9728 §3.3: metadata of another resource must not be used.
        Some(document) if document.get("resource").and_then(Value::as_str) == Some(resource.as_str()) => {
            (strings(&document, "authorization_servers"), scope(&strings(&document, "scopes_supported")))
        }
        _ => (Vec::new(), SCOPES.join(" ")),
    };
    let servers = if servers.is_empty() { vec![metadata.issuer.clone()] } else { servers };
    let mut tried = Vec::new();
    for issuer in servers.iter().take(MAX_SERVERS) {
        let Ok(url) = Url::parse(issuer) else { continue };
        let appended = format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/'));
        for at in [inserted(&url, "oauth-authorization-server"), with_path(&url, &appended)] {
            let document = get(http, &at).await?;
            tried.push(at.to_string());
            let Some(document) = document else { continue };
            let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
            if text("issuer").trim_end_matches('/') != issuer.trim_end_matches('/') {
                continue;
            }
            if let Ok(token_endpoint) = Url::parse(text("token_endpoint")) {
                let methods = strings(&document, "token_endpoint_auth_methods_supported");
                return Ok(Server { token_endpoint, methods, scope });
            }
        }
    }
    let what = format!("no authorization server is found at {}", tried.join(", "));
    Err(Failure::new(Step::Authorization, what, "write `credentials.token_endpoint`"))
}

/// The scopes of SSF that a resource knows; all, where it knows none.
fn scope(supported: &[String]) -> String {
    let known: Vec<&str> = SCOPES.into_iter().filter(|scope| supported.iter().any(|known| known == scope)).collect();
    if known.is_empty() { SCOPES.join(" ") } else { known.join(" ") }
}

async fn get(http: &Http, at: &Url) -> Result<Option<Value>, Failure> {
    let answer = http.send(Step::Authorization, Ask::new(Method::GET, at.clone())).await?;
    match answer.status {
        200 => answer.json(Step::Authorization, &format!("what {at} answers")).map(Some),
        _ => Ok(None),
    }
}

/// The well-known place of `url`: between host and path (RFC 8414 §3, RFC 9728 §3).
fn inserted(url: &Url, name: &str) -> Url {
    with_path(url, &format!("/.well-known/{name}{}", url.path().trim_end_matches('/')))
}

fn with_path(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_path(path);
    url
}

fn strings(document: &Value, name: &str) -> Vec<String> {
    let all = document.get(name).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_server_says_how_a_secret_is_used() {
        let of = |all: &[&str]| choose(&all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), SecretMethod::Basic);
        assert_eq!(of(&["client_secret_post", "client_secret_basic"]), SecretMethod::Basic);
        assert_eq!(of(&["client_secret_jwt", "client_secret_post"]), SecretMethod::Post);
        assert_eq!(of(&["private_key_jwt", "client_secret_jwt"]), SecretMethod::Jwt);
    }

    #[test]
    fn only_the_scopes_of_ssf_are_asked_for() {
        let of = |all: &[&str]| scope(&all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["openid", "ssf.manage", "admin"]), "ssf.manage");
        assert_eq!(of(&["ssf.manage", "ssf.read"]), "ssf.read ssf.manage");
        assert_eq!(of(&[]), "ssf.read ssf.manage");
    }

    #[test]
    fn a_token_is_renewed_before_it_ends_and_within_an_hour() {
        let left = |answer: Value| held(&answer).unwrap().renew.saturating_duration_since(Instant::now()).as_secs();
        let token = |expires: Value| json!({"access_token": "t", "token_type": "bearer", "expires_in": expires});
        assert!((75..=80).contains(&left(token(json!(100)))));
        assert!((2_875..=2_880).contains(&left(token(json!(1_000_000)))));
        assert!((235..=240).contains(&left(token(Value::Null))));
        for bad in [
            json!({"access_token": "t", "token_type": "DPoP"}),
            json!({"token_type": "Bearer"}),
            json!({"access_token": "a b", "token_type": "Bearer"}),
        ] {
            assert!(held(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn id_and_secret_are_encoded_for_the_header() {
        let header = basic("hub:1", &Secret::from("a b/é".to_owned()));
        let text = STANDARD.decode(header.reveal().trim_start_matches("Basic ")).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "hub%3A1:a+b%2F%C3%A9");
    }

    #[test]
    fn a_secret_goes_to_the_host_of_the_transmitter_unless_the_operator_wrote_another() {
        let metadata = metadata(&"https://idp.example/.well-known/ssf-configuration".parse().unwrap());
        let check = |endpoint: &str| is_known(&endpoint.parse().unwrap(), &metadata);
        assert!(check("https://idp.example/token").is_ok() && check("https://idp.example:8443/as/token").is_ok());
        for bad in ["https://evil.example/token", "https://idp.example.evil.example/", "https://login.idp.example/"] {
            assert!(check(bad).unwrap_err().to_string().contains("credentials.token_endpoint"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_secret_is_not_sent_where_the_metadata_leads() {
        // A transmitter whose metadata names an authorization server at another host.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (base, asked) = (format!("http://127.0.0.1:{port}"), Arc::<AtomicBool>::default());
        let document = json!({"issuer": base, "token_endpoint": format!("http://localhost:{port}/token")});
        let noted = Arc::clone(&asked);
        let token = move || async move { noted.store(true, Ordering::Relaxed) };
        let routes = axum::Router::new()
            .route("/.well-known/oauth-authorization-server", axum::routing::get(|| async { axum::Json(document) }))
            .route("/token", axum::routing::post(token));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "s").unwrap();
        let url: Url = base.parse().unwrap();
        let http = Http::new(&url, &[]).unwrap();
        let metadata = Metadata { issuer: base, ..metadata(&url) };
        for (endpoint, is_sent) in [(None, false), (Some(format!("http://localhost:{port}/token")), true)] {
            let token_endpoint = endpoint.map(|endpoint| endpoint.parse().unwrap());
            let client = Client { id: "hub".to_owned(), proof: Proof::Secret(file.clone(), None), token_endpoint };
            let header = Authorizer::new(Credentials::Client(client)).header(&http, &metadata, 1).await;
            assert!(header.is_err(), "no token was given");
            assert_eq!(asked.load(Ordering::Relaxed), is_sent, "{header:?}");
        }
    }

    fn metadata(at: &Url) -> Metadata {
        Metadata {
            at: at.clone(),
            issuer: String::new(),
            jwks_uri: None,
            configuration_endpoint: at.clone(),
            status_endpoint: None,
            verification_endpoint: None,
            delivery_methods: Vec::new(),
            authorization_schemes: Vec::new(),
            critical_subject_members: Vec::new(),
            default_subjects: None,
            spec_version: None,
        }
    }

    #[tokio::test]
    async fn a_file_holds_one_secret_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let authorizer = Authorizer::new(Credentials::Token(file.clone()));
        let url: Url = "https://t.example".parse().unwrap();
        let http = Http::new(&url, &[]).unwrap();
        let metadata = metadata(&url);
        assert!(authorizer.header(&http, &metadata, 1).await.unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&file, "one\n").unwrap();
        let one = authorizer.header(&http, &metadata, 1).await.unwrap();
        assert_eq!(one.reveal(), "Bearer one");
        assert!(!authorizer.forget(&one).await, "it is the same token");
        std::fs::write(&file, "two").unwrap();
        assert!(authorizer.forget(&one).await, "it was replaced");
        assert_eq!(authorizer.header(&http, &metadata, 1).await.unwrap().reveal(), "Bearer two");
        for bad in ["", "a b", "a\nb"] {
            std::fs::write(&file, bad).unwrap();
            assert!(authorizer.header(&http, &metadata, 1).await.is_err(), "{bad:?}");
        }
    }
}
