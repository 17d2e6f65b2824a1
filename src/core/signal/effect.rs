//! The effect of an event: from an event and its subject to entries of the state.

use crate::index::IssuerIndex;
use crate::signal::event;
use crate::signal::event::{Event, EventError, Type};
use crate::signal::subject::{Member, Subject};
use crate::state::bucket::SourceTag;
use crate::state::bucket::{Entry, MAX_CONDITIONS};
use crate::state::fact::{Claim, Compliance, Fact, Risk};
use crate::state::key::{Kind, StateKey};
use crate::state::payload::{self, PayloadError};
use crate::time::{Span, Timestamp};
use crate::token::issuer::Issuer;
use serde_json::json;
use std::borrow::Cow;

/// An entry about a device or a risk is kept for at least 30 days.
const WORD_RETENTION: Span = Span::hours(30 * 24);

/// One signal may produce this many entries.
const MAX_ENTRIES: usize = 256;

/// Claims that identify the token, its subject or its lifetime, or that have an event type of their own. No signal can
/// change them.
const FIXED_CLAIMS: [&str; 21] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "client_id",
    "azp",
    "cnf",
    "act",
    "may_act",
    "txn",
    "sid",
    "sub_id",
    "events",
    "auth_time",
    "acr",
    "amr",
    "typ",
    "status",
];

/// The configured effect of a type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What the subject names is revoked: a token, a task or a session permanently, the sessions of a principal up to
    /// the time of the event.
    End,
    /// The information is stored: the fact, the changed claims or the start of the session.
    Set,
    /// Both: the information is stored, and what the subject names is revoked if the event makes things worse.
    SetAndEnd,
    /// The event has no effect.
    Ignore,
}

/// The effect of each type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the names of the types")]
pub struct Effects {
    pub token_claims_change: Effect,
    pub credential_change: Effect,
    /// For a credential-change whose `change_type` is `create`.
    pub credential_created: Effect,
    pub assurance_level_change: Effect,
    pub device_compliance_change: Effect,
    pub session_established: Effect,
    pub risk_level_change: Effect,
    pub account_disabled: Effect,
    pub account_purged: Effect,
    pub credential_compromise: Effect,
    pub sessions_revoked: Effect,
}

impl Default for Effects {
    fn default() -> Effects {
        Effects {
            token_claims_change: Effect::Set,
            credential_change: Effect::End,
            credential_created: Effect::Ignore,
            assurance_level_change: Effect::Set,
            device_compliance_change: Effect::Set,
            session_established: Effect::Set,
            risk_level_change: Effect::Set,
            account_disabled: Effect::End,
            account_purged: Effect::End,
            credential_compromise: Effect::End,
            sessions_revoked: Effect::End,
        }
    }
}

/// Why an event cannot be turned into entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum EffectError {
    #[error("a subject may have {MAX_CONDITIONS} members")]
    TooManyMembers,
    #[error("the event says more than {MAX_ENTRIES} things; split it")]
    TooManyEntries,
    #[error(transparent)]
    Event(#[from] EventError),
}

/// What an event means for its subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Meaning {
    /// It is revoked.
    Revoked,
    /// The task is completed.
    Completed,
    /// A fact about the principal of that kind, or about the most selective member of the subject if no kind is given.
    Fact(Fact, Option<Kind>),
    /// The session began.
    Began,
    /// A change of the grant, with its data.
    Change(Fact, Vec<u8>),
    /// The claims that carry scope or details inside this statement about a claim are narrowed, and the claim is not
    /// set.
    NarrowedInside(Vec<u8>),
}

impl Effects {
    /// Whether events of that type can have an effect on grants.
    pub(crate) fn is_effective(&self, kind: Type) -> bool {
        let effect = match kind {
            Type::SessionRevoked | Type::TaskCompleted | Type::GrantNarrowed => return true,
            Type::SessionPresented | Type::AccountEnabled | Type::Verification | Type::StreamUpdated => return false,
            Type::TokenClaimsChange => self.token_claims_change,
            Type::CredentialChange => {
                return [self.credential_change, self.credential_created].iter().any(|one| *one != Effect::Ignore);
            }
            Type::AssuranceLevelChange => self.assurance_level_change,
            Type::DeviceComplianceChange => self.device_compliance_change,
            Type::SessionEstablished => self.session_established,
            Type::RiskLevelChange => self.risk_level_change,
            Type::AccountDisabled => self.account_disabled,
            Type::AccountPurged => self.account_purged,
            Type::CredentialCompromise => self.credential_compromise,
            Type::SessionsRevoked => self.sessions_revoked,
        };
        effect != Effect::Ignore
    }

