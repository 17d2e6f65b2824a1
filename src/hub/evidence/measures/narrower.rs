//! Proposals: the grant, and the rules, that permit what was used and no more.

use crate::evidence::measures::catalog::{Catalog, Use, method};
use crate::evidence::model::GrantRow;
use crate::evidence::report::Width;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use taskfence_core::token::detail::Detail;
use taskfence_core::uses::allowance::RuleAllowance;

/// A token has at most so many objects of `authorization_details`: filters refuse one with more.
const MOST_DETAILS: usize = 128;

/// So many rules are proposed.
const MOST_RULES: usize = 100;

/// Puts what would be enough for `uses` into `width`.
pub(crate) fn propose(catalog: &Catalog, grant: &GrantRow, uses: &[Use<'_>], width: &mut Width) {
    let mut notes = BTreeSet::new();
    let scopes = scopes(catalog, grant, uses, &mut notes);
    let held = &grant.info.scopes;
    width.unused_scopes = held.iter().filter(|scope| !scopes.contains(scope.as_str())).cloned().collect();
    width.narrower_scopes = held.iter().filter(|scope| scopes.contains(scope.as_str())).cloned().collect();
    width.narrower_details = details(catalog, grant, uses, &mut notes);
    width.narrower_rules = rules(catalog, uses, &mut notes);
    width.notes = notes.into_iter().collect();
}

/// The scopes that the uses needed. Of several that a rule would take, one that is needed anyway, or else the first one
/// that the grant has.
fn scopes<'c>(
    catalog: &'c Catalog,
    grant: &'c GrantRow,
    uses: &[Use<'_>],
    notes: &mut BTreeSet<String>,
) -> BTreeSet<&'c str> {
    let rules: BTreeSet<usize> = uses.iter().map(|one| one.position).collect();
    let rules: Vec<&RuleAllowance> = rules.into_iter().filter_map(|position| catalog.rule(position)).collect();
    let mut needed: BTreeSet<&str> = rules.iter().flat_map(|rule| &rule.outline().scopes).map(String::as_str).collect();
    for row in grant.permitted.iter().filter(|row| row.break_glass > 0) {
        let config = catalog.config(&row.config);
        let rule = config.and_then(|config| config.position(&row.rule)).and_then(|position| catalog.rule(position));
        match rule.and_then(|rule| rule.outline().break_glass.as_deref()) {
            Some(scope) => {
                needed.insert(scope);
            }
            None => {
                notes.insert(format!("the scope by which `{}` was passed with break-glass is not known", row.rule));
            }
        }
    }
    for rule in rules {
        let any = &rule.outline().any_scopes;
        if !any.iter().any(|scope| needed.contains(scope.as_str())) {
            needed.extend(any.iter().find(|scope| grant.info.scopes.contains(scope)).map(String::as_str));
        }
    }
    needed
}

/// The least `authorization_details` for the uses. Objects that differ in their actions alone are one object: RFC 9396 §2
/// lets an object permit every combination of its values, so that no other one may be put together.
fn details(catalog: &Catalog, grant: &GrantRow, uses: &[Use<'_>], notes: &mut BTreeSet<String>) -> Vec<Value> {
    let all = Detail::list(&Value::Array(grant.info.details.clone())).unwrap_or_default();
    // By the object without its actions: the actions.
    let mut least = BTreeMap::<String, (Map<String, Value>, Option<BTreeSet<String>>)>::new();
    for one in uses {
        let Some(rule) = catalog.rule(one.position).filter(|rule| rule.asks_for_detail()) else { continue };
        let Some(mut object) = all.iter().find_map(|held| rule.least(held, &one.row.captures)) else {
            notes.insert(format!("no object of the details permits a use of `{}`", one.row.rule));
            continue;
        };
        let actions = object.remove("actions");
        let actions = actions
            .as_ref()
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<_>>());
        let name = format!("{} {}", actions.is_some(), Value::Object(object.clone()));
        let (_, known) = least.entry(name).or_insert((object, None));
        if let Some(actions) = actions {
            known.get_or_insert_default().extend(actions);
        }
    }
    if least.len() > MOST_DETAILS {
        notes.insert(format!("the uses need {} details, and a token may have {MOST_DETAILS}", least.len()));
        return Vec::new();
    }
    let objects = least.into_values().map(|(mut object, actions)| {
        if let Some(actions) = actions {
            object.insert("actions".to_owned(), json!(actions));
        }
        Value::Object(object)
    });
    objects.collect()
}

