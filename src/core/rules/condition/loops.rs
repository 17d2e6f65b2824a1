//! The macros that loop, in the form in which the parser of CEL leaves them.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators as op};

/// A macro that loops over a list, or over the keys of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loop<'x> {
    /// What it loops over.
    pub range: &'x IdedExpr,
    /// The name of the item at hand.
    pub variable: &'x str,
    /// What becomes of the items.
    pub shape: Shape<'x>,
}

/// Which macro it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'x> {
    /// `all`: whether this holds for each.
    All(&'x IdedExpr),
    /// `exists`: whether this holds for any.
    Exists(&'x IdedExpr),
    /// `exists_one`: whether this holds for one and no other.
    ExistsOne(&'x IdedExpr),
    /// `map` and `filter`: a list of what these give for each item, or for each for which the first holds.
    List(Option<&'x IdedExpr>, &'x [IdedExpr]),
}

impl<'x> Loop<'x> {
    /// Reads `written`. `None` where it is none of the macros.
    pub(crate) fn of(written: &'x ComprehensionExpr) -> Option<Loop<'x>> {
        if written.iter_var2.is_some() {
            return None;
        }
        let shape = Loop::shape(written)?;
        Some(Loop { range: &written.iter_range, variable: &written.iter_var, shape })
    }

    /// What is asked of each item.
    pub(crate) fn test(&self) -> Option<&'x IdedExpr> {
        match self.shape {
            Shape::All(test) | Shape::Exists(test) | Shape::ExistsOne(test) => Some(test),
            Shape::List(test, _) => test,
        }
    }

    /// What is made of each item; `None` where the loop only asks.
    pub(crate) fn elements(&self) -> Option<&'x [IdedExpr]> {
        match self.shape {
            Shape::List(_, elements) => Some(elements),
            Shape::All(_) | Shape::Exists(_) | Shape::ExistsOne(_) => None,
        }
    }

    fn shape(written: &'x ComprehensionExpr) -> Option<Shape<'x>> {
        let is_accumulator =
            |expression: &IdedExpr| matches!(&expression.expr, Expr::Ident(name) if *name == written.accu_var);
        let Expr::Call(step) = &written.loop_step.expr else { return None };
        // What is added to the accumulator.
        let added = |call: &'x CallExpr| match call.args.as_slice() {
            [accumulator, added] if call.func_name == op::ADD && is_accumulator(accumulator) => Some(added),
            _ => None,
        };
        match (&written.accu_init.expr, step.func_name.as_str(), step.args.as_slice()) {
            (Expr::Literal(LiteralValue::Boolean(start)), op::LOGICAL_AND, [accumulator, test])
                if *start.inner() && is_accumulator(accumulator) =>
            {
                Some(Shape::All(test))
            }
            (Expr::Literal(LiteralValue::Boolean(start)), op::LOGICAL_OR, [accumulator, test])
                if !*start.inner() && is_accumulator(accumulator) =>
            {
                Some(Shape::Exists(test))
            }
            (Expr::Literal(LiteralValue::Int(_)), op::CONDITIONAL, [test, _, accumulator])
                if is_accumulator(accumulator) =>
            {
                Some(Shape::ExistsOne(test))
            }
            (Expr::List(start), op::CONDITIONAL, [test, step, accumulator])
                if start.elements.is_empty() && is_accumulator(accumulator) =>
            {
                let Expr::Call(step) = &step.expr else { return None };
                Some(Shape::List(Some(test), items(added(step)?)?))
            }
            (Expr::List(start), op::ADD, _) if start.elements.is_empty() => {
                Some(Shape::List(None, items(added(step)?)?))
            }
            _ => None,
        }
    }
}

/// The elements of a list that is written out.
fn items(list: &IdedExpr) -> Option<&[IdedExpr]> {
    match &list.expr {
        Expr::List(list) if list.optional_indices.is_empty() => Some(&list.elements),
        _ => None,
    }
}
