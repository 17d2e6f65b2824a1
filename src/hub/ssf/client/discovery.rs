//! The metadata of a transmitter (SSF 1.0 §7.1).

use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::http::{Ask, Http};
use reqwest::{Method, Url};
use serde_json::Value;

/// Delivery by polling (RFC 8936).
pub const POLL: &str = "urn:ietf:rfc:8936";

/// Delivery by pushing (RFC 8935).
pub const PUSH: &str = "urn:ietf:rfc:8935";

/// Authorization by OAuth 2.0 (RFC 6749).
pub const OAUTH: &str = "urn:ietf:rfc:6749";

/// What a transmitter says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where the document was found.
    pub at: Url,
    /// `issuer`, as the transmitter writes it.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: Option<Url>,
    /// Where streams are managed.
    pub configuration_endpoint: Url,
    /// Where the status of a stream is.
    pub status_endpoint: Option<Url>,
    /// Where verifications are asked for.
    pub verification_endpoint: Option<Url>,
    /// How it delivers; empty: it does not say.
    pub delivery_methods: Vec<String>,
    /// How receivers authorize, by their URN; empty: it does not say.
    pub authorization_schemes: Vec<String>,
    /// Members of complex subjects that must be understood.
    pub critical_subject_members: Vec<String>,
    /// `ALL` or `NONE`: whose signals a new stream has.
    pub default_subjects: Option<String>,
    /// The version of the specification, such as `1_0`.
    pub spec_version: Option<String>,
}

/// Fetches the metadata of the transmitter whose issuer URL is `issuer`.
pub async fn discover(http: &Http, issuer: &Url) -> Result<Metadata, Failure> {
    let places = places(issuer);
    let mut last = None;
    for at in &places {
        let answer = http.send(Step::Discovery, Ask::new(Method::GET, at.clone())).await?;
        match answer.status {
            200 => return read(&answer.json(Step::Discovery, &format!("what {at} answers"))?, at, issuer),
            404 | 405 | 410 => last = Some(answer),
            _ => return Err(answer.failure(Step::Discovery, &format!("GET {at}"), "")),
        }
    }
    let tried: Vec<&str> = places.iter().map(Url::as_str).collect();
    let what = format!("there is no metadata at {}", tried.join(", "));
    let remedy = "write the issuer URL of the transmitter, which its documentation names";
    Err(Failure { status: last.map(|answer| answer.status), ..Failure::new(Step::Discovery, what, remedy) })
}

/// Where the document may be: between host and path (SSF 1.0 §7.1.1), after the path as several products have it, and
/// under its former name.
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut paths = vec![format!("/.well-known/ssf-configuration{path}")];
    if !path.is_empty() {
        paths.push(format!("{path}/.well-known/ssf-configuration"));
    }
    paths.push(format!("/.well-known/risc-configuration{path}"));
    let with = |path: String| {
        let mut url = issuer.clone();
        url.set_query(None);
        url.set_path(&path);
        url
    };
    paths.into_iter().map(with).collect()
}

