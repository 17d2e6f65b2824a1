//! The narrower grant permits each use that was counted, and nothing else that can be told apart; the narrower rules load,
//! and match the requests of the uses and of no other cell.

use super::*;
use crate::evidence::measures::catalog::Catalog;
use crate::evidence::measures::width::Widths;
use crate::evidence::model::{GrantRow, PermittedRow};
use crate::evidence::report::Width;
use proptest::prelude::*;
use std::net::IpAddr;
use taskfence_core::config::load::load;
use taskfence_core::http::connection::ConnectionInfo;
use taskfence_core::http::path::Canonical;
use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::rule::Target;
use taskfence_core::token::detail::Detail;
use taskfence_core::uses::allowance::RuleAllowance;

const IDS: [&str; 5] = ["1", "2", "a b", "é", "x/y"];
const ACTIONS: [&str; 3] = ["read", "write", "list"];
const SCOPES: [&str; 4] = ["s1", "s2", "s3", "s4"];

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(from).prop_map(str::to_owned)
}

fn some(from: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(from, 0..=most).prop_map(|all| all.into_iter().map(str::to_owned).collect())
}

fn outline(number: usize) -> impl Strategy<Value = RuleOutline> {
    let template = prop::sample::select(vec!["", "/{id}", "/{id}/{part}", "/v{id}:do", "/{id...}"]);
    let identifier = prop::option::of(prop::sample::select(vec!["{id}", "*", "o/{id}", "1", "{part}"]));
    let detail = prop::option::of((
        pick(&["order", "file"]),
        prop::option::of(prop::sample::select(vec!["read", "write", "*"])),
        identifier,
        prop::option::of(prop::sample::select(vec!["https://a.mesh/", "https://{part}.mesh/", "*"])),
    ));
    (template, detail, some(&SCOPES, 2), some(&SCOPES, 2), some(&["GET", "POST", "HEAD"], 2)).prop_map(
        move |(template, detail, scopes, any_scopes, methods)| {
            let path = format!("/r{number}{template}");
            let known = |text: &str| {
                let name = text.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                name.is_none_or(|(name, _)| path.contains(&format!("{{{name}}}")))
            };
            let keep = |text: Option<&str>| text.filter(|text| known(text)).map(str::to_owned);
            let detail = detail.map(|(kind, action, identifier, location)| DetailOutline {
                kind,
                action: keep(action),
                identifier: keep(identifier),
                location: keep(location),
                ..DetailOutline::default()
            });
            RuleOutline {
                name: format!("r{number}"),
                effect: "require".to_owned(),
                methods,
                path: Some(path),
                scopes,
                any_scopes,
                detail,
                ..RuleOutline::default()
            }
        },
    )
}

fn detail() -> impl Strategy<Value = Value> {
    let identifier = prop::option::of(prop::sample::select(vec!["1", "2", "a b", "o/1", "o/é", "x/y", "é"]));
    let locations = prop::option::of(some(&["https://a.mesh", "https://b.mesh/", "https://A.mesh/"], 2));
    (pick(&["order", "file"]), prop::option::of(some(&ACTIONS, 3)), identifier, locations).prop_map(
        |(kind, actions, identifier, locations)| {
            let mut detail = json!({"type": kind});
            let members = detail.as_object_mut().unwrap();
            members.extend(actions.map(|actions| ("actions".to_owned(), json!(actions))));
            members.extend(identifier.map(|identifier| ("identifier".to_owned(), json!(identifier))));
            members.extend(locations.map(|locations| ("locations".to_owned(), json!(locations))));
            detail
        },
    )
}

/// A request that the grant permits.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    rule: usize,
    method: String,
    captures: Vec<String>,
}

/// All requests with some identifiers that the rules and the grant permit, found by trying all of them.
fn permitted_requests(rules: &[RuleAllowance], scopes: &[String], details: &[Detail]) -> Vec<Request> {
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let path = rule.outline().path.clone().unwrap();
        let captures: Vec<Vec<String>> = match path.matches('{').count() {
            0 => vec![Vec::new()],
            1 => IDS.iter().map(|id| vec![(*id).to_owned()]).collect(),
            _ => {
                IDS.iter().flat_map(|id| ["a", "b", "1"].map(|part| vec![(*id).to_owned(), part.to_owned()])).collect()
            }
        };
        let methods = match rule.outline().methods.clone() {
            none if none.is_empty() => vec!["PUT".to_owned()],
            methods => methods,
        };
        for captures in captures.into_iter().filter(|captures| rule.permits(scopes, details, captures)) {
            found.extend(methods.iter().map(|method| Request {
                rule: at,
                method: method.clone(),
                captures: captures.clone(),
            }));
        }
    }
    found
}

