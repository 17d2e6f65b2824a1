//! Compares two rules: whether one requires everything that the other requires.

use crate::http::path::Decoded;
use crate::http::path_template::{Segment, Template};
use crate::http::spiffe::PeerPattern;
use crate::rules::detail_match::{DetailRequirement, Part, Pattern};
use crate::rules::mode::Mode;
use crate::rules::requirement::{ActorRequirement, Check, Requirement, Unknown};
use crate::rules::rule::{Effect, Rule};
use std::fmt;

/// What a rule requires and another rule does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The rule denies, and the other does not.
    Denial,
    /// The other rule requires no token.
    Grant,
    /// The other rule is in shadow mode: its refusals are recorded but not enforced.
    Enforcement,
    /// The keys of `require` that are missing in the other rule or weaker there.
    Checks(Vec<&'static str>),
}

/// What `asking` requires and `other` does not, for requests to paths of `region`, which both rules match. `None` if
/// every request that passes `other` would pass `asking`. If the comparison is not certain, the requirement counts as
/// missing.
pub(crate) fn missing(other: &Rule, asking: &Rule, region: Option<&Template>, mode: Mode) -> Option<Missing> {
    let enforces = |rule: &Rule| rule.mode.unwrap_or(mode) == Mode::Enforce;
    if matches!(asking.effect, Effect::Anonymous) || !enforces(asking) {
        return None;
    }
    match (&other.effect, &asking.effect) {
        _ if !enforces(other) => Some(Missing::Enforcement),
        (Effect::Deny, _) | (_, Effect::Anonymous) => None,
        (_, Effect::Deny) => Some(Missing::Denial),
        (Effect::Anonymous, Effect::Require(_)) => Some(Missing::Grant),
        (Effect::Require(have), Effect::Require(want)) => {
            let comparison =
                Comparison { have_path: other.matcher.template(), want_path: asking.matcher.template(), region };
            let lacking = comparison.lacking(have, want);
            (!lacking.is_empty()).then_some(Missing::Checks(lacking))
        }
    }
}

impl fmt::Display for Missing {
    /// A predicate, to be written after "rule `a`, which".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Denial => f.write_str("does not deny"),
            Missing::Grant => f.write_str("requires no token"),
            Missing::Enforcement => f.write_str("records refusals but does not enforce them"),
            Missing::Checks(names) => write!(f, "does not require the same `{}`", names.join("`, `")),
        }
    }
}

/// Compares two requirements for the paths that both rules match: what one path captures may be a literal in the other.
struct Comparison<'t> {
    have_path: Option<&'t Template>,
    want_path: Option<&'t Template>,
    region: Option<&'t Template>,
}

