//! `when`: a condition in CEL over verified claims, pushed context and the request.
//!
//! Compiled and checked once, when the configuration is loaded: a name that does not exist, a comparison of two kinds
//! of value, an unknown function are faults of the configuration, not surprises of a request.

use crate::evidence::Evidence;
use crate::grant::Grant;
use crate::path::Decoded;
use crate::predicate::Predicate;
use crate::problem::nearest;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op};
use cel::common::traits::Indexer;
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, Value as CelValue};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A condition may have this many bytes.
const MAX_SOURCE: usize = 4096;

/// A condition may be nested this deep; evaluating it takes stack for each level.
const MAX_DEPTH: usize = 40;

/// A condition may have this many nodes.
const MAX_NODES: usize = 500;

/// A compiled condition.
pub struct Condition {
    source: String,
    expression: IdedExpr,
    predicate: Predicate,
    names_source: bool,
}

impl Condition {
    /// Compiles `source`. `captures` are the names that the path of its rule captures.
    pub fn compile(source: &str, captures: &[String]) -> Result<Condition, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("is longer than {MAX_SOURCE} bytes"));
        }
        let parser = PrattParser::new().max_expression_node_count(MAX_NODES).max_recursion_depth(48);
        let mut expression = parser.parse(source).map_err(|errors| {
            let first = errors.errors.first().map(|error| (error.pos.1, error.msg.clone()));
            let (column, message) = first.unwrap_or((1, "cannot be read".to_owned()));
            format!("is not CEL at column {column}: {}", message.trim_end_matches('.').to_lowercase())
        })?;
        let mut checker = Checker { captures, scope: Vec::new(), depth: 0, nodes: 0, looping: false, comparing: false };
        match checker.kind(&expression.expr)? {
            Kind::Bool | Kind::Dyn => {
                flatten(&mut expression.expr);
                let predicate = Predicate::new(&expression);
                let names_source = source.contains("source");
                Ok(Condition { source: source.to_owned(), expression, predicate, names_source })
            }
            other => Err(format!("gives {other}, not a truth value")),
        }
    }

    /// The condition as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it may ask for the address of the client.
    pub fn names_source(&self) -> bool {
        self.names_source
    }

    /// Whether its truth may change by the passing of time alone.
    pub fn asks_for_time(&self) -> bool {
        ["now", "auth_age", "state_age"].iter().any(|name| self.source.contains(name))
    }

    /// Whether it may depend on what signals said about a device or a risk.
    pub fn asks_for_context(&self) -> bool {
        self.source.split("context").skip(1).any(|rest| !rest.starts_with(".state_age"))
    }

    /// The claims and scopes as they are now. Where signals contradict each other about any claim, a condition that asks
    /// for claims cannot be evaluated: it could hold because of a claim that seems to be missing.
    fn claims<'e>(&self, evidence: &Evidence<'e>) -> Result<Option<&'e Claims>, String> {
        let standing = evidence.standing;
        match standing.changes.as_ref().filter(|changes| changes.touch_claims() && evidence.claims.is_some()) {
            None => Ok(evidence.claims),
            Some(changes) if changes.are_disputed() && self.source.contains("claims") => {
                Err("signals contradict each other about a claim".to_owned())
            }
            Some(changes) => Ok(Some(changes.claims(evidence.grant))),
        }
    }

    /// Whether the condition holds. An error while it is evaluated, such as a claim that is not there, is `Err`.
    pub fn holds(&self, evidence: &Evidence<'_>) -> Result<bool, String> {
        let evidence = &Evidence { claims: self.claims(evidence)?, ..*evidence };
        match self.predicate.holds(evidence) {
            Some(holds) => Ok(holds),
            // Only CEL can say what is wrong.
            None => evaluate(&self.expression, evidence),
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

/// What CEL says about `expression`.
pub(crate) fn evaluate(expression: &IdedExpr, evidence: &Evidence<'_>) -> Result<bool, String> {
    let variables = Variables { evidence };
    let mut context = Context::with_env(Arc::clone(environment()));
    context.set_variable_resolver(&variables);
    let value = CelValue::resolve_val(expression, &context).map_err(|error| error.to_string())?;
    match value.downcast_ref::<CelBool>() {
        Some(truth) => Ok(*truth.inner()),
        None => Err("the condition gives no truth value".to_owned()),
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// Turns `request.method` into one name, so that it is looked up in one step and without building `request`.
///
/// The checker has made sure that no variable of a macro hides a name of ours.
fn flatten(expression: &mut Expr) {
    match expression {
        Expr::Select(select) => {
            if let (false, Expr::Ident(root)) = (select.test, &select.operand.expr)
                && NAMES.contains(&root.as_str())
            {
                *expression = Expr::Ident(format!("{root}.{}", select.field));
            } else if !select.test {
                flatten(&mut select.operand.expr);
            }
        }
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| flatten(&mut target.expr));
            call.args.iter_mut().for_each(|argument| flatten(&mut argument.expr));
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|element| flatten(&mut element.expr)),
        Expr::Comprehension(inner) => {
            let inner = &mut **inner;
            for part in [
                &mut inner.iter_range,
                &mut inner.accu_init,
                &mut inner.loop_cond,
                &mut inner.loop_step,
                &mut inner.result,
            ] {
                flatten(&mut part.expr);
            }
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}

/// The standard library of CEL, made once for all conditions.
fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib()))
}

/// The claims and scopes of a token as CEL sees them, converted once per token.
#[derive(Debug)]
pub struct Claims {
    all: CelMap<'static>,
    scopes: CelList<'static>,
}

impl Claims {
    /// Converts those of `grant`.
    pub fn new(grant: &Grant) -> Claims {
        Claims::of(&grant.claims, grant.scopes.iter())
    }

    /// Converts these.
    pub(crate) fn of<'s>(claims: &Map<String, Value>, scopes: impl Iterator<Item = &'s String>) -> Claims {
        let scopes = scopes.map(|scope| -> Box<dyn Val> { Box::new(CelString::from(scope.clone())) });
        Claims { all: map(claims), scopes: CelList::from(scopes.collect::<Vec<_>>()) }
    }

    /// The claim `name`.
    pub(crate) fn get(&self, name: &CelMapKey<'static>) -> Option<&dyn Val> {
        self.all.inner().get(name).map(AsRef::as_ref)
    }
}

