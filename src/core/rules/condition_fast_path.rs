//! Evaluates simple conditions without CEL values on the heap.
//!
//! Most conditions compare a name with a constant. Such comparisons, and `&&`, `||` and `!` of them, are compiled to a
//! [`Predicate`]. All other parts are evaluated by CEL. A predicate compares CEL values by the comparison of CEL, so it
//! gives the same result.

use crate::rules::condition::evaluation::{Fault, evaluate};
use crate::rules::condition::names::{FieldReader, FieldValue, capture, reader};
use crate::rules::condition::relation::Answer;
use crate::rules::condition::relation::Relation;
use crate::rules::condition::relation::relation;
use crate::rules::condition::work::{Exhausted, Work};
use crate::rules::evidence::Evidence;
use cel::IdedExpr;
use cel::common::ast::{Expr, operators as op};
use cel::common::types::{CelBool, CelList};
use cel::common::value::Val;

/// A condition, or a part of one.
#[derive(Debug)]
pub(crate) enum Predicate {
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Not(Box<Predicate>),
    /// `has(claims.x)`.
    Has(String),
    /// `claims.x`, `true`.
    Truth(Operand),
    Relation(Relation, [Operand; 2]),
    /// Any other expression; CEL evaluates it.
    Other(IdedExpr),
}

/// One side of a relation.
#[derive(Debug)]
pub(crate) enum Operand {
    Constant(Box<dyn Val>),
    Claim(String),
    Capture(String),
    Field(FieldReader),
}

impl Predicate {
    /// Compiles `expression`, which the checker has accepted and `flatten` has simplified.
    pub(crate) fn new(expression: &IdedExpr) -> Predicate {
        Predicate::plain(&expression.expr).unwrap_or_else(|| Predicate::Other(expression.clone()))
    }

