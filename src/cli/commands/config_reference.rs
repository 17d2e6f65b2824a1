//! The reference of the configuration in Markdown, made from its JSON Schema.

use serde_json::{Map, Value};
use taskfence_core::rules::condition;

const INTRODUCTION: &str = "\
# Configuration

Every key that a configuration of Taskfence may hold. In Envoy it is the JSON in the plugin's `configuration`; the
command line takes YAML as well, and `taskfence check FILE --print` turns one into the other.

- The two listeners of an Envoy have the same configuration, but for `role`. A filter with `signals.hub` needs no second
  listener.
- An unknown key, a wrong type and a value that makes no sense are errors. `taskfence check` names the place of each, and
  the filter refuses to start with the same words in Envoy's log.
- A length of time is a string such as `30s`, `15m` or `1h 30m`, in whole seconds or longer units.
- `[]` in a path stands for any item of a list.
- `taskfence schema` prints the JSON Schema, for editors. It knows shapes only; `taskfence check` knows what they mean.
- `taskfence explain` shows what a configuration does with a request; `taskfence test` does that for a table of them.

This page is made by `scripts/docs`.
";

const CONDITIONS: &str = "
## Conditions

`rules[].require.when` is an expression in [CEL](https://cel.dev) that must be true. It is read and checked when the
configuration is loaded: a name that does not exist, or a comparison of two kinds of value, is an error then. An error
while it is evaluated refuses the request (`condition_error`); a claim that a token need not have is asked for with
`has(claims.NAME)`.

Functions: `startsWith`, `endsWith`, `contains`, `size`, `int`, `uint`, `double`, `string`, `bool`, `dyn`, `type`, `has`,
and the macros `all`, `exists`, `exists_one`, `filter` and `map`.

Values of `request` have one spelling each, the one that rules compare: a host in lower case without port and final dot,
a method in upper case, a canonical path. A constant in another spelling is an error, for it would match nothing.

A condition may take so much work and no more, however large the claims are: about a millisecond. Inside a loop, what is as
long as a token or a path (`claims`, `grant.scopes`, `captures`, `request.path`) may only be compared with the item, by
`==`, `!=`, `<`, `>`, or as the argument of `startsWith`, `endsWith` and `contains`; a loop inside a loop is an error. What
takes too much work with the claims of one token is `condition_error`, whatever the rest of the condition says.

| name | kind | what it is |
|---|---|---|
| `claims.NAME` | any value | a claim of the verified token, as signals left it |
| `captures.NAME` | a string | what the path captured, escapes decoded |
| `now` | a number | the time of the request, in unix seconds |
";

const CLAIMS: &str = "
## Names of claims

A claim that the filter reads may have any name. What it reads under that name is what rules, signals, headers to the
upstream and the log call client, task, session and so on.

- A name is a path: `realm_access.roles` is the claim `roles` inside the claim `realm_access`.
- A part with a dot stands in double quotes: `'\"kubernetes.io\".pod.name'`. In quotes, `\\\"` is a quote.
- A name with `://`, or that begins with `urn:`, is one name: `https://example.com/roles`.
- A name with a dot and a `/` or `:` could be either, and is refused: write `'\"kubernetes.io/sa\"'`, with quotes.
- Of a list of names, the first that is present counts. Null is absent. If another one of the list is present with another
  value, the token is refused, and the log names the claim. Only `scope` may have names with different values.
- An integer stands for its digits: `run_id: 42` is the task `42`.
- A path through a list or a text is refused, and so is a value of the wrong kind.
- A narrowing reaches each claim that is named for `scope` or `details`, and `scope`, `scp` and `authorization_details`
  in any case. It takes from all of them, also from those that do not count.

`none` says that tokens have no such claim. Where a rule, a header or a transmitter needs it, `taskfence check` fails, or
warns if only some of the issuers lack it.

| what tokens lack | single use | replay | signals | timeline |
|---|---|---|---|---|
| an identifier: `claims: {token: none}` | by the SHA-256 of the signed bytes | two tokens with the same bytes are one | none finds a token by `jwt_id`: end its session, its task or its user | `token` is `sha256:` and the digest |
| a task: `claims: {task: none}` | as ever | as ever | `task-completed` finds nothing, and a signal with a member `task` is refused | no request belongs to a task |
| a task of its own: `claims: {task: sub}` | as ever | as ever | completing it ends the user for good | all requests of a user are one task |
| a client: `claims: {client: none}` | as ever | as ever | none about a client finds its tokens | no client |
| a session | as ever | as ever | none about a session finds it; one about its user does | no session |
| `auth_time` | as ever | as ever | a cut-off counts by `iat`, so a token that was made after it passes, whenever its user signed in | `max_session` and `auth_age` have nothing to measure |
| `aud`: `audience_from: none` | as ever | a token for another service passes; the filter asks for a binding | as ever | as ever |
| `aud`: `audience_from: client_id` | as ever | any token of that client passes | as ever | as ever |
| `typ`: `types: [absent]` | as ever | another JWT of the issuer with these claims passes: write a `where` | as ever | as ever |
| `iss`: `issuer_from: sub` | as ever | as ever | signals name the issuer by scheme and authority, `spiffe://td.example` | as ever |

Several entries may be about one issuer. A token belongs to the one whose `types`, `where` and audience it has. Two
entries that nothing tells apart are an error, and a token that belongs to two entries, such as one for both audiences, is
refused.
";

/// What the fields of conditions are.
const FIELDS: [(&str, &str); 17] = [
    ("request.method", "the method, in upper case"),
    ("request.host", "the host, in lower case, without port and final dot"),
    ("request.path", "the canonical path, without the query"),
    ("request.source", "the address that it comes from; where that is not known, the condition cannot be evaluated"),
    ("context.device", "`compliant`, `not-compliant` or `unknown`"),
    ("context.risk", "`LOW`, `MEDIUM`, `HIGH` or `UNKNOWN`"),
    ("context.state_age", "seconds since a transmitter was last heard of"),
    ("grant.issuer", "`iss`"),
    ("grant.subject", "`sub`"),
    ("grant.client", "the client; where tokens name none, the condition cannot be evaluated"),
    ("grant.task", "the task; where tokens name none, the condition cannot be evaluated"),
    ("grant.session", "the session; empty when there is none"),
    ("grant.actor", "`sub` of the outermost `act`; empty when nobody acts"),
    ("grant.scopes", "the scope values that are left"),
    ("grant.issued_at", "`iat`"),
    ("grant.expires_at", "`exp`"),
    (
        "grant.auth_age",
        "seconds since the user was authenticated, by `auth_time`; without that claim, the condition cannot be evaluated",
    ),
];

/// A configuration to read on.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// The page for `schema`.
pub(super) fn markdown(schema: &Value) -> String {
    let mut page = Page { schema, text: INTRODUCTION.to_owned() };
    page.text.push_str("\n## Keys\n");
    page.section("", schema);
    page.text.push_str(CLAIMS);
    page.conditions();
    page.text.push_str("\n## A worked example\n\n```yaml\n");
    page.text.push_str(EXAMPLE);
    page.text.push_str("```\n");
    page.text
}

struct Page<'s> {
    schema: &'s Value,
    text: String,
}

