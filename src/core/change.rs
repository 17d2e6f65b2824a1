//! What signals change about a grant short of ending it: less scope and fewer details, other claims, another assurance.
//!
//! An entry of the state keeps each as bytes. A narrowing is JSON with `scope` and `authorization_details`; a claim and
//! an assurance are the length of a name (1 byte), the name, and a value in JSON. The name is the *matter*: two entries
//! of one matter are two words about the same thing, of which one stands.

use crate::condition::Claims;
use crate::coverage::DetailRequirement;
use crate::detail::Detail;
use crate::fact::{Fact, Word};
use crate::grant::Grant;
use crate::json;
use crate::routes::Captures;
use crate::table::{Corrupt, Entry, MAX_DATA};
use crate::time::Timestamp;
use serde_json::{Map, Value};
use std::sync::OnceLock;

/// What signals changed about one grant.
#[derive(Debug, Default)]
pub struct Changes {
    narrowings: Vec<Narrowing>,
    /// By name, with the time it was said for.
    claims: Vec<(String, Timestamp, Said)>,
    /// By namespace, with the time it was said for.
    assurances: Vec<(String, Timestamp, Said)>,
    /// All claims as conditions see them, made when first asked for.
    converted: OnceLock<Claims>,
}

/// The last word about a matter; `None`: two for the same time, and nobody knows which holds.
type Said = Option<Value>;

/// One narrowing: the grant is no more than this.
#[derive(Debug, PartialEq)]
struct Narrowing {
    scopes: Option<Vec<String>>,
    details: Option<Vec<Detail>>,
}

impl Changes {
    /// Takes in what `entry`, which hits the grant, says. `certain`: whether the grant has all that the subject of the
    /// entry names; what a claim is worth for a grant that merely has nothing else is disputed.
    pub fn add(&mut self, entry: &Entry, certain: bool) -> Result<(), Corrupt> {
        match entry.fact {
            Fact::Narrowed => {
                self.narrowings.push(Narrowing::decode(&entry.data).ok_or(Corrupt)?);
                Ok(())
            }
            Fact::Claim(word) => add_word(&mut self.claims, entry, word, certain),
            Fact::Assurance(word) => add_word(&mut self.assurances, entry, word, certain),
            _ => Err(Corrupt),
        }
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.narrowings.is_empty() && self.claims.is_empty() && self.assurances.is_empty()
    }

    /// Whether every narrowing leaves the scope value `scope`.
    pub fn leave_scope(&self, scope: &str) -> bool {
        let leaves = |scopes: &Vec<String>| scopes.iter().any(|left| left == scope);
        self.narrowings.iter().all(|narrowing| narrowing.scopes.as_ref().is_none_or(leaves))
    }

    /// Whether every narrowing leaves something that covers what is asked.
    pub fn leave_detail(&self, asked: &DetailRequirement, captures: &Captures<'_>) -> bool {
        let leaves = |details: &Vec<Detail>| details.iter().any(|left| asked.is_met(left, captures));
        self.narrowings.iter().all(|narrowing| narrowing.details.as_ref().is_none_or(leaves))
    }

    /// What a claim is now: `None` when nothing was said about it, `Some(None)` when two different things were.
    #[allow(clippy::option_option, reason = "silence and dispute are different answers")]
    pub fn claim(&self, name: &str) -> Option<Option<&Value>> {
        self.claims.iter().find(|(known, ..)| known == name).map(|(.., said)| said.as_ref())
    }

    /// All claims and scopes of `grant` with what was said about them, as conditions see them. A claim that is disputed
    /// seems to be missing.
    pub fn claims(&self, grant: &Grant) -> &Claims {
        self.converted.get_or_init(|| {
            let mut all = grant.claims.clone();
            for (name, _, said) in &self.claims {
                match said {
                    Some(said) => all.insert(name.clone(), said.clone()),
                    None => all.remove(name),
                };
            }
            Claims::of(&all, grant.scopes.iter().filter(|scope| self.leave_scope(scope)))
        })
    }

    /// Whether signals contradict each other about a claim.
    pub fn are_disputed(&self) -> bool {
        self.claims.iter().any(|(.., said)| said.is_none())
    }

    /// Whether any claim or the scopes are others than the token says.
    pub fn touch_claims(&self) -> bool {
        !self.claims.is_empty() || self.narrowings.iter().any(|narrowing| narrowing.scopes.is_some())
    }

