//! `when`: a condition in CEL over verified claims, pushed context and the request.
//!
//! A condition is compiled and checked when the configuration is loaded. Unknown names and functions, comparisons of
//! different kinds of values, and work that grows with the square of the size of a token are errors of the
//! configuration. The evaluation for a request has a budget.

pub(crate) mod checker;
pub(crate) mod conversion;
pub(crate) mod evaluation;
pub(crate) mod loops;
pub(crate) mod names;
pub(crate) mod relation;
pub(crate) mod spelling;
pub(crate) mod work;

use crate::rules::condition_fast_path::Predicate;
use crate::rules::evidence::Evidence;
use cel::common::ast::IdedExpr;
use cel::parser::PrattParser;
use checker::{Checker, MAX_NODES};
use evaluation::flatten;
use names::Kind;
use std::fmt;

pub(crate) use evaluation::evaluate;
pub use names::vocabulary;
pub(crate) use work::{Exhausted, Work};

/// The maximum length of a condition in bytes.
const MAX_SOURCE: usize = 4096;

/// A compiled condition.
pub struct Condition {
    source: String,
    expression: IdedExpr,
    predicate: Predicate,
    names_source: bool,
}

/// Why a condition is neither `true` nor `false`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Signals conflict about a claim, and the condition reads claims: it could hold only because that claim is treated
    /// as missing.
    #[error("signals contradict each other about a claim")]
    Disputed,
    /// The budget was not enough for claims of this size.
    #[error("the condition takes too much work with claims of this size")]
    TooMuchWork,
    /// A claim is missing, or a value is of another kind. [`Condition::fault`] gives the details.
    #[error("the condition gives no boolean")]
    NoTruth,
}

