//! The budget of one evaluation of a condition. Each operation is charged for the bytes and values that it reads or
//! makes.
//!
//! One unit is about ten nanoseconds of native code. Claims can be as large as a token, and operations can be nested
//! and repeated, so a limit on the length of a condition alone does not bound its cost.

use cel::common::types::{CelBytes, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::Val;
use std::cell::Cell;

/// The number of units that one evaluation may use.
const BUDGET: usize = 100_000;

/// The number of bytes that one unit compares.
const COMPARED: usize = 64;
/// The number of bytes that one unit searches, decodes or parses.
const SEARCHED: usize = 8;
/// The number of bytes that one unit copies.
const COPIED: usize = 32;
/// The units to allocate a value on the heap and to free it.
pub(crate) const MADE: usize = 5;

/// The evaluation needed more than [`BUDGET`]. It has no result then, even if one part alone would decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The rest of the budget of one evaluation.
#[derive(Debug)]
pub(crate) struct Work {
    left: Cell<usize>,
    exhausted: Cell<bool>,
}

impl Default for Work {
    fn default() -> Work {
        Work { left: Cell::new(BUDGET), exhausted: Cell::new(false) }
    }
}

impl Work {
    /// Subtracts `units` from the budget. Fails if fewer are left.
    pub(crate) fn charge(&self, units: usize) -> Result<(), Exhausted> {
        match self.left.get().checked_sub(units) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                self.exhausted.set(true);
                Err(Exhausted)
            }
        }
    }

    /// Whether a charge has failed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// Charges for `bytes` that are searched, decoded or parsed.
    pub(crate) fn charge_search(&self, bytes: usize) -> Result<(), Exhausted> {
        self.charge(units(bytes, SEARCHED))
    }

    /// Charges for `bytes` that are compared.
    pub(crate) fn charge_comparison(&self, bytes: usize) -> Result<(), Exhausted> {
        self.charge(units(bytes, COMPARED))
    }

    /// Charges for a new string of `bytes`.
    pub(crate) fn charge_text(&self, bytes: usize) -> Result<(), Exhausted> {
        self.charge(MADE.saturating_add(units(bytes, COPIED)))
    }

    /// Charges for a deep copy of `value`.
    pub(crate) fn charge_copy(&self, value: &dyn Val) -> Result<(), Exhausted> {
        if let Some(list) = value.downcast_ref::<CelList>() {
            self.charge(MADE)?;
            return list.inner().iter().try_for_each(|item| self.charge_copy(item.as_ref()));
        }
        if let Some(map) = value.downcast_ref::<CelMap>() {
            self.charge(MADE)?;
            return map.inner().iter().try_for_each(|(key, value)| {
                // The map entry and the key.
                self.charge(MADE.saturating_mul(2))?;
                self.charge_text(key_length(key))?;
                self.charge_copy(value.as_ref())
            });
        }
        self.charge_text(length(value))
    }

    /// `left == right` as in CEL. Charges for what is compared up to the first difference.
    pub(crate) fn equals(&self, left: &dyn Val, right: &dyn Val) -> Result<bool, Exhausted> {
        if let Some(left) = left.downcast_ref::<CelList>() {
            self.charge(1)?;
            let Some(right) = right.downcast_ref::<CelList>() else { return Ok(false) };
            if left.inner().len() != right.inner().len() {
                return Ok(false);
            }
            return every(left.inner().iter().zip(right.inner()), |(left, right)| {
                self.equals(left.as_ref(), right.as_ref())
            });
        }
        if let Some(left) = left.downcast_ref::<CelMap>() {
            self.charge(1)?;
            let Some(right) = right.downcast_ref::<CelMap>() else { return Ok(false) };
            if left.inner().len() != right.inner().len() {
                return Ok(false);
            }
            // The keys are names of claims, because a condition cannot contain a map.
            return every(left.inner().iter(), |(key, left)| {
                self.charge(MADE)?;
                self.charge_search(key_length(key))?;
                match right.inner().get(key) {
                    Some(right) => self.equals(left.as_ref(), right.as_ref()),
                    None => Ok(false),
                }
            });
        }
        self.charge(2)?;
        self.charge_comparison(length(left).min(length(right)))?;
        Ok(left.equals(right))
    }

    /// `value in list`.
    pub(crate) fn is_among(&self, value: &dyn Val, list: &CelList<'_>) -> Result<bool, Exhausted> {
        for item in list.inner() {
            if self.equals(item.as_ref(), value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether `holds` is true for all `items`.
fn every<T>(
    mut items: impl Iterator<Item = T>,
    mut holds: impl FnMut(T) -> Result<bool, Exhausted>,
) -> Result<bool, Exhausted> {
    loop {
        match items.next().map(&mut holds) {
            Some(Ok(true)) => {}
            Some(other) => return other,
            None => return Ok(true),
        }
    }
}

fn units(bytes: usize, per_unit: usize) -> usize {
    bytes.checked_div(per_unit).unwrap_or(bytes)
}

/// The length of a string or of bytes; 0 for any other value.
pub(crate) fn length(value: &dyn Val) -> usize {
    match value.downcast_ref::<CelString>() {
        Some(text) => text.inner().len(),
        None => value.downcast_ref::<CelBytes>().map_or(0, |bytes| bytes.inner().len()),
    }
}

fn key_length(key: &CelMapKey<'_>) -> usize {
    length(key.inner())
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
    use crate::rules::condition::{Condition, ConditionError};
    use crate::rules::evidence::{Evidence, RequestLine};
    use crate::rules::grant_status::GrantStatus;
    use crate::rules::routes::captures;
    use crate::testing::fixture::{self, NOW, token_with};
    use crate::token::grant::Grant;
    use serde_json::{Value, json};

    /// A grant of the largest possible token, which consists mostly of the claim `c`.
    fn largest(claim: impl Fn(usize) -> Value) -> Grant {
        let token = |size| token_with(json!({}), json!({"c": claim(size), "d": "aab", "scope": "a"}));
        let fits = |size: &usize| token(*size).len() <= 16 * 1024;
        let size = (0..200).rev().map(|step| step * 60).find(fits).unwrap();
        let verified =
            crate::token::verify::verify(token(size).as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        verified.grant().clone()
    }

    /// Evaluates with the longest possible path, all of which is a capture that must be decoded.
    fn with_evidence<T>(grant: &Grant, evaluate: impl FnOnce(&Evidence<'_>) -> T) -> T {
        at(&format!("/{}", "%C3%A9".repeat(1_300)), grant, evaluate)
    }

    fn at<T>(target: &str, grant: &Grant, evaluate: impl FnOnce(&Evidence<'_>) -> T) -> T {
        let template = Template::parse("/{order}").unwrap();
        let path = Canonical::parse(target.as_bytes()).unwrap();
        let captures = captures(&template, &path).unwrap();
        evaluate(&Evidence {
            grant,
            minted: Some(&Claims::new(grant)),
            grant_status: &GrantStatus::default(),
            request: RequestLine {
                method: &Method::fold("GET"),
                host: Host::parse(b"orders.mesh").unwrap(),
                path: &path,
            },
            capture_names: template.names(),
            captures,
            source: "10.1.2.3".parse().ok(),
            peer: None,
            fresh_at: NOW,
            now: NOW,
        })
    }

    fn compile(source: &str) -> Condition {
        let captures = ["order".to_owned()];
        Condition::compile(source, &captures).unwrap_or_else(|fault| panic!("{source}: {fault}"))
    }

    /// The longest valid condition that repeats `part`.
    fn many(part: &str, between: &str) -> String {
        let fits = |count: &usize| {
            let source = vec![part; *count].join(between);
            Condition::compile(&source, &["order".to_owned()]).is_ok()
        };
        let count = (1..250)
            .rev()
            .find(fits)
            .unwrap_or_else(|| panic!("{part}: {:?}", Condition::compile(part, &["order".to_owned()])));
        vec![part; count].join(between)
    }

    /// The most expensive conditions, with a grant for each kind of claim.
    fn worst() -> Vec<(Grant, Vec<String>)> {
        let numbers = largest(|size| json!(vec![1; size]));
        let texts = largest(|size| json!(vec!["a"; size / 2]));
        let long = largest(|size| json!("a".repeat(size)));
        let lists = largest(|size| json!(vec![json!([]); size / 2]));
        let objects = largest(|size| json!(vec![json!({"a": 1}); size / 5]));
        let members = largest(|size| {
            (0..size / 6).map(|at| (format!("{at}"), json!(1))).collect::<serde_json::Map<_, _>>().into()
        });
        let words = largest(|size| json!(vec!["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; size / 24]));
        let loops = [
            many("2 in claims.c", " || "),
            many("claims.c != claims.c", " || "),
            many("[claims.c] == claims.d", " || "),
            many("[claims.c, claims.c][0] == claims.d", " || "),
            many("[claims, claims].size() < 0", " || "),
            many("claims == [claims]", " || "),
            many("type(claims.c) == claims.d", " || "),
            many("claims.c < claims.c", " || "),
            many("claims.c + claims.c == claims.d", " || "),
            many("claims.c.all(x, x == 'b')", " || "),
            many("claims.c.exists(x, x == 'b')", " || "),
            many("claims.c.exists(x, x.a == 2)", " || "),
            many("claims.c.exists(x, has(x.b))", " || "),
            many("claims.c.exists(x, x['a'] == 2)", " || "),
            many("claims.c.exists(x, x.no_such_member_of_a_long_name_that_is_copied == 2)", " || "),
            many("claims.c.exists(x, x < 0)", " || "),
            many("claims.c.exists(x, x + x == 'b')", " || "),
            many("claims.c.exists(x, x + 1 == 0)", " || "),
            many("claims.c.exists(x, -x == 2)", " || "),
            many("claims.c.exists(x, size(x) == 100)", " || "),
            many("claims.c.exists(x, string(x) == 'b')", " || "),
            many("claims.c.exists(x, int(x) == 0)", " || "),
            many("claims.c.exists(x, type(x) == claims.d)", " || "),
            many("claims.c.exists(x, x in ['b', 'c', 'd', 'e', 'f', 'g', 'h'])", " || "),
            many("claims.c.exists(x, [x, x, x, x] == claims.d)", " || "),
            many("claims.c.exists(x, [[[x]]] == claims.d)", " || "),
            many("claims.c.exists(x, x.contains('b'))", " || "),
            many("claims.c.exists(x, x.startsWith('b') || x.endsWith('b'))", " || "),
            many("claims.c.exists(x, x == captures.order)", " || "),
            many("claims.c.exists(x, x == request.source)", " || "),
            many("claims.c.exists(x, x == grant.auth_age)", " || "),
            many("claims.c.exists(x, x == claims.d)", " || "),
            many("claims.c.exists(x, x == 'b' ? x : false)", " || "),
            many("claims.c.exists(x, !(x != 'b'))", " || "),
            many("claims.c.exists_one(x, x == 'b')", " || "),
            many("claims.c.filter(x, x == 'a' || x == 1) == claims.d", " || "),
            many("claims.c.map(x, x) == claims.d", " || "),
            many("claims.c.map(x, x + x) == claims.d", " || "),
            many("claims.c.map(x, [x, x, x]) == claims.d", " || "),
            format!("claims.c{} == claims.d", ".map(x, x)".repeat(30)),
            format!("claims.c{} == claims.d", ".map(x, [x, x])".repeat(12)),
            format!("claims.c{} == claims.d", ".map(x, x + x)".repeat(30)),
            format!("claims.c.all(x, x{} == 'b')", " + x".repeat(35)),
            format!("claims.c{} == claims.d", " + claims.c".repeat(35)),
            format!("claims.c.exists(x, {})", vec!["x == 'b'"; 90].join(" || ")),
            format!("claims.c.exists(x, {})", vec!["x == captures.order"; 70].join(" || ")),
            many("claims.c.contains(claims.d)", " || "),
            many("claims.c.contains('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab')", " || "),
            many("claims.c.contains(captures.order)", " || "),
            many("claims.c == captures.order", " || "),
            many("captures.order == 'b'", " || "),
            many("captures.order.contains('éa')", " || "),
            many("size(captures.order) == 1", " || "),
            many("request.path.contains('%C3%A9%C4')", " || "),
            many("string(claims.c) == 'b'", " || "),
            many("int(claims.c) == 0", " || "),
            many("double(claims.c) == 0.5", " || "),
            many("size(claims.c + claims.c) == 0", " || "),
        ];
        [numbers, texts, long, lists, objects, members, words].map(|grant| (grant, loops.to_vec())).into()
    }

    /// With the largest token that is accepted, every condition has a result or exhausts the budget.
    #[test]
    fn a_condition_has_an_answer_or_ran_out_of_work() {
        for (grant, sources) in worst() {
            for source in sources {
                let condition = compile(&source);
                with_evidence(&grant, |evidence| {
                    let work = Work::default();
                    let answer = condition.predicate().holds(evidence, &work);
                    assert_eq!(answer.is_err(), work.is_exhausted(), "{source}");
                });
            }
        }
    }

    #[test]
    fn what_takes_too_much_work_is_an_error_whatever_the_rest_says() {
        let big = largest(|size| json!(vec![1; size]));
        let few = largest(|_| json!(vec![1; 3]));
        for source in [
            many_of_list("map(x, x)"),
            format!("{} || true", many_of_list("map(x, [x, 1])")),
            format!("true || {} || claims.no == 1", many_of_list("map(x, x)")),
            format!("!({} && false)", many_of_list("filter(x, x == 1)")),
            format!("{} ? true : true", many_of_list("map(x, x)")),
            format!("[1].exists(x, x == 2 || {}) || true", vec!["x == 2"; 20].join(" || ")),
            many("2 in claims.c", " || "),
            format!("({}) || true", many("!(claims.c == claims.c)", " || ")),
        ] {
            let condition = compile(&source);
            let decided_before = source.starts_with("true ||") || source.starts_with("[1]");
            let outcome = with_evidence(&big, |evidence| condition.holds(evidence));
            match decided_before {
                true => assert_eq!(outcome, Ok(true), "{source}"),
                false => assert_eq!(outcome, Err(ConditionError::TooMuchWork), "{source}"),
            }
            assert!(with_evidence(&few, |evidence| condition.holds(evidence)).is_ok(), "{source}");
        }
    }

    #[test]
    fn what_is_in_use_passes_with_the_largest_token() {
        let texts = largest(|size| json!(vec!["abc"; size / 3]));
        for source in [
            "claims.c.all(x, x != 'b')",
            "!claims.c.exists(x, x.startsWith('x') || x == captures.order)",
            "!('x' in claims.c) && size(claims.c) > 100 && claims.c.filter(x, x == 'x').size() == 0",
            "claims.c == claims.c && claims.c.exists_one(x, x == 'q') == false",
        ] {
            let outcome = at("/a%20b", &texts, |evidence| compile(source).holds(evidence));
            assert_eq!(outcome, Ok(true), "{source}");
        }
    }

    fn many_of_list(step: &str) -> String {
        format!("size(claims.c{}) >= 0", format!(".{step}").repeat(14))
    }
}
