//! Writes a transmitter into the text of hub.yaml: comments and order stay as they are. The result is read again and
//! compared with what it must mean, so a text of another shape is left alone.

use serde_json::{Value, json};

use crate::commands::hub::transmitter::entry::Entry;
use crate::drafting::yaml;
use crate::input::document;

/// What to add.
pub struct Addition<'a> {
    /// The position of the feed in `feeds`.
    pub feed: usize,
    /// The transmitter.
    pub entry: &'a Entry,
    /// A cluster that is not there yet: its name and its base URL.
    pub cluster: Option<(&'a str, &'a str)>,
}

/// `text` with the addition. `None`: its shape is not one that can be changed line by line.
pub fn edit(text: &str, addition: &Addition<'_>) -> Option<String> {
    let old = read(text)?;
    let wanted = added(old, addition)?;
    if text.trim_start().starts_with('{') {
        return serde_json::to_string_pretty(&wanted).ok().map(|text| text + "\n");
    }
    let with_cluster = match addition.cluster {
        None => text.to_owned(),
        Some((name, url)) => cluster(text, name, url),
    };
    let lines: Vec<&str> = with_cluster.lines().collect();
    let places = lines.iter().enumerate().filter(|(_, line)| is_key(line, "transmitters"));
    let mut tries = places.map(|(at, _)| insert(&lines, at, addition.entry));
    tries.find(|text| read(text).as_ref() == Some(&wanted))
}

/// What the file means after the addition.
fn added(mut config: Value, addition: &Addition<'_>) -> Option<Value> {
    let feed = config.get_mut("feeds")?.as_array_mut()?.get_mut(addition.feed)?.as_object_mut()?;
    let signals = feed.entry("signals").or_insert_with(|| json!({}));
    let signals = signals.as_object_mut()?;
    signals.entry("transmitters").or_insert_with(|| json!([])).as_array_mut()?.push(addition.entry.to_json());
    if let Some((name, url)) = addition.cluster {
        let clusters = config.as_object_mut()?.entry("clusters").or_insert_with(|| json!({}));
        clusters.as_object_mut()?.insert(name.to_owned(), json!(url));
    }
    Some(config)
}

fn read(text: &str) -> Option<Value> {
    serde_json::from_slice(&document::to_json(text.as_bytes(), "the configuration").ok()?).ok()
}

/// Inserts the entry at the end of the list below line `at`.
fn insert(lines: &[&str], at: usize, entry: &Entry) -> String {
    let key = lines.get(at).map_or(0, |line| indent(line));
    let (end, first) = block(lines, at, key, true);
    let own = first.unwrap_or_else(|| key.saturating_add(2));
    let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    // An empty list on the line of the key becomes one below it.
    if let Some(line) = all.get_mut(at)
        && let Some(head) = line.trim_end().strip_suffix("[]")
    {
        *line = head.trim_end().to_owned();
    }
    let new = entry.to_yaml().into_iter().map(|line| format!("{}{line}", " ".repeat(own)));
    let tail = all.split_off(end.min(all.len()));
    all.extend(new);
    all.extend(tail);
    all.join("\n") + "\n"
}

/// The text with one more cluster.
fn cluster(text: &str, name: &str, url: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let pair = format!("{}: {}", yaml::scalar(name), yaml::scalar(url));
    let Some(at) = lines.iter().position(|line| line.starts_with("clusters:")) else {
        return format!("{}\nclusters:\n  {pair}\n", text.trim_end());
    };
    let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let line = lines.get(at).copied().unwrap_or_default();
    // `clusters: {a: b}   # a comment`
    if let Some((head, tail)) = line.rsplit_once('}') {
        let separator = if head.trim_end().ends_with('{') { "" } else { ", " };
        if let Some(line) = all.get_mut(at) {
            *line = format!("{}{separator}{pair}}}{tail}", head.trim_end());
        }
        return all.join("\n") + "\n";
    }
    let (end, first) = block(&lines, at, 0, false);
    all.insert(end.min(all.len()), format!("{}{pair}", " ".repeat(first.unwrap_or(2))));
    all.join("\n") + "\n"
}

