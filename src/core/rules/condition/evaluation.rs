//! Evaluates CEL with a budget. It uses the values and the operations of the library, and charges for each operation
//! before it runs.
//!
//! The evaluator of the library has no such limit. If the budget suffices, the result is the same as the library's; a
//! test compares both.

use super::conversion::conversion;
use super::loops::{Loop, Shape};
use super::names::{FieldValue, NAMES, ROOTS, capture, field, reader};
use super::work::{Exhausted, MADE, Work, length};
use crate::rules::cel_claims::member;
use crate::rules::condition::relation::relation;
use crate::rules::evidence::Evidence;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op};
use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelString, CelUInt};
use cel::common::value::{CowVal, Val};
use std::fmt;

/// Why an expression has no value.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no value with that name.
    Missing(String),
    /// The operation does not accept values of these kinds.
    Kinds(&'static str),
    /// The budget is exhausted.
    Exhausted,
    /// An error of the library.
    Other(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing(name) => write!(f, "there is no `{name}`"),
            Fault::Kinds(operation) => write!(f, "the wrong kind of value for {operation}"),
            Fault::Exhausted => f.write_str("it takes more work than a condition may"),
            Fault::Other(error) => f.write_str(error),
        }
    }
}

impl From<Exhausted> for Fault {
    fn from(_: Exhausted) -> Fault {
        Fault::Exhausted
    }
}

type Outcome<T> = Result<T, Fault>;

/// Whether `expression` holds.
pub(crate) fn evaluate(expression: &IdedExpr, evidence: &Evidence<'_>, work: &Work) -> Outcome<bool> {
    Evaluation { evidence, work, item: None }.truth(expression)
}