    /// Whether the assurance is still what `accepted` asks for: no signal lowered it to something else.
    pub fn leave_assurance(&self, accepted: &[String]) -> bool {
        self.assurances.iter().all(|(.., said)| match said {
            Some(Value::Object(said)) => {
                let level = said.get("level").and_then(Value::as_str);
                let raised = said.get("raised").and_then(Value::as_bool) == Some(true);
                raised || level.is_some_and(|level| accepted.iter().any(|accepted| accepted == level))
            }
            _ => false,
        })
    }

    /// What they are, for people: `scope orders.read`, `claim trusted_network = false`.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let narrowings = self.narrowings.iter().flat_map(|narrowing| {
            let scopes = narrowing.scopes.as_ref().map(|scopes| format!("scope narrowed to `{}`", scopes.join(" ")));
            let details =
                narrowing.details.as_ref().map(|left| format!("details narrowed to {} of a signal", left.len()));
            [scopes, details].into_iter().flatten()
        });
        let word = |what: &str, (name, _, said): &(String, Timestamp, Said)| match said {
            Some(value) => format!("{what} {name} is {value}"),
            None => format!("{what} {name} is disputed"),
        };
        let claims = self.claims.iter().map(move |said| word("claim", said));
        narrowings.chain(claims).chain(self.assurances.iter().map(move |said| word("assurance", said)))
    }
}

fn add_word(
    known: &mut Vec<(String, Timestamp, Said)>,
    entry: &Entry,
    word: Word,
    certain: bool,
) -> Result<(), Corrupt> {
    let (name, value) = split(&entry.data).ok_or(Corrupt)?;
    let said = match word {
        Word::Said => Some(json::value(value).map_err(|_| Corrupt)?),
        Word::Disputed if value.is_empty() => None,
        Word::Disputed => return Err(Corrupt),
    };
    let said = said.filter(|_| certain);
    match known.iter_mut().find(|(known, ..)| known == name) {
        // The same word may stand under several keys of one grant.
        Some((_, at, old)) if *at == entry.at && *old != said => *old = None,
        Some((_, at, old)) if *at < entry.at => (*at, *old) = (entry.at, said),
        Some(_) => {}
        None => known.push((name.to_owned(), entry.at, said)),
    }
    Ok(())
}

/// The data of a narrowing, from the members `scope` and `authorization_details` of an event. The error is for the
/// transmitter's operator.
pub fn narrowing(scope: Option<&Value>, details: Option<&Value>) -> Result<Vec<u8>, &'static str> {
    let mut members = Map::new();
    if let Some(scope) = scope {
        let text = scope.as_str().ok_or("scope is not a string")?;
        members.insert("scope".to_owned(), text.into());
    }
    if let Some(details) = details {
        Detail::list(details).ok_or("authorization_details is not a list of objects of RFC 9396")?;
        members.insert("authorization_details".to_owned(), details.clone());
    }
    within_limit(Value::Object(members).to_string().into_bytes())
}

/// The data of a claim or an assurance.
pub fn word(name: &str, value: &Value) -> Result<Vec<u8>, &'static str> {
    let mut data = undecided(name)?;
    data.extend(value.to_string().into_bytes());
    within_limit(data)
}

/// The data of a claim or an assurance that is disputed.
pub fn undecided(name: &str) -> Result<Vec<u8>, &'static str> {
    let length = u8::try_from(name.len()).map_err(|_| "a name has more than 255 bytes")?;
    let mut data = vec![length];
    data.extend(name.as_bytes());
    Ok(data)
}

fn within_limit(data: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if data.len() <= MAX_DATA { Ok(data) } else { Err("the change has more than 4096 bytes; end the grant instead") }
}

/// Whether the data of two entries of one family speak about the same thing.
pub fn same_matter(fact: Fact, left: &[u8], right: &[u8]) -> bool {
    match fact {
        Fact::Narrowed => left == right,
        Fact::Claim(_) | Fact::Assurance(_) => matter(left) == matter(right),
        _ => true,
    }
}

/// The part of the data that says what it is about.
pub fn matter(data: &[u8]) -> &[u8] {
    let length = data.first().map_or(0, |length| usize::from(*length).saturating_add(1));
    data.get(..length).unwrap_or(data)
}

/// The name of the claim or the assurance that the data is about.
pub fn name(data: &[u8]) -> Option<&str> {
    split(data).map(|(name, _)| name)
}

fn split(data: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = data.split_first()?;
    let (name, value) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, value))
}

impl Narrowing {
    fn decode(data: &[u8]) -> Option<Narrowing> {
        let members = json::object(data).ok()?;
        let scopes = match members.get("scope") {
            Some(scope) => Some(scope.as_str()?.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect()),
            None => None,
        };
        let details = match members.get("authorization_details") {
            Some(details) => Some(Detail::list(details)?),
            None => None,
        };
        Some(Narrowing { scopes, details })
    }
}