/// What may stand at a key.
#[derive(Default)]
struct Shape<'s> {
    /// In words.
    words: String,
    /// The words that it may be, with their meanings.
    choices: Vec<(&'s str, &'s str)>,
    /// What is behind the path of the key where the keys of an object begin, and that object.
    object: Option<(&'static str, &'s Value)>,
}

impl<'s> Page<'s> {
    /// A table of the keys of `object`, which stands at `path`, and then those of the objects in it.
    fn section(&mut self, path: &str, object: &'s Value) {
        let Some(keys) = object.get("properties").and_then(Value::as_object) else { return };
        let title = if path.is_empty() { "The whole configuration".to_owned() } else { format!("`{path}`") };
        self.text.push_str(&format!("\n### {title}\n\n"));
        let about = if path.is_empty() { "" } else { description(object) };
        if !about.is_empty() {
            self.text.push_str(&format!("{}\n\n", one_line(about)));
        }
        self.text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        let mut inner = Vec::new();
        for (name, key) in ordered(object, keys) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let shape = self.shape(key);
            let (meaning, default) = split_default(description(key));
            let default = match default {
                _ if required(object, name) => "required".to_owned(),
                Some(default) => code_if_value(default),
                None if is_nullable(key) => "none".to_owned(),
                None => String::new(),
            };
            let choices: String =
                shape.choices.iter().map(|(word, meaning)| choice(word, meaning)).collect::<Vec<_>>().join("");
            let words = match &shape.object {
                Some((suffix, _)) => format!("[{}](#{})", shape.words, anchor(&format!("{path}{suffix}"))),
                None => shape.words,
            };
            self.text.push_str(&format!("| `{path}` | {words} | {default} | {meaning}{choices} |\n"));
            inner.extend(shape.object.map(|(suffix, object)| (format!("{path}{suffix}"), object)));
        }
        for (path, object) in inner {
            self.section(&path, object);
        }
    }

    fn conditions(&mut self) {
        self.text.push_str(CONDITIONS);
        for (root, field, kind) in condition::vocabulary() {
            let name = format!("{root}.{field}");
            let meaning =
                FIELDS.iter().find(|(have, _)| *have == name).map(|(_, meaning)| *meaning).unwrap_or_default();
            self.text.push_str(&format!("| `{name}` | {kind} | {meaning} |\n"));
        }
    }

    fn shape(&self, schema: &'s Value) -> Shape<'s> {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            return self.referred(name);
        }
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            return self::choices(choices);
        }
        if let Some(forms) = schema.get("anyOf").and_then(Value::as_array) {
            let forms: Vec<Shape<'s>> =
                forms.iter().filter(|form| !is_null(form)).map(|form| self.shape(form)).collect();
            return either(forms);
        }
        match type_of(schema) {
            Some("boolean") => Shape { words: "true or false".to_owned(), ..Shape::default() },
            Some("array") => {
                let item = schema.get("items").map(|items| self.shape(items)).unwrap_or_default();
                Shape {
                    words: format!("list of {}", plural(&item.words)),
                    object: item.object.map(|(_, object)| ("[]", object)),
                    ..Shape::default()
                }
            }
            Some("object") if schema.get("properties").is_some() => {
                Shape { words: "object".to_owned(), object: Some(("", schema)), ..Shape::default() }
            }
            Some("object") => {
                let values = schema.get("additionalProperties").filter(|values| values.is_object());
                let words = values.map(|values| format!("object of {}", plural(&self.shape(values).words)));
                Shape { words: words.unwrap_or_else(|| "object".to_owned()), ..Shape::default() }
            }
            Some(other) => Shape { words: other.to_owned(), ..Shape::default() },
            None => Shape { words: "any value".to_owned(), ..Shape::default() },
        }
    }

    fn referred(&self, name: &str) -> Shape<'s> {
        let name = name.rsplit('/').next().unwrap_or_default();
        match self.schema.get("$defs").and_then(|defs| defs.get(name)) {
            Some(_) if name == "Span" => Shape { words: "length of time".to_owned(), ..Shape::default() },
            Some(schema) => self.shape(schema),
            None => Shape::default(),
        }
    }
}

