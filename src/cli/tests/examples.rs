//! Every configuration that we hand out is one that the filter takes and that the schema allows; what the schema
//! refuses, the filter refuses as well.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::input::configuration;
use crate::input::yaml;
use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;

/// A configuration, and where it stands.
struct Example {
    place: String,
    value: Value,
}

#[test]
fn every_example_fits_the_schema_and_is_taken() {
    let schema = schema();
    let examples = examples();
    let places: Vec<&str> = examples.iter().map(|example| example.place.as_str()).collect();
    assert!(places.len() >= 4, "{places:?}");
    for Example { place, value } in &examples {
        let faults: Vec<String> =
            schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert_eq!(faults, Vec::<String>::new(), "{place}");
        if let Err(problems) = configuration::parse(value.to_string().as_bytes()) {
            panic!("{place}: {problems:?}");
        }
    }
}

#[test]
fn the_hub_of_the_page_fits_its_schema() {
    let mut capture = Capture::default();
    assert_eq!(capture.run(&["schema", "--hub"]), Exit::Done, "{}", capture.err());
    let schema = serde_json::from_str(capture.out()).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let page = include_str!("../../../docs/hub.md");
    let yaml = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let hubs: Vec<Value> = yaml.filter(|yaml| yaml.starts_with("data:")).map(json_of).collect();
    assert!(!hubs.is_empty());
    for hub in &hubs {
        let faults: Vec<String> = schema.iter_errors(hub).map(|error| error.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new());
        taskfence_hub::config::compile::compile(hub.to_string().as_bytes()).unwrap();
    }
    let mut hub = hubs[0].clone();
    hub["feeds"][0]["issuer"] = json!([]);
    assert!(!schema.is_valid(&hub));
}

/// The page names every member of the schema, and its examples are records of every verdict.
#[test]
fn the_records_of_the_page_fit_their_schema() {
    let mut capture = Capture::default();
    assert_eq!(capture.run(&["schema", "record"]), Exit::Done, "{}", capture.err());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/decision-record.schema.json");
    let published = std::fs::read_to_string(file).unwrap_or_default();
    assert!(published == capture.out(), "docs/decision-record.schema.json is not what the code says; run scripts/docs");
    let mut schema: Value = serde_json::from_str(capture.out()).unwrap();
    let page = include_str!("../../../docs/decision-record.md");
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{name}`")), "the page does not name `{name}`");
    }
    // Stricter than what readers use: no member that is not described.
    schema["additionalProperties"] = json!(false);
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let examples = page.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let mut verdicts = std::collections::BTreeSet::new();
    for example in examples {
        let record: Value = serde_json::from_str(example).unwrap();
        let faults: Vec<String> = validator.iter_errors(&record).map(|error| error.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new(), "{example}");
        verdicts.insert(record["verdict"].as_str().unwrap().to_owned());
    }
    assert_eq!(verdicts.len(), 5, "{verdicts:?}");
    let one: Value = serde_json::from_str(page.split("```json\n").nth(1).unwrap().split('\n').next().unwrap()).unwrap();
    for (member, wrong) in [
        ("subject", Value::Null),
        ("verdict", json!("maybe")),
        ("time", json!("today")),
        ("config", json!("0x1")),
        ("schema", json!("taskfence.decision/2")),
        ("path", json!("/".repeat(1025))),
        ("surprise", json!(1)),
    ] {
        let mut record = one.clone();
        record[member] = wrong;
        assert!(!validator.is_valid(&record), "{member}");
    }
}

#[test]
fn an_unknown_key_is_refused_by_both() {
    for pointer in [
        "",
        "/issuers/0",
        "/issuers/0/keys",
        "/issuers/0/claims",
        "/identity",
        "/rules/2",
        "/rules/2/match",
        "/rules/2/require",
        "/rules/2/require/detail",
        "/rules/3/require/scope",
        "/rules/3/require/risk",
        "/rules/3/break_glass",
        "/rules/4/match/grpc",
        "/rules/4/require/actor",
        "/rules/5/require/device",
        "/signals",
        "/signals/transmitters/0",
        "/signals/transmitters/0/keys",
    ] {
        refused_by_both(pointer, |object| {
            object.as_object_mut().unwrap_or_else(|| panic!("{pointer}")).insert("surprise".to_owned(), json!(1));
        });
    }
}