fn map(members: &Map<String, Value>) -> CelMap<'static> {
    let entries = members.iter().map(|(name, value)| (CelMapKey::from(name.clone()), convert(value)));
    CelMap::from(entries.collect::<HashMap<_, _>>())
}

fn convert(value: &Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(convert).collect::<Vec<_>>())),
        Value::Object(members) => Box::new(map(members)),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Box::new(CelInt::from(int)),
            (None, Some(uint), _) => Box::new(CelUInt::from(uint)),
            (None, None, Some(double)) => Box::new(CelDouble::from(double)),
            (None, None, None) => Box::new(CelNull),
        },
    }
}

/// What the names of a condition stand for. Nothing is built before it is asked for.
struct Variables<'e> {
    evidence: &'e Evidence<'e>,
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable.split_once('.') {
            // For `claims.address.country` CEL asks for the longest name first. No claim is meant whose name has a dot.
            Some(("claims", name)) if name.contains('.') => None,
            Some(("claims", name)) => self.evidence.claims?.all.get(&CelString::from(name)).ok(),
            Some((root, field)) => Fields::of(root, self.evidence)?.field(field).map(CowVal::from),
            None if variable == "claims" => Some(CowVal::Borrowed(&self.evidence.claims?.all)),
            None if variable == "now" => now(self.evidence).map(CowVal::from),
            None => Some(CowVal::owned(Fields::of(variable, self.evidence)?)),
        }
    }
}

/// What a name stands for, held without the heap.
pub(crate) enum Held<'e> {
    Text(CelString<'e>),
    Number(CelInt),
    Lent(&'e (dyn Val + 'e)),
}

