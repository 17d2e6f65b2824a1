//! The statement of a page: what the hub signs.
//!
//! It is a JWS in compact serialization (RFC 7515 §3.1), signed with ES256. Header: `typ` is `taskfence-feed+jwt`, `kid`
//! names the key. Claims:
//!
//! | claim | meaning |
//! |---|---|
//! | `iss`, `aud` | the hub and the feed |
//! | `at` | when the hub began the read of its store that returned `head`, in milliseconds since 1970 |
//! | `epoch` | the epoch of all numbers, 16 hexadecimal digits |
//! | `prev`, `upto` | the page holds the entries after `prev` up to `upto` that are still needed |
//! | `prev_chain` | the chain at `prev`, 16 hexadecimal digits |
//! | `head` | the number of the last entry that the feed had at `at` |
//! | `chain` | the chain at `upto`, 16 hexadecimal digits |
//! | `format`, `count`, `length`, `digest` | the entries: their format, number, bytes, and SHA-256 (base64url) |
//! | `part`, `parts` | a full state is cut into parts; absent for a page of changes |
//! | `nonce` | what the request asked to have repeated; absent if it asked for nothing |
//! | `issuers` | the issuers that the feed covers: `id` (16 hexadecimal digits), `token` and `session` (how long entries are kept, in seconds), `heard` (seconds since 1970: up to when all transmitters that must be heard of were heard of), `lost` (whether the stream of one of them is disabled) |

use crate::encoding::digest::{self, Digest};
use crate::feed::revision::{Chain, Revision};
use crate::jose::algorithm::Algorithm;
use crate::jose::jws::Unverified;
use crate::jose::key::KeySet;
use crate::jose::signature::CheckSignature;
use crate::state::coverage::{CoveredIssuer, IssuerId, MAX_ISSUERS};
use crate::time::{Span, Timestamp};
use serde::Serialize;
use serde_json::Value;

/// `typ` of a statement, without `application/`.
pub const TYPE: &str = "taskfence-feed+jwt";

/// A statement has at most this many bytes.
pub const MAX_STATEMENT: usize = 16 * 1024;

/// What the hub says about one page, and about the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The name of the hub.
    pub hub: String,
    /// The name of the feed.
    pub feed: String,
    /// When the hub began the read of its store that returned `head`, in milliseconds since 1970.
    pub at: u64,
    /// The page holds what comes after this number.
    pub prev: u64,
    /// The chain at that number.
    pub prev_chain: Chain,
    /// The page holds what comes up to here.
    pub upto: Revision,
    /// The number of the last entry of the feed.
    pub head: u64,
    /// The format of the entries.
    pub format: u8,
    /// The number of entries.
    pub count: u64,
    /// The bytes of the entries.
    pub length: u64,
    /// The SHA-256 of these bytes.
    pub digest: Digest,
    /// Which part of a full state this is; `None` for changes.
    pub part: Option<Part>,
    /// The nonce of the request.
    pub nonce: Option<String>,
    /// What the feed covers.
    pub issuers: Vec<IssuerStatus>,
}

/// One part of a full state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which one, from 0.
    pub part: u32,
    /// How many there are.
    pub parts: u32,
}

impl Part {
    /// Whether it is the last one.
    pub fn is_last(self) -> bool {
        self.part.saturating_add(1) >= self.parts
    }
}

/// What a feed says about one issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerStatus {
    /// What is covered.
    pub covered: CoveredIssuer,
    /// Up to when all of its transmitters that must be heard of were heard of.
    pub heard: Timestamp,
    /// Whether the stream of one of these transmitters is disabled.
    pub lost: bool,
}

/// Why a statement is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not a JWS.
    #[error("the statement is not a JWS")]
    Malformed,
    /// Signed by none of the keys of the configuration.
    #[error("no key of `signals.hub.keys` made the signature of the statement")]
    Signature,
    /// Of another type.
    #[error("the statement is not of the type {TYPE}")]
    Type,
    /// Of another hub or feed.
    #[error("the statement is by another hub or about another feed")]
    OtherFeed,
    /// A claim is missing or has the wrong shape.
    #[error("a claim of the statement is missing or has the wrong shape")]
    Claims,
}

#[derive(Serialize)]
struct Claims {
    iss: String,
    aud: String,
    at: u64,
    epoch: String,
    prev: u64,
    prev_chain: String,
    upto: u64,
    head: u64,
    chain: String,
    format: u8,
    count: u64,
    length: u64,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    issuers: Vec<IssuerClaims>,
}

#[derive(Serialize)]
struct IssuerClaims {
    id: String,
    token: u64,
    session: u64,
    heard: u64,
    lost: bool,
}

