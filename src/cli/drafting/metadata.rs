//! What an issuer publishes about itself: OpenID Connect Discovery 1.0 and RFC 8414, over HTTPS.

use std::io::Read;
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::ACCEPT;
use serde_json::Value;

use crate::signing::push::root_cause;
use crate::terminal::text::printable;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer is read, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// What an issuer publishes about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where the document was found.
    pub at: Url,
    /// Where its keys are.
    pub jwks_uri: Url,
    /// The algorithms that it signs ID tokens with; it may sign access tokens with others.
    pub algorithms: Vec<String>,
}

/// Why there is no metadata. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
    #[error("`{0}` publishes nothing at {1}: {2}")]
    None(String, String, String),
    #[error(
        "the metadata at {at} is that of the issuer `{found}`, not of `{expected}`; write the issuer as its tokens do"
    )]
    OtherIssuer { at: String, found: String, expected: String },
    #[error("the metadata at {0} has no usable `jwks_uri`")]
    NoKeys(Url),
}

/// Fetches the metadata of `issuer`, an HTTP URL.
pub fn fetch(issuer: &Url) -> Result<Metadata, Error> {
    let mut client = Client::builder().user_agent(concat!("taskfence/", env!("CARGO_PKG_VERSION"))).timeout(TIMEOUT);
    if issuer.scheme() == "http" {
        client = client.tls_certs_only([]);
    }
    let client = client.build().map_err(|error| Error::Client(root_cause(&error)))?;
    let mut why = String::new();
    let places = places(issuer);
    for at in &places {
        match get(&client, at) {
            Ok(document) => return read(&document, at, issuer),
            Err(reason) => why = reason,
        }
    }
    let tried: Vec<&str> = places.iter().map(Url::as_str).collect();
    Err(Error::None(issuer.to_string(), tried.join(" and "), why))
}

/// Where the document may be: after the issuer's path (OpenID Connect Discovery 1.0 §4), and before it (RFC 8414 §3).
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let with = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    vec![
        with(format!("{path}/.well-known/openid-configuration")),
        with(format!("/.well-known/oauth-authorization-server{path}")),
    ]
}

fn get(client: &Client, at: &Url) -> Result<Value, String> {
    let answer = client.get(at.clone()).header(ACCEPT, "application/json").send();
    let answer = answer.map_err(|error| root_cause(&error))?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    let mut body = Vec::new();
    answer.take(MAX_ANSWER).read_to_end(&mut body).map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|_| "what it answers is no JSON".to_owned())
}

fn read(document: &Value, at: &Url, issuer: &Url) -> Result<Metadata, Error> {
    let text = |name| document.get(name).and_then(Value::as_str).unwrap_or_default();
    // A URL with an empty path is written with or without `/`; the tokens say which.
    let (found, expected) = (text("issuer"), issuer.as_str());
    if found != expected && found != expected.trim_end_matches('/') {
        let (found, expected) = (printable(found), expected.to_owned());
        return Err(Error::OtherIssuer { at: at.to_string(), found, expected });
    }
    let jwks_uri: Option<Url> = text("jwks_uri").parse().ok();
    let jwks_uri = jwks_uri.filter(|url| matches!(url.scheme(), "https" | "http") && url.host_str().is_some());
    let algorithms = document.get("id_token_signing_alg_values_supported").and_then(Value::as_array);
    Ok(Metadata {
        at: at.clone(),
        jwks_uri: jwks_uri.ok_or_else(|| Error::NoKeys(at.clone()))?,
        algorithms: algorithms.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn it_may_be_in_two_places() {
        let of = |issuer| places(&url(issuer)).iter().map(Url::to_string).collect::<Vec<_>>();
        assert_eq!(
            of("https://sso.example/realms/shop"),
            [
                "https://sso.example/realms/shop/.well-known/openid-configuration",
                "https://sso.example/.well-known/oauth-authorization-server/realms/shop",
            ]
        );
        assert_eq!(of("https://sso.example").first().unwrap(), "https://sso.example/.well-known/openid-configuration");
    }

    #[test]
    fn it_must_be_about_the_issuer_and_name_its_keys() {
        let (at, issuer) = (url("https://sso.example/x"), url("https://sso.example"));
        let good = json!({"issuer": "https://sso.example", "jwks_uri": "https://keys.example/jwks",
            "id_token_signing_alg_values_supported": ["RS256", 7]});
        let read_one = |document: Value| read(&document, &at, &issuer);
        let metadata = read_one(good.clone()).unwrap();
        assert_eq!(
            (metadata.jwks_uri, metadata.algorithms),
            (url("https://keys.example/jwks"), vec!["RS256".to_owned()])
        );
        let mut other = good.clone();
        other["issuer"] = json!("https://evil.example\n");
        let message = read_one(other).unwrap_err().to_string();
        assert!(message.contains("`https://evil.example\\n`"), "{message}");
        for bad in [json!("file:///x"), json!("no url"), json!(7), Value::Null] {
            let mut document = good.clone();
            document["jwks_uri"] = bad;
            assert!(matches!(read_one(document), Err(Error::NoKeys(_))));
        }
    }
}
