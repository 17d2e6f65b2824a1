//! What a rule, known by its [`RuleOutline`], lets a grant do. Details are compared by [`DetailRequirement`], as the data
//! plane does. What is added here is the reverse question: which requests an object of `authorization_details` can meet.

use crate::http::path::Canonical;
use crate::http::path_template::{Segment, Template};
use crate::http::uri;
use crate::rules::detail_match::{DetailRequirement, Part, Pattern};
use crate::rules::routes::{Captures, captures};
use crate::token::detail::Detail;
use crate::uses::outline::{DetailOutline, RuleOutline};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// A rule, ready to be compared with grants.
#[derive(Debug)]
pub struct RuleAllowance {
    outline: RuleOutline,
    template: Option<Template>,
    detail: Option<DetailRequirement>,
}

/// Requests that a grant may make by one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reach {
    /// The action that the rule requires of the grant; `None` if it requires none, or any.
    pub action: Option<String>,
    /// What the path captures, percent-decoded, in the order of the names; `None`: anything.
    pub captures: Option<Vec<String>>,
}

/// Why an outline cannot be used: a filter would refuse a configuration with this rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the outline of the rule `{rule}` cannot be read: {why}")]
pub struct OutlineError {
    rule: String,
    why: String,
}

/// More requests than the caller wanted to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the grant reaches too many requests to list them")]
pub struct TooMany;

impl RuleAllowance {
    /// Reads an outline.
    pub fn new(outline: RuleOutline) -> Result<RuleAllowance, OutlineError> {
        let error = |why: String| OutlineError { rule: outline.name.clone(), why };
        let template = match &outline.path {
            Some(path) => Some(Template::parse(path).map_err(|wrong| error(wrong.to_string()))?),
            None => None,
        };
        let names = template.as_ref().map(Template::names).unwrap_or_default();
        let detail = match &outline.detail {
            Some(detail) => Some(requirement(detail, names).map_err(error)?),
            None => None,
        };
        Ok(RuleAllowance { template, detail, outline })
    }

    /// The outline.
    pub fn outline(&self) -> &RuleOutline {
        &self.outline
    }

    /// Whether it requires an object of `authorization_details`.
    pub fn asks_for_detail(&self) -> bool {
        self.detail.is_some()
    }

    /// Whether its path captures something.
    pub fn captures(&self) -> bool {
        !self.capture_names().is_empty()
    }

    /// Whether it takes requests with a token that meets what it requires.
    pub fn requires_grant(&self) -> bool {
        self.outline.effect == "require"
    }

    /// Whether a grant with `scopes` has those that it requires.
    pub fn has_scopes(&self, scopes: &[String]) -> bool {
        let (all, any) = (&self.outline.scopes, &self.outline.any_scopes);
        all.iter().all(|scope| scopes.contains(scope)) && (any.is_empty() || any.iter().any(|one| scopes.contains(one)))
    }

    /// Whether a grant permits a request with `captures`, percent-decoded, as far as scopes and details decide it.
    pub fn permits(&self, scopes: &[String], details: &[Detail], captures: &[String]) -> bool {
        self.has_scopes(scopes)
            && self.with_captures(captures, |captures| {
                self.detail.as_ref().is_none_or(|asked| details.iter().any(|held| asked.is_met(held, captures)))
            })
    }

    /// Adds to `reached` the requests that `held` permits, each once for each way to meet the rule. At most `limit` are
    /// in it then.
    pub fn reach(&self, held: &Detail, limit: usize, reached: &mut Vec<Reach>) -> Result<(), TooMany> {
        let Some(asked) = &self.detail else { return Ok(()) };
        if asked.kind != held.kind || !held.unknown.is_empty() {
            return Ok(());
        }
        let names = self.capture_names().len();
        let mut ways = vec![Way { action: None, captures: vec![None; names] }];
        for (member, pattern, values) in members(asked, held) {
            let Some(Pattern::Parts(parts)) = pattern else { continue };
            let mut next = Vec::new();
            for way in &ways {
                for value in values {
                    let value = match member {
                        Member::Location => uri::canonical(value),
                        _ => Some(value.clone()),
                    };
                    let Some(value) = value else { continue };
                    let action = if member == Member::Action { Some(value.clone()) } else { way.action.clone() };
                    solve(parts, &value, &way.captures, &mut |captures| {
                        next.push(Way { action: action.clone(), captures })
                    });
                    if next.len() > limit {
                        return Err(TooMany);
                    }
                }
            }
            ways = next;
        }
        for way in ways {
            reached.extend(self.reach_by(asked, held, way));
            if reached.len() > limit {
                return Err(TooMany);
            }
        }
        Ok(())
    }

