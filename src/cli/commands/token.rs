//! `taskfence token`: access tokens to try a filter with.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use taskfence_core::encoding::digest::digest_text;
use uuid::Uuid;

use crate::commands::proof::Proof;
use crate::failure::Failure;
use crate::signing::certificate;
use crate::signing::key::{self, SigningKey};
use crate::signing::set;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::time::{self, Moment};

/// Make access tokens, and the proofs that go with them, for demos and tests
#[derive(Debug, Subcommand)]
pub enum Token {
    Mint(Box<Mint>),
    Proof(Proof),
}

impl Token {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Mint(mint) => mint.run(console),
            Self::Proof(proof) => proof.run(console),
        }
    }
}

/// Sign an access token (RFC 9068) for one task and print it
///
/// This is for demos and tests: in a real deployment the tokens come from the issuer. Nothing is checked, so that bad
/// tokens can be made too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence token mint --key demo.private.jwk --issuer https://jit.example \\
      --audience https://orders.mesh --subject alice --client agent-a7 \\
      --task task-42 --session sess-9 --scope orders.read \\
      --detail '{\"type\":\"order\",\"actions\":[\"read\"],\"identifier\":\"1881\"}'
An expired one: --issued-at -1h --lifetime 5m
One with a claim more: --claim 'acr=\"phr\"'
One with a claim less: --without jti")]
pub struct Mint {
    /// The private key to sign with, as `taskfence keys new` writes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// The issuer (`iss`)
    #[arg(long, value_name = "URI", value_parser = NonEmpty::new())]
    issuer: String,

    /// The audience (`aud`); may be given more than once
    #[arg(long, value_name = "URI", required = true, value_parser = NonEmpty::new())]
    audience: Vec<String>,

    /// The user on whose behalf the client acts (`sub`)
    #[arg(long, value_name = "SUB", value_parser = NonEmpty::new())]
    subject: String,

    /// The client or agent that holds it (`client_id`)
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new())]
    client: String,

    /// The task it was granted for (`txn`)
    #[arg(long, value_parser = NonEmpty::new())]
    task: Option<String>,

    /// The session it belongs to (`sid`)
    #[arg(long, value_name = "SID", value_parser = NonEmpty::new())]
    session: Option<String>,

    /// The scopes it grants, with a space between (`scope`)
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,

    /// One authorization detail, as a JSON object with a `type` (`authorization_details`); may be given more than once
    #[arg(long, value_name = "JSON", value_parser = detail)]
    detail: Vec<Value>,

    /// The lifetime (`exp` - `iat`)
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = time::duration)]
    lifetime: Duration,

    /// When it was issued (`iat`): RFC 3339, unix seconds, or an offset from now like -10m
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    issued_at: Moment,

    /// When the user signed in (`auth_time`) [default: none]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    auth_time: Option<Moment>,

    /// The time before which it is not valid (`nbf`) [default: none]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    not_before: Option<Moment>,

    /// The id of this one token (`jti`) [default: a new UUID]
    #[arg(long, value_parser = NonEmpty::new())]
    jti: Option<String>,

    /// The certificate that it is bound to, in PEM or DER (`cnf.x5t#S256`, RFC 8705)
    #[arg(long, value_name = "FILE")]
    bind_certificate: Option<PathBuf>,

    /// The client's key that it is bound to, a JWK or a set of one (`cnf.jkt`, RFC 9449)
    #[arg(long, value_name = "FILE")]
    bind_key: Option<PathBuf>,

    /// A claim to add or to replace; may be given more than once
    #[arg(long, value_name = "NAME=JSON", value_parser = claim)]
    claim: Vec<(String, Value)>,

    /// A claim to leave out; may be given more than once
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,

    /// The type in the header (`typ`)
    #[arg(long, default_value = "at+jwt")]
    typ: String,
}