fn width(rules: &[RuleOutline], info: &GrantInfo, uses: &[Request]) -> Width {
    let outline = Outline { config: CONFIG.to_owned(), rules: rules.to_vec() };
    let catalog = Catalog::new(vec![outline]);
    let row = |one: &Request| PermittedRow {
        config: CONFIG.to_owned(),
        rule: rules[one.rule].name.clone(),
        method: one.method.clone(),
        captures: one.captures.clone(),
        count: 1,
        ..PermittedRow::default()
    };
    let row = GrantRow { info: info.clone(), permitted: uses.iter().map(row).collect(), ..GrantRow::default() };
    Widths::new(&catalog).width(&row)
}

struct Nobody;

impl ConnectionInfo for Nobody {
    fn source(&mut self) -> Option<IpAddr> {
        None
    }

    fn route_metadata(&mut self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

fn policy(rules: &[Value]) -> Policy {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let keys = json!({"inline": {"keys": [key]}});
    let config = json!({
        "issuers": [{"issuer": "https://jit.example", "audiences": ["a"], "keys": keys, "algorithms": ["EdDSA"]}],
        "rules": rules,
        "signals": {"transmitters": [{"issuer": "https://a.example", "audience": "a", "keys": keys, "algorithms": ["EdDSA"],
                                      "subjects": ["https://jit.example"]}]}
    });
    load(config.to_string().as_bytes()).unwrap_or_else(|errors| panic!("{errors:?} in {config:#}")).policy
}

fn has_rule_for(policy: &Policy, method: &str, path: &str) -> bool {
    let path = Canonical::parse(path.as_bytes()).unwrap();
    let target = Target { method, host: policy.host(b"h").unwrap(), path: &path, grpc: false };
    policy.find(target, &mut Nobody).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn exactly_what_was_used(
        rules in (outline(0), outline(1), outline(2)).prop_map(|(a, b, c)| vec![a, b, c]),
        scopes in some(&SCOPES, 4),
        details in prop::collection::vec(detail(), 0..4),
        chosen in prop::collection::vec(any::<bool>(), 64),
    ) {
        let read: Vec<RuleAllowance> = rules.iter().map(|rule| RuleAllowance::new(rule.clone()).unwrap()).collect();
        let info = GrantInfo { scopes: scopes.clone(), details: details.clone(), ..GrantInfo::default() };
        let held = Detail::list(&Value::Array(details)).unwrap();
        let all = permitted_requests(&read, &scopes, &held);
        let (uses, others): (Vec<_>, Vec<_>) = all.into_iter().zip(chosen.into_iter().chain(std::iter::repeat(false)))
            .partition(|(_, is_used)| *is_used);
        let (uses, others): (Vec<_>, Vec<_>) =
            (uses.into_iter().map(|(one, _)| one).collect(), others.into_iter().map(|(one, _)| one).collect());
        let width = width(&rules, &info, &uses);
        prop_assert_eq!(&width.unknown, &None);

        let narrower = Detail::list(&Value::Array(width.narrower_details.clone())).unwrap();
        for one in &uses {
            prop_assert!(read[one.rule].permits(&width.narrower_scopes, &narrower, &one.captures), "{:?}: {:?}", one, width);
        }
        // What the grant cannot tell from a use: the object of that use meets this rule too, or this one asks for none.
        let least: Vec<Detail> = uses.iter().filter_map(|one| {
            let object = held.iter().find_map(|held| read[one.rule].least(held, &one.captures))?;
            Detail::list(&json!([object]))?.pop()
        }).collect();
        for one in &others {
            let rule = &read[one.rule];
            if rule.permits(&width.narrower_scopes, &narrower, &one.captures) {
                let alike = !rule.asks_for_detail()
                    || least.iter().any(|least| rule.permits(&scopes, std::slice::from_ref(least), &one.captures));
                prop_assert!(alike, "{:?} is permitted: {:?}", one, width);
            }
        }

        // Widths count what trying all requests finds.
        if let Some(allowed) = width.allowed_cells {
            let tried = permitted_requests(&read, &scopes, &held);
            let cell = |one: &Request| {
                let action = read[one.rule].action_of(&one.captures).unwrap_or_else(|| one.method.clone());
                (one.rule, action, one.captures.clone())
            };
            let cells: std::collections::BTreeSet<_> = tried.iter().map(cell).collect();
            let listed: Vec<_> = width.allowed.iter().map(|cell| (&cell.rule, &cell.action, &cell.identifier)).collect();
            prop_assert!(u64::try_from(cells.len()).unwrap() <= allowed, "{:?} of {:?}", cells, listed);
            prop_assert_eq!(u64::try_from(uses.iter().map(cell).collect::<std::collections::BTreeSet<_>>().len()).unwrap(), width.used_cells);
        }

        if !width.narrower_rules.is_empty() {
            let policy = policy(&width.narrower_rules);
            let written = width.notes.is_empty();
            for one in &uses {
                let path = read[one.rule].path_of(&one.captures).unwrap();
                prop_assert!(!written || has_rule_for(&policy, &one.method, &path), "{:?} {}: {:?}", one, path, width.narrower_rules);
            }
            for one in &others {
                let path = read[one.rule].path_of(&one.captures).unwrap();
                let alike = uses.iter().any(|used| used.rule == one.rule && used.captures == one.captures
                    && (used.method == one.method || (one.method == "HEAD" && used.method == "GET")));
                prop_assert!(alike || !has_rule_for(&policy, &one.method, &path), "{:?}: {:?}", one, width.narrower_rules);
            }
        }
    }
}

#[test]
fn what_a_proposal_cannot_say_is_noted() {
    let mut rules = rules();
    rules[0].others = vec!["when".to_owned(), "peer".to_owned()];
    rules[3].break_glass = Some("glass".to_owned());
    let details = json!([order(&["read"], "1")]);
    let info = grant("A", NOON, &["orders", "ops", "glass", "more"], details);
    let use_of = |rule: usize, method: &str, captures: &[&str]| Request {
        rule,
        method: method.to_owned(),
        captures: captures.iter().map(|&one| one.to_owned()).collect(),
    };
    let width = width(&rules, &info, &[use_of(0, "HEAD", &["1"]), use_of(3, "GET", &[])]);
    assert_eq!(width.used_cells, 2);
    assert_eq!(width.unused_scopes, ["glass", "more"]);
    let names: Vec<_> = width.narrower_rules.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["health-1"]);
    assert_eq!(
        width.notes,
        [
            "no rule for `read` is proposed: narrow it by hand, and keep its `when`, `peer`",
            "the rules for `health` leave out its break-glass by `glass`",
        ]
    );
}

#[test]
fn break_glass_is_no_use_of_the_width_and_keeps_its_scope() {
    let mut rules = rules();
    rules[0].break_glass = Some("glass".to_owned());
    let catalog = Catalog::new(vec![Outline { config: CONFIG.to_owned(), rules }]);
    let glass = PermittedRow {
        config: CONFIG.to_owned(),
        rule: "read".to_owned(),
        method: "GET".to_owned(),
        captures: vec!["9".to_owned()],
        count: 2,
        break_glass: 2,
        ..PermittedRow::default()
    };
    let info = grant("A", NOON, &["orders", "glass"], json!([order(&["read"], "1")]));
    let row = GrantRow { info, permitted: vec![glass], ..GrantRow::default() };
    let width = Widths::new(&catalog).width(&row);
    assert_eq!((width.allowed_cells, width.used_cells), (Some(1), 0));
    assert_eq!(width.narrower_scopes, ["glass"]);
}

#[test]
fn what_is_not_known_is_said() {
    let outline = Outline { config: CONFIG.to_owned(), rules: rules() };
    let catalog = Catalog::new(vec![outline]);
    let mut widths = Widths::new(&catalog);
    let info = grant("A", NOON, &["orders"], json!([order(&["read"], "1")]));
    let known = GrantRow { info, ..GrantRow::default() };
    let mut unknown = |row: GrantRow| widths.width(&row).unknown;
    assert_eq!(unknown(known.clone()), None);
    let cut = GrantInfo { cut: true, ..known.info.clone() };
    assert!(unknown(GrantRow { info: cut, ..known.clone() }).unwrap().contains("too long"));
    let masked = GrantInfo { masked: vec!["details".to_owned()], ..known.info.clone() };
    assert!(unknown(GrantRow { info: masked, ..known.clone() }).unwrap().contains("masked"));
    assert!(unknown(GrantRow { other: 3, ..known.clone() }).unwrap().starts_with("3 permitted requests"));
    let row = PermittedRow { config: "ff".to_owned(), rule: "read".to_owned(), count: 1, ..PermittedRow::default() };
    let other = GrantRow { permitted: vec![row], ..known.clone() };
    assert_eq!(unknown(other).unwrap(), "the rule read of the configuration ff is not known");
    let many: Vec<String> = (0..200).map(|at| at.to_string()).collect();
    let many = json!([{"type": "order", "actions": ["read"], "identifier": "1"}, {"type": "order", "actions": many}]);
    let info = grant("A", NOON, &["orders"], many);
    assert_eq!(unknown(GrantRow { info, ..known }), None);
}
