//! The file of `taskfence test`: requests, and the verdicts that are expected.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::terminal::time::Moment;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The configuration, relative to this file.
    pub config: PathBuf,
    /// Files, relative to this one, with the keys that the proxy fetches, by issuer or transmitter.
    #[serde(default)]
    pub jwks: BTreeMap<String, PathBuf>,
    /// When the requests come.
    #[serde(default)]
    pub now: Option<Time>,
    /// Access tokens by name.
    #[serde(default)]
    pub tokens: BTreeMap<String, JwtSource>,
    /// Signals by name.
    #[serde(default)]
    pub signals: BTreeMap<String, JwtSource>,
    /// The cases, in order.
    pub cases: Vec<Case>,
}

/// A token or a signal: one of these.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSource {
    /// Claims, to be signed for this run alone.
    #[serde(default)]
    pub claims: Option<Map<String, Value>>,
    /// The file that holds it, relative to this one.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The token or SET in compact serialization.
    #[serde(default)]
    pub compact: Option<String>,
}

/// One request, and its expected verdict.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The request.
    pub request: Request,
    /// The token that it carries, by name.
    #[serde(default)]
    pub token: Option<String>,
    /// The signals that came before it, by name.
    #[serde(default)]
    pub signals: Vec<String>,
    /// When it comes; default: the `now` of the file.
    #[serde(default)]
    pub now: Option<Time>,
    /// The expected verdict.
    pub expect: Expected,
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The method. Default: GET, or POST when it is gRPC.
    #[serde(default)]
    pub method: Option<String>,
    /// Where it goes.
    pub url: String,
    /// Headers: a value, or a list of values for one that is repeated.
    #[serde(default)]
    pub headers: BTreeMap<String, Values>,
    /// Whether it is gRPC.
    #[serde(default)]
    pub grpc: bool,
    /// The address that it comes from.
    #[serde(default)]
    pub source: Option<String>,
    /// The SPIFFE ID in the certificate that the client showed.
    #[serde(default)]
    pub peer: Option<String>,
    /// The file of that certificate, relative to this one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The file of the private key that signs a DPoP proof for the request, relative to this one.
    #[serde(default)]
    pub proof_key: Option<PathBuf>,
    /// Metadata of its route, namespace `taskfence`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// How long ago a transmitter was last heard of.
    #[serde(default)]
    pub state_age: Option<Length>,
}

/// The expected verdict of a request. What is left out is not compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Whether it passes.
    pub verdict: Verdict,
    /// The reason of a refusal; of an allowed request, the reason that shadow only records.
    #[serde(default)]
    pub reason: Option<String>,
    /// The name of the rule that decides.
    #[serde(default)]
    pub rule: Option<String>,
    /// The status of the answer.
    #[serde(default)]
    pub status: Option<u16>,
    /// The gRPC status of the answer to a gRPC request.
    #[serde(default)]
    pub grpc_status: Option<i32>,
}

/// Whether a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    Deny,
}

impl Verdict {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A point in time: RFC 3339, unix seconds, or an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Moment);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| Moment::from_str(text).map(Self);
        deserializer.deserialize_any(Written { expecting: "a time", read })
    }
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length(pub std::time::Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| crate::terminal::time::duration(text).map(Self);
        deserializer.deserialize_str(Written { expecting: "a string", read })
    }
}

/// Reads a string or a number as text. Errors are reported while it is read, so that their place is known.
struct Written<F> {
    expecting: &'static str,
    read: F,
}

impl<T, F: Fn(&str) -> Result<T, crate::terminal::time::Error>> Visitor<'_> for Written<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(|error| E::custom(wrong(text, error)))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

fn wrong(text: &str, error: crate::terminal::time::Error) -> String {
    format!("`{text}` is no time: {error}")
}

/// The values of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(pub Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list of strings")
            }

            fn visit_str<E>(self, value: &str) -> Result<Values, E> {
                Ok(Values(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Values(values))
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}