impl Condition {
    /// Compiles `source`. `captures` are the names of the captures of its rule's path. The error is a message
    /// whose subject is the condition.
    pub(crate) fn compile(source: &str, captures: &[String]) -> Result<Condition, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("is longer than {MAX_SOURCE} bytes"));
        }
        let parser = PrattParser::new().max_expression_node_count(MAX_NODES).max_recursion_depth(48);
        let mut expression = parser.parse(source).map_err(|errors| {
            let first = errors.errors.first().map(|error| (error.pos.1, error.msg.clone()));
            let (column, message) = first.unwrap_or((1, "cannot be read".to_owned()));
            format!("is not CEL at column {column}: {}", message.trim_end_matches('.').to_lowercase())
        })?;
        match Checker::new(captures).kind(&expression.expr)? {
            Kind::Bool | Kind::Dyn => {
                flatten(&mut expression.expr);
                let predicate = Predicate::new(&expression);
                let names_source = source.contains("source");
                Ok(Condition { source: source.to_owned(), expression, predicate, names_source })
            }
            other => Err(format!("gives {other}, and must give a boolean")),
        }
    }

    /// The text of the condition.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it may read the address of the client.
    pub(crate) fn names_source(&self) -> bool {
        self.names_source
    }

    /// Whether its result may change only because time passes.
    pub(crate) fn asks_for_time(&self) -> bool {
        ["now", "auth_age", "state_age"].iter().any(|name| self.source.contains(name))
    }

    /// Whether it may depend on facts about a device or a risk.
    pub(crate) fn asks_for_context(&self) -> bool {
        self.source.split("context").skip(1).any(|rest| !rest.starts_with(".state_age"))
    }

    /// Whether the condition holds.
    pub fn holds(&self, evidence: &Evidence<'_>) -> Result<bool, ConditionError> {
        if evidence.claims_are_disputed() && self.source.contains("claims") {
            return Err(ConditionError::Disputed);
        }
        let work = Work::default();
        match self.predicate.holds(evidence, &work) {
            // In `error || true` the second part decides, but not if the first part exhausted the budget.
            _ if work.is_exhausted() => Err(ConditionError::TooMuchWork),
            Ok(Some(holds)) => Ok(holds),
            Ok(None) | Err(Exhausted) => Err(ConditionError::NoTruth),
        }
    }

    /// Why [`Condition::holds`] fails, as a message for a person; `None` if it does not fail.
    pub fn fault(&self, evidence: &Evidence<'_>) -> Option<String> {
        match self.holds(evidence) {
            Ok(_) => None,
            Err(ConditionError::NoTruth) => {
                let fault = evaluate(&self.expression, evidence, &Work::default()).err();
                Some(fault.map_or_else(|| ConditionError::NoTruth.to_string(), |fault| fault.to_string()))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    #[cfg(test)]
    pub(crate) fn expression(&self) -> &IdedExpr {
        &self.expression
    }

    #[cfg(test)]
    pub(crate) fn predicate(&self) -> &Predicate {
        &self.predicate
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::host::Host;
    use crate::http::method::Method;
    use crate::http::path::Canonical;
    use crate::http::path_template::Template;
    use crate::jose::signature::PureRust;
    use crate::rules::cel_claims::Claims;
    use crate::rules::evidence::RequestLine;
    use crate::rules::grant_status::GrantStatus;
    use crate::rules::routes::captures;
    use crate::testing::fixture::{self, NOW, token_with};
    use serde_json::json;

    fn compile(source: &str) -> Result<Condition, String> {
        Condition::compile(source, &["order".to_owned()])
    }

    fn holds(source: &str) -> Result<bool, ConditionError> {
        let token = token_with(
            json!({}),
            json!({"groups": ["ops", "dev"], "team": "dev", "level": 3, "address": {"country": "CH"}, "address.country": "XX"}),
        );
        let verified =
            crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        let template = Template::parse("/orders/{order}").unwrap();
        let path = Canonical::parse(b"/orders/a%20b").unwrap();
        let captures = captures(&template, &path).unwrap();
        let evidence = Evidence {
            grant: verified.grant(),
            minted: Some(&Claims::new(verified.grant())),
            grant_status: &GrantStatus {
                device: Some(crate::state::fact::Compliance::Compliant),
                ..GrantStatus::default()
            },
            request: RequestLine {
                method: &Method::fold("get"),
                host: Host::parse(b"Orders.Mesh:80").unwrap(),
                path: &path,
            },
            capture_names: template.names(),
            captures,
            source: "10.1.2.3".parse().ok(),
            peer: None,
            fresh_at: NOW,
            now: NOW,
        };
        compile(source).expect(source).holds(&evidence)
    }

    #[test]
    fn what_may_ask_about_a_device_or_a_risk_is_known() {
        for (source, asks) in [
            ("context.device == 'compliant'", true),
            ("context.state_age < 5 && context.risk != 'HIGH'", true),
            ("context['device'] == 'compliant'", true),
            ("context.state_age < 5", false),
            ("claims.level >= 3", false),
        ] {
            assert_eq!(compile(source).unwrap().asks_for_context(), asks, "{source}");
        }
    }

    #[test]
    fn every_name_has_its_value() {
        for source in [
            "claims.sub == 'alice' && claims['sub'] == grant.subject",
            "request.method == 'GET' && request.host == 'orders.mesh' && request.path == '/orders/a%20b'",
            "request.source.startsWith('10.')",
            "context.device == 'compliant' && context.risk == 'UNKNOWN' && context.state_age == 0",
            "grant.issuer == 'https://jit.example' && grant.client == 'agent-a7' && grant.task == 'task-42'",
            "grant.session == 'sess-9' && grant.actor == ''",
            "'orders.read' in grant.scopes && size(grant.scopes) == 2",
            "grant.issued_at < now && now < grant.expires_at && grant.auth_age == 200",
            "captures.order == 'a b'",
            "claims.groups.exists(group, group == claims.team) && 'ops' in claims.groups",
            "claims.groups.exists(group, group == 'ops') && claims.groups.all(g, g.size() == 3)",
            "claims.level >= 3 && claims.address.country == 'CH' && has(claims.address.country)",
            "!has(claims.absent) && !has(claims.address.city)",
            "claims.level > 2 ? true : false",
        ] {
            assert_eq!(holds(source), Ok(true), "{source}");
        }
        assert_eq!(holds("claims.sub == 'bob'"), Ok(false));
    }

    #[test]
    fn what_cannot_be_evaluated_is_an_error() {
        for source in ["claims.absent == 1", "claims.sub", "claims.level + 'x' == 'y'", "claims.groups[7] == 'x'"] {
            assert!(holds(source).is_err(), "{source}");
        }
    }

    #[test]
    fn faults_are_found_when_it_is_compiled() {
        for (source, message) in [
            ("clams.sub == 'x'", "names the unknown name `clams`; did you mean `claims`?"),
            ("request.methd == 'x'", "names the unknown field of `request` `methd`; did you mean `method`?"),
            ("captures.ordr == 'x'", "names the unknown capture `ordr`; did you mean `order`?"),
            ("request.method.startWith('x')", "names the unknown function `startWith`; did you mean `startsWith`?"),
            ("request.method == 1", "compares a string with a number"),
            ("grant.auth_age && true", "uses `&&`, `||` or `!` on a number: they take booleans"),
            ("request.method", "gives a string, and must give a boolean"),
            ("'x' in request.method", "uses `in` with a string on the right: it takes a list or a map"),
            ("now.x == 1", "`now` has no field `x`"),
            (
                "claims.a.all(a, claims.a.all(b, a == b))",
                "has a loop inside the loop over `a`, which takes time by the square of a claim's size: loop once, or \
                 compare with constants",
            ),
            (
                "claims.a.all(a, a in claims.b)",
                "goes through `claims.b` with `in` for each item of a loop, which takes time by the square of a token's \
                 size: inside the loop, compare `claims.b` with `a`, or take it out of the loop",
            ),
            (
                "claims.groups.exists(request, true)",
                "names a loop variable `request`, which is a reserved name: choose another name",
            ),
        ] {
            assert_eq!(compile(source).err().as_deref(), Some(message), "{source}");
        }
        for deep in [
            format!("claims{} == 1", "[0]".repeat(1300)),
            format!("claims{} == 1", ".a".repeat(1300)),
            format!("true{}", " && true".repeat(480)),
            format!("true{}", " ? true : true".repeat(200)),
            format!("1{} == 1", "+1".repeat(1500)),
        ] {
            assert!(compile(&deep).is_err(), "{deep}");
        }
        assert!(compile(&format!("true{}", " && claims.a == 1".repeat(30))).is_ok());
        assert!(compile("claims.sub ==").unwrap_err().starts_with("is not CEL at column "));
        assert!(compile(&"(".repeat(1000)).is_err());
        assert!(compile(&"x".repeat(MAX_SOURCE + 1)).is_err());
    }
}