fn read(document: &Value, at: &Url, issuer: &Url) -> Result<Metadata, Failure> {
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let found = text("issuer").unwrap_or_default();
    // A URL with an empty path is written with or without `/`.
    if found.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
        let found: String = found.chars().filter(|c| !c.is_control()).take(200).collect();
        let what = format!("the metadata at {at} is that of the issuer `{found}`, not of `{issuer}`");
        return Err(Failure::new(Step::Discovery, what, "write the issuer as the transmitter does"));
    }
    let url = |name: &str| -> Result<Option<Url>, Failure> {
        let Some(written) = text(name) else { return Ok(None) };
        let read = Url::parse(written).ok().filter(|url| url.host_str().is_some());
        let bad = || Failure::new(Step::Discovery, format!("`{name}` in the metadata at {at} is not a URL"), "");
        read.ok_or_else(bad).map(Some)
    };
    let list = |name: &str| -> Vec<String> {
        let all = document.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let schemes = document.get("authorization_schemes").and_then(Value::as_array).into_iter().flatten();
    let configuration_endpoint = url("configuration_endpoint")?.ok_or_else(|| {
        let what = format!("the metadata at {at} has no `configuration_endpoint`: streams cannot be made there");
        Failure::new(Step::Discovery, what, "make the stream in the transmitter's console, without `ssf`")
    })?;
    Ok(Metadata {
        at: at.clone(),
        issuer: found.to_owned(),
        jwks_uri: url("jwks_uri")?,
        configuration_endpoint,
        status_endpoint: url("status_endpoint")?,
        verification_endpoint: url("verification_endpoint")?,
        delivery_methods: list("delivery_methods_supported"),
        authorization_schemes: schemes
            .filter_map(|one| one.get("spec_urn").and_then(Value::as_str).map(str::to_owned))
            .collect(),
        critical_subject_members: list("critical_subject_members"),
        default_subjects: text("default_subjects").map(str::to_owned),
        spec_version: text("spec_version").map(str::to_owned),
    })
}

impl Metadata {
    /// Whether it delivers by `method`; one that does not say may.
    pub fn delivers_by(&self, method: &str) -> bool {
        let short = if method == POLL { "/delivery-method/poll" } else { "/delivery-method/push" };
        self.delivery_methods.is_empty()
            || self.delivery_methods.iter().any(|known| known == method || known.ends_with(short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn the_document_stands_between_host_and_path() {
        let of = |issuer: &str| places(&url(issuer)).iter().map(Url::to_string).collect::<Vec<_>>();
        assert_eq!(
            of("https://tr.example"),
            ["https://tr.example/.well-known/ssf-configuration", "https://tr.example/.well-known/risc-configuration"]
        );
        assert_eq!(
            of("https://tr.example:8443/issuer1/"),
            [
                "https://tr.example:8443/.well-known/ssf-configuration/issuer1",
                "https://tr.example:8443/issuer1/.well-known/ssf-configuration",
                "https://tr.example:8443/.well-known/risc-configuration/issuer1"
            ]
        );
    }

    #[test]
    fn the_issuer_must_be_the_one_that_was_asked_for() {
        let document = |issuer: &str| {
            json!({
                "issuer": issuer, "configuration_endpoint": "https://tr.example/streams", "spec_version": "1_0",
                "delivery_methods_supported": [PUSH, "https://schemas.openid.net/secevent/risc/delivery-method/poll"],
                "authorization_schemes": [{"spec_urn": OAUTH}, 7], "jwks_uri": "https://tr.example/jwks"
            })
        };
        let at = url("https://tr.example/x");
        let read_one = |issuer: &str, asked: &str| read(&document(issuer), &at, &url(asked));
        let metadata = read_one("https://tr.example", "https://tr.example").unwrap();
        assert_eq!((metadata.issuer.as_str(), metadata.authorization_schemes.len()), ("https://tr.example", 1));
        assert!(metadata.delivers_by(POLL) && metadata.delivers_by(PUSH));
        assert!(read_one("https://tr.example/", "https://tr.example").is_ok());
        for (issuer, asked) in [
            ("https://evil.example", "https://tr.example"),
            ("https://tr.example/a", "https://tr.example"),
            ("https://tr.example", "https://tr.example/a"),
            ("", "https://tr.example"),
        ] {
            assert!(read_one(issuer, asked).is_err(), "{issuer} for {asked}");
        }
    }

    #[test]
    fn it_needs_an_endpoint_and_urls_that_are_some() {
        let read_one = |document: Value| read(&document, &url("https://t.example/x"), &url("https://t.example"));
        let error = read_one(json!({"issuer": "https://t.example"})).unwrap_err();
        assert!(error.to_string().contains("configuration_endpoint"), "{error}");
        let bad = json!({"issuer": "https://t.example", "configuration_endpoint": "https://t.example/s",
            "status_endpoint": "nowhere"});
        assert!(read_one(bad).unwrap_err().to_string().contains("status_endpoint"));
    }
}