impl Mint {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let claims = self.claims(console.now)?;
        let token = SigningKey::read(&self.key)?.sign(&self.typ, &claims)?;
        writeln!(console.out, "{token}")?;
        Ok(Exit::Done)
    }

    fn claims(&self, now: u64) -> Result<Map<String, Value>, Failure> {
        let issued_at = self.issued_at.resolve(now)?;
        let expires_at = Moment::After(self.lifetime).resolve(issued_at)?;
        let at = |moment: Option<Moment>| moment.map(|moment| moment.resolve(now)).transpose();
        let jti = self.jti.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let claims: [(&str, Option<Value>); 14] = [
            ("cnf", self.confirmation()?),
            ("iss", Some(self.issuer.clone().into())),
            ("aud", Some(set::audience(&self.audience))),
            ("sub", Some(self.subject.clone().into())),
            ("client_id", Some(self.client.clone().into())),
            ("iat", Some(issued_at.into())),
            ("exp", Some(expires_at.into())),
            ("nbf", at(self.not_before)?.map(Value::from)),
            ("auth_time", at(self.auth_time)?.map(Value::from)),
            ("jti", Some(jti.into())),
            ("txn", self.task.clone().map(Value::from)),
            ("sid", self.session.clone().map(Value::from)),
            ("scope", self.scope.clone().map(Value::from)),
            ("authorization_details", (!self.detail.is_empty()).then(|| self.detail.clone().into())),
        ];
        let named = claims.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let mut claims: Map<String, Value> = named.chain(self.claim.iter().cloned()).collect();
        claims.retain(|name, _| !self.without.contains(name));
        Ok(claims)
    }
}

impl Mint {
    fn confirmation(&self) -> Result<Option<Value>, Failure> {
        let mut members = Map::new();
        if let Some(path) = &self.bind_certificate {
            members.insert("x5t#S256".to_owned(), json!(digest_text(&certificate::digest(path)?)));
        }
        if let Some(path) = &self.bind_key {
            members.insert("jkt".to_owned(), json!(digest_text(&key::thumbprint(path)?)));
        }
        Ok((!members.is_empty()).then_some(members.into()))
    }
}

