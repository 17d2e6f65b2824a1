//! Checks of the order of the rules: the first rule that matches decides, so an earlier rule can make a later one
//! useless, completely or for some of its requests.

use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::http::method::{GET, HEAD};
use crate::index::RuleIndex;
use crate::rules::mode::Mode;
use crate::rules::overlap;
use crate::rules::rule::{Matcher, Rule};
use crate::rules::strictness::{self, Missing};
use std::collections::BTreeMap;

/// A rule that decides requests of more later rules than this is reported once, not once for each of them.
const MAX_OF_ONE: usize = 3;

/// A message names at most this many rules, or parts of one rule.
const MAX_NAMED: usize = 3;

/// Finds rules, and parts of rules, that can never decide. A rule that can never decide at all is an error. A rule that
/// never decides some of its requests is a warning if the rule that decides them requires less, and else a note.
pub(crate) fn check(rules: &[Rule], mode: Mode, problems: &mut Problems) {
    let mut losses = Vec::new();
    for (at, rule) in RuleIndex::enumerate(rules) {
        let earlier = EarlierRules::new(rules.get(..at.position()).unwrap_or_default(), rule);
        match earlier.takers_of_all(rule) {
            Some(takers) => {
                let message = match takers.as_slice() {
                    [taker] => format!("is never reached: rule `{taker}` before it matches all of its requests"),
                    takers => {
                        format!("is never reached: rules {} before it match all of its requests", named(takers))
                    }
                };
                problems
                    .errors
                    .push(Problem::at(format!("rules[{at}]"), message).help("move the narrower rule before it"));
            }
            None => losses.extend(earlier.losses(at, rule, mode)),
        }
    }
    report(losses, rules, problems);
    for (at, rule) in RuleIndex::enumerate(rules).filter(|(_, rule)| rule.matcher.grpc) {
        problems.warnings.extend(way_around(rules, at, rule, mode));
    }
    let only_get = |rule: &Rule| rule.matcher.methods.iter().any(|method| method == GET) && !rule.matcher.names_head();
    for (at, rule) in RuleIndex::enumerate(rules).filter(|(_, rule)| only_get(rule)) {
        problems.warnings.extend(head_elsewhere(rules, at, rule, mode));
    }
}

/// The rules before one rule that match some of its requests, in order. Each has its index and the requests that
/// both rules match.
struct EarlierRules<'r> {
    rules: Vec<(RuleIndex, &'r Rule, Matcher)>,
}

/// The requests that a rule matches and never decides, because an earlier rule does.
struct Loss {
    /// The rule that never decides them.
    of: RuleIndex,
    /// The earlier rule that decides them.
    to: RuleIndex,
    /// A description of these requests.
    what: String,
    /// What the earlier rule does not require.
    missing: Option<Missing>,
    /// Whether it is hard to see: each rule also matches paths that the other does not match.
    crossing: bool,
}

impl<'r> EarlierRules<'r> {
    fn new(earlier: &'r [Rule], rule: &Rule) -> EarlierRules<'r> {
        let meets =
            |(at, first): (RuleIndex, &'r Rule)| Some((at, first, overlap::common(&first.matcher, &rule.matcher)?));
        EarlierRules { rules: RuleIndex::enumerate(earlier).filter_map(meets).collect() }
    }

    /// The names of the rules that together match every request of `rule`.
    fn takers_of_all(&self, rule: &Rule) -> Option<Vec<&'r str>> {
        if let Some((_, first, _)) =
            self.rules.iter().find(|(_, first, _)| overlap::covers(&first.matcher, &rule.matcher))
        {
            return Some(vec![first.name()]);
        }
        if rule.matcher.methods.len() < 2 && rule.matcher.hosts.len() < 2 {
            return None;
        }
        let mut takers = Vec::new();
        for cell in overlap::cells(&rule.matcher) {
            let (_, first, _) = self.rules.iter().find(|(_, first, _)| overlap::covers(&first.matcher, &cell))?;
            if !takers.contains(&first.name()) {
                takers.push(first.name());
            }
        }
        Some(takers)
    }

    fn losses(&self, of: RuleIndex, rule: &Rule, mode: Mode) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (nth, (to, first, common)) in self.rules.iter().enumerate() {
            // A narrower rule before a wider one is the usual way to write rules, unless the wider rule names what it
            // loses.
            let exception = overlap::covers(&rule.matcher, &first.matcher);
            if exception && !overlap::is_named_part(common, &rule.matcher) {
                continue;
            }
            let before = self.rules.iter().take(nth).map(|(_, earlier, _)| &earlier.matcher);
            let Some(what) = left(common, before, &rule.matcher) else { continue };
            losses.push(Loss {
                of,
                to: *to,
                what,
                missing: strictness::missing(first, rule, common.template.as_ref(), mode),
                crossing: overlap::paths_cross(&first.matcher, &rule.matcher) && first.matcher.metadata.is_empty(),
            });
        }
        losses
    }
}

