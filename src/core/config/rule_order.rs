//! What the order of the rules makes of them: the first that matches decides, so a rule may be dead in whole or in part.

use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::rules::mode::Mode;
use crate::rules::overlap;
use crate::rules::rule::{Matcher, Rule};
use crate::rules::strictness::{self, Lack};
use std::collections::BTreeMap;

/// A rule that takes something of more later rules than this is named once, and not with each of them.
const MAX_OF_ONE: usize = 3;

/// A message names so many rules, or parts of one.
const MAX_NAMED: usize = 3;

/// Finds what can never decide. A rule that is dead as a whole is an error; where one is dead in part, and what decides
/// instead asks for less, that is a warning.
pub fn check(rules: &[Rule], mode: Mode, problems: &mut Problems) {
    let mut losses = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let near = Near::new(rules.get(..at).unwrap_or_default(), rule);
        match near.takers_of_all(rule) {
            Some(takers) => {
                let message = match takers.as_slice() {
                    [taker] => format!("is never reached: rule `{taker}` before it takes every request of it"),
                    takers => {
                        format!("is never reached: rules {} before it take every request of it", named(takers))
                    }
                };
                problems.errors.push(Problem::at(format!("rules[{at}]"), message).help("put the narrower rule first"));
            }
            None => losses.extend(near.losses(at, rule, mode)),
        }
    }
    report(losses, rules, problems);
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.matcher.grpc) {
        problems.warnings.extend(way_around(rules, at, rule, mode));
    }
}

/// The rules before one that are for some of its requests, in order, with what they have in common with it.
struct Near<'r> {
    rules: Vec<(usize, &'r Rule, Matcher)>,
}

/// What one rule never decides, since another does.
struct Loss {
    of: usize,
    to: usize,
    /// What is lost, in words.
    what: String,
    /// What the other does not ask for.
    lack: Option<Lack>,
    /// Whether it is hard to see: each is also for paths that the other is not for.
    crossing: bool,
}

