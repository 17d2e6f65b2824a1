//! Finds the rules whose path template matches, by a tree of templates, so that a request does not try every rule.

use crate::http::path::Canonical;
use crate::http::path_template::{MAX_CAPTURES, Segment, Template};
use crate::index::RuleIndex;
use hashbrown::HashMap;

/// The segments that a template captured, in the order of its names, still encoded as in the canonical path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captures<'p> {
    values: [&'p str; MAX_CAPTURES],
    len: usize,
}

impl<'p> Captures<'p> {
    /// The capture at `index`.
    pub fn at(&self, index: usize) -> Option<&'p str> {
        self.values.get(..self.len)?.get(index).copied()
    }

    fn with(mut self, value: &'p str) -> Captures<'p> {
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = value;
            self.len = self.len.saturating_add(1);
        }
        self
    }
}

/// A tree of templates, each with the index of its rule.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    nodes: Vec<Node>,
    /// Rules without a path, in order.
    anywhere: Vec<RuleIndex>,
}

#[derive(Debug)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    capture: Option<usize>,
    /// Rules whose template ends here, in order.
    ends: Vec<RuleIndex>,
    /// Rules whose template ends with a capture of the rest of the path, in order.
    rests: Vec<RuleIndex>,
    /// The first rule at or below this node.
    first: RuleIndex,
}

impl Routes {
    /// Builds the tree from the templates of all rules, in the order of the rules; `None` matches every path.
    pub(crate) fn new<'t>(templates: impl IntoIterator<Item = Option<&'t Template>>) -> Routes {
        let mut routes = Routes { nodes: vec![Node::new(RuleIndex::AFTER_ALL)], anywhere: Vec::new() };
        for (position, template) in templates.into_iter().enumerate() {
            let rule = RuleIndex::new(position);
            match template {
                Some(template) => routes.insert(template, rule),
                None => routes.anywhere.push(rule),
            }
        }
        routes
    }

    /// The first rule whose template matches `path` and for which `accept` is true. Allocates nothing.
    pub(crate) fn find(&self, path: &Canonical<'_>, mut accept: impl FnMut(RuleIndex) -> bool) -> Option<RuleIndex> {
        let mut best = self.anywhere.iter().copied().find(|rule| accept(*rule));
        let rest = path.as_str().strip_prefix('/').unwrap_or_default();
        self.descend(0, Some(rest), &mut best, &mut accept);
        best
    }

    /// Searches below `node`. `rest` is the path from this node on; `None` after the last segment.
    fn descend(
        &self,
        node: usize,
        rest: Option<&str>,
        best: &mut Option<RuleIndex>,
        accept: &mut impl FnMut(RuleIndex) -> bool,
    ) {
        let limit = best.unwrap_or(RuleIndex::AFTER_ALL);
        let Some(node) = self.nodes.get(node).filter(|node| node.first < limit) else { return };
        let rules = if rest.is_some() { &node.rests } else { &node.ends };
        let found = rules.iter().copied().take_while(|rule| *rule < limit).find(|rule| accept(*rule));
        *best = found.or(*best);
        let Some((segment, rest)) = rest.map(first_segment) else { return };
        if let Some(next) = node.literals.get(segment) {
            self.descend(*next, rest, best, accept);
        }
        if let Some(next) = node.capture.filter(|_| !segment.is_empty()) {
            self.descend(next, rest, best, accept);
        }
    }

    fn insert(&mut self, template: &Template, rule: RuleIndex) {
        let mut at = 0;
        for segment in template.segments() {
            let Some(node) = self.nodes.get_mut(at) else { return };
            node.first = node.first.min(rule);
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            let next = match segment {
                Segment::Rest => {
                    node.rests.push(rule);
                    return;
                }
                Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(fresh),
                Segment::Capture => *node.capture.get_or_insert(fresh),
            };
            if next == fresh {
                self.nodes.push(Node::new(rule));
            }
            at = next;
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.first = node.first.min(rule);
            node.ends.push(rule);
        }
    }
}