impl Comparison<'_> {
    fn lacking(&self, have: &Requirement, want: &Requirement) -> Vec<&'static str> {
        let met = |wanted: &Check| {
            have.checks().iter().any(|check| self.implies(check, wanted)) && lifts_no_more(have, want, wanted.name())
        };
        let mut lacking: Vec<_> = want.checks().iter().filter(|wanted| !met(wanted)).map(Check::name).collect();
        if want.single_use() && !have.single_use() {
            lacking.push("single_use");
        }
        lacking
    }

    /// Whether every request that passes `have` also passes `want`.
    fn implies(&self, have: &Check, want: &Check) -> bool {
        match (have, want) {
            (Check::StateAge(have), Check::StateAge(want)) | (Check::AuthAge(have), Check::AuthAge(want)) => {
                have <= want
            }
            (Check::Scope { all, any }, Check::Scope { all: want_all, any: want_any }) => {
                let one_of = |have: &[String]| have.iter().any(|scope| want_any.contains(scope));
                let all_of = |have: &[String]| !have.is_empty() && have.iter().all(|scope| want_any.contains(scope));
                is_subset(want_all, all) && (want_any.is_empty() || one_of(all) || all_of(any))
            }
            (Check::Detail(have), Check::Detail(want)) => self.detail_implies(have, want),
            (Check::Claims(have), Check::Claims(want)) => is_subset(want, have),
            (Check::Actor(have), Check::Actor(want)) => match (have, want) {
                (ActorRequirement::OneOf(have), ActorRequirement::OneOf(want)) => is_subset(have, want),
                (ActorRequirement::OneOf(_), ActorRequirement::Required) => true,
                (have, want) => have == want,
            },
            (Check::Source(have), Check::Source(want)) => {
                have.iter().all(|network| want.iter().any(|wider| wider.contains(network)))
            }
            (Check::Peer(have), Check::Peer(want)) => {
                have.iter().all(|pattern| want.iter().any(|wider| peer_covers(wider, pattern)))
            }
            (Check::Device { unknown: have }, Check::Device { unknown: want }) => unknown_implies(*have, *want),
            (Check::Risk { below: have, unknown: one }, Check::Risk { below: want, unknown: other }) => {
                have <= want && unknown_implies(*one, *other)
            }
            (Check::When(have), Check::When(want)) => {
                have.source() == want.source() && (!have.source().contains("captures") || self.captures_are_the_same())
            }
            (Check::Acr(have), Check::Acr(want)) => is_subset(have, want),
            _ => false,
        }
    }

    fn detail_implies(&self, have: &DetailRequirement, want: &DetailRequirement) -> bool {
        let members = [
            (&have.action, &want.action),
            (&have.identifier, &want.identifier),
            (&have.location, &want.location),
            (&have.datatype, &want.datatype),
            (&have.privilege, &want.privilege),
        ];
        let implied = |(have, want): (&Option<Pattern>, &Option<Pattern>)| match (have, want) {
            (_, Some(Pattern::Any)) => true,
            (None, None) => true,
            (Some(Pattern::Parts(have)), Some(Pattern::Parts(want))) => {
                self.pieces(have, self.have_path) == self.pieces(want, self.want_path)
            }
            _ => false,
        };
        have.kind == want.kind && members.into_iter().all(implied)
    }

    /// The values of `parts` in a path of the region, independent of the names of the captures of `template`.
    fn pieces(&self, parts: &[Part], template: Option<&Template>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            let piece = match part {
                Part::Literal(text) => Piece::Literal(text.clone().into_bytes()),
                Part::Capture(index) => self.piece(*index, template),
            };
            match (pieces.last_mut(), piece) {
                (Some(Piece::Literal(text)), Piece::Literal(more)) => text.extend(more),
                (_, piece) => pieces.push(piece),
            }
        }
        pieces
    }

    /// The value of the capture at `index` of `template` in the region.
    fn piece(&self, index: usize, template: Option<&Template>) -> Piece {
        let places = template.iter().flat_map(|template| template.segments().iter().enumerate());
        let mut captures = places.filter(|(_, segment)| !matches!(segment, Segment::Literal(_)));
        let Some((place, segment)) = captures.nth(index) else { return Piece::Tail(usize::MAX) };
        let behind = self.region.and_then(|region| region.segments().get(place..)).unwrap_or_default();
        let joined = |segments: &[Segment]| {
            let texts = segments.iter().map(|segment| match segment {
                Segment::Literal(text) => Some(&**text),
                Segment::Capture(_) | Segment::Rest => None,
            });
            texts.collect::<Option<Vec<_>>>().map(|texts| texts.join("/"))
        };
        let literal = |text: &str| Piece::Literal(Decoded::new(text).collect());
        match (segment, behind) {
            (Segment::Capture(pattern), behind) => {
                let known = behind.first().and_then(|segment| joined(std::slice::from_ref(segment)));
                match known.as_deref().and_then(|text| pattern.capture(text)) {
                    Some(text) => literal(text),
                    None => Piece::Segment { place, before: pattern.before().len(), after: pattern.after().len() },
                }
            }
            (_, behind) => joined(behind).map_or(Piece::Tail(place), |text| literal(&text)),
        }
    }

    fn captures_are_the_same(&self) -> bool {
        let (have, want) = (self.have_path, self.want_path);
        have.map(Template::names) == want.map(Template::names) && have.map(kinds) == want.map(kinds)
    }
}

/// A part of a pattern, by its position in the path.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    /// The segment at `place`, without that many bytes at its beginning and its end.
    Segment {
        place: usize,
        before: usize,
        after: usize,
    },
    Tail(usize),
}

/// For each segment of `template`: `None` for a literal, otherwise what it captures.
fn kinds(template: &Template) -> Vec<Option<&Segment>> {
    template.segments().iter().map(|segment| (!matches!(segment, Segment::Literal(_))).then_some(segment)).collect()
}

/// Whether each grant for which break-glass lifts that check of `have` is one for which it lifts it in `want` too.
fn lifts_no_more(have: &Requirement, want: &Requirement, check: &str) -> bool {
    let scope = |requirement: &Requirement| {
        requirement.break_glass().filter(|glass| glass.lifts().contains(&check)).map(|glass| glass.scope().to_owned())
    };
    scope(have).is_none_or(|lifting| scope(want) == Some(lifting))
}

fn peer_covers(wider: &PeerPattern, narrower: &PeerPattern) -> bool {
    match (wider, narrower) {
        (wider, PeerPattern::Exactly(id)) => wider.matches(id),
        (PeerPattern::Below(start), PeerPattern::Below(other)) => other.starts_with(start),
        (PeerPattern::Exactly(_), PeerPattern::Below(_)) => false,
    }
}

fn unknown_implies(have: Unknown, want: Unknown) -> bool {
    have == Unknown::Deny || want == Unknown::Allow
}

fn is_subset<T: PartialEq>(some: &[T], all: &[T]) -> bool {
    some.iter().all(|one| all.contains(one))
}