    fn plain(expression: &Expr) -> Option<Predicate> {
        if let Some(operand) = Operand::new(expression) {
            return Some(Predicate::Truth(operand));
        }
        match expression {
            Expr::Select(select) if select.test => match &select.operand.expr {
                Expr::Ident(root) if root == "claims" => Some(Predicate::Has(select.field.clone())),
                _ => None,
            },
            Expr::Call(call) => match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
                (op::LOGICAL_NOT, None, [inner]) => Some(Predicate::Not(Box::new(Predicate::new(inner)))),
                (op::LOGICAL_AND, None, sides) => Some(Predicate::All(sides.iter().flat_map(Predicate::all).collect())),
                (op::LOGICAL_OR, None, sides) => Some(Predicate::Any(sides.iter().flat_map(Predicate::any).collect())),
                (name, None, [left, right]) | (name, Some(left), [right]) => {
                    let relation = relation(name, call.target.is_some())?;
                    Some(Predicate::Relation(relation, [Operand::new(&left.expr)?, Operand::new(&right.expr)?]))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The parts that must all hold for `expression` to hold.
    fn all(expression: &IdedExpr) -> Vec<Predicate> {
        match Predicate::new(expression) {
            Predicate::All(parts) => parts,
            one => vec![one],
        }
    }

    /// The parts of which one must hold for `expression` to hold.
    fn any(expression: &IdedExpr) -> Vec<Predicate> {
        match Predicate::new(expression) {
            Predicate::Any(parts) => parts,
            one => vec![one],
        }
    }

    /// Whether it holds. The result is that of CEL; `None` if CEL gives an error.
    pub(crate) fn holds(&self, evidence: &Evidence<'_>, work: &Work) -> Answer {
        work.charge(1)?;
        match self {
            Predicate::All(parts) => decide(parts, false, evidence, work),
            Predicate::Any(parts) => decide(parts, true, evidence, work),
            Predicate::Not(inner) => Ok(inner.holds(evidence, work)?.map(|holds| !holds)),
            Predicate::Has(name) => {
                work.charge(2)?;
                Ok(evidence.claims().map(|claims| claims.get(name).is_some()))
            }
            Predicate::Truth(operand) => {
                let truth = |held: FieldValue<'_>| held.value().downcast_ref::<CelBool>().map(|truth| *truth.inner());
                Ok(operand.read(evidence, work)?.and_then(truth))
            }
            Predicate::Relation(relation, [left, right]) => {
                match (left.read(evidence, work)?, right.read(evidence, work)?) {
                    (Some(left), Some(right)) => relation(left.value(), right.value(), work),
                    _ => Ok(None),
                }
            }
            Predicate::Other(expression) => match evaluate(expression, evidence, work) {
                Ok(holds) => Ok(Some(holds)),
                Err(Fault::Exhausted) => Err(Exhausted),
                Err(_) => Ok(None),
            },
        }
    }
}

/// The result of `&&`, where `deciding` is `false`, or of `||`, where it is `true`. One part with the deciding value
/// decides, even if other parts are errors. So the grouping of the parts does not matter.
fn decide(parts: &[Predicate], deciding: bool, evidence: &Evidence<'_>, work: &Work) -> Answer {
    let mut outcome = Some(!deciding);
    for part in parts {
        match part.holds(evidence, work)? {
            Some(holds) if holds == deciding => return Ok(Some(deciding)),
            Some(_) => {}
            None => outcome = None,
        }
    }
    Ok(outcome)
}

impl Operand {
    fn new(expression: &Expr) -> Option<Operand> {
        match expression {
            Expr::Ident(name) => match name.split_once('.') {
                Some(("claims", name)) => Some(Operand::Claim(name.to_owned())),
                Some(("captures", name)) => Some(Operand::Capture(name.to_owned())),
                _ => reader(name).map(Operand::Field),
            },
            _ => constant(expression).map(Operand::Constant),
        }
    }

    fn read<'e>(&'e self, evidence: &Evidence<'e>, work: &Work) -> Result<Option<FieldValue<'e>>, Exhausted> {
        work.charge(2)?;
        Ok(match self {
            Operand::Constant(value) => Some(FieldValue::Lent(value.as_ref())),
            Operand::Claim(name) => evidence.claims().and_then(|claims| claims.get(name)).map(FieldValue::Lent),
            Operand::Capture(name) => return capture(name, evidence, work),
            Operand::Field(read) => read(evidence),
        })
    }
}

/// A literal, or a list of literals.
fn constant(expression: &Expr) -> Option<Box<dyn Val>> {
    match expression {
        Expr::Literal(literal) => Some(literal.to_val().into_owned()),
        Expr::List(list) if list.optional_indices.is_empty() => {
            let elements: Option<Vec<_>> = list.elements.iter().map(|element| constant(&element.expr)).collect();
            Some(Box::new(CelList::from(elements?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::host::Host;
    use crate::http::method::Method;
    use crate::http::path::{Canonical, Decoded};
    use crate::http::path_template::Template;
    use crate::rules::cel_claims::{Claims, convert};
    use crate::rules::condition::Condition;
    use crate::rules::evidence::RequestLine;
    use crate::rules::grant_status::GrantStatus;
    use crate::rules::routes::captures;
    use crate::time::Timestamp;
    use crate::token::grant::{Actor, Grant};
    use cel::Context;
    use cel::parser::PrattParser;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_json::{Map, Value, json};

    fn compile(source: &str) -> Result<Condition, String> {
        Condition::compile(source, &["order".to_owned()])
    }

    #[test]
    fn common_conditions_need_nothing_else_of_cel() {
        for source in [
            "claims.sub == 'spiffe://td/agent/a7' && request.method == 'GET' && captures.order == '1881' && \
             grant.auth_age < 3600 && context.risk != 'HIGH' && 'orders.read' in grant.scopes",
            "!has(claims.region) || claims.region in ['eu', 'ch']",
            "claims.trusted_network || request.source.startsWith('10.')",
            "grant.subject == claims.owner && 3 <= claims.level && grant.expires_at > now",
        ] {
            let plain = format!("{:?}", compile(source).unwrap().predicate());
            assert!(!plain.contains("Other"), "{source}: {plain}");
        }
    }

    /// Values of claims, and values to compare them with: each kind, equal numbers of different kinds, limits of each
    /// kind.
    const VALUES: [&str; 30] = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "2",
        "-1",
        "1.0",
        "1.5",
        "-0.0",
        "9007199254740993",
        "9007199254740992.0",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "1e300",
        "\"\"",
        "\"a\"",
        "\"a b\"",
        "\"GET\"",
        "[]",
        "[\"a\",1,null,true]",
        "{}",
        "{\"a\":1,\"b\":\"a b\"}",
        "{\"GET\":null,\"a\":[\"a\"]}",
        "[[\"a\"],{}]",
        "[\"a\",\"a\",\"b\"]",
        "[1,2.0,-1,1]",
        "[true,false,true]",
        "[{\"a\":1},{\"a\":\"a\",\"b\":[1]},{}]",
    ];

    const CLAIMS: [&str; 4] = ["a", "b", "c", "d"];

    /// Operands of a relation: those that a predicate can hold, and others.
    fn operands() -> impl Strategy<Value = String> {
        let literals = select(VALUES.to_vec()).prop_map(|value| match value.strip_prefix("18446744073709551615") {
            Some(_) => "18446744073709551615u".to_owned(),
            None => value.to_owned(),
        });
        let claims = select(CLAIMS.to_vec()).prop_map(|name| format!("claims.{name}"));
        let names = select(vec![
            "request.method",
            "request.source",
            "context.state_age",
            "grant.subject",
            "grant.actor",
            "grant.scopes",
            "grant.auth_age",
            "captures.order",
            "now",
            "request.host",
            "request.path",
        ]);
        let others = select(vec![
            "1u",
            "b'a'",
            "claims.a.b",
            "claims['b']",
            "claims.c[0]",
            "claims.d + 1",
            "claims.c[claims.a]",
            "claims.c[1.5]",
            "[claims.a, claims.b][1]",
            "[claims.a, claims.b][claims.c]",
            "claims.a + claims.b",
            "claims.a - claims.b",
            "claims.a * claims.b",
            "claims.a / claims.b",
            "claims.a % claims.b",
            "7 % claims.b",
            "7 / claims.b",
            "7 - claims.b",
            "7 * claims.b",
            "grant.subject + captures.order",
            "size(claims.a)",
            "claims.b.size()",
            "string(claims.b)",
            "int(claims.a)",
            "uint(claims.a)",
            "double(claims.a)",
            "bool(claims.a)",
            "type(claims.a)",
            "[claims.a, 1]",
            "[claims.a] + claims.b",
            "claims",
            "captures['order']",
            "-claims.b",
            "dyn('a')",
            "claims.a.map(item, item)",
            "claims.c.map(item, item == 'a', item + item)",
            "claims.d.filter(item, item in ['a', 1])",
            "grant.scopes.map(item, [item, 'a'])[0]",
            "(claims.a ? claims.b : claims.c)",
        ]);
        prop_oneof![3 => literals, 4 => claims, 3 => names.prop_map(str::to_owned), 1 => others.prop_map(str::to_owned)]
    }

    /// Operands that are mostly strings.
    fn texts() -> impl Strategy<Value = String> {
        let known = select(vec!["'a b'", "'a'", "' b'", "''", "request.method", "'G'", "'ET'", "captures.order"]);
        prop_oneof![3 => known.prop_map(str::to_owned), 1 => operands()]
    }

    /// Macros that loop.
    fn loops() -> impl Strategy<Value = String> {
        let bodies = select(vec![
            "item == 'a'",
            "item",
            "item > 0",
            "item == 'a' || item > 0",
            "item != 'a' && item.a == 1",
            "has(item.a) && item.a == 'a'",
            "has(item.a)",
            "item['a'] == 1",
            "item in ['a', 1, true]",
            "item.startsWith(captures.order) || item == claims.b",
            "size(item) == 1",
            "item ? item : item == 'b'",
            "string(item) == '1'",
        ]);
        let shapes = select(vec![
            "all(item, BODY)",
            "exists(item, BODY)",
            "exists_one(item, BODY)",
            "map(item, BODY).exists(item, item)",
            "map(item, BODY, item) == claims.d",
            "filter(item, BODY).size() == 1",
            "filter(item, BODY).map(item, [item, item]).all(pair, pair[0] == pair[1])",
        ]);
        (select(CLAIMS.to_vec()), shapes, bodies)
            .prop_map(|(name, shape, body)| format!("claims.{name}.{}", shape.replace("BODY", body)))
    }

    fn sources() -> impl Strategy<Value = String> {
        let relations = select(vec!["==", "!=", "<", "<=", ">", ">=", "in"]);
        let functions = select(vec!["startsWith", "endsWith", "contains"]);
        let leaves = prop_oneof![
            8 => (operands(), relations, operands()).prop_map(|(left, relation, right)| format!("{left} {relation} {right}")),
            4 => (texts(), functions, texts()).prop_map(|(on, name, argument)| format!("{on}.{name}({argument})")),
            2 => (operands(), select(CLAIMS.to_vec())).prop_map(|(left, name)| format!("{left} in claims.{name}")),
            1 => select(CLAIMS.to_vec()).prop_map(|name| format!("has(claims.{name})")),
            1 => select(CLAIMS.to_vec()).prop_map(|name| format!("has(claims.{name}.a)")),
            4 => loops(),
            1 => Just("has(request.source) && !has(claims.a.b.c)".to_owned()),
            1 => (select(CLAIMS.to_vec()), operands()).prop_map(|(name, other)| format!("claims.{name}.all(x, x == {other})")),
            2 => operands(),
        ];
        leaves.prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                4 => (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) && ({right})")),
                4 => (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) || ({right})")),
                2 => inner.clone().prop_map(|inner| format!("!({inner})")),
                1 => (inner.clone(), inner.clone(), inner).prop_map(|(when, yes, no)| format!("({when}) ? ({yes}) : ({no})")),
            ]
        })
    }

    /// Claims of any kind, many of them missing.
    fn claims() -> impl Strategy<Value = Map<String, Value>> {
        let value = select(VALUES.to_vec()).prop_map(|value| serde_json::from_str(value).unwrap());
        proptest::collection::btree_map(select(CLAIMS.to_vec()).prop_map(str::to_owned), value, 0..5)
            .prop_map(|claims| claims.into_iter().collect())
    }

    fn grants() -> impl Strategy<Value = Grant> {
        let scopes = proptest::collection::vec(select(vec!["a", "GET", ""]).prop_map(str::to_owned), 0..3);
        (claims(), scopes, any::<Option<bool>>()).prop_map(|(claims, scopes, rest)| Grant {
            issuer: "https://jit.example".to_owned(),
            key_space: "".into(),
            subject: "a".to_owned(),
            client_id: Some("agent-a7".to_owned()),
            token_id: crate::token::grant::TokenId::Claim("1".to_owned()),
            task: Some("task-42".to_owned()),
            session: rest.map(|_| "a b".to_owned()),
            issued_at: Timestamp(1),
            expires_at: Timestamp(3),
            authenticated_at: rest.map(|just| Timestamp(if just { 2 } else { 0 })),
            scopes,
            details: Vec::new(),
            acr: None,
            actors: rest.map(|_| Actor { issuer: None, subject: "GET".to_owned() }).into_iter().collect(),
            device: None,
            tenant: None,
            confirmation: Default::default(),
            identifiers: Vec::new(),
            foreign_users: Vec::new(),
            groups: Vec::new(),
            carriers: Default::default(),
            claims,
            token: None,
        })
    }

    /// What the library of CEL says about `source`, by its own evaluator over plain variables.
    fn library(source: &str, evidence: &Evidence<'_>) -> Option<bool> {
        let grant = evidence.grant;
        let mut known = json!({
            "request": {
                "method": evidence.request.method.as_str(), "host": evidence.request.host.folded(),
                "path": evidence.request.path.as_str()
            },
            "context": {
                "device": evidence.device_status(), "risk": evidence.risk_level(), "state_age": evidence.state_age().0
            },
            "grant": {
                "issuer": grant.issuer, "subject": grant.subject, "client": grant.client_id, "task": grant.task,
                "session": grant.session.as_deref().unwrap_or_default(),
                "actor": grant.actors.first().map(|actor| actor.subject.as_str()).unwrap_or_default(),
                "scopes": grant.scopes, "issued_at": grant.issued_at.0, "expires_at": grant.expires_at.0
            },
            "captures": {"order": percent_decoded(evidence.captures.at(0).unwrap())},
            "claims": grant.claims,
            "now": evidence.now.0
        });
        if let Some(source) = evidence.source {
            known["request"]["source"] = source.to_string().into();
        }
        if let Some(at) = grant.authenticated_at {
            known["grant"]["auth_age"] = evidence.now.since(at).0.into();
        }
        let mut context = Context::default();
        for (name, value) in known.as_object().unwrap() {
            context.add_variable_as_val(name.as_str(), convert(value));
        }
        let expression = PrattParser::new().parse(source).unwrap();
        let value = cel::Value::resolve_val(&expression, &context).ok()?;
        value.downcast_ref::<CelBool>().map(|truth| *truth.inner())
    }

    fn percent_decoded(piece: &str) -> String {
        String::from_utf8(Decoded::new(piece).collect()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, max_local_rejects: 1 << 20, ..ProptestConfig::default() })]
        #[test]
        fn says_what_cel_says(
            condition in sources().prop_filter_map("the checker refuses it", |source| compile(&source).ok()),
            grants in proptest::collection::vec(grants(), 4),
            order in select(vec!["/a", "/a%20b", "/GET", "/1"]),
            source in select(vec!["10.1.2.3", "::1", ""]),
        ) {
            let template = Template::parse("/{order}").unwrap();
            let path = Canonical::parse(order.as_bytes()).unwrap();
            let captures = captures(&template, &path).unwrap();
            for grant in &grants {
                let evidence = Evidence {
                    grant,
                    minted: Some(&Claims::new(grant)),
                    grant_status: &GrantStatus::default(),
                    request: RequestLine { method: &Method::fold("GET"), host: Host::parse(b"orders.mesh").unwrap(), path: &path },
                    capture_names: template.names(),
                    captures,
                    source: source.parse().ok(),
                    peer: None,
                    fresh_at: Timestamp(1),
                    now: Timestamp(2),
                };
                let cel = library(condition.source(), &evidence);
                let work = Work::default();
                prop_assert_eq!(condition.predicate().holds(&evidence, &work), Ok(cel), "{}", json!(grant.claims));
                prop_assert_eq!(evaluate(condition.expression(), &evidence, &work).ok(), cel, "{}", json!(grant.claims));
                prop_assert_eq!(condition.holds(&evidence).ok(), cel);
                prop_assert_eq!(condition.fault(&evidence).is_none(), cel.is_some());
            }
        }
    }
}
