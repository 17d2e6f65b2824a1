//! The roles of the permanent path, as `--compare` reads them from a file.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use taskfence_core::config::load;
use taskfence_core::config::problem::Problem;
use taskfence_hub::evidence::measures::comparison::Role;

use crate::failure::Failure;
use crate::input::document;
use crate::input::file;
use crate::input::problem::BadFile;

/// What messages call the file.
const WHAT: &str = "the file of roles";

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    /// The roles.
    roles: Vec<Role>,
}

/// The roles of the file at `path`, in YAML or JSON, as the hub takes them.
pub fn read(path: &Path) -> Result<Value, Failure> {
    let text = file::read(path)?;
    let roles = parse(&text).map_err(|problems| BadFile::new(path, problems))?;
    Ok(serde_json::to_value(roles)?)
}

fn parse(text: &[u8]) -> Result<Vec<Role>, Vec<Problem>> {
    let json = document::to_json(text, WHAT).map_err(|problem| vec![problem])?;
    let roles: Roles = load::parse(&json, WHAT).map_err(|problem| vec![described(problem)])?;
    let problems = check(&roles.roles);
    if problems.is_empty() { Ok(roles.roles) } else { Err(problems) }
}

/// A problem with `cells`, which is one of two things, in words of the file.
fn described(problem: Problem) -> Problem {
    if !problem.message.contains("untagged enum Cells") {
        return problem;
    }
    Problem::at(problem.path, "is neither a number nor `unbounded`").help("write how many cells the role allows")
}

fn check(roles: &[Role]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if roles.is_empty() {
        problems.push(Problem::at("roles", "there is no role").help("name at least one, or leave out `--compare`"));
    }
    let mut names = BTreeSet::new();
    for (index, role) in roles.iter().enumerate() {
        let place = format!("roles[{index}]");
        let mut bad = |member: &str, message: &str, help: &str| {
            problems.push(Problem::at(format!("{place}{member}"), message).help(help));
        };
        if role.name.is_empty() {
            bad(".name", "is empty", "give the role the name that it has where it is managed");
        } else if !names.insert(role.name.as_str()) {
            bad(".name", &format!("`{}` stands twice", role.name), "put its subjects into one role");
        }
        if role.subjects.is_empty() {
            bad(".subjects", "nobody has this role", "list the `sub` of each who has it, or remove the role");
        }
        let mut seen = BTreeSet::new();
        for (at, subject) in role.subjects.iter().enumerate() {
            if subject.is_empty() {
                bad(&format!(".subjects[{at}]"), "is empty", "write the `sub` as it stands in tokens");
            } else if !seen.insert(subject) {
                bad(&format!(".subjects[{at}]"), &format!("`{subject}` stands twice"), "remove one");
            }
        }
        if role.scopes.is_empty() && role.authorization_details.is_empty() && role.cells.is_none() {
            bad("", "allows nothing", "add `scopes`, `authorization_details` or `cells`");
        }
        for (at, scope) in role.scopes.iter().enumerate() {
            if scope.is_empty() || scope.contains(char::is_whitespace) {
                let message = format!("`{scope}` is not one scope");
                bad(&format!(".scopes[{at}]"), &message, "write one scope in each entry, without spaces");
            }
        }
        for (at, detail) in role.authorization_details.iter().enumerate() {
            if detail.get("type").and_then(Value::as_str).is_none_or(str::is_empty) {
                let place = format!(".authorization_details[{at}]");
                bad(&place, "has no `type`", "write an object with `type`, as RFC 9396 section 2 has it");
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::console::Capture;
    use crate::terminal::exit::Exit;
    use crate::tests::snapshot;

    #[test]
    fn the_example_of_the_page_is_good() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/roles.yaml");
        let roles = read(&example).unwrap();
        assert_eq!(roles[0]["name"], "refund-agent");
        assert_eq!(roles[1]["authorization_details"], Value::Array(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_remedy() {
        let mut page = String::new();
        for text in [
            "roles: []",
            "roles: yes",
            "role: []",
            "- name: a",
            "roles: [{name: a, subjects: [s], scope: [x]}]",
            "roles: [{name: a, scopes: [x]}]",
            "roles: [{name: '', subjects: [], scopes: ['a b', '']}]",
            "roles: [{name: a, subjects: [s, s, ''], scopes: [x]}, {name: a, subjects: [t]}]",
            "roles: [{name: a, subjects: [s], authorization_details: [{type: order}, {actions: [x]}, 7]}]",
            "roles: [{name: a, subjects: [s], cells: many}]",
            "roles: [{name: a, name: b, subjects: [s], scopes: [x]}]",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("roles.yaml");
            std::fs::write(&path, text).unwrap();
            let mut capture = Capture::default();
            let exit = capture.run(&["report", "--hub", "http://127.0.0.1:9", "--compare", path.to_str().unwrap()]);
            assert_eq!(exit, Exit::BadConfig, "{text}: {}", capture.err());
            let said = capture.err().replace(path.to_str().unwrap(), "roles.yaml");
            page.push_str(&format!("### {text}\n{said}\n"));
        }
        snapshot::check("report-roles", &page);
    }
}