/// Where the block below line `at` ends, whose key is indented by `key`, and how its first line is indented. A list may be
/// indented as its key is.
fn block(lines: &[&str], at: usize, key: usize, is_list: bool) -> (usize, Option<usize>) {
    let (mut end, mut first) = (at.saturating_add(1), None);
    for (number, line) in lines.iter().enumerate().skip(end) {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let is_item = is_list && text.starts_with('-') && indent(line) == key;
        if indent(line) <= key && !is_item {
            break;
        }
        first = first.or(Some(indent(line)));
        end = number.saturating_add(1);
    }
    (end, first)
}

/// Whether a line begins the value of this key, without the value itself.
fn is_key(line: &str, name: &str) -> bool {
    let text = line.trim_start().trim_start_matches("- ").trim_start();
    let rest = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    rest.is_some_and(|rest| {
        let rest = rest.split('#').next().unwrap_or_default().trim();
        rest.is_empty() || rest == "[]"
    })
}

fn indent(line: &str) -> usize {
    line.len().saturating_sub(line.trim_start_matches(' ').len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::new(vec![
            ("issuer", json!("https://new.example")),
            ("keys", json!({"cluster": "new.example", "path": "/jwks"})),
            ("ssf", json!({"credentials": {"token_file": "/t"}})),
        ])
    }

    fn edited(text: &str, feed: usize) -> Option<String> {
        let entry = entry();
        edit(text, &Addition { feed, entry: &entry, cluster: Some(("new.example", "https://new.example")) })
    }

    const FILE: &str = "\
# who may revoke
data: /var/lib/taskfence   # the store
feeds:
  - name: other
    issuers: []
    signals:
      transmitters:
        - issuer: https://a.example
          audience: x
  - name: main             # the mesh
    issuers: []
    signals:
      transmitters:        # as in a receiver
        - issuer: https://b.example
          audience: x

        # the last one
        - issuer: https://c.example
          keys: {cluster: c}
      effects: {credential-change: end}
# where keys are
clusters:
  c: https://c.example     # ours
listen: {address: 127.0.0.1:8500}
";

    #[test]
    fn comments_and_order_stay() {
        let text = edited(FILE, 1).unwrap();
        let (old, new): (Vec<&str>, Vec<&str>) = (FILE.lines().collect(), text.lines().collect());
        let added: Vec<&&str> = new.iter().filter(|line| !old.contains(line)).collect();
        assert_eq!(
            added,
            [
                &"        - issuer: https://new.example",
                &"          keys: {cluster: new.example, path: /jwks}",
                &"          ssf:",
                &"            credentials: {token_file: /t}",
                &"  new.example: https://new.example"
            ]
        );
        let kept: Vec<&str> = new.iter().filter(|line| old.contains(line)).copied().collect();
        assert_eq!(kept, old);
        assert_ne!(edited(FILE, 0).unwrap(), text, "the feed that is meant");
    }

    #[test]
    fn lists_may_be_empty_or_as_far_left_as_their_key() {
        for file in [
            "data: /d\nfeeds:\n- name: main\n  signals:\n    transmitters:\n    - issuer: https://b.example\n",
            "data: /d\nfeeds:\n- name: main\n  signals:\n    transmitters: []\nclusters: {a: https://a.example}   # b\n",
            "data: /d\nfeeds:\n- name: main\n  signals:\n    transmitters:   # none\n    - issuer: x\nclusters: {}\n",
            "{\"data\": \"/d\", \"feeds\": [{\"name\": \"main\"}]}",
        ] {
            let text = edited(file, 0).unwrap_or_else(|| panic!("{file}"));
            let clusters = read(&text).unwrap()["clusters"].clone();
            assert_eq!(clusters["new.example"], "https://new.example", "{text}");
        }
    }

    #[test]
    fn another_shape_is_left_alone() {
        for file in [
            "data: /d\nfeeds: [{name: main, signals: {transmitters: []}}]\n",
            "data: /d\nfeeds:\n- name: main\n",
            "not yaml: [",
        ] {
            assert_eq!(edited(file, 0), None, "{file}");
        }
    }
}
