//! Verifies access tokens (RFC 9068, with the rules of RFC 8725): from bytes to a [`Verified`] grant, or a [`Reason`].

use crate::encoding::digest::sha256;
use crate::index::IssuerIndex;
use crate::jose::algorithm::Algorithm;
use crate::jose::jws::{JwsError, Unverified};
use crate::jose::key::{Candidates, KeyId, NoKey};
use crate::jose::signature::CheckSignature;
use crate::reason::Reason;
use crate::state::key::Kind;
use crate::time::{Span, Timestamp, numeric_date, numeric_date_up};
use crate::token::claim_names::{self, ClaimFault, NEVER_BLANK, Names, RefusedClaim};
use crate::token::confirmation::Confirmation;
use crate::token::detail::Detail;
use crate::token::grant::{Actor, Grant, TokenId};
use crate::token::issuer::Issuer;
use crate::token::subject_id;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The maximum length of a token in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;

/// The maximum number of groups in a token. A signal may be about each of them, so none can be ignored.
const MAX_GROUPS: usize = 256;

/// A grant whose token's signature, type, issuer and audience were verified. Only `Candidate::verify` makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    grant: Grant,
    issuer: IssuerIndex,
    key: KeyId,
}

impl Verified {
    /// The grant.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    #[cfg(test)]
    pub(crate) fn rename(&mut self, name: &str) {
        self.grant.token_id = crate::token::grant::TokenId::Claim(name.to_owned());
    }

    /// See [`Grant::keep_claims`].
    pub(crate) fn keep_claims(&mut self, kept: &[Box<str>], token: &Arc<[u8]>) {
        self.grant.keep_claims(kept, token);
    }

    /// The index of the token's issuer in the list that it was verified against.
    pub fn issuer(&self) -> IssuerIndex {
        self.issuer
    }

    /// The key that verified it. When the issuer no longer has this key, the token is no longer valid.
    pub(crate) fn key(&self) -> KeyId {
        self.key
    }
}

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The reason.
    pub reason: Reason,
    /// The index of the issuer whose keys must be fetched, if newer keys may change the result.
    pub lacks_keys_of: Option<IssuerIndex>,
    /// The claim that is missing or wrong, if that is the reason.
    pub claim: Option<Box<RefusedClaim>>,
}

impl Rejected {
    fn claim(name: &str) -> Rejected {
        RefusedClaim::new(name, ClaimFault::Shape).into()
    }

    fn missing(name: &str) -> Rejected {
        RefusedClaim::new(name, ClaimFault::Missing).into()
    }
}

impl From<RefusedClaim> for Rejected {
    fn from(claim: RefusedClaim) -> Rejected {
        Rejected { claim: Some(Box::new(claim)), ..Reason::ClaimInvalid.into() }
    }
}

impl From<Reason> for Rejected {
    fn from(reason: Reason) -> Rejected {
        Rejected { reason, lacks_keys_of: None, claim: None }
    }
}

/// A token that passed all checks except that of its signature: its contents are not trusted yet.
#[derive(Debug)]
pub struct Candidate<'t, 'i> {
    jws: Unverified<'t>,
    grant: Grant,
    index: IssuerIndex,
    issuer: &'i Issuer,
    keys: Candidates<'i>,
    algorithm: Algorithm,
}

/// Parses `token` as an access token of one of `issuers` at `now`, and does all checks except that of the signature.
pub fn examine<'t, 'i>(token: &'t [u8], issuers: &'i [Issuer], now: Timestamp) -> Result<Candidate<'t, 'i>, Rejected> {
    let jws = Unverified::parse(token, MAX_TOKEN).map_err(|error| match error {
        JwsError::TooLarge => Reason::TokenTooLarge,
        JwsError::Opaque => Reason::TokenOpaque,
        JwsError::Malformed | JwsError::Critical => Reason::TokenMalformed,
    })?;
    let (index, issuer) = find_issuer(&jws, issuers)?;
    check_kind(&jws, issuer)?;
    check_required(jws.claims(), issuer)?;
    let algorithm = jws.algorithm().filter(|a| issuer.algorithms.contains(a)).ok_or(Reason::AlgorithmRefused)?;
    // Without any keys, do all other checks first: a token that fails them need not wait for keys.
    let keys = match issuer.keys.current(now) {
        None => None,
        Some(keys) => Some(keys.candidates(jws.kid(), algorithm).map_err(|lack| match lack {
            NoKey::Unknown => lacks_keys(Reason::KeyUnknown, index, issuer),
            NoKey::OtherAlgorithm => Reason::AlgorithmRefused.into(),
        })?),
    };
    check_audience(jws.claims(), issuer)?;
    check_raw_times(jws.claims(), issuer, now)?;
    let grant = read_grant(&jws, issuer)?;
    let keys = keys.ok_or_else(|| lacks_keys(Reason::KeysUnavailable, index, issuer))?;
    Ok(Candidate { jws, grant, index, issuer, keys, algorithm })
}

/// A refusal that newer keys may change, if the keys of `issuer` are fetched.
fn lacks_keys(reason: Reason, index: IssuerIndex, issuer: &Issuer) -> Rejected {
    Rejected { lacks_keys_of: issuer.keys.source().map(|_| index), ..Rejected::from(reason) }
}