/// A rule for each path that was used.
fn rules(catalog: &Catalog, uses: &[Use<'_>], notes: &mut BTreeSet<String>) -> Vec<Value> {
    let mut used = BTreeMap::<(usize, &[String]), BTreeSet<String>>::new();
    for one in uses {
        let Some(rule) = catalog.rule(one.position) else { continue };
        let methods = used.entry((one.position, one.row.captures.as_slice())).or_default();
        methods.insert(method(rule, &one.row.method));
    }
    let mut numbers = BTreeMap::<&str, usize>::new();
    let mut rules: Vec<Value> = Vec::new();
    let mut matches = BTreeSet::new();
    for ((position, captures), methods) in &used {
        let Some(rule) = catalog.rule(*position) else { continue };
        let (matching, require) = match narrow(rule, captures, methods) {
            Ok(parts) => parts,
            Err(note) => {
                notes.insert(note);
                continue;
            }
        };
        // Two configurations may have the same rule with other requirements: the first one is as good as the second.
        if !matches.insert(matching.to_string()) {
            continue;
        }
        if rules.len() == MOST_RULES {
            notes.insert(format!("more than {MOST_RULES} rules would be needed; only so many are proposed"));
            break;
        }
        let outline = rule.outline();
        let number = numbers.entry(&outline.name).or_default();
        *number = number.saturating_add(1);
        let mut one = json!({"name": format!("{}-{number}", outline.name), "match": matching, "require": require});
        if let Some(members) = one.as_object_mut().filter(|_| outline.shadow) {
            members.insert("mode".to_owned(), json!("shadow"));
        }
        if let Some(scope) = &outline.break_glass {
            notes.insert(format!("the rules for `{}` leave out its break-glass by `{scope}`", outline.name));
        }
        rules.push(one);
    }
    rules
}

/// `match` and `require` of the rule for one path. The error says why there is no such rule.
fn narrow(rule: &RuleAllowance, captures: &[String], methods: &BTreeSet<String>) -> Result<(Value, Value), String> {
    let outline = rule.outline();
    let name = &outline.name;
    if !outline.others.is_empty() {
        let others = outline.others.join("`, `");
        return Err(format!("no rule for `{name}` is proposed: narrow it by hand, and keep its `{others}`"));
    }
    if outline.path.is_none() {
        return Err(format!("no rule for `{name}` is proposed: it takes every path, so that paths were not counted"));
    }
    let cannot = || format!("no rule for a use of `{name}` is proposed: its identifiers cannot be written in a rule");
    let path = rule.path_of(captures).ok_or_else(cannot)?;
    let mut matching = Map::new();
    matching.insert("methods".to_owned(), json!(methods));
    if !outline.hosts.is_empty() {
        matching.insert("hosts".to_owned(), json!(outline.hosts));
    }
    match path.strip_prefix('/').and_then(|path| path.split_once('/')).filter(|_| outline.grpc) {
        Some((service, method)) => {
            matching.remove("methods");
            matching.insert("grpc".to_owned(), json!({"service": service, "method": method}));
        }
        None => {
            matching.insert("path".to_owned(), json!(path));
        }
    }
    let mut require = Map::new();
    match (outline.scopes.as_slice(), outline.any_scopes.as_slice()) {
        ([], []) => {}
        (all, []) => {
            require.insert("scope".to_owned(), json!(all.join(" ")));
        }
        (all, any) => {
            require.insert("scope".to_owned(), json!({"all": all, "any": any}));
        }
    }
    if rule.asks_for_detail() {
        let detail = rule.detail_of(captures).ok_or_else(cannot)?;
        require.insert("detail".to_owned(), json!(detail));
    }
    Ok((Value::Object(matching), Value::Object(require)))
}