/// Describes the requests of `part` that none of `before` matches. `part` is a part of `whole`. `None` when `before`
/// match all of them.
fn left<'m>(part: &Matcher, before: impl Iterator<Item = &'m Matcher>, whole: &Matcher) -> Option<String> {
    let before: Vec<&Matcher> = before.filter(|earlier| overlap::meet(earlier, part)).collect();
    if before.is_empty() {
        return Some(overlap::describe(part, whole));
    }
    let cells = overlap::cells(part);
    let all = cells.len();
    let is_free = |cell: &Matcher| !before.iter().any(|earlier| overlap::covers(earlier, cell));
    let free: Vec<Matcher> = cells.into_iter().filter(is_free).collect();
    match free.as_slice() {
        [] => None,
        free if free.len() == all => Some(overlap::describe(part, whole)),
        free => {
            let shown: Vec<String> = free.iter().take(MAX_NAMED).map(|cell| overlap::describe(cell, whole)).collect();
            let more = free.len().saturating_sub(MAX_NAMED);
            let more = if more == 0 { String::new() } else { format!(", and {more} more such") };
            Some(format!("{}{more}", shown.join(", ")))
        }
    }
}

/// Reports losses: one problem for each rule that loses requests, or a single one for a rule that takes them from many.
fn report(losses: Vec<Loss>, rules: &[Rule], problems: &mut Problems) {
    let name = |at: RuleIndex| at.of(rules).map(Rule::name).unwrap_or_default();
    let mut by_taker: BTreeMap<(RuleIndex, bool), Vec<&Loss>> = BTreeMap::new();
    for loss in &losses {
        by_taker.entry((loss.to, loss.missing.is_some())).or_default().push(loss);
    }
    for ((to, requires_less), losses) in by_taker {
        if let [first, ..] = losses.as_slice()
            && losses.len() > MAX_OF_ONE
        {
            let losers: Vec<&str> = losses.iter().map(|loss| name(loss.of)).collect();
            let less = if requires_less { ", and requires less than they do" } else { "" };
            let message = format!(
                "decides requests that {} later rules also match{less}: {}; for `{}` these are {}",
                losses.len(),
                named(&losers),
                name(first.of),
                first.what
            );
            let is_warning = requires_less || losses.iter().any(|loss| loss.crossing);
            add(is_warning, Problem::at(format!("rules[{to}].match"), message), problems);
            continue;
        }
        for loss in losses {
            let decides = format!("never decides {}: rule `{}` before it decides them", loss.what, name(to));
            let message = match &loss.missing {
                Some(missing) => format!("{decides}, and {missing}"),
                None => decides,
            };
            let problem = Problem::at(format!("rules[{}].match", loss.of), message);
            add(requires_less || loss.crossing, problem, problems);
        }
    }
}

fn add(is_warning: bool, problem: Problem, problems: &mut Problems) {
    match is_warning {
        true => problems
            .warnings
            .push(problem.help("move the stricter rule first, or remove from its `match` what it never decides")),
        false => problems.notes.push(problem),
    }
}

