//! How the requests of two rules lie to each other: one inside the other, or crossing.

use crate::policy::Matcher;
use crate::template::{Segment, Template};

/// Whether `first` takes every request that `second` is for.
pub fn covers(first: &Matcher, second: &Matcher) -> bool {
    let within = |first: &[String], second: &[String]| {
        first.is_empty() || !second.is_empty() && second.iter().all(|item| first.contains(item))
    };
    within(&first.methods, &second.methods)
        && within(&first.hosts, &second.hosts)
        && (!first.grpc || second.grpc)
        && first.metadata.iter().all(|item| second.metadata.contains(item))
        && template_covers(first.template.as_ref(), second.template.as_ref())
}

/// A path that both rules are for, when each is also for paths that the other is not for, and nothing else keeps them
/// apart.
pub fn crossing(first: &Matcher, second: &Matcher) -> Option<String> {
    let apart = |first: &[String], second: &[String]| {
        !first.is_empty() && !second.is_empty() && !first.iter().any(|item| second.contains(item))
    };
    if apart(&first.methods, &second.methods) || apart(&first.hosts, &second.hosts) || !first.metadata.is_empty() {
        return None;
    }
    let (one, other) = (first.template.as_ref()?, second.template.as_ref()?);
    if template_covers(Some(one), Some(other)) || template_covers(Some(other), Some(one)) {
        return None;
    }
    common_path(one.segments(), other.segments())
}

fn template_covers(first: Option<&Template>, second: Option<&Template>) -> bool {
    match (first, second) {
        (None, _) => true,
        (Some(first), None) => first.is_everything(),
        (Some(first), Some(second)) => segments_cover(first.segments(), second.segments()),
    }
}

fn segments_cover(first: &[Segment], second: &[Segment]) -> bool {
    match (first.split_first(), second.split_first()) {
        (None, None) => true,
        (Some((Segment::Rest, _)), Some(_)) => true,
        (Some((Segment::Capture, first)), Some((Segment::Capture, second))) => segments_cover(first, second),
        (Some((Segment::Capture, first)), Some((Segment::Literal(text), second))) => {
            !text.is_empty() && segments_cover(first, second)
        }
        (Some((Segment::Literal(one), first)), Some((Segment::Literal(other), second))) => {
            one == other && segments_cover(first, second)
        }
        _ => false,
    }
}

fn common_path(first: &[Segment], second: &[Segment]) -> Option<String> {
    let mut path = String::new();
    let (mut first, mut second) = (first.iter(), second.iter());
    loop {
        let segment = match (first.next(), second.next()) {
            (None, None) => return Some(path),
            (Some(Segment::Rest), Some(Segment::Rest)) => return Some(format!("{path}/...")),
            (Some(Segment::Rest), Some(other)) => return Some(tail(path, other, second.as_slice())),
            (Some(one), Some(Segment::Rest)) => return Some(tail(path, one, first.as_slice())),
            (Some(Segment::Literal(one)), Some(Segment::Literal(other))) if one == other => one,
            (Some(Segment::Literal(text)), Some(Segment::Capture)) if !text.is_empty() => text,
            (Some(Segment::Capture), Some(Segment::Literal(text))) if !text.is_empty() => text,
            (Some(Segment::Capture), Some(Segment::Capture)) => "x",
            _ => return None,
        };
        path.push('/');
        path.push_str(segment);
    }
}

fn tail(mut path: String, next: &Segment, rest: &[Segment]) -> String {
    for segment in std::iter::once(next).chain(rest) {
        path.push('/');
        path.push_str(match segment {
            Segment::Literal(text) => text,
            Segment::Capture => "x",
            Segment::Rest => "...",
        });
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(path: &str, methods: &[&str]) -> Matcher {
        let template = Some(Template::parse(path).unwrap());
        Matcher { template, methods: methods.iter().map(|m| (*m).to_owned()).collect(), ..Matcher::default() }
    }

    #[test]
    fn one_inside_the_other() {
        for (first, second, covered) in [
            ("/a/{x}", "/a/b", true),
            ("/a/b", "/a/{x}", false),
            ("/a/{x...}", "/a/b/c", true),
            ("/a/{x...}", "/a", false),
            ("/{x...}", "/a/{y}", true),
            ("/a/{x}", "/a/", false),
            ("/a/{x}", "/a/{y}", true),
        ] {
            assert_eq!(covers(&matcher(first, &[]), &matcher(second, &[])), covered, "{first} {second}");
        }
        assert!(covers(&matcher("/a", &[]), &matcher("/a", &["GET"])));
        assert!(!covers(&matcher("/a", &["GET"]), &matcher("/a", &[])));
        assert!(covers(&matcher("/a", &["GET", "PUT"]), &matcher("/a", &["PUT"])));
        assert!(covers(&Matcher::default(), &matcher("/a", &[])));
    }

    #[test]
    fn crossing_templates_are_shown_by_a_path() {
        let cross = |first, second| crossing(&matcher(first, &["GET"]), &matcher(second, &["GET"]));
        assert_eq!(cross("/a/{x}", "/{y}/b").as_deref(), Some("/a/b"));
        assert_eq!(cross("/a/{x...}", "/{y}/b").as_deref(), Some("/a/b"));
        assert_eq!(cross("/a/{x}", "/a/b"), None, "one inside the other is how rules are written");
        assert_eq!(cross("/a/{x}", "/b/{y}"), None);
        assert_eq!(crossing(&matcher("/a/{x}", &["GET"]), &matcher("/{y}/b", &["PUT"])), None);
    }
}
