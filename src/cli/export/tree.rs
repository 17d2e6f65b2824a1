//! An object that is filled place by place.

use serde_json::{Map, Value};

/// An object.
#[derive(Default)]
pub struct Tree(Map<String, Value>);

impl Tree {
    /// Puts `value` at `path`, and says whether it could: not where something stands already.
    pub fn put(&mut self, path: &[&str], value: Value) -> bool {
        put(&mut self.0, path, value)
    }

    /// Puts `value` at the place `dotted`, in which a dot goes into an object.
    pub fn put_at(&mut self, dotted: &str, value: Value) -> bool {
        self.put(&dotted.split('.').collect::<Vec<_>>(), value)
    }

    /// Puts `value` at `path` in the object `foreign`, under another name if something stands there.
    pub fn put_foreign(&mut self, foreign: &str, path: &[String], value: Value) {
        let mut steps: Vec<String> = [foreign.to_owned()].into_iter().chain(path.iter().cloned()).collect();
        while !self.put(&steps.iter().map(String::as_str).collect::<Vec<_>>(), value.clone()) {
            // The name in the foreign object, so that no value of a member is mixed with those of another.
            if let Some(name) = steps.get_mut(1) {
                name.push('_');
            }
        }
    }

    /// Whether there is something at the place `dotted`.
    pub fn has(&self, dotted: &str) -> bool {
        let mut steps = dotted.split('.');
        let first = steps.next().and_then(|step| self.0.get(step));
        steps.fold(first, |at, step| at.and_then(|at| at.get(step))).is_some()
    }

    /// All of it.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

fn put(map: &mut Map<String, Value>, path: &[&str], value: Value) -> bool {
    match path {
        [] => false,
        [last] => match map.contains_key(*last) {
            true => false,
            false => map.insert((*last).to_owned(), value).is_none(),
        },
        [first, rest @ ..] => match map.entry(*first).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => put(inner, rest, value),
            _ => false,
        },
    }
}