fn detail(text: &str) -> Result<Value, String> {
    let detail: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    match detail.get("type") {
        Some(Value::String(_)) => Ok(detail),
        _ => Err("write an object with a `type`, like {\"type\":\"order\",\"actions\":[\"read\"]}".to_owned()),
    }
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=JSON, like acr='\"phr\"'")?;
    let value = serde_json::from_str(value)
        .map_err(|error| format!("the value is not JSON: {error}; a text wants its quotes: {name}='\"...\"'"))?;
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::key::tests::{claims_of, header_of};
    use crate::terminal::console::Capture;

    const NOW: u64 = Capture::NOW;
    const WHO: [&str; 8] = [
        "--issuer",
        "https://jit.example",
        "--audience",
        "https://orders.mesh",
        "--subject",
        "alice",
        "--client",
        "agent-a7",
    ];

    fn mint(args: &[&str]) -> (Value, Value) {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("k").to_str().unwrap().to_owned();
        let mut capture = Capture::default();
        assert_eq!(capture.run(&["keys", "new", "--alg", "ES256", "--kid", "k1", "--out", &prefix]), Exit::Done);
        let key = format!("{prefix}.private.jwk");
        let exit = capture.run(&[&["token", "mint", "--key", &key], &WHO[..], args].concat());
        assert_eq!(exit, Exit::Done, "{}", capture.err());
        let token = capture.out().strip_suffix('\n').unwrap();
        assert!(!token.contains(char::is_whitespace), "the token stands alone");
        (header_of(token), claims_of(token))
    }

    #[test]
    fn the_token_of_rfc_9068() {
        let (header, claims) = mint(&[
            "--task",
            "task-42",
            "--session",
            "sess-9",
            "--scope",
            "orders.read orders.refund",
            "--detail",
            r#"{"type":"order","actions":["read"],"identifier":"1881"}"#,
            "--detail",
            r#"{"type":"refund"}"#,
            "--auth-time",
            "-100s",
            "--jti",
            "tok-1",
        ]);
        assert_eq!(header, json!({"typ": "at+jwt", "alg": "ES256", "kid": "k1"}));
        let expected = json!({
            "iss": "https://jit.example", "sub": "alice", "aud": "https://orders.mesh", "client_id": "agent-a7",
            "iat": NOW, "exp": NOW + 300, "auth_time": NOW - 100, "jti": "tok-1", "txn": "task-42", "sid": "sess-9",
            "scope": "orders.read orders.refund",
            "authorization_details":
                [{"type": "order", "actions": ["read"], "identifier": "1881"}, {"type": "refund"}],
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn what_was_not_asked_for_is_not_there() {
        let (_, claims) = mint(&[]);
        let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["aud", "client_id", "exp", "iat", "iss", "jti", "sub"]);
        assert_eq!(Uuid::parse_str(claims["jti"].as_str().unwrap()).unwrap().get_version_num(), 4);
    }

    #[test]
    fn tokens_for_the_unhappy_cases() {
        let (header, claims) = mint(&[
            "--issued-at",
            "-1h",
            "--lifetime",
            "10m",
            "--not-before",
            "2026-09-21T14:13:20Z",
            "--typ",
            "JWT",
            "--claim",
            r#"aud=["a","b"]"#,
            "--claim",
            "act={\"sub\":\"x\"}",
            "--claim",
            "nothing=null",
            "--without",
            "jti",
        ]);
        assert_eq!(header["typ"], "JWT");
        assert_eq!(
            (&claims["iat"], &claims["exp"], &claims["nbf"]),
            (&json!(NOW - 3600), &json!(NOW - 3000), &json!(NOW))
        );
        assert_eq!((&claims["aud"], &claims["act"]), (&json!(["a", "b"]), &json!({"sub": "x"})));
        assert_eq!(claims.get("nothing"), Some(&Value::Null));
        assert!(claims.get("jti").is_none());
    }

    #[test]
    fn tokens_are_bound_to_keys_and_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("client.jwk");
        // RFC 8037, appendix A.
        std::fs::write(&key, r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#)
            .unwrap();
        let certificate = folder.path().join("client.der");
        std::fs::write(&certificate, [0x30, 0]).unwrap();
        let key = std::fs::read_to_string(&key).map(|key| format!(r#"{{"keys":[{key}]}}"#)).and_then(|set| {
            let path = folder.path().join("client.jwks.json");
            std::fs::write(&path, set).map(|()| path)
        });
        let key = key.unwrap();
        let paths = [certificate, key].map(|path| path.to_str().unwrap().to_owned());
        let (_, claims) = mint(&["--bind-certificate", &paths[0], "--bind-key", &paths[1]]);
        assert_eq!(claims["cnf"]["jkt"], "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(claims["cnf"]["x5t#S256"].as_str().map(str::len), Some(43));
    }

    #[test]
    fn wrong_usage_says_what_to_write() {
        let table: &[(&[&str], &str)] = &[
            (&["--detail", "{}"], "write an object with a `type`"),
            (&["--detail", "order"], "it is not JSON"),
            (&["--claim", "acr"], "write NAME=JSON"),
            (&["--claim", "acr=phr"], r#"a text wants its quotes: acr='"..."'"#),
            (&["--issued-at", "yesterday"], "write RFC 3339"),
            (&["--lifetime", "300"], "write a number with its unit"),
        ];
        for (args, expected) in table {
            let mut capture = Capture::default();
            let exit = capture.run(&[&["token", "mint", "--key", "k"], &WHO[..], args].concat());
            assert_eq!(exit, Exit::Usage, "{args:?}");
            assert!(capture.err().contains(expected), "{args:?}: {}", capture.err());
        }
    }

    #[test]
    fn the_help_says_what_it_is_for() {
        let mut capture = Capture::default();
        assert_eq!(capture.run(&["token", "mint", "--help"]), Exit::Done);
        assert!(capture.out().contains("This is for demos and tests"), "{}", capture.out());
        assert!(capture.out().contains("[default: 5m]"), "{}", capture.out());
    }
}