/// One evaluation, outside all loops or for one item of a loop.
#[derive(Clone, Copy)]
struct Evaluation<'b, 'v> {
    evidence: &'v Evidence<'v>,
    work: &'v Work,
    item: Option<(&'b str, &'b (dyn Val + 'v))>,
}

impl<'b, 'v> Evaluation<'b, 'v> {
    fn truth(&self, expression: &'b IdedExpr) -> Outcome<bool> {
        let value = self.value(expression)?;
        value.downcast_ref::<CelBool>().map(|truth| *truth.inner()).ok_or(Fault::Kinds("a truth value"))
    }

    fn value(&self, expression: &'b IdedExpr) -> Outcome<CowVal<'b, 'v>> {
        self.work.charge(1)?;
        match &expression.expr {
            Expr::Literal(literal) => Ok(literal.to_val()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let mut items = Vec::new();
                for element in &list.elements {
                    items.push(self.owned(element)?);
                }
                self.work.charge(MADE)?;
                Ok(CowVal::owned(CelList::from(items)))
            }
            Expr::Comprehension(written) => self.repeat(Loop::of(written).ok_or(Fault::Kinds("a macro"))?),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err(Fault::Kinds("an expression")),
        }
    }

    /// The value of `expression`, copied if it is borrowed.
    fn owned(&self, expression: &'b IdedExpr) -> Outcome<Box<dyn Val + 'v>> {
        let value = self.value(expression)?;
        if value.is_borrowed() {
            self.work.charge_copy(value.as_ref())?;
        }
        Ok(value.into_owned())
    }

    fn name(&self, name: &'b str) -> Outcome<CowVal<'b, 'v>> {
        if let Some((_, item)) = self.item.filter(|(variable, _)| *variable == name) {
            return Ok(CowVal::Borrowed(item));
        }
        self.work.charge(2)?;
        let missing = || Fault::Missing(name.to_owned());
        let claims = || self.evidence.claims().ok_or_else(missing);
        match name.split_once('.') {
            Some(("claims", name)) => {
                self.work.charge_search(name.len())?;
                claims()?.get(name).map(CowVal::Borrowed).ok_or_else(missing)
            }
            Some(("captures", name)) => capture(name, self.evidence, self.work)?.map(CowVal::from).ok_or_else(missing),
            _ if name == "claims" => Ok(CowVal::Borrowed(claims()?.all())),
            _ => {
                let held = reader(name).and_then(|read| read(self.evidence)).ok_or_else(missing)?;
                // A value that is not borrowed is allocated.
                self.work.charge(if matches!(held, FieldValue::Lent(_)) { 0 } else { MADE })?;
                Ok(held.into())
            }
        }
    }

    /// `operand.field` and `has(operand.field)`.
    fn select(&self, select: &'b SelectExpr) -> Outcome<CowVal<'b, 'v>> {
        self.work.charge(2)?;
        self.work.charge_search(select.field.len())?;
        if let Expr::Ident(root) = &select.operand.expr
            && ROOTS.iter().any(|known| known.name == root)
        {
            return Ok(truth(field(root, &select.field, self.evidence, self.work)?.is_some()));
        }
        let operand = self.value(&select.operand)?;
        let missing = || Fault::Missing(select.field.clone());
        let kinds = Fault::Kinds("`.`");
        match operand {
            CowVal::Borrowed(map) => {
                let found = member(map.downcast_ref::<CelMap>().ok_or(kinds)?, &select.field);
                match select.test {
                    true => Ok(truth(found.is_some())),
                    false => found.map(CowVal::Borrowed).ok_or_else(missing),
                }
            }
            CowVal::Owned(map) => {
                let found = member(map.downcast_ref::<CelMap>().ok_or(kinds)?, &select.field);
                match select.test {
                    true => Ok(truth(found.is_some())),
                    false => self.copy(found.ok_or_else(missing)?),
                }
            }
        }
    }

    fn copy(&self, value: &(dyn Val + 'v)) -> Outcome<CowVal<'b, 'v>> {
        self.work.charge_copy(value)?;
        Ok(CowVal::Owned(value.clone_as_boxed()))
    }

    fn call(&self, call: &'b CallExpr) -> Outcome<CowVal<'b, 'v>> {
        match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            (op::LOGICAL_AND, None, sides) => self.decide(sides, false).map(truth),
            (op::LOGICAL_OR, None, sides) => self.decide(sides, true).map(truth),
            (op::LOGICAL_NOT, None, [inner]) => self.truth(inner).map(|holds| truth(!holds)),
            (op::CONDITIONAL, None, [condition, yes, no]) => match self.truth(condition)? {
                true => self.value(yes),
                false => self.value(no),
            },
            (op::INDEX, None, [of, index]) => self.index(of, index),
            (op::NEGATE, None, [of]) => {
                self.work.charge(MADE)?;
                let of = self.value(of)?;
                of.as_negator().ok_or(Fault::Kinds("`-`"))?.negate().map(CowVal::Owned).map_err(other)
            }
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, None, [left, right]) => {
                self.calculate(&call.func_name, left, right)
            }
            ("size", None, [of]) | ("size", Some(of), []) => self.size(of),
            ("dyn", None, [of]) => self.value(of),
            (name, None, [of]) => self.convert(name, of),
            (name, None, [left, right]) | (name, Some(left), [right]) => {
                let related = relation(name, call.target.is_some()).ok_or(Fault::Kinds("a function"))?;
                let (left, right) = (self.value(left)?, self.value(right)?);
                let holds = related(left.as_ref(), right.as_ref(), self.work)?;
                holds.map(truth).ok_or(Fault::Kinds("a comparison"))
            }
            _ => Err(Fault::Kinds("a function")),
        }
    }

    /// The result of `&&`, where `deciding` is `false`, or of `||`, where it is `true`. A side with the deciding value
    /// decides, even if other sides are errors.
    fn decide(&self, sides: &'b [IdedExpr], deciding: bool) -> Outcome<bool> {
        let mut outcome = Ok(!deciding);
        for side in sides {
            match self.truth(side) {
                Ok(holds) if holds == deciding => return Ok(deciding),
                Ok(_) => {}
                Err(Fault::Exhausted) => return Err(Fault::Exhausted),
                Err(fault) => outcome = Err(fault),
            }
        }
        outcome
    }

    fn index(&self, of: &'b IdedExpr, index: &'b IdedExpr) -> Outcome<CowVal<'b, 'v>> {
        let (of, index) = (self.value(of)?, self.value(index)?);
        self.work.charge(MADE)?;
        self.work.charge_search(length(index.as_ref()))?;
        // The library's error for a number with a fraction would contain a copy of the whole list.
        let fraction = index.downcast_ref::<CelDouble>().is_some_and(|number| number.inner().fract() != 0.0);
        if fraction && of.downcast_ref::<CelList>().is_some() {
            return Err(Fault::Kinds("`[]`"));
        }
        match of {
            CowVal::Borrowed(of) => of.as_indexer().ok_or(Fault::Kinds("`[]`"))?.get(index.as_ref()).map_err(other),
            CowVal::Owned(of) => {
                let found = of.as_indexer().ok_or(Fault::Kinds("`[]`"))?.get(index.as_ref()).map_err(other)?;
                self.copy(found.as_ref())
            }
        }
    }

    fn size(&self, of: &'b IdedExpr) -> Outcome<CowVal<'b, 'v>> {
        let of = self.value(of)?;
        self.work.charge(MADE)?;
        self.work.charge_comparison(length(of.as_ref()))?;
        let size = match of.downcast_ref::<CelBytes>() {
            Some(bytes) => i64::try_from(bytes.inner().len()).unwrap_or(i64::MAX).into(),
            None => of.as_sizer().ok_or(Fault::Kinds("`size`"))?.size(),
        };
        Ok(CowVal::owned::<CelInt>(size))
    }

    fn calculate(&self, name: &'b str, left: &'b IdedExpr, right: &'b IdedExpr) -> Outcome<CowVal<'b, 'v>> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let (left, right) = (left.as_ref(), right.as_ref());
        // The library's error for values of other kinds would contain copies of them.
        let lists = left.downcast_ref::<CelList>().is_some() && right.as_iterable().is_some();
        if !lists && !same_kind(left, right) {
            return Err(Fault::Kinds("a calculation"));
        }
        match lists {
            true => {
                self.work.charge_copy(left)?;
                self.work.charge_copy(right)?;
            }
            false => self.work.charge_text(length(left).saturating_add(length(right)))?,
        }
        let kinds = || Fault::Kinds("a calculation");
        let result = match name {
            op::ADD => left.as_adder().ok_or_else(kinds)?.add(right),
            op::SUBSTRACT => left.as_subtractor().ok_or_else(kinds)?.sub(right),
            op::MULTIPLY => left.as_multiplier().ok_or_else(kinds)?.mul(right),
            op::DIVIDE => left.as_divider().ok_or_else(kinds)?.div(right),
            _ => left.as_modder().ok_or_else(kinds)?.modulo(right),
        };
        result.map(|value| CowVal::Owned(value.into_owned())).map_err(other)
    }

    fn convert(&self, name: &'b str, of: &'b IdedExpr) -> Outcome<CowVal<'b, 'v>> {
        let of = self.owned(of)?;
        self.work.charge(CONVERSION)?;
        self.work.charge_search(length(of.as_ref()))?;
        let convert = conversion(name).ok_or(Fault::Kinds("a function"))?;
        convert(of).map(CowVal::Owned).ok_or_else(|| Fault::Other(format!("`{name}` cannot convert this value")))
    }

    fn repeat(&self, over: Loop<'b>) -> Outcome<CowVal<'b, 'v>> {
        let range = self.value(over.range)?;
        let mut items = range.as_iterable().ok_or(Fault::Kinds("a macro"))?.iter();
        let mut next = || match items.next() {
            Some(item) => self.work.charge(1).map(|()| Some(item)),
            None => Ok(None),
        };
        match over.shape {
            Shape::All(test) | Shape::Exists(test) => {
                let deciding = matches!(over.shape, Shape::Exists(_));
                let mut outcome = Ok(!deciding);
                while let Some(item) = next()? {
                    match self.at(&over, item).truth(test) {
                        Ok(holds) if holds == deciding => return Ok(truth(deciding)),
                        Ok(_) => {}
                        Err(Fault::Exhausted) => return Err(Fault::Exhausted),
                        Err(fault) => {
                            self.work.charge(MADE)?;
                            outcome = Err(fault);
                        }
                    }
                }
                outcome.map(truth)
            }
            Shape::ExistsOne(test) => {
                let mut found = 0_usize;
                while let Some(item) = next()? {
                    found = found.saturating_add(usize::from(self.at(&over, item).truth(test)?));
                }
                Ok(truth(found == 1))
            }
            Shape::List(test, elements) => {
                let mut list = Vec::new();
                while let Some(item) = next()? {
                    let here = self.at(&over, item);
                    if let Some(test) = test
                        && !here.truth(test)?
                    {
                        continue;
                    }
                    for element in elements {
                        list.push(here.owned(element)?);
                    }
                }
                Ok(CowVal::owned(CelList::from(list)))
            }
        }
    }

    /// The evaluation of the body of `over` for `item`.
    fn at<'i>(&self, over: &Loop<'i>, item: &'i (dyn Val + 'v)) -> Evaluation<'i, 'v> {
        Evaluation { evidence: self.evidence, work: self.work, item: Some((over.variable, item)) }
    }
}

