//! `${NAME}` in the texts of the shared configuration.

use std::collections::BTreeMap;

use serde_json::Value;
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::nearest::nearest;

/// Replaces each `${NAME}` in the texts of `value`, which stands at `path`, by what `values` has for it. A name that is not
/// there is a problem.
pub fn fill(value: &mut Value, values: &BTreeMap<String, String>, path: &str, problems: &mut Vec<Problem>) {
    match value {
        Value::String(text) => match filled(text, values) {
            Ok(full) => *text = full,
            Err(name) => {
                let problem = Problem::at(path, format!("there is no value for `${{{name}}}`"));
                let known = values.keys().map(String::as_str);
                let help = match nearest(&name, known) {
                    Some(near) => format!("did you mean `${{{near}}}`? Else add `{name}` to `vars`"),
                    None => format!("add `{name}` to `vars`"),
                };
                problems.push(problem.help(help));
            }
        },
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                fill(item, values, &format!("{path}[{at}]"), problems);
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                fill(member, values, &place, problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `text` with its values. The error is a name that has none.
fn filled(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut full, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else { break };
        full.push_str(before);
        full.push_str(values.get(name).ok_or_else(|| name.to_owned())?);
        rest = behind;
    }
    full.push_str(rest);
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_once_and_others_are_told() {
        let values = BTreeMap::from([("a".to_owned(), "${b}".to_owned()), ("b".to_owned(), "x".to_owned())]);
        assert_eq!(filled("${a}-${b}$${b}", &values).as_deref(), Ok("${b}-x$x"));
        assert_eq!(filled("{a} $a ${", &values).as_deref(), Ok("{a} $a ${"));
        assert_eq!(filled("${c}", &values), Err("c".to_owned()));
    }
}