impl<'e> Held<'e> {
    /// It, as CEL sees it.
    pub(crate) fn value(&self) -> &(dyn Val + 'e) {
        match self {
            Held::Text(text) => text,
            Held::Number(number) => number,
            Held::Lent(value) => *value,
        }
    }
}

impl<'e> From<Held<'e>> for CowVal<'e, 'e> {
    fn from(held: Held<'e>) -> CowVal<'e, 'e> {
        match held {
            Held::Text(text) => CowVal::owned(text),
            Held::Number(number) => CowVal::owned(number),
            Held::Lent(value) => CowVal::Borrowed(value),
        }
    }
}

/// Reads what a name stands for. `None` where nobody knows.
pub(crate) type Read = for<'e> fn(&Evidence<'e>) -> Option<Held<'e>>;

/// One of the names with known fields.
struct Root {
    name: &'static str,
    fields: &'static [(&'static str, Kind, Read)],
}

/// The names that stand for something.
const NAMES: [&str; 6] = ["claims", "request", "context", "grant", "captures", "now"];

const ROOTS: [Root; 4] = [
    Root {
        name: "request",
        fields: &[
            ("method", Kind::Text, |evidence| text(evidence.request.method)),
            ("host", Kind::Text, |evidence| text(evidence.request.host)),
            ("path", Kind::Text, |evidence| text(evidence.request.path)),
            ("source", Kind::Text, |evidence| Some(Held::Text(evidence.source?.to_string().into()))),
        ],
    },
    Root {
        name: "context",
        fields: &[
            ("device", Kind::Text, |evidence| text(evidence.device_word())),
            ("risk", Kind::Text, |evidence| text(evidence.risk_word())),
            ("state_age", Kind::Number, |evidence| number(evidence.state_age().0)),
        ],
    },
    Root {
        name: "grant",
        fields: &[
            ("issuer", Kind::Text, |evidence| text(&evidence.grant.issuer)),
            ("subject", Kind::Text, |evidence| text(&evidence.grant.subject)),
            ("client", Kind::Text, |evidence| text(&evidence.grant.client_id)),
            ("task", Kind::Text, |evidence| text(&evidence.grant.task)),
            ("session", Kind::Text, |evidence| text(evidence.grant.session.as_deref().unwrap_or_default())),
            ("actor", Kind::Text, |evidence| {
                text(evidence.grant.actors.first().map(|actor| actor.subject.as_str()).unwrap_or_default())
            }),
            ("scopes", Kind::List, |evidence| Some(Held::Lent(&evidence.claims?.scopes))),
            ("issued_at", Kind::Number, |evidence| number(evidence.grant.issued_at.0)),
            ("expires_at", Kind::Number, |evidence| number(evidence.grant.expires_at.0)),
            ("auth_age", Kind::Number, |evidence| number(evidence.now.since(evidence.grant.authenticated_at?).0)),
        ],
    },
    Root { name: "captures", fields: &[] },
];

/// The names with known fields, for documentation: name, field, and the kind of value in words.
pub fn vocabulary() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    ROOTS.iter().flat_map(|root| root.fields.iter().map(|(field, kind, _)| (root.name, *field, kind.to_string())))
}

/// What reads `name`, such as `request.method`, where it is one of a fixed set.
pub(crate) fn reader(name: &str) -> Option<Read> {
    match name.split_once('.') {
        Some((root, field)) => ROOTS.iter().find(|known| known.name == root)?.reader(field),
        None if name == "now" => Some(now),
        None => None,
    }
}

/// What the path captured as `name`.
pub(crate) fn capture<'e>(name: &str, evidence: &Evidence<'e>) -> Option<Held<'e>> {
    let at = evidence.capture_names.iter().position(|have| have == name)?;
    let piece = evidence.captures.at(at)?;
    if !piece.contains('%') {
        return text(piece);
    }
    String::from_utf8(Decoded::new(piece).collect()).ok().map(|decoded| Held::Text(decoded.into()))
}

