//! Checks a condition when it is compiled: the kinds of its values, and whether a loop reads values that clients and
//! issuers can make long.

use super::evaluation::indexed;
use super::loops::Loop;
use super::names::{Field, Kind, NAMES, ROOTS, Root};
use super::spelling;
use crate::encoding::nearest::nearest;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, operators as op};

/// The maximum depth of nesting. The evaluation uses stack for each level.
const MAX_DEPTH: usize = 40;

/// The maximum number of nodes of a condition.
pub(super) const MAX_NODES: usize = 500;

/// Checks one condition.
pub(super) struct Checker<'c> {
    captures: &'c [String],
    /// The variable of the loop whose body is being checked.
    variable: Option<String>,
    /// The nesting depth of the current expression.
    depth: usize,
    /// The number of expressions checked so far.
    nodes: usize,
}

/// What is known about an expression.
#[derive(Debug, Clone)]
struct Found {
    kind: Kind,
    /// The name of its value if that can be as long as a token or a path, and is the same for each item of a loop.
    long: Option<String>,
}

impl Found {
    fn short(kind: Kind) -> Found {
        Found { kind, long: None }
    }
}

/// Functions of the standard library: name, whether it is called on a value, kind of its result.
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

impl<'c> Checker<'c> {
    /// A checker for a condition of a rule whose path has these captures.
    pub(super) fn new(captures: &'c [String]) -> Checker<'c> {
        Checker { captures, variable: None, depth: 0, nodes: 0 }
    }

    /// The kind of value of `expression`, or an error message.
    pub(super) fn kind(&mut self, expression: &Expr) -> Result<Kind, String> {
        self.find(expression).map(|found| found.kind)
    }

    fn find(&mut self, expression: &Expr) -> Result<Found, String> {
        self.nodes = self.nodes.saturating_add(1);
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} levels deep"));
        }
        if self.nodes > MAX_NODES {
            return Err(format!("has more than {MAX_NODES} parts"));
        }
        let found = self.find_here(expression);
        self.depth = self.depth.saturating_sub(1);
        found
    }

    fn find_here(&mut self, expression: &Expr) -> Result<Found, String> {
        match expression {
            Expr::Literal(literal) => Ok(Found::short(match literal {
                LiteralValue::Boolean(_) => Kind::Bool,
                LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Kind::Number,
                LiteralValue::String(_) => Kind::Text,
                LiteralValue::Bytes(_) => Kind::Other,
                LiteralValue::Null => Kind::Dyn,
            })),
            Expr::Ident(name) => self.identifier(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                for element in &list.elements {
                    let element = self.find(&element.expr)?;
                    self.copies("a list", &element)?;
                }
                Ok(Found::short(Kind::List))
            }
            Expr::Comprehension(written) => {
                let over = Loop::of(written).ok_or("uses an unsupported macro")?;
                self.repeat(&over).map(Found::short)
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err("builds a map or a message, which conditions do not support".to_owned())
            }
        }
    }

    fn repeat(&mut self, over: &Loop<'_>) -> Result<Kind, String> {
        if let Some(variable) = &self.variable {
            return Err(format!(
                "has a loop inside the loop over `{variable}`, which takes time by the square of a claim's size: loop \
                 once, or compare with constants"
            ));
        }
        self.find(&over.range.expr)?;
        if NAMES.contains(&over.variable) {
            return Err(format!(
                "names a loop variable `{}`, which is a reserved name: choose another name",
                over.variable
            ));
        }
        self.variable = Some(over.variable.to_owned());
        let outcome = self.body(over);
        self.variable = None;
        outcome
    }

    fn body(&mut self, over: &Loop<'_>) -> Result<Kind, String> {
        if let Some(test) = over.test() {
            match self.find(&test.expr)?.kind {
                Kind::Bool | Kind::Dyn => {}
                other => return Err(format!("has a loop whose body gives {other}, not a boolean")),
            }
        }
        let Some(elements) = over.elements() else { return Ok(Kind::Bool) };
        for element in elements {
            let element = self.find(&element.expr)?;
            self.copies("a list", &element)?;
        }
        Ok(Kind::List)
    }

    /// Refuses an operation that reads all of a long value for each item of a loop.
    fn copies(&self, operation: &str, found: &Found) -> Result<(), String> {
        match (&self.variable, &found.long) {
            (Some(variable), Some(long)) => Err(format!(
                "goes through `{long}` with {operation} for each item of a loop, which takes time by the square of a \
                 token's size: inside the loop, compare `{long}` with `{variable}`, or take it out of the loop"
            )),
            _ => Ok(()),
        }
    }

    fn identifier(&self, name: &str) -> Result<Found, String> {
        if self.variable.as_deref() == Some(name) {
            return Ok(Found::short(Kind::Dyn));
        }
        match name {
            "claims" => Ok(Found { kind: Kind::Dyn, long: Some(name.to_owned()) }),
            "now" => Ok(Found::short(Kind::Number)),
            _ if ROOTS.iter().any(|root| root.name == name) => {
                Err(format!("uses `{name}` as a whole: name one field, such as `{name}.{}`", self.example(name)))
            }
            _ => Err(unknown("name", name, NAMES)),
        }
    }

    /// A field of the root with that name, for an error message.
    fn example(&self, root: &str) -> &str {
        let fields = ROOTS.iter().find(|known| known.name == root).map(|root| root.fields).unwrap_or_default();
        let first = fields.first().map(|field| field.name);
        first.or_else(|| self.captures.first().map(String::as_str)).unwrap_or("NAME")
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Found, String> {
        let found = match &select.operand.expr {
            Expr::Ident(name) if self.variable.as_ref() != Some(name) && name == "now" => {
                return Err(format!("`{name}` has no field `{}`", select.field));
            }
            Expr::Ident(name) if let Some(root) = ROOTS.iter().find(|root| root.name == name) => {
                self.field(root, &select.field)?
            }
            operand => {
                let operand = self.find(operand)?;
                let long = operand.long.map(|long| format!("{long}.{}", select.field));
                match operand.kind {
                    Kind::Dyn => Found { kind: Kind::Dyn, long },
                    other => {
                        return Err(format!("reads the member `.{}` of {other}, which has no members", select.field));
                    }
                }
            }
        };
        Ok(if select.test { Found::short(Kind::Bool) } else { found })
    }

    fn field(&self, root: &Root, name: &str) -> Result<Found, String> {
        let long = || Some(format!("{}.{name}", root.name));
        if root.name == "captures" {
            return match self.captures.iter().any(|have| have == name) {
                true => Ok(Found { kind: Kind::Text, long: long() }),
                false => Err(unknown("capture", name, self.captures.iter().map(String::as_str))),
            };
        }
        let known = |field: &&Field| field.name == name;
        match root.fields.iter().find(known) {
            Some(field) => Ok(Found { kind: field.kind, long: long().filter(|_| field.is_long) }),
            None => {
                let names = root.fields.iter().map(|field| field.name);
                Err(unknown(&format!("field of `{}`", root.name), name, names))
            }
        }
    }

    fn call(&mut self, call: &CallExpr) -> Result<Found, String> {
        if let Some((root, field)) = indexed(call)
            && let Some(root) = ROOTS.iter().find(|known| known.name == root)
        {
            return self.field(root, field);
        }
        spelling::check(call)?;
        let target = match &call.target {
            Some(target) => Some(self.find(&target.expr)?),
            None => None,
        };
        let arguments = call.args.iter().map(|argument| self.find(&argument.expr)).collect::<Result<Vec<_>, _>>()?;
        self.goes_through(call, target.as_ref(), &arguments)?;
        let long = match call.func_name.as_str() {
            op::INDEX => arguments.first().and_then(|of| of.long.clone()).map(|long| format!("{long}[...]")),
            op::CONDITIONAL => arguments.iter().skip(1).find_map(|side| side.long.clone()),
            "dyn" => arguments.first().and_then(|of| of.long.clone()),
            _ => None,
        };
        let kinds: Vec<Kind> = arguments.iter().map(|argument| argument.kind).collect();
        Ok(Found { kind: result(call, target.is_some(), &kinds)?, long })
    }

    /// Refuses a call that would read a long value for each item of a loop. A comparison reads as much as its shorter
    /// side, so it is refused only if both sides are long.
    fn goes_through(&self, call: &CallExpr, target: Option<&Found>, arguments: &[Found]) -> Result<(), String> {
        let operation = operation(&call.func_name);
        match (call.func_name.as_str(), target, arguments) {
            (
                op::EQUALS | op::NOT_EQUALS | op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS,
                None,
                [left, right],
            )
            | ("startsWith" | "endsWith", Some(left), [right]) => match left.long.is_some() {
                true => self.copies(&operation, right),
                false => Ok(()),
            },
            ("contains", Some(whole), [_]) => self.copies(&operation, whole),
            (op::IN, None, [_, container]) => self.copies(&operation, container),
            (op::INDEX, None, [_, index]) => self.copies(&operation, index),
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::CONDITIONAL | "dyn", ..) => Ok(()),
            _ => target.into_iter().chain(arguments).try_for_each(|of| self.copies(&operation, of)),
        }
    }
}