/// `string` to `strings`, and `list of strings` to `lists of strings`.
fn plural(words: &str) -> String {
    match (words.split_once(", or "), words.strip_prefix("list of ")) {
        (Some((one, other)), _) => format!("{}, or {}", plural(one), plural(other)),
        (None, Some(items)) => format!("lists of {items}"),
        (None, None) => format!("{words}s"),
    }
}

fn choices(all: &[Value]) -> Shape<'_> {
    let choices: Vec<(&str, &str)> =
        all.iter().filter_map(|choice| Some((choice.get("const")?.as_str()?, description(choice)))).collect();
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
    let words = match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.join(""),
    };
    Shape { words, choices, object: None }
}

/// Choices are told one by one only where there is more than one: a single word says it itself.
fn either(forms: Vec<Shape<'_>>) -> Shape<'_> {
    let words: Vec<String> = forms.iter().map(|form| form.words.clone()).collect();
    let mut whole = Shape { words: words.join(", or "), ..Shape::default() };
    for form in forms {
        if form.choices.len() > 1 || words.len() == 1 {
            whole.choices.extend(form.choices);
        }
        whole.object = whole.object.or(form.object);
    }
    whole
}

fn choice(word: &str, meaning: &str) -> String {
    let meaning = one_line(meaning);
    // Some words are their own meaning.
    if meaning.trim_matches('`') == word { String::new() } else { format!("<br>`{word}`: {meaning}") }
}

/// What must be there first, and what is left by name.
fn ordered<'s>(object: &'s Value, keys: &'s Map<String, Value>) -> Vec<(&'s String, &'s Value)> {
    let mut keys: Vec<_> = keys.iter().collect();
    keys.sort_by_key(|(name, _)| !required(object, name));
    keys
}