impl Statement {
    /// The claims, as the payload of a JWS.
    pub fn claims(&self) -> Value {
        let hex = |bytes: [u8; 8]| format!("{:016x}", u64::from_be_bytes(bytes));
        let issuer = |status: &IssuerStatus| IssuerClaims {
            id: hex(status.covered.id.0),
            token: status.covered.token_retention.0,
            session: status.covered.session_retention.0,
            heard: status.heard.0,
            lost: status.lost,
        };
        let claims = Claims {
            iss: self.hub.clone(),
            aud: self.feed.clone(),
            at: self.at,
            epoch: format!("{:016x}", self.upto.epoch),
            prev: self.prev,
            prev_chain: hex(self.prev_chain.0),
            upto: self.upto.number,
            head: self.head,
            chain: hex(self.upto.chain.0),
            format: self.format,
            count: self.count,
            length: self.length,
            digest: digest::digest_text(&self.digest),
            part: self.part.map(|part| part.part),
            parts: self.part.map(|part| part.parts),
            nonce: self.nonce.clone(),
            issuers: self.issuers.iter().map(issuer).collect(),
        };
        // A struct of strings and numbers always has a JSON form.
        serde_json::to_value(claims).unwrap_or_default()
    }

    /// Verifies the statement `text` of the hub `hub` about `feed` with one of `keys`.
    pub fn verify(
        text: &[u8],
        (hub, feed): (&str, &str),
        keys: &KeySet,
        signatures: &mut impl CheckSignature,
    ) -> Result<Statement, StatementError> {
        let jws = Unverified::parse(text, MAX_STATEMENT).map_err(|_| StatementError::Malformed)?;
        let algorithm = jws.algorithm().filter(|algorithm| *algorithm == Algorithm::ES256);
        let algorithm = algorithm.ok_or(StatementError::Signature)?;
        let key = keys.find(jws.kid(), algorithm).map_err(|_| StatementError::Signature)?;
        if !signatures.check(&jws, key, algorithm) {
            return Err(StatementError::Signature);
        }
        if !jws.is_typ(TYPE) {
            return Err(StatementError::Type);
        }
        let statement = read(&jws.into_claims().into()).ok_or(StatementError::Claims)?;
        match statement.hub == hub && statement.feed == feed {
            true => Ok(statement),
            false => Err(StatementError::OtherFeed),
        }
    }
}

/// Reads the claims by hand: a derived reader of so many members would be 10 KB of the module.
fn read(claims: &Value) -> Option<Statement> {
    let text = |name: &str| claims.get(name)?.as_str();
    let number = |name: &str| claims.get(name)?.as_u64();
    let part = match (optional(claims, "part"), optional(claims, "parts")) {
        (Some(part), Some(parts)) => {
            let part = Part { part: small(part)?, parts: small(parts)? };
            Some(part).filter(|part| part.part < part.parts)?.into()
        }
        (None, None) => None,
        _ => return None,
    };
    let nonce = match optional(claims, "nonce") {
        Some(nonce) => Some(nonce.as_str()?.to_owned()),
        None => None,
    };
    let chain = |name: &str| Some(Chain(hex(text(name)?)?.to_be_bytes()));
    let (prev_chain, chain) = (chain("prev_chain")?, chain("chain")?);
    let upto = Revision { epoch: hex(text("epoch")?)?, number: number("upto")?, chain };
    let (prev, head, issuers) = (number("prev")?, number("head")?, claims.get("issuers")?.as_array()?);
    let sane = prev <= upto.number && upto.number <= head && issuers.len() <= MAX_ISSUERS;
    let issuers = issuers.iter().map(issuer).collect::<Option<_>>()?;
    sane.then_some(Statement {
        hub: text("iss")?.to_owned(),
        feed: text("aud")?.to_owned(),
        at: number("at")?,
        prev,
        prev_chain,
        upto,
        head,
        format: u8::try_from(number("format")?).ok()?,
        count: number("count")?,
        length: number("length")?,
        digest: digest::digest(text("digest")?)?,
        part,
        nonce,
        issuers,
    })
}

/// A member that may be missing.
fn optional<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    claims.get(name).filter(|value| !value.is_null())
}

fn small(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn issuer(claims: &Value) -> Option<IssuerStatus> {
    let number = |name: &str| claims.get(name)?.as_u64();
    let id = IssuerId(hex(claims.get("id")?.as_str()?)?.to_be_bytes());
    let (token_retention, session_retention) = (Span(number("token")?), Span(number("session")?));
    let covered = CoveredIssuer { id, token_retention, session_retention };
    Some(IssuerStatus { covered, heard: Timestamp(number("heard")?), lost: claims.get("lost")?.as_bool()? })
}

fn hex(text: &str) -> Option<u64> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