impl Candidate<'_, '_> {
    /// The keys one of which must verify its signature, [`crate::jose::key::MAX_CANDIDATES`] at most.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().filter_map(|key| key.id(self.algorithm))
    }

    /// Leaves out the keys that are known not to have made its signature.
    pub(crate) fn without(self, mut known: impl FnMut(KeyId) -> bool) -> Self {
        let keys = self.keys.without(|key| key.id(self.algorithm).is_none_or(&mut known));
        Candidate { keys, ..self }
    }

    /// The refusal for a signature that is by none of the keys.
    pub(crate) fn not_signed(&self) -> Rejected {
        match self.keys.is_named() {
            true => Reason::SignatureInvalid.into(),
            // No `kid` tells that the key is a newer one.
            false => lacks_keys(Reason::SignatureInvalid, self.index, self.issuer),
        }
    }

    /// Checks the signature. The times were checked before, but a caller that keeps the result must check them again
    /// with `check_times`.
    pub(crate) fn verify(self, signatures: &mut impl CheckSignature, now: Timestamp) -> Result<Verified, Rejected> {
        let signer = self.keys.iter().find(|key| signatures.check(&self.jws, key, self.algorithm));
        let key = signer.and_then(|key| key.id(self.algorithm)).ok_or_else(|| self.not_signed())?;
        let grant = Grant { claims: self.jws.into_claims(), ..self.grant };
        let verified = Verified { grant, issuer: self.index, key };
        check_times(&verified, self.issuer, now)?;
        Ok(verified)
    }
}

/// What `token` says about itself, read as a token of one of `issuers`. Nothing is verified, also not that it is still
/// valid: use it for reports only.
pub fn read_unverified(token: &[u8], issuers: &[Issuer]) -> Result<(Grant, IssuerIndex), Rejected> {
    let jws = Unverified::parse(token, MAX_TOKEN).map_err(|error| match error {
        JwsError::TooLarge => Reason::TokenTooLarge,
        JwsError::Opaque => Reason::TokenOpaque,
        JwsError::Malformed | JwsError::Critical => Reason::TokenMalformed,
    })?;
    let (index, issuer) = find_issuer(&jws, issuers)?;
    Ok((read_grant(&jws, issuer)?, index))
}

/// Verifies `token` as an access token of one of `issuers`, at `now`: [`examine`], then `Candidate::verify`.
pub fn verify(
    token: &[u8],
    issuers: &[Issuer],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<Verified, Rejected> {
    examine(token, issuers, now)?.verify(signatures, now)
}

/// Repeats the checks that depend on time: `exp`, and the age of the session. `issuer` is the issuer that the token was
/// verified with.
pub(crate) fn check_times(verified: &Verified, issuer: &Issuer, now: Timestamp) -> Result<(), Reason> {
    let grant = verified.grant();
    if now >= grant.expires_at.plus(issuer.clock_skew) {
        return Err(Reason::TokenExpired);
    }
    if let Some(start) = grant.authenticated_at
        && now.since(start) > issuer.max_session.plus(issuer.clock_skew)
    {
        return Err(Reason::SessionTooOld);
    }
    Ok(())
}

/// The first second at which `check_times` refuses.
pub fn holds_until(verified: &Verified, issuer: &Issuer) -> Timestamp {
    let grant = verified.grant();
    let until = grant.expires_at.plus(issuer.clock_skew);
    let oldest = issuer.max_session.plus(issuer.clock_skew).plus(Span(1));
    grant.authenticated_at.map_or(until, |start| until.min(start.plus(oldest)))
}

/// The entry that the token belongs to. If several entries are about its issuer, this is the one whose `typ`, required
/// claims and audience the token has; if none is, the one that comes closest, which then refuses it. A token of two
/// entries is refused: whoever asks the issuer for it could choose the laxer one. Nothing is verified.
pub fn find_issuer<'i>(jws: &Unverified<'_>, issuers: &'i [Issuer]) -> Result<(IssuerIndex, &'i Issuer), Rejected> {
    let (name, is_in_subject) = match jws.claims().get("iss") {
        Some(Value::String(name)) => (name.as_str(), false),
        None | Some(Value::Null) if issuers.iter().any(|issuer| issuer.is_in_subject) => {
            let subject = jws.claims().get("sub").and_then(Value::as_str);
            (subject.and_then(authority).ok_or_else(|| Rejected::missing("iss"))?, true)
        }
        None => return Err(Rejected::missing("iss")),
        Some(_) => return Err(Rejected::claim("iss")),
    };
    let is_named = |(_, issuer): &(_, &Issuer)| issuer.is_in_subject == is_in_subject && issuer.name == name;
    let mut entries = IssuerIndex::enumerate(issuers).filter(is_named);
    let first = entries.next().ok_or(Reason::IssuerUnknown)?;
    let Some(second) = entries.next() else { return Ok(first) };
    let mut best = (first, fit(jws, first.1));
    for entry in std::iter::once(second).chain(entries) {
        let fit = fit(jws, entry.1);
        if fit == WHOLE && best.1 == WHOLE {
            return Err(Reason::AudienceMismatch.into());
        }
        if fit > best.1 {
            best = (entry, fit);
        }
    }
    Ok(best.0)
}

/// Scheme and authority of the URI `subject`, such as `spiffe://td.example`.
fn authority(subject: &str) -> Option<&str> {
    let start = subject.find("://")?.checked_add(3)?;
    let (_, rest) = subject.split_at_checked(start)?;
    let end = start.checked_add(rest.find('/').unwrap_or(rest.len()))?;
    subject.get(..end)
}