    /// The requests that a grant reaches by this rule without an object of `authorization_details`.
    pub fn reach_without_detail(&self) -> Reach {
        let fixed = self.template.as_ref().is_some_and(|template| template.names().is_empty());
        Reach { action: None, captures: fixed.then(Vec::new) }
    }

    /// The action that the rule requires of the grant for a request with `captures`; `None` if it requires none, or any.
    pub fn action_of(&self, captures: &[String]) -> Option<String> {
        self.detail.as_ref()?.action.as_ref().and_then(|pattern| fill(pattern, captures))
    }

    /// The identifier that the rule requires of the grant for a request with `captures`; `None` if it requires none, or
    /// any.
    pub fn identifier_of(&self, captures: &[String]) -> Option<String> {
        self.detail.as_ref()?.identifier.as_ref().and_then(|pattern| fill(pattern, captures))
    }

    /// The least part of `held` that permits a request with `captures`; `None` if `held` does not permit it. A member that
    /// the rule compares has one value, any other stays as it is.
    pub fn least(&self, held: &Detail, captures: &[String]) -> Option<Map<String, Value>> {
        let asked = self.detail.as_ref()?;
        if !self.with_captures(captures, |captures| asked.is_met(held, captures)) {
            return None;
        }
        let mut least = Map::new();
        least.insert("type".to_owned(), json!(held.kind));
        for (member, pattern, values) in members(asked, held) {
            let Some(pattern) = pattern else { continue };
            let kept: Vec<&String> = match pattern {
                Pattern::Any => values.iter().collect(),
                Pattern::Parts(_) => {
                    let wanted = fill(pattern, captures)?;
                    let is_wanted = |value: &&String| match member {
                        Member::Location => uri::canonical(value).is_some_and(|value| value == wanted),
                        _ => **value == wanted,
                    };
                    values.iter().find(is_wanted).into_iter().collect()
                }
            };
            match member {
                _ if kept.is_empty() => {}
                Member::Identifier => {
                    least.insert(member.name().to_owned(), json!(kept.first()));
                }
                _ => {
                    least.insert(member.name().to_owned(), json!(kept));
                }
            }
        }
        Some(least)
    }

    /// The path of the requests with `captures` as a template without captures; `None` if no request has them.
    pub fn path_of(&self, captures: &[String]) -> Option<String> {
        let path = self.fill_path(captures)?;
        let path = Canonical::parse(path.as_bytes()).ok()?;
        Some(Template::literal(&path).to_string())
    }

    /// What the rule requires of an object for requests with `captures`, without captures; `None` if it requires none, or
    /// if a value cannot be written as a pattern.
    pub fn detail_of(&self, captures: &[String]) -> Option<DetailOutline> {
        let asked = self.detail.as_ref()?;
        let text = |pattern: &Option<Pattern>| match pattern {
            None => Some(None),
            Some(Pattern::Any) => Some(Some("*".to_owned())),
            Some(pattern) => {
                let text = fill(pattern, captures)?;
                (!text.contains(['{', '}', '*'])).then_some(Some(text))
            }
        };
        Some(DetailOutline {
            kind: asked.kind.clone(),
            action: text(&asked.action)?,
            identifier: text(&asked.identifier)?,
            location: text(&asked.location)?,
            datatype: text(&asked.datatype)?,
            privilege: text(&asked.privilege)?,
        })
    }

    fn capture_names(&self) -> &[String] {
        self.template.as_ref().map(Template::names).unwrap_or_default()
    }