/// A warning if the path of a rule for gRPC, called in another way than by gRPC, is decided by a rule that requires
/// less.
fn way_around(rules: &[Rule], at: RuleIndex, rule: &Rule, mode: Mode) -> Option<Problem> {
    let otherwise = Matcher { grpc: false, ..rule.matcher.clone() };
    for (later_at, later) in RuleIndex::enumerate(rules).skip_while(|(index, _)| *index <= at) {
        let common = overlap::common(&otherwise, &later.matcher).filter(|common| !common.grpc);
        let Some(common) = common else { continue };
        let before = rules.iter().take(later_at.position()).map(|earlier| &earlier.matcher);
        if let Some(missing) = strictness::missing(later, rule, common.template.as_ref(), mode)
            && left(&common, before, &otherwise).is_some()
        {
            let message = format!(
                "matches gRPC only: requests for its path by gRPC-Web, Connect or JSON are decided by rule `{}`, which {missing}",
                later.name()
            );
            let help =
                "deny requests that are not gRPC: after this rule, add a rule with the same `grpc` and `deny: true`";
            return Some(Problem::at(format!("rules[{at}].match.grpc"), message).help(help));
        }
        if overlap::covers(&later.matcher, &otherwise) {
            return None;
        }
    }
    None
}

/// A warning if HEAD requests to the paths of a rule for GET are decided by a rule that requires less, because a rule
/// for other paths too names HEAD. One that is narrower than the rule for GET is an exception that somebody wanted.
fn head_elsewhere(rules: &[Rule], at: RuleIndex, rule: &Rule, mode: Mode) -> Option<Problem> {
    let as_head = |rule: &Rule| Matcher { methods: vec![HEAD.to_owned()], ..rule.matcher.clone() };
    let takes_head = |rule: &Rule| rule.matcher.methods.is_empty() || rule.matcher.names_head();
    let ours = as_head(rule);
    for (naming_at, naming) in RuleIndex::enumerate(rules).filter(|(_, other)| other.matcher.names_head()) {
        if !overlap::meet(&ours, &naming.matcher) || overlap::covers(&ours, &as_head(naming)) {
            continue;
        }
        let Some(region) = overlap::common(&ours, &as_head(naming)) else { continue };
        let deciding = RuleIndex::enumerate(rules).take_while(|(other, _)| *other <= naming_at);
        for (to, other) in deciding.filter(|(to, other)| takes_head(other) && (*to > at || other.matcher.names_head()))
        {
            let Some(common) = overlap::common(&region, &other.matcher) else { continue };
            let before = rules.iter().take(to.position()).filter(|earlier| takes_head(earlier));
            if let Some(missing) = strictness::missing(other, rule, common.template.as_ref(), mode)
                && let Some(what) = left(&common, before.map(|earlier| &earlier.matcher), &ours)
            {
                let message = format!(
                    "names `GET` and not `HEAD`: `HEAD` {what} are decided by rule `{}`, which {missing}",
                    other.name()
                );
                let help = format!("add `HEAD` to it, or remove `HEAD` from rule `{}`", naming.name());
                return Some(Problem::at(format!("rules[{at}].match.methods"), message).help(help));
            }
        }
    }
    None
}