impl<'r> Near<'r> {
    fn new(earlier: &'r [Rule], rule: &Rule) -> Near<'r> {
        let meets = |(at, first): (usize, &'r Rule)| Some((at, first, overlap::common(&first.matcher, &rule.matcher)?));
        Near { rules: earlier.iter().enumerate().filter_map(meets).collect() }
    }

    /// The names of the rules that together take every request of `rule`.
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

    fn losses(&self, of: usize, rule: &Rule, mode: Mode) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (index, (to, first, common)) in self.rules.iter().enumerate() {
            // A narrower rule in front of a wider one is how rules are written, unless the wider one names what it loses.
            let exception = overlap::covers(&rule.matcher, &first.matcher);
            if exception && !overlap::is_named_part(common, &rule.matcher) {
                continue;
            }
            let before = self.rules.iter().take(index).map(|(_, earlier, _)| &earlier.matcher);
            let Some(what) = left(common, before, &rule.matcher) else { continue };
            losses.push(Loss {
                of,
                to: *to,
                what,
                lack: strictness::lack(first, rule, common.template.as_ref(), mode),
                crossing: overlap::paths_cross(&first.matcher, &rule.matcher) && first.matcher.metadata.is_empty(),
            });
        }
        losses
    }
}

/// What is left of `part`, some of what `whole` is for, without what `before` take; in words, and `None` when nothing is.
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

/// Puts losses into words: with the rule that loses, or, where one takes something of many, once with that.
fn report(losses: Vec<Loss>, rules: &[Rule], problems: &mut Problems) {
    let name = |at: usize| rules.get(at).map(Rule::name).unwrap_or_default();
    let mut by_taker: BTreeMap<(usize, bool), Vec<&Loss>> = BTreeMap::new();
    for loss in &losses {
        by_taker.entry((loss.to, loss.lack.is_some())).or_default().push(loss);
    }
    for ((to, asks_less), losses) in by_taker {
        if let [first, ..] = losses.as_slice()
            && losses.len() > MAX_OF_ONE
        {
            let losers: Vec<&str> = losses.iter().map(|loss| name(loss.of)).collect();
            let less = if asks_less { ", and asks for less than they do" } else { "" };
            let message = format!(
                "decides requests that {} later rules are for as well{less}: {}; for `{}` these are {}",
                losses.len(),
                named(&losers),
                name(first.of),
                first.what
            );
            let unwise = asks_less || losses.iter().any(|loss| loss.crossing);
            add(unwise, Problem::at(format!("rules[{to}].match"), message), problems);
            continue;
        }
        for loss in losses {
            let decides = format!("never decides {}: rule `{}` before it does", loss.what, name(to));
            let message = match &loss.lack {
                Some(lack) => format!("{decides}, and {lack}"),
                None => decides,
            };
            let problem = Problem::at(format!("rules[{}].match", loss.of), message);
            add(asks_less || loss.crossing, problem, problems);
        }
    }
}

fn add(unwise: bool, problem: Problem, problems: &mut Problems) {
    match unwise {
        true => {
            problems.warnings.push(problem.help("put the stricter rule first, or take out of it what it never decides"))
        }
        false => problems.notes.push(problem),
    }
}

/// The rule that decides about the path of a rule for gRPC when it is asked for in another way, and asks for less.
fn way_around(rules: &[Rule], at: usize, rule: &Rule, mode: Mode) -> Option<Problem> {
    let otherwise = Matcher { grpc: false, ..rule.matcher.clone() };
    for (place, later) in rules.iter().enumerate().skip(at.saturating_add(1)) {
        let common = overlap::common(&otherwise, &later.matcher).filter(|common| !common.grpc);
        let Some(common) = common else { continue };
        let before = rules.iter().take(place).map(|earlier| &earlier.matcher);
        if let Some(lack) = strictness::lack(later, rule, common.template.as_ref(), mode)
            && left(&common, before, &otherwise).is_some()
        {
            let message = format!(
                "is for gRPC alone: asked for by gRPC-Web, Connect or JSON, its path is decided by rule `{}`, which {lack}",
                later.name()
            );
            let help = "deny what is not gRPC: behind this rule, add one with the same `grpc` and `deny: true`";
            return Some(Problem::at(format!("rules[{at}].match.grpc"), message).help(help));
        }
        if overlap::covers(&later.matcher, &otherwise) {
            return None;
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
    use std::time::{Duration, Instant};

    #[derive(Debug, Default, PartialEq)]
    struct Said {
        errors: Vec<String>,
        warnings: Vec<String>,
        notes: Vec<String>,
    }

    fn said(rules: Value) -> Said {
        let keys = json!({"inline": fixture::jwks()});
        let config = json!({
            "issuers": [{"issuer": "i", "audiences": ["a"], "keys": keys}],
            "rules": rules,
            "signals": {"transmitters": [{"issuer": "i", "audience": "a", "keys": keys}]}
        });
        let texts = |problems: &[Problem]| problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
        match load(config.to_string().as_bytes()) {
            Ok(loaded) => Said { warnings: texts(&loaded.warnings), notes: texts(&loaded.notes), ..Said::default() },
            Err(errors) => Said { errors: texts(&errors.0), ..Said::default() },
        }
    }

    fn two(first: (Value, Value), second: (Value, Value)) -> Said {
        let rule = |name: &str, (matches, says): (Value, Value)| {
            let mut rule = json!({"name": name, "match": matches});
            rule.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
            rule
        };
        said(json!([rule("one", first), rule("two", second)]))
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
        let lost = "rules[1].match: never decides `GET` requests: rule `one` before it does";
        let less = |lack: &str| Said { warnings: vec![format!("{lost}, and {lack}")], ..Said::default() };
        assert_eq!(two(token(), scope()), less("does not ask for the same `scope`"));
        assert_eq!(two(token(), deny()), less("does not deny"));
        assert_eq!(two(json!({"allow": "anonymous"}), token()), less("asks for no grant"));
        assert_eq!(
            two(json!({"require": {"scope": "s"}, "mode": "shadow"}), scope()),
            less("only records its refusals")
        );
        for as_much in [scope(), deny(), json!({"require": {"scope": "s t"}})] {
            assert_eq!(two(as_much, scope()), Said { notes: vec![lost.to_owned()], ..Said::default() });
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
            assert_eq!(two((first.clone(), token()), (second, deny())), Said::default(), "{first}");
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
            (json!({"metadata": {"tier": "gold"}}), json!({"path": "/o"}), "requests on routes with `tier: gold`"),
            (json!({"grpc": {"service": "s"}}), json!({"path": "/s/Purge"}), "requests over gRPC"),
        ] {
            let said = two((first.clone(), token()), (second, deny()));
            let want = format!("rules[1].match: never decides {lost}: rule `one` before it does, and does not deny");
            assert!(said.warnings.contains(&want), "{first}: {want}\n{said:?}");
        }
    }

    #[test]
    fn rules_that_are_dead_as_a_whole() {
        let rule = |name: &str, methods: &[&str], says: Value| {
            let mut rule = json!({"name": name, "match": {"methods": methods, "path": "/x"}});
            rule.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
            rule
        };
        let one = said(json!([rule("a", &["GET", "HEAD"], token()), rule("b", &["GET"], deny())]));
        assert_eq!(one.errors, ["rules[1]: is never reached: rule `a` before it takes every request of it"]);
        let together = said(json!([
            rule("a", &["GET"], token()),
            rule("b", &["HEAD"], token()),
            rule("c", &["HEAD", "GET"], deny())
        ]));
        assert_eq!(together.errors, ["rules[2]: is never reached: rules `b`, `a` before it take every request of it"]);
    }

    /// What an even earlier rule takes is not lost to this one.
    #[test]
    fn the_rule_that_decides_is_named() {
        let said = said(json!([
            {"name": "closed", "match": {"methods": ["GET"], "path": "/o/secret"}, "deny": true},
            {"name": "wide", "match": {"methods": ["GET", "PUT"], "path": "/{r...}"}, "require": {}},
            {"name": "secret", "match": {"path": "/o/secret"}, "require": {"scope": "admin"}}
        ]));
        let want = "rules[2].match: never decides `PUT` requests: rule `wide` before it does, and does not ask for the \
                    same `scope`";
        assert_eq!(said.warnings, [want]);
    }

    #[test]
    fn a_rule_that_takes_something_of_many_is_named_once() {
        let mut rules = vec![json!({"name": "reads", "match": {"methods": ["GET"]}, "require": {}})];
        rules
            .extend((0..5).map(|n| json!({"name": format!("r{n}"), "match": {"path": format!("/{n}")}, "deny": true})));
        let said = said(json!(rules));
        let want = "rules[0].match: decides requests that 5 later rules are for as well, and asks for less than they do: \
                    `r0`, `r1`, `r2`, and 2 more; for `r0` these are `GET` requests";
        assert_eq!(said.warnings, [want]);
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
        assert!(two("8").warnings.iter().any(|warning| warning.contains("does not ask for the same `detail`")));
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
        let warned = |rules: Value| said(rules).warnings;
        let purge = json!({"name": "purge", "match": grpc, "require": {"scope": "admin"}});
        let all = json!({"name": "all", "match": {"path": "/{rest...}"}, "require": {}});
        let want = "rules[0].match.grpc: is for gRPC alone: asked for by gRPC-Web, Connect or JSON, its path is decided \
                    by rule `all`, which does not ask for the same `scope`";
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
        let said = two((json!({"grpc": grpc}), token()), (json!({"grpc": grpc}), deny()));
        // What is left for it is what is not gRPC.
        assert_eq!(said, Said::default());
        let wide = two((json!({"grpc": {"service": "s"}}), token()), (json!({"grpc": grpc}), deny()));
        let want = "rules[1].match: never decides requests over gRPC: rule `one` before it does, and does not deny";
        assert_eq!(wide.warnings, [want]);
        let methods = two((json!({"grpc": grpc, "methods": ["POST"]}), deny()), (json!({}), token()));
        let want = "rules[0].match.methods: leaves a way around a rule that denies `grpc`: the same can be called by \
                    other HTTP methods";
        assert_eq!(methods.errors, [want]);
    }

    #[test]
    fn a_thousand_rules_are_checked_soon() {
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
        let started = Instant::now();
        let said = said(json!(rules));
        assert!(said.errors.is_empty());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    fn list(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        proptest::sample::subsequence(all, 0..=all.len()).prop_map(|some| some.into_iter().map(str::to_owned).collect())
    }

    prop_compose! {
        fn matcher()(
            methods in list(&["GET", "PUT"]),
            hosts in list(&["h", "i"]),
            path in proptest::option::of("(/(a|b|\\{x\\})){0,1}(/(a|b|\\{y\\}|\\{z\\.\\.\\.\\}))"),
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
            let rule = |(at, matcher)| Rule { name: format!("{at}"), matcher, effect: Effect::Deny, mode: None };
            let rules: Vec<Rule> = matchers.into_iter().enumerate().map(rule).collect();
            let mut decided = std::collections::BTreeSet::new();
            let mut lost = std::collections::BTreeSet::new();
            let ends = ["", "a", "b", "c", "a/", "a/a", "a/b", "a/c", "c/a/b"];
            let starts = ["/", "/a/", "/b/", "/c/"];
            let paths = starts.iter().flat_map(|start| ends.map(|end| format!("{start}{end}")));
            for path in paths {
                let path = Canonical::parse(path.as_bytes()).unwrap();
                for method in ["GET", "PUT", "POST"] {
                    for host in ["h", "i", "j"] {
                        for (grpc, tier) in [(true, "g"), (false, "g"), (true, "s"), (false, "s"), (true, ""), (false, "")] {
                            let host = Host::parse(host.as_bytes()).unwrap();
                            let target = Target { method, host, path: &path, grpc };
                            let mut route = TestConnection { metadata: vec![("tier".to_owned(), tier.to_owned())], ..TestConnection::default() };
                            let mut all = rules.iter().enumerate();
                            let mut hits = all.by_ref().filter(|(_, rule)| rule.matcher.mismatch(target, &mut route).is_none());
                            let Some((first, _)) = hits.next() else { continue };
                            decided.insert(first);
                            lost.extend(hits.map(|(at, _)| (at, first)));
                        }
                    }
                }
            }
            for (at, rule) in rules.iter().enumerate() {
                let near = Near::new(&rules[..at], rule);
                if near.takers_of_all(rule).is_some() {
                    prop_assert!(!decided.contains(&at), "{at} decides after all: {rules:?}");
                    continue;
                }
                let said: Vec<usize> = near.losses(at, rule, Mode::Enforce).iter().map(|loss| loss.to).collect();
                for to in &said {
                    prop_assert!(lost.contains(&(at, *to)), "{at} loses nothing to {to}: {rules:?}");
                }
                for (_, to) in lost.iter().filter(|(of, _)| *of == at) {
                    let exception = overlap::covers(&rule.matcher, &rules[*to].matcher);
                    prop_assert!(exception || said.contains(to), "{at} loses to {to}: {rules:?}");
                }
            }
        }
    }
}