fn required(object: &Value, name: &str) -> bool {
    object.get("required").and_then(Value::as_array).is_some_and(|required| required.iter().any(|have| have == name))
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The type, other than null.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(one) => Some(one),
        Value::Array(several) => several.iter().filter_map(Value::as_str).find(|one| *one != "null"),
        _ => None,
    }
}

/// Whether it may as well be left out.
fn is_nullable(schema: &Value) -> bool {
    let types = schema.get("type").and_then(Value::as_array);
    let forms = schema.get("anyOf").and_then(Value::as_array);
    types.is_some_and(|types| types.iter().any(|one| one == "null"))
        || forms.is_some_and(|forms| forms.iter().any(is_null))
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// A description, and what it says behind `Default: `.
fn split_default(description: &str) -> (String, Option<String>) {
    let text = one_line(description);
    match text.split_once("Default: ") {
        Some((meaning, default)) => (meaning.trim_end().to_owned(), Some(default.trim_end_matches('.').to_owned())),
        None => (text, None),
    }
}

/// Values of keys are code; phrases are not.
fn code_if_value(default: String) -> String {
    let phrase = default.contains([' ', '`']) || default == "none" || default == "anybody" || default == "itself";
    if phrase { default } else { format!("`{default}`") }
}

/// One line of a table, in which `|` would begin a new cell.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The name that a heading of this text gets on a page.
fn anchor(heading: &str) -> String {
    heading.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        markdown(taskfence_core::config::schema::schema().as_value())
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == page(), "docs/configuration.md is not what the code says; run scripts/docs");
    }

    #[test]
    fn every_key_says_what_it_means_and_what_holds_without_it() {
        let page = page();
        let rows: Vec<&str> =
            page.split("\n## Names of claims").next().unwrap().lines().filter(|line| line.starts_with("| `")).collect();
        assert!(rows.len() > 60, "{}", rows.len());
        for row in rows {
            let cells: Vec<&str> = row.split(" | ").collect();
            let [_, words, default, meaning] = cells.as_slice() else { panic!("{row}") };
            assert!(!words.is_empty() && meaning.trim_end_matches(" |").len() > 2, "{row}");
            assert!(!default.is_empty(), "{row}");
        }
        for (root, field, _) in condition::vocabulary() {
            let name = format!("{root}.{field}");
            assert!(FIELDS.iter().any(|(have, _)| *have == name), "{name} is not explained");
        }
        assert_eq!(condition::vocabulary().count(), FIELDS.len());
    }

    #[test]
    fn the_example_is_a_good_configuration() {
        let configuration = crate::input::configuration::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(configuration.loaded.warnings, []);
    }

    #[test]
    fn every_link_has_its_heading() {
        let page = page();
        let headings: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .map(|text| anchor(text.trim_matches('`')))
            .collect();
        for link in page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(headings.iter().any(|heading| heading == link), "{link} in {headings:?}");
        }
    }
}