    /// What `event` means under these effects.
    pub(crate) fn meanings(&self, event: &Event) -> Result<Vec<Meaning>, PayloadError> {
        let (effect, worse, set) = match event {
            Event::Plain(Type::SessionRevoked) => return Ok(vec![Meaning::Revoked]),
            Event::Plain(Type::TaskCompleted) => return Ok(vec![Meaning::Completed]),
            Event::Narrowed(data) => return Ok(vec![Meaning::Change(Fact::Narrowed, data.clone())]),
            Event::Plain(Type::AccountDisabled) => (self.account_disabled, true, Vec::new()),
            Event::Plain(Type::AccountPurged) => (self.account_purged, true, Vec::new()),
            Event::Plain(Type::CredentialCompromise) => (self.credential_compromise, true, Vec::new()),
            Event::Plain(Type::SessionsRevoked) => (self.sessions_revoked, true, Vec::new()),
            Event::Plain(_) | Event::Verification(_) | Event::Stream(_) => return Ok(Vec::new()),
            Event::Credential { created: true } => (self.credential_created, true, Vec::new()),
            Event::Credential { created: false } => (self.credential_change, true, Vec::new()),
            Event::Established => (self.session_established, false, vec![Meaning::Began]),
            Event::Device(status) => {
                let fact = Meaning::Fact(Fact::Device(*status), Some(Kind::Device));
                (self.device_compliance_change, *status == Compliance::NotCompliant, vec![fact])
            }
            Event::Risk { level, principal, .. } => {
                (self.risk_level_change, *level == Risk::High, vec![Meaning::Fact(Fact::Risk(*level), *principal)])
            }
            Event::Assurance { namespace, level, raised } => {
                let data = payload::statement(namespace, &json!({"level": level, "raised": raised}))?;
                (self.assurance_level_change, !raised, vec![Meaning::Change(Fact::Assurance(Claim::Set), data)])
            }
            Event::Change { narrowing, claims } => {
                let mut set: Vec<Meaning> =
                    narrowing.iter().map(|data| Meaning::Change(Fact::Narrowed, data.clone())).collect();
                for (name, value) in claims {
                    set.push(Meaning::Change(Fact::Claim(Claim::Set), payload::statement(name, value)?));
                }
                (self.token_claims_change, true, set)
            }
        };
        let ends = worse && matches!(effect, Effect::End | Effect::SetAndEnd);
        let mut meanings = if matches!(effect, Effect::Set | Effect::SetAndEnd) { set } else { Vec::new() };
        meanings.extend(ends.then_some(Meaning::Revoked));
        Ok(meanings)
    }
}

/// Whether a signal may change the claim. Each of `issuers` may use other names for the claims that must not change.
pub(crate) fn may_change(claim: &str, issuers: &[(IssuerIndex, &Issuer)]) -> bool {
    let named = |(_, issuer): &(IssuerIndex, &Issuer)| {
        let required = issuer.required.iter().map(|(path, _)| path);
        issuer.claims.identifying().chain(required).any(|path| path.root() == claim)
    };
    !FIXED_CLAIMS.contains(&claim) && !issuers.iter().any(named)
}

/// The entries that `meanings` produce about `subject` in the grants of each of `issuers`. If the signal is
/// `faulty`, values of claims are stored as conflicting. The error is written for the transmitter's operator.
pub(crate) fn entries(
    meanings: &[Meaning],
    faulty: bool,
    subject: &Subject,
    issuers: &[(IssuerIndex, &Issuer)],
    at: Timestamp,
    now: Timestamp,
) -> Result<Vec<Entry>, EffectError> {
    let mut entries = Vec::new();
    for members in &subject.alternatives {
        if members.len() > MAX_CONDITIONS {
            return Err(EffectError::TooManyMembers);
        }
        for (index, issuer) in issuers {
            let Some((keys, whole)) = keys_under(members, *index) else { continue };
            let wider = !whole || !subject.unmatched.is_empty();
            // Entries about one issuer share the keys.
            let alike = || issuers.iter().filter(|(_, other)| other.key_space == issuer.key_space);
            let has_all = |kind: Kind| kind.is_universal() && alike().all(|(_, other)| other.claims.may_name(kind));
            for mut meaning in about_grants_of(issuer, meanings)? {
                if faulty {
                    meaning.to_mut().mark_claims_conflicting();
                }
                let stored = meaning.stored_under(&keys, has_all);
                let new = stored.into_iter().filter_map(|(key, conditions)| {
                    let (fact, data) = meaning.fact(key.kind(), wider)?;
                    Some(Entry {
                        key,
                        fact,
                        at,
                        until: until(fact, key.kind(), now.max(at), issuer),
                        conditions,
                        data,
                        source: SourceTag::NONE,
                        lifted: false,
                    })
                });
                new.for_each(|entry| add(&mut entries, entry));
            }
        }
    }
    if entries.len() > MAX_ENTRIES {
        return Err(EffectError::TooManyEntries);
    }
    Ok(entries)
}

