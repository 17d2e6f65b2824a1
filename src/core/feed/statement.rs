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
//! | `head` | the number of the last entry that the feed had at `at` |
//! | `chain` | the chain at `upto`, 16 hexadecimal digits |
//! | `format`, `count`, `length`, `digest` | the entries: their format, number, bytes, and SHA-256 (base64url) |
//! | `part`, `parts` | a full state is cut into parts; absent for a page of changes |
//! | `nonce` | what the request asked to have repeated; absent if it asked for nothing |
//! | `issuers` | the issuers that the feed covers: `id` (16 hexadecimal digits), `token` and `session` (how long entries are kept, in seconds), `heard` (seconds since 1970: up to when all transmitters that must be heard of were heard of), `lost` (whether the stream of one of them is disabled) |

use crate::encoding::digest::{self, Digest};
use crate::encoding::typed;
use crate::feed::revision::{Chain, Revision};
use crate::jose::algorithm::Algorithm;
use crate::jose::jws::Unverified;
use crate::jose::key::KeySet;
use crate::jose::signature::CheckSignature;
use crate::state::coverage::{CoveredIssuer, IssuerId, MAX_ISSUERS};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
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

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    at: u64,
    epoch: String,
    prev: u64,
    upto: u64,
    head: u64,
    chain: String,
    format: u8,
    count: u64,
    length: u64,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    part: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    parts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    nonce: Option<String>,
    issuers: Vec<IssuerClaims>,
}

#[derive(Serialize, Deserialize)]
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
        let statement = read(jws.into_claims().into()).ok_or(StatementError::Claims)?;
        match statement.hub == hub && statement.feed == feed {
            true => Ok(statement),
            false => Err(StatementError::OtherFeed),
        }
    }
}

fn read(claims: Value) -> Option<Statement> {
    let claims: Claims = typed::read(&claims).ok()?;
    let part = match (claims.part, claims.parts) {
        (Some(part), Some(parts)) if part < parts => Some(Part { part, parts }),
        (None, None) => None,
        _ => return None,
    };
    let upto =
        Revision { epoch: hex(&claims.epoch)?, number: claims.upto, chain: Chain(hex(&claims.chain)?.to_be_bytes()) };
    let sane = claims.prev <= claims.upto && claims.upto <= claims.head && claims.issuers.len() <= MAX_ISSUERS;
    let issuers = claims.issuers.iter().map(issuer).collect::<Option<_>>()?;
    sane.then_some(Statement {
        hub: claims.iss,
        feed: claims.aud,
        at: claims.at,
        prev: claims.prev,
        upto,
        head: claims.head,
        format: claims.format,
        count: claims.count,
        length: claims.length,
        digest: digest::digest(&claims.digest)?,
        part,
        nonce: claims.nonce,
        issuers,
    })
}

fn issuer(claims: &IssuerClaims) -> Option<IssuerStatus> {
    let id = IssuerId(hex(&claims.id)?.to_be_bytes());
    let (token_retention, session_retention) = (Span(claims.token), Span(claims.session));
    let covered = CoveredIssuer { id, token_retention, session_retention };
    Some(IssuerStatus { covered, heard: Timestamp(claims.heard), lost: claims.lost })
}

fn hex(text: &str) -> Option<u64> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
