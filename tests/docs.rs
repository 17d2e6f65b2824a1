//! The pages say what the code does: every reason, every metric, and no link into nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use taskfence_core::reason::Reason;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The first cells of the table whose header begins with `header`, without the marks of code.
fn table(page: &str, header: &str) -> BTreeSet<String> {
    let mut lines = page.lines().skip_while(|line| !line.starts_with(header));
    lines.next().unwrap_or_else(|| panic!("no table that begins with {header}"));
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(1))
        .map(|cell| cell.trim().trim_matches('`').to_owned())
        .collect()
}

#[test]
fn the_architecture_lists_every_reason() {
    let documented = table(&page("docs/architecture.md"), "| code | HTTP | gRPC |");
    let known = Reason::ALL.iter().map(|reason| reason.code().to_owned()).collect();
    assert_eq!(documented, known);
}

#[test]
fn operations_lists_every_metric() {
    // What stands in capitals is one of several words.
    let stem = |name: &str| {
        let parts = name.split('.').take_while(|part| !part.starts_with(|c: char| c.is_ascii_uppercase() || c == '{'));
        parts.collect::<Vec<_>>().join(".")
    };
    let documented: BTreeSet<_> =
        table(&page("docs/operations.md"), "| name | counts |").iter().map(|name| stem(name)).collect();
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(root().join("src/filter")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let name = line.split("\"taskfence.").nth(1).and_then(|rest| rest.split('"').next());
            // Properties of a stream are not metrics.
            let name = name.filter(|name| !["reason", "decision", "record", "shadow", "probe"].contains(name));
            known.extend(name.filter(|name| !name.starts_with('{')).map(|name| stem(&format!("taskfence.{name}"))));
        }
        for line in text.lines().filter(|line| line.contains("family(\"")) {
            let name = line.split("family(\"").nth(1).and_then(|rest| rest.split('"').next());
            known.extend(name.map(|name| format!("taskfence.{name}")));
        }
    }
    assert_eq!(documented, known);
}

/// Names and expressions of `stats_tags`, in their order, as the file writes them.
fn stats_tags(file: &str) -> Vec<String> {
    let text = page(file);
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "stats_tags:").skip(1);
    lines
        .take_while(|line| line.starts_with("- tag_name: ") || line.starts_with("regex: "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn all_configurations_give_the_same_labels() {
    let documented = stats_tags("docs/operations.md");
    assert!(documented.len() > 20, "{documented:?}");
    for file in [
        "envoy/plain/sidecar.yaml",
        "envoy/plain/sidecar-with-signals.yaml",
        "envoy/istio/stats-tags.yaml",
        "envoy/gateway/stats-tags.yaml",
        "envoy/helm/taskfence/templates/gateway.yaml",
        "envoy/helm/taskfence/templates/istio.yaml",
    ] {
        assert_eq!(stats_tags(file), documented, "{file}");
    }
}

#[test]
fn every_test_that_the_page_of_ssf_names_is_one() {
    let page = page("docs/ssf-conformance.md");
    let spans = page.split('`').skip(1).step_by(2);
    let named: Vec<&str> =
        spans.filter(|span| ["e2e::", "hub::", "core::"].iter().any(|start| span.starts_with(start))).collect();
    let named: Vec<&str> = named.into_iter().filter(|name| !name.ends_with("::")).collect();
    assert!(named.len() > 50, "the tables are there: {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "docs/ssf-conformance.md names what is no test: {missing:#?}");
}

/// Whether `hub::ssf::client::poll::NAME` is a test: in the module itself, in `tests` beside it, or in a file of tests.
fn is_test(name: &str) -> bool {
    let (module, function) = name.rsplit_once("::").unwrap();
    let (krate, inner) = module.split_once("::").unwrap();
    let inner = inner.replace("::", "/");
    let base = if krate == "e2e" { root().join("tests/e2e") } else { root().join("src").join(krate) };
    let (parent, last) = inner.rsplit_once('/').unwrap_or(("", &inner));
    let files = [
        base.join(format!("{inner}.rs")),
        base.join(format!("{inner}/tests.rs")),
        base.join(parent).join(format!("tests/{last}.rs")),
    ];
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| has_test(&text, function))
}

/// Whether `text` has a function of that name with the attribute of a test on one of the lines right before it.
fn has_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let starts = [format!("fn {function}("), format!("async fn {function}(")];
    let mut at = lines.iter().enumerate().filter(|(_, line)| starts.iter().any(|start| line.starts_with(start)));
    at.any(|(at, _)| {
        let before = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        before.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut pages: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"]
        .iter()
        .map(|name| root().join(name))
        .filter(|page| page.exists())
        .collect();
    let mut folders = vec![root().join("docs"), root().join("envoy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => pages.extend(Some(path).filter(|path| path.extension().is_some_and(|kind| kind == "md"))),
            }
        }
    }
    assert!(pages.len() > 35, "{pages:?}");
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = match (file.exists(), anchor) {
                (true, "") => true,
                (true, anchor) => anchors(&fs::read_to_string(&file).unwrap()).contains(anchor),
                (false, _) => false,
            };
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links into nothing:\n{}", broken.join("\n"));
}

/// The anchors that a forge makes of the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