/// Adds `new`. Two entries of the configuration about one issuer give one entry of the state, for the longer of both
/// spans.
fn add(entries: &mut Vec<Entry>, new: Entry) {
    let same = |known: &&mut Entry| {
        known.key == new.key && known.fact == new.fact && known.conditions == new.conditions && known.data == new.data
    };
    match entries.iter_mut().find(same) {
        Some(known) => known.until = known.until.max(new.until),
        None => entries.push(new),
    }
}

/// What `meanings` mean for grants of `issuer`: a claim that carries scope or details for this issuer is narrowed, not
/// set; one that contains such a claim is set, and the claim inside it narrowed.
fn about_grants_of<'m>(issuer: &Issuer, meanings: &'m [Meaning]) -> Result<Vec<Cow<'m, Meaning>>, EventError> {
    let mut all = Vec::new();
    for meaning in meanings {
        let data = match meaning {
            Meaning::Change(Fact::Claim(Claim::Set), data) | Meaning::NarrowedInside(data) => data,
            _ => {
                all.push(Cow::Borrowed(meaning));
                continue;
            }
        };
        let narrowings = event::carried(data, &issuer.carriers)?;
        if meaning.claim().is_some_and(|name| issuer.carriers.role(name).is_none()) {
            all.push(Cow::Borrowed(meaning));
        }
        all.extend(narrowings.into_iter().map(|data| Cow::Owned(Meaning::Change(Fact::Narrowed, data))));
    }
    Ok(all)
}

/// The keys of `members` under the issuer with that index, and whether every member has one. All members describe one
/// principal, so they should belong to one issuer. If they belong to several, the issuer of the most selective member
/// is meant, and members of other issuers are ignored.
fn keys_under(members: &[Member], issuer: IssuerIndex) -> Option<(Vec<StateKey>, bool)> {
    let key = |member: &Member| member.keys.iter().find(|(index, _)| *index == issuer).map(|(_, key)| *key);
    let keys: Vec<StateKey> = members.iter().filter_map(key).collect();
    if keys.len() == members.len() {
        return Some((keys, true));
    }
    if has_one_issuer(members) {
        return None;
    }
    let closest = members.iter().min_by_key(|member| selectivity(member.kind))?;
    key(closest).map(|_| (keys, false))
}

/// Whether one issuer has a key for each of `members`.
pub(crate) fn has_one_issuer(members: &[Member]) -> bool {
    let Some((first, others)) = members.split_first() else { return true };
    let of_all = |issuer: &IssuerIndex| others.iter().all(|other| other.keys.iter().any(|(index, _)| index == issuer));
    first.keys.iter().any(|(issuer, _)| of_all(issuer))
}

impl Meaning {
    /// The name of the claim that it sets.
    pub(crate) fn claim(&self) -> Option<&str> {
        match self {
            Meaning::Change(Fact::Claim(_), data) => payload::name(data),
            _ => None,
        }
    }

    /// Whether it revokes or narrows a grant. A claim in the same event that may not change does not prevent it.
    pub(crate) fn revokes_or_narrows(&self) -> bool {
        match self {
            Meaning::Revoked | Meaning::Completed | Meaning::Change(Fact::Narrowed, _) | Meaning::NarrowedInside(_) => {
                true
            }
            Meaning::Fact(..) | Meaning::Began | Meaning::Change(..) => false,
        }
    }

    /// Marks the value of a claim as conflicting: a value from a signal that is in doubt must not permit anything.
    fn mark_claims_conflicting(&mut self) {
        if let Meaning::Change(fact @ Fact::Claim(_), data) = self {
            *fact = Fact::Claim(Claim::Conflicting);
            data.truncate(payload::topic(data).len());
        }
    }

