//! The macros of CEL that loop, recognized in the form that the parser expands them to.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators as op};

/// A macro that loops over a list, or over the keys of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loop<'x> {
    /// What it loops over.
    pub range: &'x IdedExpr,
    /// The name of the variable that holds the current item.
    pub variable: &'x str,
    /// What the macro does with the items.
    pub shape: Shape<'x>,
}

/// Which macro it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'x> {
    /// `all`: whether this is true for each item.
    All(&'x IdedExpr),
    /// `exists`: whether this is true for any item.
    Exists(&'x IdedExpr),
    /// `exists_one`: whether this is true for exactly one item.
    ExistsOne(&'x IdedExpr),
    /// `map` and `filter`: a list of the second for each item, or for each item for which the first is true.
    List(Option<&'x IdedExpr>, &'x [IdedExpr]),
}

impl<'x> Loop<'x> {
    /// Recognizes `written`. `None` if it is none of these macros.
    pub(crate) fn of(written: &'x ComprehensionExpr) -> Option<Loop<'x>> {
        if written.iter_var2.is_some() {
            return None;
        }
        let shape = Loop::shape(written)?;
        Some(Loop { range: &written.iter_range, variable: &written.iter_var, shape })
    }

    /// The test that is evaluated for each item; `None` if there is none.
    pub(crate) fn test(&self) -> Option<&'x IdedExpr> {
        match self.shape {
            Shape::All(test) | Shape::Exists(test) | Shape::ExistsOne(test) => Some(test),
            Shape::List(test, _) => test,
        }
    }

    /// The elements that each item adds to the resulting list; `None` if the loop gives a boolean.
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
        // The operand that is added to the accumulator.
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

/// The elements of a list literal.
fn items(list: &IdedExpr) -> Option<&[IdedExpr]> {
    match &list.expr {
        Expr::List(list) if list.optional_indices.is_empty() => Some(&list.elements),
        _ => None,
    }
}