    /// The requests of one way to meet the rule, if there are any.
    fn reach_by(&self, asked: &DetailRequirement, held: &Detail, way: Way) -> Option<Reach> {
        let is_bounded = self.template.is_some()
            && asked.identifier != Some(Pattern::Any)
            && way.captures.iter().all(Option::is_some);
        // A capture that no member compares may be anything.
        let captures: Vec<String> =
            way.captures.into_iter().map(|capture| capture.unwrap_or_else(|| ANYTHING.to_owned())).collect();
        let met = self.with_captures(&captures, |captures| asked.is_met(held, captures));
        met.then_some(Reach { action: way.action, captures: is_bounded.then_some(captures) })
    }

    /// Calls `judge` with `values` as a request would have them; `false` if no request of the rule has them.
    fn with_captures(&self, values: &[String], judge: impl Fn(&Captures<'_>) -> bool) -> bool {
        let Some(template) = &self.template else { return values.is_empty() && judge(&Captures::default()) };
        if values.len() != template.names().len() {
            return false;
        }
        if values.iter().all(|value| is_plain(value)) {
            return judge(&values.iter().map(String::as_str).collect());
        }
        let Some(path) = self.fill_path(values) else { return false };
        let Ok(path) = Canonical::parse(path.as_bytes()) else { return false };
        captures(template, &path).is_some_and(|captures| judge(&captures))
    }

    /// A path of the rule with `values`, not yet canonical.
    fn fill_path(&self, values: &[String]) -> Option<String> {
        let template = self.template.as_ref()?;
        let mut values = values.iter();
        let mut path = String::new();
        for segment in template.segments() {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Capture(pattern) => {
                    path.push_str(pattern.before());
                    escape(values.next()?, false, &mut path);
                    path.push_str(pattern.after());
                }
                Segment::Rest => escape(values.next()?, true, &mut path),
            }
        }
        values.next().is_none().then_some(path)
    }
}

/// Reads what a proxy says of a rule whose path captures `names`. The error says what no configuration may have.
fn requirement(outline: &DetailOutline, names: &[String]) -> Result<DetailRequirement, String> {
    let pattern = |text: &Option<String>| {
        let Some(text) = text else { return Ok(None) };
        match Pattern::parse(text, names) {
            Ok(pattern) if pattern.is_ambiguous() => Err(format!("`{text}` is ambiguous")),
            Ok(pattern) => Ok(Some(pattern)),
            Err(unknown) => Err(format!("`{{{unknown}}}` is not a capture of the path")),
        }
    };
    Ok(DetailRequirement {
        kind: outline.kind.clone(),
        action: pattern(&outline.action)?,
        identifier: pattern(&outline.identifier)?,
        location: pattern(&outline.location)?,
        datatype: pattern(&outline.datatype)?,
        privilege: pattern(&outline.privilege)?,
    })
}

/// A capture that nothing restricts.
const ANYTHING: &str = "x";

/// One way to meet a rule, as far as it is solved.
struct Way {
    action: Option<String>,
    captures: Vec<Option<String>>,
}

/// A member of an object that a rule may compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Action,
    Identifier,
    Location,
    Datatype,
    Privilege,
}

impl Member {
    fn name(self) -> &'static str {
        match self {
            Member::Action => "actions",
            Member::Identifier => "identifier",
            Member::Location => "locations",
            Member::Datatype => "datatypes",
            Member::Privilege => "privileges",
        }
    }
}

/// The members of `held`, each with what `asked` compares it with.
fn members<'a>(asked: &'a DetailRequirement, held: &'a Detail) -> [(Member, Option<&'a Pattern>, &'a [String]); 5] {
    let list = |values: &'a Option<Vec<String>>| values.as_deref().unwrap_or_default();
    [
        (Member::Action, asked.action.as_ref(), list(&held.actions)),
        (Member::Identifier, asked.identifier.as_ref(), held.identifier.as_slice()),
        (Member::Location, asked.location.as_ref(), list(&held.locations)),
        (Member::Datatype, asked.datatype.as_ref(), list(&held.datatypes)),
        (Member::Privilege, asked.privilege.as_ref(), list(&held.privileges)),
    ]
}