/// What `template` captures of `path`; `None` if it does not match.
pub(crate) fn captures<'p>(template: &Template, path: &'p Canonical<'_>) -> Option<Captures<'p>> {
    let mut rest = path.as_str().strip_prefix('/');
    let mut captures = Captures::default();
    for want in template.segments() {
        let have = rest?;
        let (segment, tail) = first_segment(have);
        match want {
            Segment::Rest => return Some(captures.with(have)),
            Segment::Literal(text) if **text == *segment => {}
            Segment::Capture if !segment.is_empty() => captures = captures.with(segment),
            Segment::Literal(_) | Segment::Capture => return None,
        }
        rest = tail;
    }
    rest.is_none().then_some(captures)
}

/// The first segment of `path`, and the path after its `/`; `None` after the last segment.
fn first_segment(path: &str) -> (&str, Option<&str>) {
    // Segments are short: a search byte by byte is faster than the setup of a search by machine words.
    let end = path.bytes().position(|byte| byte == b'/').and_then(|end| path.split_at_checked(end));
    end.map_or((path, None), |(segment, rest)| (segment, rest.strip_prefix('/')))
}

impl Node {
    fn new(first: RuleIndex) -> Node {
        Node { literals: HashMap::new(), capture: None, ends: Vec::new(), rests: Vec::new(), first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find<'p>(templates: &[Template], path: &'p Canonical<'_>) -> Option<(usize, Captures<'p>)> {
        let rule = Routes::new(templates.iter().map(Some)).find(path, |_| true)?.position();
        Some((rule, captures(&templates[rule], path).unwrap()))
    }

    /// The reference for [`Routes`]: tries each template in order.
    fn find_in_order(templates: &[Template], path: &Canonical<'_>) -> Option<usize> {
        templates.iter().position(|template| {
            let mut segments = path.segments();
            for want in template.segments() {
                match (want, segments.next()) {
                    (Segment::Rest, Some(_)) => return true,
                    (Segment::Literal(text), Some(have)) if **text == *have => {}
                    (Segment::Capture, Some(have)) if !have.is_empty() => {}
                    _ => return false,
                }
            }
            segments.next().is_none()
        })
    }

    #[test]
    fn the_first_rule_wins_not_the_most_special() {
        let templates: Vec<_> =
            ["/a/{x}", "/a/b", "/{x}/b", "/a/{rest...}"].iter().map(|t| Template::parse(t).unwrap()).collect();
        let path = Canonical::parse(b"/a/b").unwrap();
        let (rule, captured) = find(&templates, &path).unwrap();
        assert_eq!((rule, captured.at(0), captured.at(1)), (0, Some("b"), None));
        let later =
            Routes::new(templates.iter().map(Some)).find(&path, |rule| rule > RuleIndex::new(1)).unwrap().position();
        assert_eq!((later, captures(&templates[later], &path).unwrap().at(0)), (2, Some("a")));
    }

    #[test]
    fn a_capture_is_one_segment_and_the_rest_is_all() {
        let templates = [Template::parse("/o/{id}").unwrap(), Template::parse("/f/{file...}").unwrap()];
        let at = |path: &str| {
            let path = Canonical::parse(path.as_bytes()).unwrap();
            find(&templates, &path).map(|(rule, captures)| (rule, captures.at(0).unwrap().to_owned()))
        };
        assert_eq!(at("/o/1"), Some((0, "1".to_owned())));
        assert_eq!(at("/o/1/2"), None);
        assert_eq!(at("/o/"), None);
        assert_eq!(at("/o"), None);
        assert_eq!(at("/f/a/b/"), Some((1, "a/b/".to_owned())));
        assert_eq!(at("/f/"), Some((1, String::new())));
        assert_eq!(at("/f"), None);
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_template(
            templates in proptest::collection::vec("(/(a|b|\\{x\\})){0,2}(/(a|b|\\{y\\}|\\{z...\\}|))", 0..12),
            path in "(/(a|b|c)){0,3}(/(a|b|c)?)",
        ) {
            let templates: Vec<_> = templates.iter().filter_map(|t| Template::parse(t).ok()).collect();
            let path = Canonical::parse(path.as_bytes()).unwrap();
            prop_assert_eq!(find(&templates, &path).map(|(rule, _)| rule), find_in_order(&templates, &path));
            for template in &templates {
                let found = Routes::new([Some(template)]).find(&path, |_| true).is_some();
                prop_assert_eq!(captures(template, &path).is_some(), found);
            }
        }
    }
}
