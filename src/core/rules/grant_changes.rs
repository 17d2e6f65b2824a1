//! Changes that signals make to a grant without ending it: narrowed scope and details, changed claims, changed
//! assurance.
//!
//! An entry of the state stores each change as bytes. A narrowing is a JSON object with `scope` and
//! `authorization_details`. A claim and an assurance are the length of a name (1 byte), the name, and a value in JSON.
//! Of two entries with the same name, the later one counts.

use crate::encoding::json;
use crate::rules::cel_claims::Claims;
use crate::rules::detail_match::DetailRequirement;
use crate::rules::lessen;
use crate::rules::routes::Captures;
use crate::state::bucket::Entry;
use crate::state::fact::{Claim, Fact};
use crate::state::payload::split;
use crate::state::store::Corrupt;
use crate::time::Timestamp;
use crate::token::carriers::Carriers;
use crate::token::claim_path::ClaimPath;
use crate::token::detail::Detail;
use crate::token::grant::Grant;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// What signals changed about one grant.
#[derive(Debug, Default)]
pub struct Changes {
    narrowings: Vec<Narrowing>,
    /// One statement for each name of a claim.
    claims: Vec<Statement>,
    /// One statement for each namespace.
    assurances: Vec<Statement>,
    /// All claims of the grant as they are now; computed at the first use.
    current: OnceLock<Map<String, Value>>,
    /// The same in the form that conditions read; computed at the first use.
    converted: OnceLock<Claims>,
}

/// The latest statement of signals about one claim or one assurance.
#[derive(Debug)]
struct Statement {
    /// The name of the claim, or the namespace of the assurance.
    name: String,
    /// The time of the event that stated it.
    at: Timestamp,
    /// The value; `None` if two signals state different values for the same time.
    value: Option<Value>,
}

/// One narrowing: the grant includes at most this.
#[derive(Debug, PartialEq)]
struct Narrowing {
    scopes: Option<BTreeSet<String>>,
    details: Option<Details>,
}

/// The objects of `authorization_details` (RFC 9396 §2) in a narrowing.
#[derive(Debug, PartialEq)]
struct Details {
    /// The JSON objects.
    objects: Vec<Map<String, Value>>,
    /// The same objects, parsed.
    parsed: Vec<Detail>,
}

impl Changes {
    /// Adds the change of `entry`, which applies to the grant. `certain`: whether the grant has every member of the
    /// entry's subject. If it lacks one, the value of a claim counts as conflicting. Fails if the data of `entry`
    /// cannot be read.
    pub(crate) fn add(&mut self, entry: &Entry, certain: bool) -> Result<(), Corrupt> {
        match entry.fact {
            Fact::Narrowed => {
                self.narrowings.push(Narrowing::decode(&entry.data).ok_or(Corrupt)?);
                Ok(())
            }
            Fact::Claim(claim) => add_statement(&mut self.claims, entry, claim, certain),
            Fact::Assurance(claim) => add_statement(&mut self.assurances, entry, claim, certain),
            _ => Err(Corrupt),
        }
    }

    /// Whether there is no change.
    pub(crate) fn is_empty(&self) -> bool {
        self.narrowings.is_empty() && self.claims.is_empty() && self.assurances.is_empty()
    }

    /// Whether every narrowing keeps the scope value `scope`.
    pub(crate) fn leave_scope(&self, scope: &str) -> bool {
        let leaves = |scopes: &BTreeSet<String>| scopes.contains(scope);
        self.narrowings.iter().all(|narrowing| narrowing.scopes.as_ref().is_none_or(leaves))
    }

    /// Whether every narrowing keeps a detail that meets `asked`.
    pub(crate) fn leave_detail(&self, asked: &DetailRequirement, captures: &Captures<'_>) -> bool {
        let leaves = |details: &Details| details.parsed.iter().any(|left| asked.is_met(left, captures));
        self.narrowings.iter().all(|narrowing| narrowing.details.as_ref().is_none_or(leaves))
    }

    /// All claims of `grant` as they are now: changed by statements and reduced by narrowings. A claim about which
    /// signals conflict is missing.
    pub(crate) fn current(&self, grant: &Grant) -> &Map<String, Value> {
        self.current.get_or_init(|| {
            let in_token = grant.all_claims();
            let mut all = in_token.clone();
            for Statement { name, value, .. } in &self.claims {
                match value {
                    // A statement about a claim that carries scope could restore what a narrowing removed.
                    Some(value) if grant.carriers.role(name).is_none() => {
                        let mut value = value.clone();
                        restrain(&mut value, name, &grant.carriers, &in_token);
                        all.insert(name.clone(), value)
                    }
                    _ => all.remove(name),
                };
            }
            self.lessen(&mut all, &grant.carriers);
            all
        })
    }

