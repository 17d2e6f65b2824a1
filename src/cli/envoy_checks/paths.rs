//! Whether Envoy and the rules read a path in the same way.
//!
//! Rules compare the canonical path: `/%70ublic` is `/public`, and `/a%3Ab` is `/a:b`. Envoy compares the letters of
//! the path with its routes. With `normalize_path` it first decodes escapes of unreserved characters (RFC 3986 §2.3),
//! and no others.

use super::{Findings, Installed, list};
use crate::envoy::{Manager, Node};

/// Looks for paths that Envoy and the rules read differently.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let Some(place) = one.place else { return };
    let matches = path_matches(place.manager);
    if place.manager.node.is_true("normalize_path") {
        check_letters(&matches, findings);
    } else {
        check_option(place.manager, &matches, findings);
    }
}

fn check_option(manager: &Manager<'_>, matches: &[Node<'_>], findings: &mut Findings) {
    let by_path: Vec<String> =
        matches.iter().filter_map(literal).filter(|text| *text != "/").map(str::to_owned).collect();
    let help = "set `normalize_path: true`, and with it `merge_slashes: true` and `path_with_escaped_slashes_action: REJECT_REQUEST`";
    if by_path.is_empty() {
        let message = "has no `normalize_path`, so the service gets other spellings of a path than the rules judge";
        findings.warning(&manager.node.place, message, help);
        return;
    }
    let message = format!(
        "has no `normalize_path`, so Envoy routes an escaped spelling of {} elsewhere than the path that the rules judge",
        list(&by_path)
    );
    findings.error(&manager.node.place, message, help);
}

/// A route for `/a:b` does not match `/a%3Ab`, which the rules read as the same.
fn check_letters(matches: &[Node<'_>], findings: &mut Findings) {
    for node in matches {
        // In a regular expression these letters have another meaning.
        let Some(text) = node.value().as_str() else { continue };
        let Some(letter) = text.chars().find(|letter| !is_unreserved(*letter) && *letter != '/') else { continue };
        let message = format!(
            "`{letter}` can be spelled otherwise, and Envoy routes that spelling elsewhere while the rules judge it as `{text}`"
        );
        let help = "let the rules tell such paths apart, and the route end before that letter";
        findings.warning(&node.place, message, help);
    }
}

/// The values that the routes of a manager compare paths with: each field of a `match` that has an action.
fn path_matches<'e>(manager: &Manager<'e>) -> Vec<Node<'e>> {
    let all = manager.routes_here().map(|routes| routes.descendants()).unwrap_or_default();
    let is_route = |node: &&Node<'_>| {
        ["route", "redirect", "direct_response", "non_forwarding_action"]
            .iter()
            .any(|action| node.get(action).is_some())
    };
    let fields = ["prefix", "path", "path_separated_prefix", "safe_regex", "path_match_policy"];
    let found = all.iter().filter(is_route).filter_map(|route| route.get("match"));
    found.flat_map(|found| fields.iter().filter_map(move |field| found.get(field)).collect::<Vec<_>>()).collect()
}

/// The letters that a path is compared with; `None` for a plugin. A regular expression gives its own text.
fn literal<'e>(node: &Node<'e>) -> Option<&'e str> {
    node.value().as_str().or_else(|| node.text("regex"))
}

fn is_unreserved(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_' | '~')
}