    /// The keys of the entries about a subject that has all of `keys`, each with its conditions.
    ///
    /// An entry that changes grants is stored under the key of the most selective member; the other members are
    /// conditions. A grant that lacks this member is affected too (SSF 1.0 §8.1.3.1). So there is a second entry, for
    /// grants without it, under the next member, and so on. A fact about a device or a risk is stored under the one
    /// principal alone, so that the next fact about it replaces it, whichever other members the subject has.
    /// `has_all`: whether no grant lacks a key of that kind.
    fn stored_under(&self, keys: &[StateKey], has_all: impl Fn(Kind) -> bool) -> Vec<(StateKey, Vec<StateKey>)> {
        let keys = by_selectivity(keys);
        let one = |key: Option<&StateKey>| key.map(|key| (*key, Vec::new())).into_iter().collect();
        match self {
            Meaning::Fact(_, principal) => {
                return one(keys.iter().find(|key| Some(key.kind()) == *principal).or(keys.first()));
            }
            Meaning::Began => return one(keys.iter().find(|key| key.kind() == Kind::Session)),
            Meaning::Revoked | Meaning::Completed | Meaning::Change(..) | Meaning::NarrowedInside(_) => {}
        }
        let mut stored = Vec::new();
        let mut absent = Vec::new();
        let mut rest = keys.as_slice();
        while let Some((key, others)) = rest.split_first() {
            stored.push((*key, absent.iter().chain(others).copied().collect()));
            if has_all(key.kind()) {
                break;
            }
            absent.push(StateKey::absent(key.kind()));
            rest = others;
        }
        stored
    }

    /// The fact to store under a key of `kind`, with its data. Revoking a principal, which can begin new sessions, is a
    /// cut-off. `wider`: parts of the subject were not understood, so facts that permit something are not stored.
    fn fact(&self, kind: Kind, wider: bool) -> Option<(Fact, Vec<u8>)> {
        let bare = |fact| Some((fact, Vec::new()));
        match self {
            Meaning::Fact(fact, _) if wider && !fact.restricts() => None,
            Meaning::Fact(fact, _) => bare(*fact),
            Meaning::Began => bare(Fact::Began),
            Meaning::NarrowedInside(_) => None,
            Meaning::Change(fact, data) => match fact.conflicting().filter(|_| wider) {
                Some(conflicting) => Some((conflicting, payload::topic(data).to_vec())),
                None => Some((*fact, data.clone())),
            },
            Meaning::Revoked | Meaning::Completed if !kind.is_singular() => bare(Fact::CutOff),
            Meaning::Completed => bare(Fact::Completed),
            Meaning::Revoked => bare(Fact::Revoked),
        }
    }
}

/// The keys, the most selective first, in an order that depends only on the set of keys. There are few of them; a sort
/// of the standard library would add 15 KB to the module.
fn by_selectivity(keys: &[StateKey]) -> Vec<StateKey> {
    let rank = |key: &StateKey| (selectivity(key.kind()), key.encode());
    let mut sorted: Vec<StateKey> = Vec::with_capacity(keys.len());
    for key in keys {
        let at = sorted.iter().position(|other| rank(key) < rank(other)).unwrap_or(sorted.len());
        sorted.insert(at, *key);
    }
    sorted
}

fn selectivity(kind: Kind) -> u8 {
    match kind {
        Kind::Token => 0,
        Kind::Task => 1,
        Kind::Session => 2,
        Kind::Device => 3,
        Kind::Actor => 4,
        Kind::Email | Kind::Phone | Kind::Account | Kind::Did | Kind::Uri | Kind::ForeignUser => 5,
        Kind::User => 6,
        Kind::Client => 7,
        Kind::Group => 8,
        Kind::Issuer => 9,
        Kind::Tenant => 9,
    }
}

/// The time until which the entry is kept: no token that `fact` can affect is valid after it.
fn until(fact: Fact, kind: Kind, from: Timestamp, issuer: &Issuer) -> Timestamp {
    match (fact, kind) {
        (_, Kind::Token) => from.plus(issuer.token_retention()),
        // A fact about a device or a risk is about the principal, not about tokens. The transmitter must repeat it
        // within this time, or a hub renews it; otherwise entries about retired devices would fill the state.
        (fact, kind) if is_lasting(fact, kind) => from.plus(word_retention(issuer)),
        _ => from.plus(issuer.session_retention()),
    }
}

/// Whether `fact` about a thing of `kind` outlives all tokens that it can affect: a fact about a device or a risk, unless
/// it is about one token, task or session.
pub(crate) fn is_lasting(fact: Fact, kind: Kind) -> bool {
    matches!(fact, Fact::Device(_) | Fact::Risk(_)) && !kind.is_singular()
}

/// How long a lasting fact in grants of `issuer` is kept, from when it was last reported.
pub(crate) fn word_retention(issuer: &Issuer) -> Span {
    issuer.session_retention().max(WORD_RETENTION)
}