fn now<'e>(evidence: &Evidence<'e>) -> Option<Held<'e>> {
    number(evidence.now.0)
}

fn number<'e>(number: u64) -> Option<Held<'e>> {
    Some(Held::Number(i64::try_from(number).unwrap_or(i64::MAX).into()))
}

fn text(text: &str) -> Option<Held<'_>> {
    Some(Held::Text(text.into()))
}

impl Root {
    fn reader(&self, field: &str) -> Option<Read> {
        self.fields.iter().find(|(name, ..)| *name == field).map(|(_, _, read)| *read)
    }
}

/// The fields of a [`Root`], read from the evidence one by one.
#[derive(Clone, Copy)]
struct Fields<'e> {
    root: &'static Root,
    evidence: &'e Evidence<'e>,
}

impl<'e> Fields<'e> {
    fn of(root: &str, evidence: &'e Evidence<'e>) -> Option<Fields<'e>> {
        let root = ROOTS.iter().find(|known| known.name == root)?;
        Some(Fields { root, evidence })
    }

    fn field(&self, name: &str) -> Option<Held<'e>> {
        match self.root.name {
            "captures" => capture(name, self.evidence),
            _ => self.root.reader(name)?(self.evidence),
        }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root.name)
    }
}

impl Val for Fields<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Indexer for Fields<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.look_up(index).map(CowVal::from)
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.look_up(index).map(|held| CowVal::from(held).into_owned())
    }
}

impl<'e> Fields<'e> {
    fn look_up(&self, index: &dyn Val) -> Result<Held<'e>, ExecutionError> {
        let name = index.downcast_ref::<CelString>().map(CelString::inner).unwrap_or_default();
        self.field(name).ok_or_else(|| ExecutionError::no_such_key(name))
    }
}

/// What is known about the value of an expression before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    Text,
    List,
    Map,
    Other,
    /// Known only when it is there: claims.
    Dyn,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bool => "a truth value",
            Kind::Number => "a number",
            Kind::Text => "a string",
            Kind::List => "a list",
            Kind::Map => "a map",
            Kind::Other => "a value of another kind",
            Kind::Dyn => "any value",
        })
    }
}

struct Checker<'c> {
    captures: &'c [String],
    /// Variables of the macros around the expression at hand.
    scope: Vec<String>,
    /// How many expressions are around the one at hand.
    depth: usize,
    /// How many expressions have been seen.
    nodes: usize,
    /// Whether this is the body of a loop, which runs once for each item of a claim.
    looping: bool,
    /// Whether the expression at hand is compared with another.
    comparing: bool,
}

/// Functions of the standard library: name, whether it is called on a value, what it gives.
const FUNCTIONS: [(&str, bool, Kind); 12] = [
    ("startsWith", true, Kind::Bool),
    ("endsWith", true, Kind::Bool),
    ("contains", true, Kind::Bool),
    ("size", true, Kind::Number),
    ("size", false, Kind::Number),
    ("int", false, Kind::Number),
    ("uint", false, Kind::Number),
    ("double", false, Kind::Number),
    ("string", false, Kind::Text),
    ("bool", false, Kind::Bool),
    ("dyn", false, Kind::Dyn),
    ("type", false, Kind::Other),
];