fn named(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMED).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(MAX_NAMED) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use crate::http::host::Host;
    use crate::http::path::Canonical;
    use crate::http::path_template::Template;
    use crate::rules::rule::{Effect, Target};
    use crate::testing::fixture;
    use crate::testing::ports::TestConnection;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[derive(Debug, Default, PartialEq)]
    struct Reported {
        errors: Vec<String>,
        warnings: Vec<String>,
        notes: Vec<String>,
    }

    fn reported(rules: Value) -> Reported {
        let keys = json!({"inline": fixture::jwks()});
        let config = json!({
            "issuers": [{"issuer": "i", "audiences": ["a"], "keys": keys}],
            "rules": rules,
            "signals": {"transmitters": [{"issuer": "i", "audience": "a", "keys": keys}]}
        });
        let texts = |problems: &[Problem]| problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
        match load(config.to_string().as_bytes()) {
            Ok(loaded) => {
                Reported { warnings: texts(&loaded.warnings), notes: texts(&loaded.notes), ..Reported::default() }
            }
            Err(errors) => Reported { errors: texts(&errors.0), ..Reported::default() },
        }
    }

    fn two(first: (Value, Value), second: (Value, Value)) -> Reported {
        let rule = |name: &str, (matches, says): (Value, Value)| {
            let mut rule = json!({"name": name, "match": matches});
            rule.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
            rule
        };
        reported(json!([rule("one", first), rule("two", second)]))
    }

    fn token() -> Value {
        json!({"require": {}})
    }

    fn scope() -> Value {
        json!({"require": {"scope": "s"}})
    }

    fn deny() -> Value {
        json!({"deny": true})
    }

    #[test]
    fn a_method_that_is_named_and_never_decided_about() {
        let two = |one, other| {
            two(
                (json!({"methods": ["GET"], "path": "/x"}), one),
                (json!({"methods": ["GET", "HEAD"], "path": "/x"}), other),
            )
        };
        let lost = "rules[1].match: never decides `GET` requests: rule `one` before it decides them";
        let less = |missing: &str| Reported { warnings: vec![format!("{lost}, and {missing}")], ..Reported::default() };
        assert_eq!(two(token(), scope()), less("does not require the same `scope`"));
        assert_eq!(two(token(), deny()), less("does not deny"));
        assert_eq!(two(json!({"allow": "anonymous"}), token()), less("requires no token"));
        assert_eq!(
            two(json!({"require": {"scope": "s"}, "mode": "shadow"}), scope()),
            less("records refusals but does not enforce them")
        );
        for as_much in [scope(), deny(), json!({"require": {"scope": "s t"}})] {
            assert_eq!(two(as_much, scope()), Reported { notes: vec![lost.to_owned()], ..Reported::default() });
        }
    }

    #[test]
    fn an_exception_in_front_is_how_rules_are_written() {
        for (first, second) in [
            (json!({"methods": ["GET"], "path": "/x"}), json!({"path": "/x"})),
            (json!({"path": "/x/y"}), json!({"path": "/x/{rest...}"})),
            (json!({"methods": ["GET"], "path": "/x/y"}), json!({"methods": ["GET", "PUT"], "path": "/x/{rest...}"})),
            (json!({"hosts": ["a"]}), json!({})),
            (json!({"path": "/x", "metadata": {"tier": "gold"}}), json!({"path": "/x"})),
            (
                json!({"path": "/x", "metadata": {"tier": "gold"}}),
                json!({"path": "/x", "metadata": {"tier": "silver"}}),
            ),
        ] {
            assert_eq!(two((first.clone(), token()), (second, deny())), Reported::default(), "{first}");
        }
    }

    #[test]
    fn what_is_lost_is_named() {
        for (first, second, lost) in [
            (json!({"path": "/a/{x}"}), json!({"path": "/{y}/b"}), "requests for `/a/b`"),
            (json!({"methods": ["GET"], "path": "/o/{r...}"}), json!({"path": "/o/{id}/secret"}), "`GET` requests"),
            (json!({"hosts": ["a"], "path": "/{r...}"}), json!({"path": "/o"}), "requests to `a`"),
            (json!({"hosts": ["a", "b"]}), json!({"hosts": ["b", "c"], "path": "/o"}), "requests to `b`"),
            (
                json!({"methods": ["GET", "PUT"], "hosts": ["a"]}),
                json!({"methods": ["PUT", "POST"], "path": "/o"}),
                "`PUT` requests to `a`",
            ),
            (
                json!({"path": "/o/{id}"}),
                json!({"methods": ["POST"], "path": "/{x}/{id}:cancel"}),
                "requests for `/o/{id}:cancel`",
            ),
            (json!({"metadata": {"tier": "gold"}}), json!({"path": "/o"}), "requests on routes with `tier: gold`"),
            (json!({"grpc": {"service": "s"}}), json!({"path": "/s/Purge"}), "requests over gRPC"),
        ] {
            let reported = two((first.clone(), token()), (second, deny()));
            let want =
                format!("rules[1].match: never decides {lost}: rule `one` before it decides them, and does not deny");
            assert!(reported.warnings.contains(&want), "{first}: {want}\n{reported:?}");
        }
    }

    #[test]
    fn rules_that_are_dead_as_a_whole() {
        let rule = |name: &str, methods: &[&str], says: Value| {
            let mut rule = json!({"name": name, "match": {"methods": methods, "path": "/x"}});
            rule.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
            rule
        };
        let one = reported(json!([rule("a", &["GET", "HEAD"], token()), rule("b", &["GET"], deny())]));
        assert_eq!(one.errors, ["rules[1]: is never reached: rule `a` before it matches all of its requests"]);
        let together = reported(json!([
            rule("a", &["GET"], token()),
            rule("b", &["HEAD"], token()),
            rule("c", &["HEAD", "GET"], deny())
        ]));
        assert_eq!(together.errors, ["rules[2]: is never reached: rules `b`, `a` before it match all of its requests"]);
    }

    #[test]
    fn text_beside_a_capture_narrows_it() {
        let order =
            |first: &str, second: &str| two((json!({"path": first}), token()), (json!({"path": second}), scope()));
        assert_eq!(order("/o/{id}:cancel", "/o/{id}"), Reported::default());
        let dead = ["rules[1]: is never reached: rule `one` before it matches all of its requests"];
        for (first, second) in [("/o/{id}", "/o/{id}:cancel"), ("/o/{id}:cancel", "/o/7:cancel"), ("/v{x}", "/v{y}.1")]
        {
            assert_eq!(order(first, second).errors, dead, "{first} {second}");
        }
        let lost = "rules[1].match: never decides requests for `/v{id}:cancel`: rule `one` before it decides them, \
                    and does not require the same `scope`";
        assert_eq!(order("/v{x}", "/{id}:cancel").warnings, [lost]);
        // The captures are other parts of the same segment, so one detail does not imply the other.
        let detail = |name: &str| json!({"require": {"detail": {"type": "o", "identifier": format!("{{{name}}}")}}});
        let compared = |first: &str, second: &str| {
            let second = (json!({"methods": ["GET", "PUT"], "path": second}), detail("y"));
            two((json!({"methods": ["GET"], "path": first}), detail("x")), second).warnings
        };
        assert_eq!(compared("/o/{x}:cancel", "/o/{y}:cancel"), [""; 0]);
        assert_eq!(compared("/o/{x}", "/o/{y}:cancel").len(), 1);
    }

    /// What an even earlier rule takes is not lost to this one.
    #[test]
    fn the_rule_that_decides_is_named() {
        let reported = reported(json!([
            {"name": "closed", "match": {"methods": ["GET"], "path": "/o/secret"}, "deny": true},
            {"name": "wide", "match": {"methods": ["GET", "PUT"], "path": "/{r...}"}, "require": {}},
            {"name": "secret", "match": {"path": "/o/secret"}, "require": {"scope": "admin"}}
        ]));
        let want = "rules[2].match: never decides `PUT` requests: rule `wide` before it decides them, and does not require the same `scope`";
        assert_eq!(reported.warnings, [want]);
    }

    #[test]
    fn a_rule_that_takes_something_of_many_is_named_once() {
        let mut rules = vec![json!({"name": "reads", "match": {"methods": ["GET"]}, "require": {}})];
        rules
            .extend((0..5).map(|n| json!({"name": format!("r{n}"), "match": {"path": format!("/{n}")}, "deny": true})));
        let reported = reported(json!(rules));
        let want = "rules[0].match: decides requests that 5 later rules also match, and requires less than they do: \
                    `r0`, `r1`, `r2`, and 2 more; for `r0` these are `GET` requests";
        assert_eq!(reported.warnings, [want]);
    }

    #[test]
    fn what_asks_for_as_much() {
        let asks = |one: Value, other: Value| {
            let rule =
                |path: &str, require: Value| (json!({"methods": ["GET"], "path": path}), json!({"require": require}));
            let second = json!({"methods": ["GET", "HEAD"], "path": "/o/{order}"});
            two(rule("/o/{id}", one), (second, json!({"require": other}))).warnings.is_empty()
        };
        let detail = |identifier: &str| json!({"detail": {"type": "o", "action": "read", "identifier": identifier}});
        for (one, other, as_much) in [
            (json!({"scope": "a b"}), json!({"scope": "a"}), true),
            (json!({"scope": "a"}), json!({"scope": "a b"}), false),
            (json!({"scope": {"any": ["a"]}}), json!({"scope": {"any": ["a", "b"]}}), true),
            (json!({"scope": {"any": ["a", "c"]}}), json!({"scope": {"any": ["a", "b"]}}), false),
            (json!({"scope": "a"}), json!({"scope": {"any": ["a", "b"]}}), true),
            (detail("{id}"), detail("{order}"), true),
            (detail("{id}"), detail("*"), true),
            (detail("*"), detail("{order}"), false),
            (detail("o/{id}"), detail("{order}"), false),
            (json!({"claims": {"a": 1, "b": 2}}), json!({"claims": {"a": 1}}), true),
            (json!({"claims": {"a": 1}}), json!({"claims": {"a": 2}}), false),
            (json!({"actor": {"agents": ["a"]}}), json!({"actor": {}}), true),
            (json!({"actor": {}}), json!({"actor": {"agents": ["a"]}}), false),
            (json!({"source": ["10.1.0.0/16"]}), json!({"source": ["10.0.0.0/8"]}), true),
            (json!({"source": ["10.0.0.0/8", "::/0"]}), json!({"source": ["10.0.0.0/8"]}), false),
            (json!({"peer": ["spiffe://t/a/b"]}), json!({"peer": ["spiffe://t/a/*"]}), true),
            (json!({"peer": ["spiffe://t/*"]}), json!({"peer": ["spiffe://t/a/*"]}), false),
            (json!({"device": "compliant"}), json!({"device": {"status": "compliant", "unknown": "allow"}}), true),
            (json!({"device": {"status": "compliant", "unknown": "allow"}}), json!({"device": "compliant"}), false),
            (json!({"risk": {"below": "MEDIUM"}}), json!({"risk": {"below": "HIGH"}}), true),
            (json!({"risk": {"below": "HIGH"}}), json!({"risk": {"below": "MEDIUM"}}), false),
            (json!({"auth_age": "1m"}), json!({"auth_age": "5m"}), true),
            (json!({"auth_age": "5m"}), json!({"auth_age": "1m"}), false),
            (json!({"acr": ["a"]}), json!({"acr": ["a", "b"]}), true),
            (json!({"acr": ["a", "b"]}), json!({"acr": ["a"]}), false),
            (json!({"single_use": true}), json!({"single_use": true}), true),
            (json!({}), json!({"single_use": true}), false),
            (json!({"when": "now > 1"}), json!({"when": "now > 1"}), true),
            (json!({"when": "captures.id == '1'"}), json!({"when": "captures.order == '1'"}), false),
        ] {
            // Other warnings, such as about `unknown`, are not about these: GET and HEAD write nothing.
            assert_eq!(asks(one.clone(), other.clone()), as_much, "{one} {other}");
        }
    }

    #[test]
    fn a_literal_in_front_may_be_what_the_other_captures() {
        let detail = |identifier: &str| json!({"require": {"detail": {"type": "o", "identifier": identifier}}});
        let two = |identifier| {
            let first = json!({"methods": ["GET"], "path": "/{tenant}/o/7"});
            two((first, detail(identifier)), (json!({"path": "/acme/o/{order}"}), detail("{order}")))
        };
        assert!(two("7").warnings.iter().all(|warning| !warning.contains("and does not")));
        assert!(two("8").warnings.iter().any(|warning| warning.contains("does not require the same `detail`")));
    }

    #[test]
    fn break_glass_that_lifts_more_asks_for_less() {
        let glass = json!({"require": {"scope": "s"}, "break_glass": {"scope": "g", "lifts": ["scope"]}});
        let front = json!({"methods": ["GET"], "path": "/x"});
        let behind = json!({"methods": ["GET", "PUT"], "path": "/x"});
        assert_eq!(two((front.clone(), glass.clone()), (behind.clone(), scope())).warnings.len(), 1);
        assert_eq!(two((front, glass.clone()), (behind, glass)).warnings.len(), 0);
    }

    #[test]
    fn a_rule_for_grpc_in_front_of_a_wider_one() {
        let grpc = json!({"grpc": {"service": "s", "method": "Purge"}});
        let warned = |rules: Value| reported(rules).warnings;
        let purge = json!({"name": "purge", "match": grpc, "require": {"scope": "admin"}});
        let all = json!({"name": "all", "match": {"path": "/{rest...}"}, "require": {}});
        let want = "rules[0].match.grpc: matches gRPC only: requests for its path by gRPC-Web, Connect or JSON are decided by rule `all`, which does not require the same `scope`";
        assert_eq!(warned(json!([purge, all])), [want]);
        let denied = json!({"name": "otherwise", "match": grpc, "deny": true});
        assert_eq!(warned(json!([purge, denied, all])), [""; 0]);
        let asks = json!({"name": "all", "match": {"path": "/{rest...}"}, "require": {"scope": "admin"}});
        assert_eq!(warned(json!([purge, asks])), [""; 0]);
        let elsewhere = json!({"name": "all", "match": {"path": "/v1/{rest...}"}, "require": {}});
        assert_eq!(warned(json!([purge, elsewhere])), [""; 0]);
        assert_eq!(warned(json!([purge])), [""; 0]);
    }

    #[test]
    fn a_rule_that_denies_grpc_denies_its_path() {
        let grpc = json!({"service": "s", "method": "Purge"});
        let reported = two((json!({"grpc": grpc}), token()), (json!({"grpc": grpc}), deny()));
        // What is left for it is what is not gRPC.
        assert_eq!(reported, Reported::default());
        let wide = two((json!({"grpc": {"service": "s"}}), token()), (json!({"grpc": grpc}), deny()));
        let want =
            "rules[1].match: never decides requests over gRPC: rule `one` before it decides them, and does not deny";
        assert_eq!(wide.warnings, [want]);
        let methods = two((json!({"grpc": grpc, "methods": ["POST"]}), deny()), (json!({}), token()));
        let want = "rules[0].match.methods: limits a rule that denies `grpc`, and clients can call the same gRPC method with other HTTP methods";
        assert_eq!(methods.errors, [want]);
    }

    #[test]
    fn a_rule_that_names_head_takes_it_from_a_rule_for_get() {
        let get = |path: &str, says: Value| (json!({"methods": ["GET"], "path": path}), says);
        let wide = |says: Value| (json!({"methods": ["GET", "HEAD"], "path": "/{rest...}"}), says);
        let want = "rules[0].match.methods: names `GET` and not `HEAD`: `HEAD` requests are decided by rule `two`, which does not deny";
        assert_eq!(two(get("/secret", deny()), wide(token())).warnings, [want]);
        assert_eq!(two(get("/secret", scope()), wide(scope())).warnings, [""; 0]);
        assert_eq!(two(get("/secret", token()), wide(deny())).warnings, [""; 0]);
        let exception = (json!({"methods": ["HEAD"], "path": "/o/{id}"}), json!({"allow": "anonymous"}));
        assert_eq!(two(get("/o/{id}", token()), exception).warnings, [""; 0]);
        let taken = reported(json!([
            {"name": "secret", "match": {"methods": ["GET"], "path": "/secret"}, "deny": true},
            {"name": "all", "match": {"path": "/{rest...}", "hosts": ["h"]}, "require": {}},
            {"name": "wide", "match": {"methods": ["GET", "HEAD"], "path": "/{rest...}"}, "deny": true}
        ]));
        let want = "rules[0].match.methods: names `GET` and not `HEAD`: `HEAD` requests to `h` are decided by rule `all`, which does not deny";
        assert!(taken.warnings.contains(&want.to_owned()), "{taken:?}");
    }

    #[test]
    fn a_thousand_rules_are_checked() {
        let rule = |n: usize| {
            let methods = if n.is_multiple_of(2) { json!(["GET", "HEAD"]) } else { json!(["GET", "POST"]) };
            json!({"name": format!("r{n}"), "require": {"scope": format!("s{n}")},
                   "match": {"methods": methods, "hosts": [format!("h{}", n % 10), "all"],
                             "path": format!("/v{}/{{x}}/p{}/{{rest...}}", n % 7, n / 2)}})
        };
        let mut rules: Vec<Value> = (0..1_000).map(rule).collect();
        let hosts: Vec<String> = (0..50).map(|n| format!("h{n}")).collect();
        rules.push(json!({"name": "wide", "match": {"methods": ["GET"], "hosts": hosts}, "deny": true}));
        rules.push(json!({"name": "wider", "match": {"methods": ["GET", "PUT"]}, "deny": true}));
        assert!(reported(json!(rules)).errors.is_empty());
    }

    fn list(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        proptest::sample::subsequence(all, 0..=all.len()).prop_map(|some| some.into_iter().map(str::to_owned).collect())
    }

    prop_compose! {
        fn matcher()(
            methods in list(&["GET", "PUT", "HEAD"]),
            hosts in list(&["h", "i"]),
            path in proptest::option::of("(/(a|b|\\{x\\})){0,1}(/(a|b|\\{y\\}|a\\{y\\}|\\{y\\}b|a\\{y\\}b|\\{z\\.\\.\\.\\}))"),
            grpc in proptest::bool::ANY,
            metadata in proptest::option::of("(g|s)"),
        ) -> Matcher {
            let template = path.map(|path| Template::parse(&path).unwrap());
            let metadata = metadata.map(|tier| ("tier".to_owned(), tier)).into_iter().collect();
            Matcher { methods, hosts, template, grpc, metadata }
        }
    }

    proptest! {
        /// Against every request that could tell rules apart.
        #[test]
        fn what_is_said_is_what_decides(matchers in proptest::collection::vec(matcher(), 1..5)) {
            let rule = |(at, matcher)| Rule {
                name: format!("{at}"),
                matcher,
                effect: Effect::Deny,
                mode: None,
                record_allows: None,
            };
            let rules: Vec<Rule> = matchers.into_iter().enumerate().map(rule).collect();
            let mut decided = std::collections::BTreeSet::new();
            let mut lost = std::collections::BTreeSet::new();
            let ends = ["", "a", "b", "c", "ab", "acb", "ac", "cb", "a/", "a/a", "a/b", "a/c", "c/a/b", "a/ab", "a/acb", "a/ac", "c/cb"];
            let starts = ["/", "/a/", "/b/", "/c/"];
            let paths = starts.iter().flat_map(|start| ends.map(|end| format!("{start}{end}")));
            for path in paths {
                let path = Canonical::parse(path.as_bytes()).unwrap();
                for method in ["GET", "PUT", "POST", "HEAD"] {
                    for host in ["h", "i", "j"] {
                        for (grpc, tier) in [(true, "g"), (false, "g"), (true, "s"), (false, "s"), (true, ""), (false, "")] {
                            let host = Host::parse(host.as_bytes()).unwrap();
                            let target = Target { method, host, path: &path, grpc };
                            let mut route = TestConnection { metadata: vec![("tier".to_owned(), tier.to_owned())], ..TestConnection::default() };
                            let mut hits = |target| {
                                let matches = |rule: &Rule| rule.matcher.mismatch(target, &mut route).is_none();
                                let hits = rules.iter().map(matches).collect::<Vec<_>>();
                                hits.into_iter().enumerate().filter_map(|(at, hit)| hit.then_some(at)).collect::<Vec<_>>()
                            };
                            let mut of_it = hits(target);
                            if method == "HEAD" && !of_it.iter().any(|at| rules[*at].matcher.names_head()) {
                                of_it = hits(Target { method: "GET", ..target });
                            }
                            let mut hits = of_it.into_iter();
                            let Some(first) = hits.next() else { continue };
                            decided.insert(first);
                            lost.extend(hits.map(|at| (at, first)));
                        }
                    }
                }
            }
            for (at, rule) in rules.iter().enumerate() {
                let earlier = EarlierRules::new(&rules[..at], rule);
                if earlier.takers_of_all(rule).is_some() {
                    prop_assert!(!decided.contains(&at), "{at} decides after all: {rules:?}");
                    continue;
                }
                let losses = earlier.losses(RuleIndex::new(at), rule, Mode::Enforce);
                let takers: Vec<usize> = losses.iter().map(|loss| loss.to.position()).collect();
                for to in &takers {
                    prop_assert!(lost.contains(&(at, *to)), "{at} loses nothing to {to}: {rules:?}");
                }
                for (_, to) in lost.iter().filter(|(of, _)| *of == at) {
                    let exception = overlap::covers(&rule.matcher, &rules[*to].matcher);
                    prop_assert!(exception || takers.contains(to), "{at} loses to {to}: {rules:?}");
                }
            }
        }
    }
}