    /// [`Changes::current`] in the form that conditions read.
    pub(crate) fn claims(&self, grant: &Grant) -> &Claims {
        self.converted.get_or_init(|| {
            Claims::of(self.current(grant), grant.scopes.iter().filter(|scope| self.leave_scope(scope)))
        })
    }

    /// Removes from `claims` what narrowings removed. `carriers` names the claims with scope and details.
    fn lessen(&self, claims: &mut Map<String, Value>, carriers: &Carriers) {
        let mut replace = |path: &ClaimPath, left: &dyn Fn(&Value) -> Option<Value>| {
            // The meaning of what the path goes through is unknown, so nothing of it may be used.
            if path.find(claims).is_err() {
                claims.remove(path.root());
            }
            if let Some(value) = path.find_mut(claims) {
                match left(value) {
                    Some(left) => *value = left,
                    None => path.remove(claims),
                }
            }
        };
        if self.narrowings.iter().any(|narrowing| narrowing.scopes.is_some()) {
            for path in &carriers.scope {
                replace(path, &|claim| lessen::scope(claim, |scope| self.leave_scope(scope)));
            }
        }
        for left in self.narrowings.iter().filter_map(|narrowing| narrowing.details.as_ref()) {
            for path in &carriers.details {
                replace(path, &|claim| lessen::details(claim, &left.objects));
            }
        }
    }

    /// Whether signals conflict about a claim.
    pub(crate) fn are_disputed(&self) -> bool {
        self.claims.iter().any(|claim| claim.value.is_none())
    }

    /// Whether any claim may differ from the claim in the token.
    pub(crate) fn touch_claims(&self) -> bool {
        !self.claims.is_empty() || !self.narrowings.is_empty()
    }

    /// Whether the changed assurance still meets `accepted`: each signal raised it or set it to an accepted level.
    pub(crate) fn leave_assurance(&self, accepted: &[String]) -> bool {
        self.assurances.iter().all(|assurance| match &assurance.value {
            Some(Value::Object(change)) => {
                let level = change.get("level").and_then(Value::as_str);
                let raised = change.get("raised").and_then(Value::as_bool) == Some(true);
                raised || level.is_some_and(|level| accepted.iter().any(|accepted| accepted == level))
            }
            _ => false,
        })
    }

    /// The changes as text for a person: ``scope narrowed to `orders.read` ``, `claim trusted_network is false`.
    pub fn descriptions(&self) -> impl Iterator<Item = String> {
        let narrowings = self.narrowings.iter().flat_map(|narrowing| {
            let words = |scopes: &BTreeSet<String>| scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let scopes = narrowing.scopes.as_ref().map(|scopes| format!("scope narrowed to `{}`", words(scopes)));
            let details =
                narrowing.details.as_ref().map(|left| format!("details narrowed to {} of a signal", left.parsed.len()));
            [scopes, details].into_iter().flatten()
        });
        let text = |what: &str, Statement { name, value, .. }: &Statement| match value {
            Some(value) => format!("{what} {name} is {value}"),
            None => format!("{what} {name} is disputed"),
        };
        let claims = self.claims.iter().map(move |claim| text("claim", claim));
        narrowings.chain(claims).chain(self.assurances.iter().map(move |assurance| text("assurance", assurance)))
    }
}

/// Replaces the claims inside `value` that carry scope or details by those of the token: `value`, which a signal states
/// for the top-level claim `name`, could restore what a narrowing removed. A claim that `value` or the token lacks is
/// missing.
fn restrain(value: &mut Value, name: &str, carriers: &Carriers, token: &Map<String, Value>) {
    let Some(members) = value.as_object_mut() else { return };
    for (path, _) in carriers.inside(name) {
        let in_token = path.find(token).ok().flatten();
        let below = path.without_root();
        match (below.as_ref().and_then(|below| below.find_mut(members)), in_token) {
            (Some(stated), Some(in_token)) => *stated = in_token.clone(),
            (Some(_), None) => below.iter().for_each(|below| below.remove(members)),
            (None, _) => {}
        }
    }
}