impl Checker<'_> {
    fn kind(&mut self, expression: &Expr) -> Result<Kind, String> {
        self.nodes = self.nodes.saturating_add(1);
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep"));
        }
        if self.nodes > MAX_NODES {
            return Err(format!("has more than {MAX_NODES} parts"));
        }
        let kind = self.kind_here(expression);
        self.depth = self.depth.saturating_sub(1);
        kind
    }

    fn kind_here(&mut self, expression: &Expr) -> Result<Kind, String> {
        match expression {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Kind::Bool,
                LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Kind::Number,
                LiteralValue::String(_) => Kind::Text,
                LiteralValue::Bytes(_) => Kind::Other,
                LiteralValue::Null => Kind::Dyn,
            }),
            Expr::Ident(name) => self.identifier(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                for element in &list.elements {
                    self.kind(&element.expr)?;
                }
                Ok(Kind::List)
            }
            Expr::Comprehension(macro_call) => {
                if self.looping {
                    return Err("has a loop inside a loop, which takes time by the square of a claim's size".to_owned());
                }
                self.kind(&macro_call.iter_range.expr)?;
                let variables = std::iter::once(&macro_call.iter_var).chain(&macro_call.iter_var2);
                if let Some(hidden) = variables.into_iter().find(|name| NAMES.contains(&name.as_str())) {
                    return Err(format!("calls a variable `{hidden}`, which has a meaning of its own"));
                }
                self.looping = true;
                let before = self.scope.len();
                self.scope.push(macro_call.iter_var.clone());
                self.scope.extend(macro_call.iter_var2.clone());
                self.scope.push(macro_call.accu_var.clone());
                for part in [&macro_call.accu_init, &macro_call.loop_cond, &macro_call.loop_step] {
                    self.kind(&part.expr)?;
                }
                let result = self.kind(&macro_call.result.expr);
                self.scope.truncate(before);
                self.looping = false;
                result
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err("builds a map or a message, for which there is no use here".to_owned())
            }
        }
    }

    fn identifier(&self, name: &str) -> Result<Kind, String> {
        if self.scope.iter().any(|have| have == name) {
            return Ok(Kind::Dyn);
        }
        if name == "claims" {
            return match self.looping && !self.comparing {
                true => Err("may only compare with claims inside a loop, which is as long as a claim is".to_owned()),
                false => Ok(Kind::Dyn),
            };
        }
        if name == "now" {
            return Ok(Kind::Number);
        }
        if ROOTS.iter().any(|root| root.name == name) {
            return Ok(Kind::Map);
        }
        Err(unknown("name", name, NAMES))
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Kind, String> {
        let kind = match &select.operand.expr {
            Expr::Ident(name) if !self.scope.contains(name) && name != "claims" => {
                self.identifier(name)?;
                let Some(root) = ROOTS.iter().find(|root| root.name == name) else {
                    return Err(format!("`{name}` has no field `{}`", select.field));
                };
                self.field(root, &select.field)?
            }
            operand => match self.kind(operand)? {
                Kind::Dyn | Kind::Map => Kind::Dyn,
                other => return Err(format!("`.{}` is asked of {other}", select.field)),
            },
        };
        Ok(if select.test { Kind::Bool } else { kind })
    }

    fn field(&self, root: &Root, name: &str) -> Result<Kind, String> {
        if root.name == "captures" {
            let known = self.captures.iter().map(String::as_str);
            return match self.captures.iter().any(|have| have == name) {
                true => Ok(Kind::Text),
                false => Err(unknown("capture", name, known)),
            };
        }
        let field = root.fields.iter().find(|(have, ..)| *have == name).map(|(_, kind, _)| *kind);
        field.ok_or_else(|| {
            unknown(&format!("field of `{}`", root.name), name, root.fields.iter().map(|(name, ..)| *name))
        })
    }

    fn call(&mut self, call: &CallExpr) -> Result<Kind, String> {
        let compares = [op::EQUALS, op::NOT_EQUALS, op::LESS, op::LESS_EQUALS, op::GREATER, op::GREATER_EQUALS];
        let around = std::mem::replace(&mut self.comparing, compares.contains(&call.func_name.as_str()));
        let kind = self.call_here(call);
        self.comparing = around;
        kind
    }

    fn call_here(&mut self, call: &CallExpr) -> Result<Kind, String> {
        let target = match &call.target {
            Some(target) => Some(self.kind(&target.expr)?),
            None => None,
        };
        let mut kinds = Vec::new();
        for argument in &call.args {
            kinds.push(self.kind(&argument.expr)?);
        }
        let all = |wanted: Kind| kinds.iter().copied().find(|kind| *kind != Kind::Dyn && *kind != wanted);
        match (call.func_name.as_str(), kinds.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, _) => match all(Kind::Bool) {
                Some(other) => Err(format!("`&&`, `||` and `!` take truth values, not {other}")),
                None => Ok(Kind::Bool),
            },
            (
                op::EQUALS | op::NOT_EQUALS | op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS,
                [left, right],
            ) => match left == right || *left == Kind::Dyn || *right == Kind::Dyn {
                true => Ok(Kind::Bool),
                false => Err(format!("compares {left} with {right}")),
            },
            (op::IN, [_, container]) => match container {
                Kind::List | Kind::Map | Kind::Dyn => Ok(Kind::Bool),
                other => Err(format!("`in` looks into {other}")),
            },
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [left, right]) => match (left, right) {
                (Kind::Dyn, other) | (other, Kind::Dyn) => Ok(*other),
                (left, right) if left == right => Ok(*left),
                (left, right) => Err(format!("calculates with {left} and {right}")),
            },
            (op::NEGATE, _) => match all(Kind::Number) {
                Some(other) => Err(format!("`-` takes a number, not {other}")),
                None => Ok(Kind::Number),
            },
            (op::CONDITIONAL, [condition, yes, no]) => match (condition, yes == no) {
                (Kind::Bool | Kind::Dyn, true) => Ok(*yes),
                (Kind::Bool | Kind::Dyn, false) => Ok(Kind::Dyn),
                (other, _) => Err(format!("`?:` asks for a truth value, not {other}")),
            },
            (op::INDEX, [Kind::List | Kind::Map | Kind::Dyn, _]) => Ok(Kind::Dyn),
            (op::INDEX, [other, _]) => Err(format!("`[]` is asked of {other}")),
            (name, _) => {
                let found = FUNCTIONS.iter().find(|(have, member, _)| *have == name && *member == target.is_some());
                match found {
                    Some((_, _, kind)) => Ok(*kind),
                    None => Err(unknown("function", name, FUNCTIONS.iter().map(|(name, ..)| *name))),
                }
            }
        }
    }
}