/// Calls `found` with each way to extend `known` so that `parts` may give `value`. Whether they do is for
/// [`DetailRequirement::is_met`] to say.
fn solve(parts: &[Part], value: &str, known: &[Option<String>], found: &mut impl FnMut(Vec<Option<String>>)) {
    let Some((part, others)) = parts.split_first() else {
        if value.is_empty() {
            found(known.to_vec());
        }
        return;
    };
    match part {
        Part::Literal(text) => {
            if let Some(rest) = value.strip_prefix(text.as_str()) {
                solve(others, rest, known, found);
            }
        }
        Part::Capture(index) => {
            let mut take = |end: usize| {
                let Some((taken, rest)) = value.split_at_checked(end) else { return };
                match known.get(*index) {
                    Some(Some(capture)) if capture != taken => {}
                    Some(Some(_)) => solve(others, rest, known, found),
                    Some(None) => {
                        let mut known = known.to_vec();
                        if let Some(slot) = known.get_mut(*index) {
                            *slot = Some(taken.to_owned());
                        }
                        solve(others, rest, &known, found);
                    }
                    None => {}
                }
            };
            match others.first() {
                None => take(value.len()),
                Some(Part::Literal(text)) => value.match_indices(text.as_str()).for_each(|(end, _)| take(end)),
                Some(Part::Capture(_)) => (0..=value.len()).for_each(take),
            }
        }
    }
}

/// The text that `pattern` stands for; `None` if it is `*`.
fn fill(pattern: &Pattern, captures: &[String]) -> Option<String> {
    let Pattern::Parts(parts) = pattern else { return None };
    let text = |part: &Part| match part {
        Part::Literal(text) => Some(text.clone()),
        Part::Capture(index) => captures.get(*index).cloned(),
    };
    parts.iter().map(text).collect()
}

/// Whether `value` stands in a canonical path as it is.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !value.is_empty() && value.len() <= 256 && value.bytes().all(plain)
}

