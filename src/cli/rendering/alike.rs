//! Whether all services read the tokens of an issuer alike: a revocation that the hub derives for one of them must hit at
//! all.

use std::collections::BTreeMap;

use serde_json::Value;
use taskfence_core::config::problem::Problem;

/// What services may say differently about an issuer: to whom its tokens are addressed.
const OWN: &str = "audiences";

/// The problems of each service whose issuers differ from what most services say about the same one. `services` are their
/// names and the configurations of their filters.
pub fn differences<'s>(services: &[(&'s str, &Value)]) -> Vec<(&'s str, Problem)> {
    let mut said: BTreeMap<String, Vec<Said<'s>>> = BTreeMap::new();
    for (service, configuration) in services {
        let issuers = configuration.get("issuers").and_then(Value::as_array).into_iter().flatten();
        for (at, issuer) in issuers.enumerate() {
            let name = issuer.get("issuer").map(Value::to_string).unwrap_or_default();
            let mut shared = issuer.clone();
            if let Some(members) = shared.as_object_mut() {
                members.remove(OWN);
            }
            let of_issuer = said.entry(name).or_default();
            match of_issuer.iter_mut().find(|said| said.service == *service) {
                Some(said) => said.entries.push(shared),
                None => of_issuer.push(Said { service, at, entries: vec![shared] }),
            }
        }
    }
    let mut found = Vec::new();
    for (name, all) in said {
        let Some(common) = most_common(&all) else { continue };
        for other in all.iter().filter(|other| other.entries != common.entries) {
            let members = differing(&common.entries, &other.entries);
            let message = format!("says other `{}` about {name} than `{}`", members.join("`, `"), common.service);
            let help = "let all services share the issuer of the base, and give each its own `audiences` alone";
            found.push((other.service, Problem::at(format!("issuers[{}]", other.at), message).help(help)));
        }
    }
    found
}

/// What one service says about an issuer.
struct Said<'s> {
    service: &'s str,
    /// Where its first entry stands.
    at: usize,
    /// All its entries, without what is a service's own.
    entries: Vec<Value>,
}

/// What most say; of those that as many say, the first.
fn most_common<'a, 's>(all: &'a [Said<'s>]) -> Option<&'a Said<'s>> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (at, said) in all.iter().enumerate() {
        let count = &mut counts.entry(format!("{:?}", said.entries)).or_insert((0, at)).0;
        *count = count.saturating_add(1);
    }
    let (_, first) = counts.into_values().max_by_key(|(count, first)| (*count, std::cmp::Reverse(*first)))?;
    all.get(first)
}

/// The members in which the entries of two services differ.
fn differing(left: &[Value], right: &[Value]) -> Vec<String> {
    if left.len() != right.len() {
        return vec!["issuer".to_owned()];
    }
    let mut names = Vec::new();
    for (left, right) in left.iter().zip(right) {
        let all = [left, right].into_iter().filter_map(Value::as_object).flat_map(|members| members.keys());
        names.extend(all.filter(|name| left.get(name) != right.get(name)).cloned());
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_one_that_differs_is_named_and_audiences_may() {
        let issuer = |audience: &str, lifetime: &str| json!({"issuers": [{"issuer": "https://jit.example", "audiences": [audience], "max_lifetime": lifetime}]});
        let (a, b, c) = (issuer("a", "5m"), issuer("b", "5m"), issuer("c", "9m"));
        let found = differences(&[("a", &a), ("c", &c), ("b", &b)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1.path.as_str()), ("c", "issuers[0]"));
        assert!(found[0].1.message.contains("`max_lifetime`"), "{}", found[0].1.message);
        assert!(differences(&[("a", &a), ("b", &b)]).is_empty());
    }

    #[test]
    fn several_entries_of_one_issuer_are_compared_as_a_set() {
        let two = json!({"issuers": [{"issuer": "x", "where": {"a": 1}}, {"issuer": "x", "where": {"a": 2}}]});
        assert!(differences(&[("a", &two), ("b", &two)]).is_empty());
        let other = json!({"issuers": [{"issuer": "x", "where": {"a": 1}}, {"issuer": "x", "where": {"a": 3}}]});
        let found = differences(&[("a", &two), ("b", &two), ("c", &other)]);
        assert_eq!((found.len(), found[0].0), (1, "c"));
        assert!(found[0].1.message.contains("`where`"));
    }
}