/// Adds the statement of `entry` to `known`, where it replaces an earlier one of the same name.
fn add_statement(known: &mut Vec<Statement>, entry: &Entry, claim: Claim, certain: bool) -> Result<(), Corrupt> {
    let (name, text) = split(&entry.data).ok_or(Corrupt)?;
    let value = match claim {
        Claim::Set => Some(json::value(text).map_err(|_| Corrupt)?),
        Claim::Conflicting if text.is_empty() => None,
        Claim::Conflicting => return Err(Corrupt),
    };
    let value = value.filter(|_| certain);
    match known.iter_mut().find(|known| known.name == name) {
        // The state may hold the same statement under several keys of one grant.
        Some(old) if old.at == entry.at && old.value != value => old.value = None,
        Some(old) if old.at < entry.at => (old.at, old.value) = (entry.at, value),
        Some(_) => {}
        None => known.push(Statement { name: name.to_owned(), at: entry.at, value }),
    }
    Ok(())
}

impl Narrowing {
    fn decode(data: &[u8]) -> Option<Narrowing> {
        let members = json::object(data).ok()?;
        let scopes = match members.get("scope") {
            Some(scope) => Some(scope.as_str()?.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect()),
            None => None,
        };
        let details = match members.get("authorization_details") {
            Some(details) => {
                let objects = details.as_array()?.iter().map(|object| object.as_object().cloned());
                Some(Details { parsed: Detail::list(details)?, objects: objects.collect::<Option<_>>()? })
            }
            None => None,
        };
        Some(Narrowing { scopes, details })
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::http::host::Host;
    use crate::http::method::Method;
    use crate::http::path::Canonical;
    use crate::jose::signature::PureRust;
    use crate::rules::condition::Condition;
    use crate::rules::detail_match::Pattern;
    use crate::rules::evidence::{Evidence, RequestLine};
    use crate::rules::grant_status::GrantStatus;
    use crate::signal::event::narrowing_data;
    use crate::state::bucket::SourceTag;
    use crate::state::key::{Kind, StateKey};
    use crate::state::payload::statement;
    use crate::testing::fixture::{self, NOW, token_with};
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};
    use serde_json::json;
    use std::sync::Arc;

    const SCOPES: [&str; 4] = ["a", "ab", "b", "orders.refund"];

    fn entry(fact: Fact, data: Vec<u8>) -> Entry {
        let key = StateKey::new(Kind::Token, "https://jit.example", "tok-1");
        Entry {
            key,
            fact,
            at: NOW,
            until: Timestamp::MAX,
            conditions: Vec::new(),
            data,
            source: SourceTag::NONE,
            lifted: false,
        }
    }

    fn grant_status(entries: impl IntoIterator<Item = Entry>) -> GrantStatus {
        let mut changes = Changes::default();
        for entry in entries {
            changes.add(&entry, true).unwrap();
        }
        GrantStatus { changes: (!changes.is_empty()).then(|| Arc::new(changes)), ..GrantStatus::default() }
    }

