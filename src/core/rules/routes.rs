//! Finds the rules whose path template matches, by a tree of templates, so that a request does not try every rule.

use crate::http::path::Canonical;
use crate::http::path_template::{MAX_CAPTURES, Segment, Template};
use crate::http::segment_pattern::SegmentPattern;
use crate::index::RuleIndex;
use hashbrown::HashMap;

/// The parts of segments that a template captured, in the order of its names, still encoded as in the canonical path.
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

    /// The captures, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'p str> {
        self.values.iter().copied().take(self.len)
    }

    fn with(mut self, value: &'p str) -> Captures<'p> {
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = value;
            self.len = self.len.saturating_add(1);
        }
        self
    }
}

impl<'p> FromIterator<&'p str> for Captures<'p> {
    fn from_iter<I: IntoIterator<Item = &'p str>>(values: I) -> Captures<'p> {
        values.into_iter().fold(Captures::default(), Captures::with)
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
    /// For any segment that is not empty.
    capture: Option<usize>,
    /// For segments with a text beside the capture.
    patterns: Vec<(SegmentPattern, usize)>,
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
        for (_, next) in node.patterns.iter().filter(|(pattern, _)| pattern.takes(segment)) {
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
                Segment::Capture(pattern) if pattern.is_any() => *node.capture.get_or_insert(fresh),
                Segment::Capture(pattern) => match node.patterns.iter().find(|(have, _)| have == pattern) {
                    Some((_, next)) => *next,
                    None => {
                        node.patterns.push((pattern.clone(), fresh));
                        fresh
                    }
                },
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
            Segment::Capture(pattern) => captures = captures.with(pattern.capture(segment)?),
            Segment::Literal(_) => return None,
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
        Node {
            literals: HashMap::new(),
            capture: None,
            patterns: Vec::new(),
            ends: Vec::new(),
            rests: Vec::new(),
            first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path::Decoded;
    use proptest::prelude::*;
    use regex::Regex;

    fn find<'p>(templates: &[Template], path: &'p Canonical<'_>) -> Option<(usize, Captures<'p>)> {
        let rule = Routes::new(templates.iter().map(Some)).find(path, |_| true)?.position();
        Some((rule, captures(&templates[rule], path).unwrap()))
    }

    /// The decoded characters of a path.
    fn decoded(path: &str) -> String {
        String::from_utf8(Decoded::new(path).collect()).unwrap()
    }

    /// The reference for [`Routes`] and [`captures`]: a template as a regular expression over the decoded path, in which
    /// no segment has a `/`.
    fn as_regex(template: &str) -> Regex {
        let capture = Regex::new(r"\\\{\w+(\\\.\\\.\\\.)?\\\}").unwrap();
        let escaped = regex::escape(&decoded(template));
        let pattern = capture.replace_all(&escaped, |found: &regex::Captures<'_>| match found.get(1) {
            Some(_) => "(.*)",
            None => "([^/]+)",
        });
        Regex::new(&format!("(?s)^{pattern}$")).unwrap()
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

    /// A character of a path, or of a template: letters, signs and escapes.
    const CHARACTERS: [&str; 6] = ["a", "0", ":", ".", "%20", "%C3%A9"];

    fn text(most: usize) -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(CHARACTERS.to_vec()), 0..=most).prop_map(|all| all.concat())
    }

    /// A template of up to three segments, each a text, with or without a capture in it.
    fn template() -> impl Strategy<Value = String> {
        let segment = (text(2), proptest::bool::weighted(0.7), text(2));
        (proptest::collection::vec(segment, 1..3), proptest::bool::weighted(0.2)).prop_map(|(segments, rest)| {
            let mut path = String::new();
            for (at, (before, captures, after)) in segments.iter().enumerate() {
                let capture = if *captures { format!("{{c{at}}}") } else { String::new() };
                path.push_str(&format!("/{before}{capture}{after}"));
            }
            if rest { path + "/{rest...}" } else { path }
        })
    }

    /// A request path near `template`: its captures are filled, and some of its characters are spelled otherwise.
    fn filled(template: &str, fillings: &[String], mask: u64) -> String {
        let mut fillings = fillings.iter().cycle();
        let mut path = String::new();
        let mut rest = template;
        while let Some((text, tail)) = rest.split_once('{') {
            path.push_str(text);
            path.push_str(fillings.next().unwrap());
            rest = tail.split_once('}').unwrap().1;
        }
        path.push_str(rest);
        let mut escapes = 0;
        let spell = |(at, letter): (usize, char)| {
            let inside_escape = escapes > 0;
            escapes = if letter == '%' { 2 } else { usize::saturating_sub(escapes, 1) };
            let escape = !inside_escape && !"/%".contains(letter) && mask >> (at % 64) & 1 == 1;
            if escape { format!("%{:02x}", u32::from(letter)) } else { letter.to_string() }
        };
        path.chars().enumerate().map(spell).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn agrees_with_regular_expressions(
            texts in proptest::collection::vec(template(), 1..8),
            fillings in proptest::collection::vec(text(3), 3),
            mask in any::<u64>(),
            near in any::<proptest::sample::Index>(),
        ) {
            let (texts, templates): (Vec<_>, Vec<_>) =
                texts.iter().filter_map(|text| Some((text, Template::parse(text).ok()?))).unzip();
            prop_assume!(!texts.is_empty());
            let path = filled(near.get(&texts).as_str(), &fillings, mask);
            let Ok(path) = Canonical::parse(path.as_bytes()) else { return Ok(()) };
            let oracles: Vec<Regex> = texts.iter().map(|text| as_regex(text)).collect();
            let path_decoded = decoded(path.as_str());
            let expected = oracles.iter().position(|oracle| oracle.is_match(&path_decoded));
            prop_assert_eq!(find(&templates, &path).map(|(rule, _)| rule), expected, "{:?} {}", texts, path.as_str());
            for (template, oracle) in templates.iter().zip(&oracles) {
                let found = Routes::new([Some(template)]).find(&path, |_| true).is_some();
                let captured = captures(template, &path);
                prop_assert_eq!(captured.is_some(), found);
                let expected = oracle.captures(&path_decoded);
                prop_assert_eq!(expected.is_some(), found, "{} {}", template, path.as_str());
                let Some((captured, expected)) = captured.zip(expected) else { continue };
                for at in 0..template.names().len() {
                    let have = captured.at(at).map(decoded);
                    let want = expected.get(at + 1).map(|group| group.as_str().to_owned());
                    prop_assert_eq!(have, want, "{} {}", template, path.as_str());
                }
            }
        }
    }
}