/// The number of checks that tell entries apart.
const WHOLE: u8 = 3;

/// How many of the checks that tell entries apart the token passes.
fn fit(jws: &Unverified<'_>, issuer: &Issuer) -> u8 {
    match (check_kind(jws, issuer), check_required(jws.claims(), issuer), check_audience(jws.claims(), issuer)) {
        (Err(_), ..) => 0,
        (_, Err(_), _) => 1,
        (.., Err(_)) => 2,
        (Ok(()), Ok(()), Ok(())) => WHOLE,
    }
}

/// Checks `typ` (explicit typing, RFC 8725 §3.11), and that no claim marks another kind of token (`events`, RFC 8417
/// §2.2).
fn check_kind(jws: &Unverified<'_>, issuer: &Issuer) -> Result<(), Reason> {
    let typed = match jws.typ() {
        None => issuer.accepts_untyped,
        Some(_) => issuer.types.iter().any(|typ| jws.is_typ(typ)),
    };
    if !typed || jws.claims().contains_key("events") {
        return Err(Reason::TokenType);
    }
    Ok(())
}

/// Checks the claims that the tokens of this entry must have. A token without one of them is of another kind.
fn check_required(claims: &Map<String, Value>, issuer: &Issuer) -> Result<(), Rejected> {
    for (path, accepted) in &issuer.required {
        let is_accepted = match claim_names::find(path, claims)? {
            None => false,
            Some(Value::Array(items)) => items.iter().any(|item| accepted.contains(item)),
            Some(value) => accepted.contains(value),
        };
        if !is_accepted {
            let claim = Some(Box::new(RefusedClaim::new(path, ClaimFault::NotAccepted)));
            return Err(Rejected { claim, ..Reason::TokenType.into() });
        }
    }
    Ok(())
}

fn check_audience(claims: &Map<String, Value>, issuer: &Issuer) -> Result<(), Rejected> {
    let names = &issuer.claims.audience;
    if names.is_none() {
        return Ok(());
    }
    let (path, value) = names.one(claims)?.ok_or_else(|| names.missing())?;
    let named = match value {
        Value::String(_) => std::slice::from_ref(value),
        Value::Array(list) => list.as_slice(),
        _ => return Err(RefusedClaim::new(path, ClaimFault::Shape).into()),
    };
    let mut ours = false;
    for value in named {
        let name = value.as_str().ok_or_else(|| RefusedClaim::new(path, ClaimFault::Shape))?;
        ours |= issuer.audiences.iter().any(|known| known == name);
    }
    if ours { Ok(()) } else { Err(Reason::AudienceMismatch.into()) }
}

/// Requires `exp` and `iat`; checks `exp`, `iat`, `nbf` and the lifetime.
fn check_raw_times(claims: &Map<String, Value>, issuer: &Issuer, now: Timestamp) -> Result<(), Rejected> {
    let issued = required_time(claims, "iat")?;
    let expires = required_time(claims, "exp")?;
    let latest = now.plus(issuer.clock_skew);
    if expires <= issued {
        return Err(Rejected::claim("exp"));
    }
    if now >= expires.plus(issuer.clock_skew) {
        return Err(Reason::TokenExpired.into());
    }
    for name in ["iat", "nbf"] {
        if begin(claims, name)?.is_some_and(|from| from > latest) {
            return Err(Reason::TokenNotYetValid.into());
        }
    }
    if expires.since(issued) > issuer.max_lifetime {
        return Err(Reason::LifetimeExceeded.into());
    }
    // The authentication must not be in the future.
    if let Some((path, value)) = issuer.claims.auth_time.one(claims)?
        && numeric_date_up(value).is_none_or(|at| at > latest)
    {
        return Err(RefusedClaim::new(path, ClaimFault::Shape).into());
    }
    Ok(())
}

/// The time, rounded down to a second.
fn required_time(claims: &Map<String, Value>, name: &str) -> Result<Timestamp, Rejected> {
    let value = claims.get(name).ok_or_else(|| Rejected::missing(name))?;
    numeric_date(value).ok_or_else(|| Rejected::claim(name))
}

