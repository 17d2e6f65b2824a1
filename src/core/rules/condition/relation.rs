//! Relations between two values of a condition, such as `==`, `in` and `startsWith`.

use super::work::{Exhausted, Work, length};
use cel::common::ast::operators as op;
use cel::common::types::CelDouble;
use cel::common::types::CelInt;
use cel::common::types::CelList;
use cel::common::types::CelUInt;
use cel::common::types::{CelBool, CelBytes, CelString};
use cel::common::value::Val;
use std::cmp::Ordering;

/// A relation. Its result is `None` if CEL gives an error, because the values cannot be compared.
pub(crate) type Relation = fn(&dyn Val, &dyn Val, &Work) -> Answer;

/// The relation with that name. `member`: it is called on a value, as in `a.contains(b)`.
pub(crate) fn relation(name: &str, member: bool) -> Option<Relation> {
    Some(match (name, member) {
        (op::EQUALS, false) => |left, right, work| work.equals(left, right).map(Some),
        (op::NOT_EQUALS, false) => |left, right, work| work.equals(left, right).map(|equal| Some(!equal)),
        (op::LESS, false) => |left, right, work| order(left, right, work, Ordering::is_lt),
        (op::LESS_EQUALS, false) => |left, right, work| order(left, right, work, Ordering::is_le),
        (op::GREATER, false) => |left, right, work| order(left, right, work, Ordering::is_gt),
        (op::GREATER_EQUALS, false) => |left, right, work| order(left, right, work, Ordering::is_ge),
        (op::IN, false) => is_in,
        ("startsWith", true) => |whole, part, work| {
            work.charge_comparison(length(whole).min(length(part)))?;
            Ok(texts(whole, part).map(|(whole, part)| whole.starts_with(part)))
        },
        ("endsWith", true) => |whole, part, work| {
            work.charge_comparison(length(whole).min(length(part)))?;
            Ok(texts(whole, part).map(|(whole, part)| whole.ends_with(part)))
        },
        ("contains", true) => |whole, part, work| {
            work.charge_search(length(whole).saturating_add(length(whole).min(length(part))))?;
            Ok(texts(whole, part).map(|(whole, part)| whole.contains(part)))
        },
        _ => return None,
    })
}

/// Compares values that have an order. The library is not asked about other kinds of values, because its error would
/// contain copies of them.
pub(crate) fn order(left: &dyn Val, right: &dyn Val, work: &Work, holds: fn(Ordering) -> bool) -> Answer {
    work.charge_comparison(length(left).min(length(right)))?;
    let both = |is: fn(&dyn Val) -> bool| is(left) && is(right);
    let ordered = both(|value| value.downcast_ref::<CelString>().is_some())
        || both(is_number)
        || both(|value| value.downcast_ref::<CelBool>().is_some())
        || both(|value| value.downcast_ref::<CelBytes>().is_some());
    if !ordered {
        return Ok(None);
    }
    Ok(left.as_comparer().and_then(|left| left.compare(right).ok()).map(holds))
}

pub(crate) fn is_in(element: &dyn Val, container: &dyn Val, work: &Work) -> Answer {
    if let Some(list) = container.downcast_ref::<CelList>() {
        return work.is_among(element, list).map(Some);
    }
    work.charge_search(length(element))?;
    Ok(container.as_container().and_then(|container| container.contains(element).ok()))
}

pub(crate) fn is_number(value: &dyn Val) -> bool {
    value.downcast_ref::<CelInt>().is_some()
        || value.downcast_ref::<CelUInt>().is_some()
        || value.downcast_ref::<CelDouble>().is_some()
}

/// `None` if CEL gives an error. Fails if the budget is exhausted.
pub(crate) type Answer = Result<Option<bool>, Exhausted>;

pub(crate) fn texts<'t>(left: &'t dyn Val, right: &'t dyn Val) -> Option<(&'t str, &'t str)> {
    let text = |value: &'t dyn Val| value.downcast_ref::<CelString>().map(CelString::inner);
    Some((text(left)?, text(right)?))
}