/// Adds `value` to `path`, escaped. `rest`: a `/` in it divides segments.
fn escape(value: &str, rest: bool, path: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'/' if rest => path.push('/'),
            b'-' | b'_' | b'.' | b'~' => path.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            _ => {
                // Writing to a string never fails.
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, identifier: Option<&str>, action: Option<&str>) -> RuleAllowance {
        let detail = DetailOutline {
            kind: "order".to_owned(),
            action: action.map(str::to_owned),
            identifier: identifier.map(str::to_owned),
            ..DetailOutline::default()
        };
        RuleAllowance::new(RuleOutline {
            name: "rule".to_owned(),
            effect: "require".to_owned(),
            path: Some(path.to_owned()),
            detail: Some(detail),
            ..RuleOutline::default()
        })
        .unwrap()
    }

    fn details(value: Value) -> Vec<Detail> {
        Detail::list(&value).unwrap()
    }

    fn reached(rule: &RuleAllowance, held: Value) -> Vec<Reach> {
        let mut reached = Vec::new();
        for held in details(held) {
            rule.reach(&held, 100, &mut reached).unwrap();
        }
        reached
    }

    fn reach(action: Option<&str>, captures: Option<&[&str]>) -> Reach {
        let captures = captures.map(|all| all.iter().map(|&one| one.to_owned()).collect());
        Reach { action: action.map(str::to_owned), captures }
    }

    #[test]
    fn an_identifier_pins_the_capture() {
        let rule = rule("/orders/{order}", Some("order/{order}"), Some("read"));
        let held = json!([
            {"type": "order", "actions": ["read", "write"], "identifier": "order/1881"},
            {"type": "order", "actions": ["write"], "identifier": "order/2"},
            {"type": "order", "actions": ["read"], "identifier": "3"},
            {"type": "order", "actions": ["read"]},
            {"type": "order", "actions": ["read"], "identifier": "order/4", "limit": 1}
        ]);
        assert_eq!(reached(&rule, held), [reach(Some("read"), Some(&["1881"]))]);
    }

    #[test]
    fn what_no_request_can_capture_is_not_reached() {
        let rule = rule("/orders/{order}", Some("{order}"), None);
        let held = |identifier: &str| json!([{"type": "order", "identifier": identifier}]);
        for identifier in ["a/b", "", "..", "a%b", "a;b", "a\\b"] {
            assert_eq!(reached(&rule, held(identifier)), [], "{identifier}");
        }
        for identifier in ["a b", "é", "a.b", "x:y"] {
            assert_eq!(reached(&rule, held(identifier)), [reach(None, Some(&[identifier]))], "{identifier}");
        }
    }

    #[test]
    fn what_nothing_pins_is_unbounded() {
        let held = json!([{"type": "order", "actions": ["read"]}]);
        assert_eq!(
            reached(&rule("/orders/{order}", Some("*"), Some("read")), held.clone()),
            [reach(Some("read"), None)]
        );
        assert_eq!(reached(&rule("/orders/{order}", None, Some("read")), held.clone()), [reach(Some("read"), None)]);
        assert_eq!(reached(&rule("/orders", None, Some("*")), held.clone()), [reach(None, Some(&[]))]);
        let pinned = json!([{"type": "order", "actions": ["read"], "identifier": "1"}]);
        assert_eq!(
            reached(&rule("/orders/{order}", Some("*"), Some("read")), pinned.clone()),
            [reach(Some("read"), None)]
        );
        assert_eq!(
            reached(&rule("/o/{order}/{item}", Some("{order}"), Some("read")), pinned),
            [reach(Some("read"), None)]
        );
        assert_eq!(reached(&rule("/orders/{order}", Some("{order}"), Some("read")), held), []);
    }

    #[test]
    fn members_pin_captures_together() {
        let mut outline = rule("/{shop}/{order}", Some("{order}"), Some("{shop}-read")).outline().clone();
        outline.detail.as_mut().unwrap().location = Some("https://{shop}.mesh/".to_owned());
        let rule = RuleAllowance::new(outline).unwrap();
        let held = json!([{
            "type": "order", "actions": ["a-read", "b-read", "c-write"], "identifier": "1",
            "locations": ["https://A.mesh", "https://b.mesh/", "https://c.mesh/"]
        }]);
        let both = [reach(Some("a-read"), Some(&["a", "1"])), reach(Some("b-read"), Some(&["b", "1"]))];
        assert_eq!(reached(&rule, held.clone()), both);
        let captures = ["a".to_owned(), "1".to_owned()];
        let least = rule.least(&details(held)[0], &captures).unwrap();
        let expected =
            json!({"type": "order", "actions": ["a-read"], "identifier": "1", "locations": ["https://A.mesh"]});
        assert_eq!(Value::Object(least), expected);
    }

    #[test]
    fn many_combinations_are_refused() {
        let rule = rule("/{a}/{b}", Some("{a}"), Some("{b}"));
        let many: Vec<_> = (0..200).map(|at| at.to_string()).collect();
        let held = &details(json!([{"type": "order", "actions": many, "identifier": "1"}]))[0];
        assert_eq!(rule.reach(held, 100, &mut Vec::new()), Err(TooMany));
        assert_eq!(rule.reach(held, 200, &mut Vec::new()), Ok(()));
    }

    #[test]
    fn a_rule_for_one_request_is_written_without_captures() {
        let rule = rule("/orders/{order}:refund", Some("{order}"), Some("refund"));
        let captures = ["a b*".to_owned()];
        assert_eq!(rule.path_of(&captures).unwrap(), "/orders/a%20b%2A%3Arefund");
        assert_eq!(rule.detail_of(&captures), None);
        let captures = ["7".to_owned()];
        assert_eq!(rule.detail_of(&captures).unwrap().identifier.as_deref(), Some("7"));
        assert_eq!(rule.path_of(&captures).unwrap(), "/orders/7:refund");
        assert_eq!(rule.path_of(&[]), None);
        assert!(RuleAllowance::new(RuleOutline { path: Some("orders".to_owned()), ..RuleOutline::default() }).is_err());
    }

    #[test]
    fn scopes_all_and_any() {
        let outline = RuleOutline {
            scopes: vec!["a".to_owned()],
            any_scopes: vec!["b".to_owned(), "c".to_owned()],
            ..RuleOutline::default()
        };
        let rule = RuleAllowance::new(outline).unwrap();
        let has = |scopes: &[&str]| rule.has_scopes(&scopes.iter().map(|&one| one.to_owned()).collect::<Vec<_>>());
        assert!(has(&["a", "c"]));
        assert!(!has(&["a"]));
        assert!(!has(&["b", "c"]));
    }
}
