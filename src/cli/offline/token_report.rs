//! What `explain` reports about the token of a request, verified or not.

use serde_json::{Map, Value};
use taskfence_core::decision::verdict::Verdict;
use taskfence_core::encoding::digest::digest_text;
use taskfence_core::http::request::Request;
use taskfence_core::jose::jws::{JwsError, Unverified};
use taskfence_core::reason::Reason;
use taskfence_core::time::{Timestamp, numeric_date};
use taskfence_core::token::grant::Grant;
use taskfence_core::token::verify::MAX_TOKEN;

/// The token of a request.
#[derive(Debug)]
pub enum Credential {
    /// No rule that matched asks for one.
    NotLookedAt,
    /// There is none.
    Absent,
    /// There is more than one.
    Ambiguous,
    /// It is not even a JWS.
    Unreadable(JwsError),
    /// It was refused. Its header and claims are not verified, but may show what went wrong.
    Refused(UnverifiedToken),
    /// It was verified.
    Verified(Box<Grant>),
}

/// Header and claims of a token that was refused: not verified, for reports only.
#[derive(Debug)]
pub struct UnverifiedToken {
    pub typ: Option<String>,
    /// Only when it names an algorithm that can be allowed at all.
    pub algorithm: Option<&'static str>,
    pub kid: Option<String>,
    pub claims: Map<String, Value>,
}

/// One line about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    Text(String),
    Time(Timestamp),
}

impl Credential {
    /// The credential of `request`, for which `verdict` was found.
    pub fn of(request: &Request<'_>, verdict: &Verdict) -> Self {
        let session = match verdict {
            Ok(permit) => permit.session(),
            Err(refusal) => refusal.session.as_deref(),
        };
        if let Some(session) = session {
            return Self::Verified(Box::new(session.verified().grant().clone()));
        }
        let token = match request.credential() {
            Ok(presented) => presented.token,
            Err(Reason::CredentialsAmbiguous) => return Self::Ambiguous,
            Err(_) => return Self::Absent,
        };
        UnverifiedToken::parse(token).map_or_else(Self::Unreadable, Self::Refused)
    }

    /// One word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotLookedAt => "not_looked_at",
            Self::Absent => "absent",
            Self::Ambiguous => "ambiguous",
            Self::Unreadable(_) => "unreadable",
            Self::Refused(_) => "refused",
            Self::Verified(_) => "verified",
        }
    }

    /// What is known about it, in the order of the report.
    pub fn facts(&self) -> Vec<(&'static str, Fact)> {
        match self {
            Self::NotLookedAt | Self::Absent | Self::Ambiguous | Self::Unreadable(_) => Vec::new(),
            Self::Refused(claimed) => claimed.facts(),
            Self::Verified(grant) => facts(grant),
        }
    }
}

fn facts(grant: &Grant) -> Vec<(&'static str, Fact)> {
    let token = grant.token_id.to_string();
    let actor = grant.actors.first().map(|actor| &actor.subject);
    let texts = [
        ("issuer", Some(&grant.issuer)),
        ("subject", Some(&grant.subject)),
        ("client", grant.client_id.as_ref()),
        ("actor", actor),
        ("task", grant.task.as_ref()),
        ("session", grant.session.as_ref()),
        ("token", Some(&token)),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Fact::Text(text?.clone()))));
    let bound = [("certificate", grant.confirmation.certificate), ("key", grant.confirmation.key)];
    let bound = bound.into_iter().filter_map(|(name, digest)| Some((name, Fact::Text(digest_text(&digest?)))));
    texts.chain(bound).chain([("expires", Fact::Time(grant.expires_at))]).collect()
}

impl UnverifiedToken {
    /// What `token` says.
    pub fn parse(token: &[u8]) -> Result<Self, JwsError> {
        let jws = Unverified::parse(token, MAX_TOKEN)?;
        Ok(Self {
            typ: jws.typ().map(str::to_owned),
            algorithm: jws.algorithm().map(|algorithm| algorithm.name()),
            kid: jws.kid().map(str::to_owned),
            claims: jws.into_claims(),
        })
    }

    /// What it says, in the order of the report.
    pub fn facts(&self) -> Vec<(&'static str, Fact)> {
        let header = [
            ("typ", self.typ.clone()),
            ("alg", self.algorithm.map(str::to_owned)),
            ("kid", self.kid.clone()),
            ("issuer", self.text("iss")),
            ("audience", self.text("aud")),
            ("subject", self.text("sub")),
            ("token", self.text("jti")),
        ];
        let times = [("issued", "iat"), ("expires", "exp")];
        let header = header.into_iter().filter_map(|(name, text)| Some((name, Fact::Text(text?))));
        header
            .chain(times.into_iter().filter_map(|(name, claim)| Some((name, Fact::Time(self.time(claim)?)))))
            .collect()
    }

    /// A claim as text: a string as it is, anything else as JSON.
    pub fn text(&self, claim: &str) -> Option<String> {
        self.claims.get(claim).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// A claim that is a time.
    pub fn time(&self, claim: &str) -> Option<Timestamp> {
        self.claims.get(claim).and_then(numeric_date)
    }
}