    fn grant(claims: Value) -> Grant {
        let token = token_with(json!({}), claims);
        crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW)
            .unwrap()
            .grant()
            .clone()
    }

    fn with_evidence<T>(grant: &Grant, grant_status: &GrantStatus, evaluate: impl FnOnce(&Evidence<'_>) -> T) -> T {
        evaluate(&Evidence {
            grant,
            minted: Some(&Claims::new(grant)),
            grant_status,
            request: RequestLine {
                method: &Method::fold("GET"),
                host: Host::parse(b"orders.mesh").unwrap(),
                path: &Canonical::parse(b"/").unwrap(),
            },
            capture_names: &[],
            captures: Captures::default(),
            source: None,
            peer: None,
            fresh_at: NOW,
            now: NOW,
        })
    }

    #[test]
    fn a_statement_about_a_claim_that_carries_scope_is_a_narrowing() {
        let carriers = Carriers { scope: vec![ClaimPath::top("perm")], details: vec![ClaimPath::top("rar")] };
        let carried =
            |name: &str, value: Value| crate::signal::event::carried(&statement(name, &value).unwrap(), &carriers);
        assert_eq!(carried("perm", json!("a b")), narrowing_data(Some(&json!("a b")), None).map(|data| vec![data]));
        assert_eq!(
            carried("perm", json!(["a", "b"])),
            narrowing_data(Some(&json!("a b")), None).map(|data| vec![data])
        );
        assert_eq!(
            carried("rar", json!([{"type": "x"}])),
            narrowing_data(None, Some(&json!([{"type": "x"}]))).map(|data| vec![data])
        );
        assert_eq!(carried("scope", json!("a b")), Ok(Vec::new()));
        assert!(carried("perm", json!(7)).is_err() && carried("rar", json!({})).is_err());
    }

    #[test]
    fn the_claims_that_carry_scope_and_details_are_named_by_their_issuer() {
        let own =
            grant(json!({"perm": ["a", "b"], "rar": [{"type": "x"}, {"type": "y"}], "scope": "a b", "other": "b"}));
        let carriers = Carriers { scope: vec![ClaimPath::top("perm")], details: vec![ClaimPath::top("rar")] };
        let own = Grant { carriers: Arc::new(carriers), ..own };
        let narrowed = narrowing_data(Some(&json!("a")), Some(&json!([{"type": "y"}]))).unwrap();
        // A statement about a claim that carries scope may be older than the configuration that says so.
        let stated = statement("perm", &json!(["a", "b", "c"])).unwrap();
        let without = grant_status([entry(Fact::Narrowed, narrowed.clone())]);
        with_evidence(&own, &without, |evidence| {
            assert_eq!(evidence.claim("perm"), Some(&json!(["a"])));
            assert_eq!(evidence.claim("rar"), Some(&json!([{"type": "y"}])));
            assert_eq!((evidence.claim("scope"), evidence.claim("other")), (Some(&json!("a b")), Some(&json!("b"))));
            assert_eq!(
                Condition::compile("claims.perm == ['a'] && claims.rar[0].type == 'y'", &[]).unwrap().holds(evidence),
                Ok(true)
            );
        });
        let with = grant_status([entry(Fact::Narrowed, narrowed), entry(Fact::Claim(Claim::Set), stated)]);
        with_evidence(&own, &with, |evidence| assert_eq!(evidence.claim("perm"), None));
    }

    /// A claim that the filter cannot read as what it is named for may still be read by a condition.
    #[test]
    fn a_claim_that_its_path_does_not_reach_is_gone_after_a_narrowing() {
        let path = |text: &str| ClaimPath::parse(text).unwrap();
        let carriers = Carriers { scope: vec![path("scope"), path("access.roles")], details: vec![path("rar.list")] };
        let claims = json!({"scope": "a b", "access": [{"roles": ["a", "b"]}], "rar": [{"list": [{"type": "x"}]}]});
        let own = Grant { carriers: Arc::new(carriers), ..grant(claims) };
        let narrowed = |scope: Option<&Value>, details: Option<&Value>| {
            grant_status([entry(Fact::Narrowed, narrowing_data(scope, details).unwrap())])
        };
        let shown = |status: &GrantStatus| {
            with_evidence(&own, status, |evidence| ["access", "rar"].map(|name| evidence.claim(name).is_some()))
        };
        assert_eq!(shown(&narrowed(Some(&json!("a")), None)), [false, true]);
        assert_eq!(shown(&narrowed(None, Some(&json!([{"type": "y"}])))), [true, false]);
        // A signal cannot bring such a claim either.
        let stated = statement("access", &json!([{"roles": ["c"]}])).unwrap();
        let data = crate::signal::event::carried(&stated, &own.carriers).unwrap();
        let entries = data.into_iter().map(|data| entry(Fact::Narrowed, data));
        let status = grant_status(entries.chain([entry(Fact::Claim(Claim::Set), stated)]));
        assert_eq!(shown(&status), [false, true]);
    }

    /// A claim with some of the scopes, in one of the shapes that issuers use.
    fn claims() -> impl Strategy<Value = Value> {
        let some = || subsequence(SCOPES.to_vec(), 0..=4);
        prop_oneof![
            some().prop_map(|some| json!(some.join(" "))),
            some().prop_map(|some| json!(some.join("  "))),
            some().prop_map(|some| json!(some)),
        ]
    }

    fn objects() -> impl Strategy<Value = Value> {
        let list = |values: Vec<&'static str>| prop_oneof![1 => Just(None), 3 => subsequence(values, 0..=2).prop_map(|some| Some(json!(some)))];
        let identifier = select(vec![None, Some(json!("1")), Some(json!("2"))]);
        let places = list(vec!["https://a", "HTTPS://A:443"]);
        let limit = prop_oneof![6 => Just(None), 1 => Just(Some(json!(3)))];
        let object = (select(vec!["x", "y"]), list(vec!["read", "write"]), places, identifier, limit);
        let object = object.prop_map(|(kind, actions, locations, identifier, limit)| {
            let members =
                [("actions", actions), ("locations", locations), ("identifier", identifier), ("limit", limit)];
            let mut object = json!({"type": kind});
            for (name, value) in members {
                if let Some(value) = value {
                    object[name] = value;
                }
            }
            object
        });
        proptest::collection::vec(object, 0..4).prop_map(Value::Array)
    }

    fn asked() -> impl Strategy<Value = DetailRequirement> {
        let pattern = |values: Vec<&'static str>| {
            select(values).prop_map(|text| (!text.is_empty()).then(|| Pattern::parse(text, &[]).unwrap()))
        };
        let members = (
            select(vec!["x", "y"]),
            pattern(vec!["", "*", "read", "write"]),
            pattern(vec!["", "*", "1"]),
            pattern(vec!["", "*", "https://a/"]),
        );
        members.prop_map(|(kind, action, identifier, location)| DetailRequirement {
            kind: kind.to_owned(),
            action,
            identifier,
            location,
            datatype: None,
            privilege: None,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// However the claim is written and read, it shows no scope that `grant.scopes` does not have.
        #[test]
        fn no_condition_sees_a_scope_that_is_gone(
            scope in claims(),
            scp in claims(),
            narrowings in proptest::collection::vec(claims(), 0..3),
        ) {
            let grant = grant(json!({"scope": scope, "scp": scp}));
            let entries = narrowings.iter().map(|scope| entry(Fact::Narrowed, narrowing_data(Some(scope), None).unwrap()));
            let grant_status = grant_status(entries);
            for (name, claim) in [("scope", &scope), ("scp", &scp)] {
                for value in SCOPES {
                    let left = grant_status.changes.as_ref().is_none_or(|changes| changes.leave_scope(value));
                    let sees = |source: &str| {
                        let source = source.replace("CLAIM", name).replace("VALUE", value);
                        let condition = Condition::compile(&source, &[]).unwrap();
                        with_evidence(&grant, &grant_status, |evidence| condition.holds(evidence)) == Ok(true)
                    };
                    let reads: &[&str] = match claim.is_string() {
                        true => &["(' ' + claims.CLAIM + ' ').contains(' VALUE ')", "(' ' + claims['CLAIM'] + ' ').contains(' VALUE ')"],
                        false => &["'VALUE' in claims.CLAIM", "claims.CLAIM.exists(s, s == 'VALUE')", "['VALUE'] == claims.CLAIM.filter(s, s == 'VALUE')"],
                    };
                    let had = words(claim).any(|word| word == value);
                    for read in reads {
                        prop_assert_eq!(sees(read), had && left, "{} of {} by {}", value, claim, read);
                    }
                    if name == "scope" {
                        prop_assert_eq!(sees("'VALUE' in grant.scopes"), had && left);
                    }
                }
            }
        }

        /// What a detail in the claim covers is covered by the token and by every narrowing.
        #[test]
        fn no_detail_is_shown_that_is_gone(
            held in objects(),
            narrowings in proptest::collection::vec(objects(), 0..3),
            asked in asked(),
        ) {
            let grant = grant(json!({"authorization_details": held}));
            let entries = narrowings.iter().map(|left| entry(Fact::Narrowed, narrowing_data(None, Some(left)).unwrap()));
            let grant_status = grant_status(entries);
            let captures = Captures::default();
            let covered = |details: &[Detail]| details.iter().any(|detail| asked.is_met(detail, &captures));
            let shown = with_evidence(&grant, &grant_status, |evidence| evidence.claim("authorization_details").cloned());
            let left = grant_status.changes.as_ref().is_none_or(|changes| changes.leave_detail(&asked, &captures));
            if covered(&Detail::list(&shown.unwrap()).unwrap()) {
                prop_assert!(covered(&grant.details) && left);
            }
        }
    }

    /// The scope values of a claim.
    fn words(claim: &Value) -> impl Iterator<Item = &str> {
        let list = claim.as_array().into_iter().flatten().filter_map(Value::as_str);
        list.chain(claim.as_str()).flat_map(|text| text.split(' ')).filter(|word| !word.is_empty())
    }
}