fn unknown<'k>(what: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("names the unknown {what} `{name}`; did you mean `{near}`?"),
        None => format!("names the unknown {what} `{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::RequestLine;
    use crate::fixture::{self, NOW, token_with};
    use crate::path::Canonical;
    use crate::routes::captures;
    use crate::signature::PureRust;
    use crate::standing::Standing;
    use crate::template::Template;
    use serde_json::json;

    fn compile(source: &str) -> Result<Condition, String> {
        Condition::compile(source, &["order".to_owned()])
    }

    fn holds(source: &str) -> Result<bool, String> {
        let token = token_with(
            json!({}),
            json!({"groups": ["ops", "dev"], "team": "dev", "level": 3, "address": {"country": "CH"}, "address.country": "XX"}),
        );
        let verified = crate::token::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        let template = Template::parse("/orders/{order}").unwrap();
        let path = Canonical::parse(b"/orders/a%20b").unwrap();
        let captures = captures(&template, &path).unwrap();
        let evidence = Evidence {
            grant: verified.grant(),
            claims: Some(&Claims::new(verified.grant())),
            standing: &Standing { device: Some(crate::fact::Compliance::Compliant), ..Standing::default() },
            request: RequestLine { method: "GET", host: "orders.mesh", path: path.as_str() },
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
            ("grant.auth_age && true", "`&&`, `||` and `!` take truth values, not a number"),
            ("request.method", "gives a string, not a truth value"),
            ("'x' in request.method", "`in` looks into a string"),
            ("now.x == 1", "`now` has no field `x`"),
            (
                "claims.a.all(a, claims.a.all(b, a == b))",
                "has a loop inside a loop, which takes time by the square of a claim's size",
            ),
            (
                "claims.a.all(a, a in claims.a)",
                "may only compare with claims inside a loop, which is as long as a claim is",
            ),
            (
                "size(claims.a.map(a, claims.a)) > 0",
                "may only compare with claims inside a loop, which is as long as a claim is",
            ),
            ("claims.groups.exists(request, true)", "calls a variable `request`, which has a meaning of its own"),
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