/// A boolean, without an allocation.
fn truth<'b, 'v>(truth: bool) -> CowVal<'b, 'v> {
    CowVal::Borrowed(if truth { &CelBool::TRUE } else { &CelBool::FALSE })
}

fn other(error: cel::ExecutionError) -> Fault {
    Fault::Other(error.to_string())
}

/// Whether both are strings, both bytes, or both numbers of one kind.
fn same_kind(left: &dyn Val, right: &dyn Val) -> bool {
    let both = |is: fn(&dyn Val) -> bool| is(left) && is(right);
    both(|value| value.downcast_ref::<CelString>().is_some())
        || both(|value| value.downcast_ref::<CelInt>().is_some())
        || both(|value| value.downcast_ref::<CelDouble>().is_some())
        || both(|value| value.downcast_ref::<CelUInt>().is_some())
        || both(|value| value.downcast_ref::<CelBytes>().is_some())
}

/// The units for a conversion.
const CONVERSION: usize = 60;

/// Replaces `request.method` and `captures["order"]` by one name each, so that the lookup is one step.
///
/// The checker has refused loop variables that would hide such a name.
pub(super) fn flatten(expression: &mut Expr) {
    match expression {
        Expr::Select(select) => {
            if let (false, Expr::Ident(root)) = (select.test, &select.operand.expr)
                && NAMES.contains(&root.as_str())
            {
                *expression = Expr::Ident(format!("{root}.{}", select.field));
            } else {
                flatten(&mut select.operand.expr);
            }
        }
        Expr::Call(call) => match indexed(call) {
            Some((root, field)) => *expression = Expr::Ident(format!("{root}.{field}")),
            None => {
                call.target.iter_mut().for_each(|target| flatten(&mut target.expr));
                call.args.iter_mut().for_each(|argument| flatten(&mut argument.expr));
            }
        },
        Expr::List(list) => list.elements.iter_mut().for_each(|element| flatten(&mut element.expr)),
        Expr::Comprehension(inner) => {
            flatten(&mut inner.iter_range.expr);
            flatten(&mut inner.loop_step.expr);
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}

/// The root and the field of `captures["order"]`. Not for claims, because their names may contain dots.
pub(super) fn indexed(call: &CallExpr) -> Option<(&str, &str)> {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (op::INDEX, [of, index]) => match (&of.expr, &index.expr) {
            (Expr::Ident(root), Expr::Literal(LiteralValue::String(field)))
                if ROOTS.iter().any(|known| known.name == root) =>
            {
                Some((root, field.inner()))
            }
            _ => None,
        },
        _ => None,
    }
}