/// An operation as it is written in a condition.
fn operation(name: &str) -> String {
    format!("`{}`", name.replace(['_', '@'], ""))
}

/// The kind of the result of a call with arguments of `kinds`.
fn result(call: &CallExpr, member: bool, kinds: &[Kind]) -> Result<Kind, String> {
    let all = |wanted: Kind| kinds.iter().copied().find(|kind| *kind != Kind::Dyn && *kind != wanted);
    match (call.func_name.as_str(), kinds) {
        (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, _) => match all(Kind::Bool) {
            Some(other) => Err(format!("uses `&&`, `||` or `!` on {other}: they take booleans")),
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
            Kind::List | Kind::Dyn => Ok(Kind::Bool),
            other => Err(format!("uses `in` with {other} on the right: it takes a list or a map")),
        },
        (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [left, right]) => match (left, right) {
            (Kind::Dyn, other) | (other, Kind::Dyn) => Ok(*other),
            (left, right) if left == right => Ok(*left),
            (left, right) => Err(format!("calculates with {left} and {right}")),
        },
        (op::NEGATE, _) => match all(Kind::Number) {
            Some(other) => Err(format!("uses `-` on {other}: it takes a number")),
            None => Ok(Kind::Number),
        },
        (op::CONDITIONAL, [condition, yes, no]) => match (condition, yes == no) {
            (Kind::Bool | Kind::Dyn, true) => Ok(*yes),
            (Kind::Bool | Kind::Dyn, false) => Ok(Kind::Dyn),
            (other, _) => Err(format!("uses `?:` on {other}: it takes a boolean")),
        },
        (op::INDEX, [Kind::List | Kind::Dyn, _]) => Ok(Kind::Dyn),
        (op::INDEX, [other, _]) => Err(format!("uses `[]` on {other}: it takes a list or a map")),
        (name, _) => {
            let found = FUNCTIONS.iter().find(|(have, on_value, _)| *have == name && *on_value == member);
            match found {
                Some((_, _, kind)) => Ok(*kind),
                None => Err(unknown("function", name, FUNCTIONS.iter().map(|(name, ..)| *name))),
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
    use crate::rules::condition::Condition;

    fn fault(source: &str) -> Option<String> {
        Condition::compile(source, &["order".to_owned()]).err()
    }

    #[test]
    fn a_loop_goes_through_nothing_long_for_each_item() {
        for (source, named) in [
            ("claims.a.all(a, a in claims.b)", "`claims.b`"),
            ("claims.a.all(a, a in claims.b.c)", "`claims.b.c`"),
            ("claims.a.all(a, a in claims['b'])", "`claims[...]`"),
            ("claims.a.all(a, a in grant.scopes)", "`grant.scopes`"),
            ("grant.scopes.all(a, size(grant.scopes) > 0)", "`grant.scopes`"),
            ("claims.a.all(a, claims.b == claims.c)", "`claims.c`"),
            ("claims.a.all(a, claims == claims)", "`claims`"),
            ("claims.a.all(a, captures.order == request.path)", "`request.path`"),
            ("claims.a.all(a, claims.b.contains(a))", "`claims.b`"),
            ("claims.a.all(a, captures.order.contains('x'))", "`captures.order`"),
            ("claims.a.all(a, request.path.contains(a))", "`request.path`"),
            ("claims.a.all(a, size(request.path) > 1)", "`request.path`"),
            ("claims.a.all(a, request.path.size() > 1)", "`request.path`"),
            ("claims.a.all(a, claims.b + a == 'x')", "`claims.b`"),
            ("claims.a.all(a, (a == 'x' ? claims.b : claims.c) + a == 'x')", "`claims.b`"),
            ("claims.a.all(a, string(claims.b) == a)", "`claims.b`"),
            ("claims.a.all(a, dyn(claims.b) + a == a)", "`claims.b`"),
            ("claims.a.all(a, a[claims.b])", "`claims.b`"),
            ("claims.a.exists_one(a, [claims.b] == a)", "`claims.b`"),
            ("size(claims.a.map(a, claims)) > 0", "`claims`"),
            ("size(claims.a.map(a, a == 1, claims.b)) > 0", "`claims.b`"),
            ("size(claims.a.filter(a, a in captures.order)) > 0", "`captures.order`"),
        ] {
            let fault = fault(source).unwrap_or_else(|| panic!("{source} compiles"));
            assert!(fault.contains("for each item of a loop") || fault.contains("looks into"), "{source}: {fault}");
            assert!(fault.contains(named) || fault.contains("looks into"), "{source}: {fault}");
        }
        for source in [
            "claims.a.all(a, claims.b.all(b, a == b))",
            "grant.scopes.all(a, grant.scopes.all(b, a == b))",
            "['x'].all(a, claims.a.map(b, b) == a)",
        ] {
            assert!(fault(source).unwrap().starts_with("has a loop inside the loop over `a`"), "{source}");
        }
        for source in [
            "claims.groups.exists(group, group == claims.team && group != captures.order)",
            "claims.groups.exists(g, g in ['a', 'b'] || g.startsWith(claims.prefix) || claims.name.endsWith(g))",
            "claims.orders.exists(order, order.id == captures.order && order.contains(captures.order))",
            "claims.orders.exists(order, has(claims.a) && claims.a && claims.role in order.roles)",
            "claims.a.map(a, a.b).filter(b, b == request.method).all(b, size(b) < 3 && b != request.path)",
            "grant.scopes.all(s, s != grant.subject && grant.subject.contains(s) && size(context.risk) > 1)",
        ] {
            assert_eq!(fault(source), None, "{source}");
        }
    }

    #[test]
    fn a_root_is_asked_for_its_fields() {
        for (source, message) in [
            ("captures == 1", "uses `captures` as a whole: name one field, such as `captures.order`"),
            ("request[claims.a] == 'x'", "uses `request` as a whole: name one field, such as `request.method`"),
            ("captures['ordr'] == 'x'", "names the unknown capture `ordr`; did you mean `order`?"),
        ] {
            assert_eq!(fault(source).as_deref(), Some(message), "{source}");
        }
        assert_eq!(fault("captures['order'] == 'x' && has(request.source)"), None);
    }
}