/// The time, rounded up to a second. A value of the wrong shape is an error, not a missing claim.
fn begin(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Rejected> {
    claims.get(name).map(|value| numeric_date_up(value).ok_or_else(|| Rejected::claim(name))).transpose()
}

/// Reads everything except the map of claims.
fn read_grant(jws: &Unverified<'_>, issuer: &Issuer) -> Result<Grant, Rejected> {
    let (claims, names) = (jws.claims(), &issuer.claims);
    let details = match names.details.one(claims)? {
        None => Vec::new(),
        Some((path, value)) => Detail::list(value).ok_or_else(|| RefusedClaim::new(path, ClaimFault::Shape))?,
    };
    let scopes = match names.scope.first(claims)? {
        None => Vec::new(),
        Some((path, value)) => scopes(value).ok_or_else(|| RefusedClaim::new(path, ClaimFault::Shape))?,
    };
    let actors = match names.actor.one(claims)? {
        None => Vec::new(),
        Some((path, value)) => {
            actors(value, issuer.max_actors).ok_or_else(|| RefusedClaim::new(path, ClaimFault::Shape))?
        }
    };
    let device = names.device.text(claims, is_empty)?.map(|device| (issuer.name.clone(), device.into_owned()));
    let unless_absent = |names: &Names| match names.is_none() {
        true => Ok(None),
        false => names.required(claims).map(Some),
    };
    Ok(Grant {
        issuer: issuer.name.clone(),
        key_space: Arc::clone(&issuer.key_space),
        subject: names.subject.required(claims)?,
        client_id: unless_absent(&names.client)?,
        token_id: match names.token.is_none() {
            true => TokenId::Digest(sha256(jws.signing_input().as_bytes())),
            false => TokenId::Claim(names.token.required(claims)?),
        },
        task: unless_absent(&names.task)?,
        session: names.session.text(claims, NEVER_BLANK)?.map(Cow::into_owned),
        issued_at: required_time(claims, "iat")?,
        expires_at: required_time(claims, "exp")?,
        authenticated_at: match names.auth_time.one(claims)? {
            None => None,
            Some((path, value)) => Some(numeric_date(value).ok_or_else(|| RefusedClaim::new(path, ClaimFault::Shape))?),
        },
        scopes,
        details,
        acr: names.acr.text(claims, NEVER_BLANK)?.map(Cow::into_owned),
        actors,
        confirmation: Confirmation::read(claims.get("cnf")).ok_or_else(|| Rejected::claim("cnf"))?,
        device: match device {
            Some(device) => Some(device),
            None => member(claims, "device", issuer).ok_or_else(|| Rejected::claim("sub_id"))?,
        },
        tenant: tenant(claims, issuer)?,
        groups: groups(claims, issuer)?,
        identifiers: identifiers(claims, issuer)?,
        foreign_users: foreign_users(claims, issuer)?,
        carriers: Arc::clone(&issuer.carriers),
        claims: Map::new(),
        token: None,
    })
}

/// The identifiers of the user in subject formats other than `iss_sub`, if the token has these claims.
fn identifiers(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Vec<(Kind, String)>, RefusedClaim> {
    let mut identifiers = Vec::new();
    for (kind, names) in &issuer.claims.subjects {
        identifiers.extend(names.text(claims, says_nothing)?.map(|value| (*kind, value.into_owned())));
    }
    Ok(identifiers)
}

/// The `sub` that other issuers gave the user, if the token has these claims.
fn foreign_users(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Vec<(String, String)>, RefusedClaim> {
    let mut users = Vec::new();
    for (named, names) in &issuer.claims.foreign_users {
        users.extend(names.text(claims, says_nothing)?.map(|value| (named.clone(), value.into_owned())));
    }
    Ok(users)
}

fn tenant(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Option<(String, String)>, Rejected> {
    match issuer.claims.tenant.text(claims, says_nothing)? {
        Some(name) => Ok(Some((issuer.name.clone(), name.into_owned()))),
        None => member(claims, "tenant", issuer).ok_or_else(|| Rejected::claim("sub_id")),
    }
}

/// The groups: the claim, with one name or a list of names, and the member `group` of `sub_id`.
fn groups(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Vec<(String, String)>, Rejected> {
    if issuer.claims.group.is_none() {
        return Ok(Vec::new());
    }
    let in_sub_id = member(claims, "group", issuer).ok_or_else(|| Rejected::claim("sub_id"))?;
    let mut groups: Vec<(String, String)> = in_sub_id.into_iter().collect();
    let Some((path, value)) = issuer.claims.group.one(claims)? else { return Ok(groups) };
    let wrong = || RefusedClaim::new(path, ClaimFault::Shape);
    let names = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    for name in names.iter().filter(|name| !says_nothing(name)) {
        let name = claim_names::name(name).ok_or_else(wrong)?;
        groups.push((issuer.name.clone(), name.into_owned()));
    }
    if groups.len() <= MAX_GROUPS { Ok(groups) } else { Err(wrong().into()) }
}

/// Whether an identifier says that there is none. Some issuers write that as an empty string, a list or null.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(_) => false,
        _ => true,
    }
}

/// Whether the claim is an empty string or a list: some issuers write this if there is no value.
fn is_empty(value: &Value) -> bool {
    value.is_array() || value.as_str() == Some("")
}

/// RFC 8693 §4.1: each link has a `sub`, and an `iss` if that differs from the token's issuer.
fn actors(claim: &Value, most: usize) -> Option<Vec<Actor>> {
    let text = |members: &Map<String, Value>, member: &str| {
        members.get(member).and_then(claim_names::name).map(Cow::into_owned)
    };
    let mut actors = Vec::new();
    let mut next = Some(claim);
    while let Some(link) = next {
        let members = link.as_object().filter(|_| actors.len() < most)?;
        let issuer = match members.get("iss") {
            None => None,
            Some(_) => Some(text(members, "iss")?),
        };
        actors.push(Actor { issuer, subject: text(members, "sub")? });
        next = members.get("act");
    }
    Some(actors)
}

/// A member of a complex `sub_id` (RFC 9493, SSF 1.0 §3.3), as `(issuer, name)`. `Some(None)` when it is absent.
#[allow(clippy::option_option, reason = "absent and wrong are different answers")]
fn member(claims: &Map<String, Value>, member: &str, issuer: &Issuer) -> Option<Option<(String, String)>> {
    let Some(value) = claims.get("sub_id").and_then(|sub_id| sub_id.get(member)) else { return Some(None) };
    let (named, name) = subject_id::name(value.as_object()?)?;
    Some(Some((named.unwrap_or(&issuer.name).to_owned(), name.to_owned())))
}

/// The scope values (RFC 8693 §4.2): one string with spaces between them. Some issuers write a list with one string for
/// each value.
fn scopes(claim: &Value) -> Option<Vec<String>> {
    match claim {
        Value::String(text) => Some(text.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect()),
        // A space inside an item of a list would change the number of values.
        Value::Array(list) => {
            let value = |value: &Value| value.as_str().filter(|s| !s.is_empty() && !s.contains(' ')).map(str::to_owned);
            list.iter().map(value).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::signature::PureRust;
    use crate::testing::fixture::{self, ABSENT, NOW, token_with};
    use crate::token::claim_names::{ClaimNames, MAX_NAME};
    use crate::token::claim_path::ClaimPath;
    use serde_json::json;

    fn verify_at(token: &str, now: Timestamp) -> Result<Verified, Reason> {
        verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, now).map_err(|rejected| rejected.reason)
    }

    /// The claim for which a token with such claims is refused.
    fn refused_claim(claims: Value) -> Option<String> {
        let token = token_with(json!({}), claims);
        let rejected = verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).expect_err("refused");
        assert_eq!(rejected.reason, Reason::ClaimInvalid);
        rejected.claim.map(|claim| claim.name)
    }

    fn refusal(header: Value, claims: Value) -> Reason {
        verify_at(&token_with(header, claims), NOW).expect_err("refused")
    }

    #[test]
    fn a_good_token_is_read() {
        let verified = verify_at(&token_with(json!({}), json!({})), NOW).unwrap();
        let grant = verified.grant();
        assert_eq!(grant.task.as_deref(), Some("task-42"));
        assert_eq!(grant.session.as_deref(), Some("sess-9"));
        assert_eq!(grant.scopes, ["orders.read", "orders.refund"]);
        assert_eq!(grant.details[0].identifier.as_deref(), Some("1881"));
    }

    #[test]
    fn kinds_of_token_never_mix() {
        for typ in [json!("JWT"), json!("secevent+jwt"), json!("dpop+jwt"), json!("txntoken+jwt"), Value::Null] {
            assert_eq!(refusal(json!({ "typ": typ }), json!({})), Reason::TokenType);
        }
        assert_eq!(refusal(json!({}), json!({"events": {}})), Reason::TokenType);
        assert!(verify_at(&token_with(json!({"typ": "application/at+JWT"}), json!({})), NOW).is_ok());
    }

    #[test]
    fn algorithms_are_bound_to_the_key() {
        for alg in ["none", "None", "NONE", "HS256", "RS256", "ES384", "es256", ""] {
            assert_eq!(refusal(json!({ "alg": alg }), json!({})), Reason::AlgorithmRefused, "{alg}");
        }
    }

    #[test]
    fn a_kid_only_chooses_among_the_keys() {
        for kid in [json!("other"), json!("../../etc/passwd"), json!("")] {
            assert_eq!(refusal(json!({ "kid": kid }), json!({})), Reason::KeyUnknown, "{kid}");
        }
    }

    #[test]
    fn times_in_the_wrong_shape_are_wrong() {
        let bad = [json!("1790000300"), json!(-1), json!(-0.5), json!(null), json!([]), json!(1_790_000_300_000u64)];
        for claim in ["exp", "iat", "nbf", "auth_time"] {
            for value in bad.iter().filter(|value| claim != "auth_time" || !value.is_null()) {
                assert_eq!(refused_claim(json!({ claim: value })).as_deref(), Some(claim), "{claim} {value}");
            }
        }
        for claim in ["exp", "iat", "sub", "jti", "client_id", "txn", "aud", "iss"] {
            assert_eq!(refused_claim(json!({ claim: fixture::ABSENT })).as_deref(), Some(claim), "{claim}");
        }
    }

    /// RFC 7519 §2. What ends ends early, what begins begins late, and what is old is older.
    #[test]
    fn fractions_of_seconds_are_read_strictly() {
        let skew = fixture::issuer().clock_skew.0;
        let at = |claims: Value, now| verify_at(&token_with(json!({}), claims), Timestamp(now)).map(|_| ()).err();
        let fraction = |at: u64| json!(Value::from(at).as_f64().unwrap() + 0.5);
        let exp = NOW.0 + 200;
        assert_eq!(at(json!({"exp": fraction(exp)}), exp + skew - 1), None);
        assert_eq!(at(json!({"exp": fraction(exp)}), exp + skew), Some(Reason::TokenExpired));
        for claim in ["nbf", "iat"] {
            assert_eq!(at(json!({ claim: fraction(NOW.0 + skew - 1) }), NOW.0), None, "{claim}");
            let ahead = at(json!({ claim: fraction(NOW.0 + skew) }), NOW.0);
            assert_eq!(ahead, Some(Reason::TokenNotYetValid), "{claim}");
        }
        let longest = fixture::issuer().max_lifetime.0;
        assert_eq!(at(json!({"iat": fraction(NOW.0), "exp": fraction(NOW.0 + longest)}), NOW.0), None);
        let longer = json!({"iat": fraction(NOW.0), "exp": fraction(NOW.0 + longest + 1)});
        assert_eq!(at(longer, NOW.0), Some(Reason::LifetimeExceeded));
        let claims = json!({"iat": fraction(NOW.0 - 5), "auth_time": fraction(NOW.0 - 9), "exp": fraction(exp)});
        let verified = verify_at(&token_with(json!({}), claims), NOW).unwrap();
        let grant = verified.grant();
        let times = (grant.issued_at, grant.authenticated_at, grant.expires_at);
        assert_eq!(times, (Timestamp(NOW.0 - 5), Some(Timestamp(NOW.0 - 9)), Timestamp(exp)));
        assert_eq!(refused_claim(json!({"auth_time": fraction(NOW.0 + skew)})).as_deref(), Some("auth_time"));
    }

    #[test]
    fn null_is_an_identifier_that_is_not_there() {
        let claims = json!({"sid": null, "acr": null, "auth_time": null, "device_id": null, "email": null,
            "scope": null, "act": null, "authorization_details": null});
        let verified = verify_at(&token_with(json!({}), claims), NOW).unwrap();
        let grant = verified.grant();
        assert!(grant.scopes.is_empty() && grant.actors.is_empty() && grant.details.is_empty());
        assert_eq!((&grant.session, &grant.acr, grant.authenticated_at, &grant.device), (&None, &None, None, &None));
        assert_eq!(grant.identifiers, []);
        for claim in ["sid", "acr", "auth_time", "device_id"] {
            assert_eq!(refused_claim(json!({ claim: true })).as_deref(), Some(claim));
        }
        for claim in ["nbf", "cnf", "sub", "jti"] {
            assert_eq!(refused_claim(json!({ claim: null })).as_deref(), Some(claim));
        }
    }

    #[test]
    fn without_names_any_key_for_the_algorithm_may_have_signed() {
        let mut jwks = fixture::jwks();
        jwks["keys"][0].as_object_mut().unwrap().remove("kid");
        let (keys, problems) = crate::jose::key::KeySet::from_jwks(&jwks, &[Algorithm::ES256]).unwrap();
        assert_eq!(problems, []);
        let issuer = [Issuer { keys: crate::keys::keyring::Keyring::inline(keys), ..fixture::issuer() }];
        let ask = |kid: Value| {
            let token = token_with(json!({ "kid": kid }), json!({}));
            verify(token.as_bytes(), &issuer, &mut PureRust, NOW).map(|_| ()).map_err(|rejected| rejected.reason)
        };
        assert_eq!(ask(Value::Null), Ok(()));
        assert_eq!(ask(json!("jit-1")), Ok(()), "no key of the set has a name");
        assert_eq!(refusal(json!({"kid": null, "alg": "EdDSA"}), json!({})), Reason::AlgorithmRefused);
    }

    #[test]
    fn the_edges_of_the_times() {
        let skew = fixture::issuer().clock_skew.0;
        let token = token_with(json!({}), json!({}));
        let exp = NOW.0 + 200;
        assert!(verify_at(&token, Timestamp(exp + skew - 1)).is_ok());
        assert_eq!(verify_at(&token, Timestamp(exp + skew)).err(), Some(Reason::TokenExpired));
        let ahead = |claim: &str, by: u64| verify_at(&token_with(json!({}), json!({ claim: NOW.0 + by })), NOW).err();
        assert_eq!(ahead("nbf", skew), None);
        assert_eq!(ahead("nbf", skew + 1), Some(Reason::TokenNotYetValid));
        assert_eq!(ahead("iat", skew), None);
        assert_eq!(ahead("iat", skew + 1), Some(Reason::TokenNotYetValid));
        let lives =
            |span: u64| verify_at(&token_with(json!({}), json!({"iat": NOW.0, "exp": NOW.0 + span})), NOW).err();
        let longest = fixture::issuer().max_lifetime.0;
        assert_eq!(lives(longest), None);
        assert_eq!(lives(longest + 1), Some(Reason::LifetimeExceeded));
        assert_eq!(lives(0), Some(Reason::ClaimInvalid));
    }

    #[test]
    fn an_old_session_is_refused() {
        let old = NOW.0 - fixture::issuer().max_session.plus(Span(31)).0;
        assert_eq!(refusal(json!({}), json!({ "auth_time": old })), Reason::SessionTooOld);
    }

    #[test]
    fn audience_and_issuer_are_exact() {
        for aud in [json!("https://orders.mesh/"), json!("HTTPS://orders.mesh"), json!(["a", "b"]), json!([])] {
            assert_eq!(refusal(json!({}), json!({ "aud": aud })), Reason::AudienceMismatch, "{aud}");
        }
        for aud in [json!(1), json!(["https://orders.mesh", 1]), json!({})] {
            assert_eq!(refusal(json!({}), json!({ "aud": aud })), Reason::ClaimInvalid, "{aud}");
        }
        assert!(verify_at(&token_with(json!({}), json!({"aud": ["x", "https://orders.mesh"]})), NOW).is_ok());
        assert_eq!(refusal(json!({}), json!({"iss": "https://jit.example/"})), Reason::IssuerUnknown);
    }

    #[test]
    fn names_hold_no_control_characters() {
        for name in ["a\0b", "a\nb", "\u{1b}[31m", "", &"x".repeat(MAX_NAME + 1)] {
            assert_eq!(refusal(json!({}), json!({ "sub": name })), Reason::ClaimInvalid, "{name:?}");
        }
    }

    #[test]
    fn delegation_and_device_are_read() {
        let act = json!({"sub": "agent", "iss": "https://agents", "act": {"sub": "tool"}});
        let sub_id = json!({"format": "complex", "device": {"format": "iss_sub", "iss": "https://mdm", "sub": "d7"}});
        let token = token_with(json!({}), json!({"act": act, "sub_id": sub_id, "acr": "phr"}));
        let verified = verify_at(&token, NOW).unwrap();
        let subjects: Vec<&str> = verified.grant().actors.iter().map(|actor| actor.subject.as_str()).collect();
        assert_eq!(subjects, ["agent", "tool"]);
        assert_eq!(verified.grant().device, Some(("https://mdm".to_owned(), "d7".to_owned())));
        let mut deep = json!({"sub": "x"});
        for _ in 0..fixture::issuer().max_actors {
            deep = json!({"sub": "x", "act": deep});
        }
        for bad in [deep, json!("agent"), json!({}), json!({"sub": [1]}), json!({"sub": "a", "act": []})] {
            assert_eq!(refusal(json!({}), json!({ "act": bad })), Reason::ClaimInvalid);
        }
    }

    #[test]
    fn an_identifier_that_says_nothing_is_not_there() {
        let issuer = || Issuer {
            claims: ClaimNames {
                subjects: vec![(Kind::Email, Names::top("email")), (Kind::Phone, Names::top("phone"))],
                foreign_users: vec![("https://idp".to_owned(), Names::top("idp_sub"))],
                tenant: Names::top("tid"),
                group: Names::top("groups"),
                ..ClaimNames::default()
            },
            ..fixture::issuer()
        };
        let read = |claims: Value| {
            let token = token_with(json!({}), claims);
            let verified = verify(token.as_bytes(), &[issuer()], &mut PureRust, NOW);
            verified.map(|verified| verified.grant().clone()).map_err(|rejected| rejected.reason)
        };
        for nothing in [json!(""), json!([]), json!(["a@b"]), json!(null), json!({}), json!(true)] {
            let grant = read(json!({"email": nothing, "phone": "+41", "idp_sub": nothing, "tid": nothing})).unwrap();
            assert_eq!(grant.identifiers, [(Kind::Phone, "+41".to_owned())], "{nothing}");
            assert!(grant.foreign_users.is_empty() && grant.tenant.is_none(), "{nothing}");
        }
        let grant = read(json!({"idp_sub": "00u1", "tid": "acme", "groups": ["ops", "", true, "dev"]})).unwrap();
        assert_eq!(grant.foreign_users, [("https://idp".to_owned(), "00u1".to_owned())]);
        let named = |name: &str| ("https://jit.example".to_owned(), name.to_owned());
        assert_eq!((grant.tenant, grant.groups), (Some(named("acme")), vec![named("ops"), named("dev")]));
        let member = json!({"format": "complex", "group": {"format": "opaque", "id": "ops"}, "tenant": {"format": "opaque", "id": "acme"}});
        let grant = read(json!({"sub_id": member, "groups": "dev"})).unwrap();
        assert_eq!((grant.tenant, grant.groups), (Some(named("acme")), vec![named("ops"), named("dev")]));
        for (claim, bad) in
            [("email", json!("a\nb")), ("tid", json!("x".repeat(MAX_NAME + 1))), ("groups", json!(["a", "b\0"]))]
        {
            assert_eq!(read(json!({ claim: bad })).err(), Some(Reason::ClaimInvalid), "{claim}");
        }
        let many: Vec<String> = (0..=MAX_GROUPS).map(|n| n.to_string()).collect();
        assert_eq!(read(json!({ "groups": many })).err(), Some(Reason::ClaimInvalid));
        assert_eq!(read(json!({ "groups": many[1..] })).unwrap().groups.len(), MAX_GROUPS);
    }

    #[test]
    fn a_chain_of_actors_is_as_long_as_its_issuer_may_make_it() {
        let act = json!({"sub": "a", "act": {"sub": "b", "act": {"sub": "c"}}});
        let token = token_with(json!({}), json!({ "act": act }));
        let most = |max_actors| {
            let issuer = Issuer { max_actors, ..fixture::issuer() };
            let verified = verify(token.as_bytes(), &[issuer], &mut PureRust, NOW);
            verified.map(|verified| verified.grant().actors.len()).map_err(|rejected| rejected.reason)
        };
        assert_eq!((most(3), most(2), most(0)), (Ok(3), Err(Reason::ClaimInvalid), Err(Reason::ClaimInvalid)));
    }

    #[test]
    fn scopes_are_a_string_or_a_list() {
        let scopes = |value: Value| verify_at(&token_with(json!({}), json!({ "scope": value })), NOW);
        for same in [json!("a b"), json!(" a  b"), json!(["a", "b"])] {
            assert_eq!(scopes(same).unwrap().grant().scopes, ["a", "b"]);
        }
        for bad in [json!(["a b"]), json!(["a", ""]), json!(["a", 1]), json!([["a"]]), json!({"a": 1})] {
            assert_eq!(scopes(bad.clone()).err(), Some(Reason::ClaimInvalid), "{bad}");
        }
    }

    #[test]
    fn a_binding_that_nobody_can_check_is_invalid() {
        for cnf in [json!({}), json!({"kid": "k"}), json!({"jwk": {}}), json!("x"), json!(null)] {
            assert_eq!(refusal(json!({}), json!({ "cnf": cnf })), Reason::ClaimInvalid);
        }
        let jkt = crate::encoding::digest::digest_text(&[7; 32]);
        let token = token_with(json!({}), json!({"cnf": {"jkt": jkt}}));
        assert_eq!(verify_at(&token, NOW).unwrap().grant().confirmation.key, Some([7; 32]));
    }

    #[test]
    fn any_flipped_letter_refuses() {
        let token = token_with(json!({}), json!({}));
        assert!(verify_at(&token, NOW).is_ok());
        for at in (0..token.len()).step_by(7) {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(verify(&bytes, &[fixture::issuer()], &mut PureRust, NOW).is_err(), "at {at}");
        }
    }

    #[test]
    fn a_token_is_bounded() {
        let claims = json!({"padding": "x".repeat(MAX_TOKEN)});
        assert_eq!(refusal(json!({}), claims), Reason::TokenTooLarge);
        let details: Vec<Value> = (0..200).map(|_| json!({"type": "t"})).collect();
        assert_eq!(refusal(json!({}), json!({ "authorization_details": details })), Reason::ClaimInvalid);
    }

    /// Several entries of one issuer, and one of an issuer whose tokens have no `iss`.
    #[test]
    fn the_entry_is_the_one_whose_kind_of_token_it_is() {
        let of = |text: &str| vec![(ClaimPath::parse(text).unwrap(), vec![json!("a"), json!(2)])];
        let issuers = [
            Issuer { required: of("kind"), ..fixture::issuer() },
            Issuer { types: vec!["JWT".to_owned()], accepts_untyped: true, ..fixture::issuer() },
            Issuer { audiences: vec!["https://other.mesh".to_owned()], ..fixture::issuer() },
            Issuer { is_in_subject: true, name: "spiffe://td.example".to_owned(), ..fixture::issuer() },
        ];
        let read = |header: Value, claims: Value| {
            let token = token_with(header, claims);
            let verified = verify(token.as_bytes(), &issuers, &mut PureRust, NOW);
            verified.map(|verified| verified.issuer().position()).map_err(|rejected| rejected.reason)
        };
        for (header, claims, expected) in [
            (json!({}), json!({"kind": "a"}), Ok(0)),
            (json!({}), json!({"kind": ["b", 2]}), Ok(0)),
            (json!({"typ": "JWT"}), json!({}), Ok(1)),
            (json!({"typ": null}), json!({"kind": "a"}), Ok(1)),
            (json!({}), json!({"aud": "https://other.mesh"}), Ok(2)),
            (json!({}), json!({"aud": "https://other.mesh", "kind": "b"}), Ok(2)),
            (json!({}), json!({"iss": ABSENT, "sub": "spiffe://td.example/ns/web"}), Ok(3)),
            (json!({}), json!({"iss": null, "sub": "spiffe://td.example"}), Ok(3)),
            // A token with `iss` never goes by its subject.
            (
                json!({}),
                json!({"iss": "spiffe://td.example", "sub": "spiffe://td.example/a"}),
                Err(Reason::IssuerUnknown),
            ),
            (json!({}), json!({"iss": ABSENT, "sub": "spiffe://td.example.evil/a"}), Err(Reason::IssuerUnknown)),
            (json!({}), json!({"iss": ABSENT}), Err(Reason::ClaimInvalid)),
            (json!({}), json!({"kind": "b"}), Err(Reason::AudienceMismatch)),
            (json!({"typ": "dpop+jwt"}), json!({"kind": "a"}), Err(Reason::TokenType)),
        ] {
            assert_eq!(read(header.clone(), claims.clone()), expected, "{header} {claims}");
        }
        // Whoever asks for a token with both audiences does not choose the entry whose settings are laxer.
        for (header, claims) in [
            (json!({}), json!({"kind": "a", "aud": ["https://orders.mesh", "https://other.mesh"]})),
            (json!({"typ": "at+jwt"}), json!({"kind": "a", "aud": ["https://other.mesh", "https://orders.mesh"]})),
        ] {
            assert_eq!(read(header, claims.clone()), Err(Reason::AudienceMismatch), "{claims}");
        }
        let one = [Issuer { required: of("deep.kind"), ..fixture::issuer() }];
        let refused = |claims: Value| {
            let rejected = verify(token_with(json!({}), claims).as_bytes(), &one, &mut PureRust, NOW).unwrap_err();
            (rejected.reason, rejected.claim.unwrap().to_string())
        };
        let message = |what: &str| format!("the claim `deep.kind` {what}");
        assert_eq!(refused(json!({})), (Reason::TokenType, message("has a value that is not accepted")));
        assert_eq!(refused(json!({"deep": [1]})), (Reason::ClaimInvalid, message("is not inside an object")));
    }

    #[test]
    fn the_audience_may_be_another_claim_or_none() {
        let ask = |audience: Names, claims: Value| {
            let claims_of = ClaimNames { audience, ..ClaimNames::default() };
            let audiences = vec!["agent-a7".to_owned()];
            let issuer = [Issuer { claims: claims_of, audiences, ..fixture::issuer() }];
            let token = token_with(json!({}), claims);
            verify(token.as_bytes(), &issuer, &mut PureRust, NOW).map(|_| ()).map_err(|rejected| rejected.reason)
        };
        let by_client = || Names::top("client_id");
        assert_eq!(ask(by_client(), json!({"aud": ABSENT})), Ok(()));
        assert_eq!(ask(by_client(), json!({"client_id": "other"})), Err(Reason::AudienceMismatch));
        assert_eq!(ask(Names::default(), json!({"aud": ABSENT})), Ok(()));
        let either = Names::new(vec![ClaimPath::top("aud"), ClaimPath::top("client_id")]);
        assert_eq!(ask(either, json!({"aud": "other"})), Err(Reason::ClaimInvalid), "they differ");
    }
}