#[test]
fn a_wrong_type_and_a_wrong_word_are_refused_by_both() {
    let numbers = ["/role", "/realm", "/issuers/0/issuer", "/issuers/0/audiences", "/issuers/0/max_lifetime"];
    let more = ["/rules/2/name", "/rules/2/match/path", "/rules/2/require/scope", "/rules/3/require/when", "/rules"];
    for pointer in numbers.iter().chain(&more) {
        refused_by_both(pointer, |value| *value = json!(7));
    }
    for pointer in ["/role", "/mode", "/rules/0/allow", "/rules/3/require/device", "/rules/3/require/risk/below"] {
        refused_by_both(pointer, |value| *value = json!("surprise"));
    }
    for pointer in ["/issuers/0/clock_skew", "/rules/3/require/auth_age"] {
        refused_by_both(pointer, |value| *value = json!("soon"));
    }
    for (object, key) in [("", "issuers"), ("/issuers/0", "keys"), ("/rules/0", "match"), ("/signals", "transmitters")]
    {
        refused_by_both(object, |object| {
            object.as_object_mut().unwrap().remove(key).unwrap();
        });
    }
}

/// Changes the worked example of the reference at `pointer`.
fn refused_by_both(pointer: &str, change: impl FnOnce(&mut Value)) {
    let mut value = json_of(include_str!("../commands/example.yaml"));
    change(value.pointer_mut(pointer).unwrap_or_else(|| panic!("nothing stands at {pointer}")));
    assert!(!schema().is_valid(&value), "the schema takes the change at {pointer}");
    assert!(configuration::parse(value.to_string().as_bytes()).is_err(), "the filter takes the change at {pointer}");
}

fn schema() -> jsonschema::Validator {
    jsonschema::draft202012::new(taskfence_core::config::schema::schema().as_value()).unwrap()
}

fn json_of(yaml: &str) -> Value {
    serde_json::from_str(&yaml::to_json(yaml).unwrap()).unwrap()
}

fn examples() -> Vec<Example> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut examples = Vec::new();
    let folders = ["envoy", "envoy/plain", "envoy/istio", "envoy/gateway"];
    for path in folders.into_iter().flat_map(|folder| files(&root.join(folder), "yaml")) {
        let text = fs::read_to_string(&path).unwrap();
        for (at, document) in text.split("\n---\n").enumerate() {
            embedded(&json_of(document), &format!("{} document {at}", path.display()), &mut examples);
        }
    }
    let pages = files(&root.join("docs"), "md");
    for path in pages.into_iter().chain([root.join("README.md")]) {
        let text = fs::read_to_string(&path).unwrap();
        for (at, block) in text.split("```yaml\n").skip(1).enumerate() {
            let value = json_of(block.split("```").next().unwrap());
            if value.get("issuers").is_some() {
                examples.push(Example { place: format!("{} block {at}", path.display()), value });
            }
        }
    }
    examples
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|have| have == extension)).collect();
    files.sort();
    files
}

/// The configurations inside a configuration of Envoy, wherever they stand.
fn embedded(value: &Value, place: &str, examples: &mut Vec<Example>) {
    let is_text = value["@type"] == "type.googleapis.com/google.protobuf.StringValue";
    if let Some(text) = value["value"].as_str().filter(|_| is_text) {
        let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error} in {text}"));
        examples.push(Example { place: place.to_owned(), value });
    }
    // In resources of Istio and of Envoy Gateway it is an object.
    for object in [&value["pluginConfig"], &value["config"]] {
        if object.get("issuers").is_some() {
            examples.push(Example { place: place.to_owned(), value: object.clone() });
        }
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| embedded(item, place, examples)),
        Value::Object(members) => {
            members.iter().for_each(|(name, item)| embedded(item, &format!("{place} {name}"), examples));
        }
        _ => {}
    }
}
