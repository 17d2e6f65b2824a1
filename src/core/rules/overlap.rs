//! Compares the requests that two matchers match: one may contain the other, they may overlap, or have none in common.
//!
//! A matcher restricts methods, hosts, paths, metadata and gRPC independently of each other, so the requests that two
//! matchers have in common are the requests of one matcher again.

use crate::http::path_template::{Segment, Template};
use crate::rules::rule::Matcher;

/// Whether `first` matches every request that `second` matches.
pub(crate) fn covers(first: &Matcher, second: &Matcher) -> bool {
    let within = |first: &[String], second: &[String]| {
        first.is_empty() || !second.is_empty() && second.iter().all(|item| first.contains(item))
    };
    within(&first.methods, &second.methods)
        && within(&first.hosts, &second.hosts)
        && (!first.grpc || second.grpc)
        && first.metadata.iter().all(|item| second.metadata.contains(item))
        && template_covers(first.template.as_ref(), second.template.as_ref())
}

/// Whether some request matches both. Allocates nothing.
pub(crate) fn meet(first: &Matcher, second: &Matcher) -> bool {
    let contradicts = |(name, value): &(String, String)| {
        second.metadata.iter().any(|(other, wanted)| other == name && wanted != value)
    };
    !is_apart(&first.methods, &second.methods)
        && !is_apart(&first.hosts, &second.hosts)
        && !first.metadata.iter().any(contradicts)
        && match (&first.template, &second.template) {
            (Some(one), Some(other)) => one.meets(other),
            _ => true,
        }
}

/// A matcher for the requests that both match; `None` when there are none.
pub(crate) fn common(first: &Matcher, second: &Matcher) -> Option<Matcher> {
    if !meet(first, second) {
        return None;
    }
    let template = match (&first.template, &second.template) {
        (None, other) | (other, None) => other.clone(),
        (Some(one), Some(other)) => Some(one.common(other)?),
    };
    let mut metadata = second.metadata.clone();
    metadata.extend(first.metadata.iter().filter(|item| !second.metadata.contains(item)).cloned());
    Some(Matcher {
        methods: both(&first.methods, &second.methods),
        hosts: both(&first.hosts, &second.hosts),
        template,
        grpc: first.grpc || second.grpc,
        metadata,
    })
}

/// The same requests, split into one matcher for each pair of a method and a host that `matcher` names.
pub(crate) fn cells(matcher: &Matcher) -> Vec<Matcher> {
    let each = |names: &[String]| match names {
        [] => vec![Vec::new()],
        names => names.iter().map(|name| vec![name.clone()]).collect(),
    };
    let hosts = each(&matcher.hosts);
    let of_method = |methods: Vec<String>| {
        hosts.iter().map(move |hosts| Matcher { methods: methods.clone(), hosts: hosts.clone(), ..matcher.clone() })
    };
    each(&matcher.methods).into_iter().flat_map(of_method).collect()
}

/// Whether `part`, a part of `whole`, differs from it only in methods and hosts that `whole` names.
pub(crate) fn is_named_part(part: &Matcher, whole: &Matcher) -> bool {
    let named = |part: &[String], whole: &[String]| !whole.is_empty() || part.is_empty();
    named(&part.methods, &whole.methods)
        && named(&part.hosts, &whole.hosts)
        && part.grpc == whole.grpc
        && part.metadata.len() == whole.metadata.len()
        && template_covers(part.template.as_ref(), whole.template.as_ref())
}

/// Describes `part`, a part of `whole`, by what restricts it further: "`GET` requests for `/a/b`".
pub(crate) fn describe(part: &Matcher, whole: &Matcher) -> String {
    let list = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut words = Vec::new();
    if part.methods.len() != whole.methods.len() {
        words.push(list(&part.methods));
    }
    words.push("requests".to_owned());
    if let Some(template) = &part.template
        && !template_covers(Some(template), whole.template.as_ref())
    {
        words.push(format!("for `{template}`"));
    }
    if part.hosts.len() != whole.hosts.len() {
        words.push(format!("to {}", list(&part.hosts)));
    }
    if part.grpc && !whole.grpc {
        words.push("over gRPC".to_owned());
    }
    let more = part.metadata.iter().filter(|item| !whole.metadata.contains(item));
    let more: Vec<String> = more.map(|(name, value)| format!("`{name}: {value}`")).collect();
    if !more.is_empty() {
        words.push(format!("on routes with {}", more.join(", ")));
    }
    words.join(" ")
}

/// Whether each also matches paths that the other does not match.
pub(crate) fn paths_cross(first: &Matcher, second: &Matcher) -> bool {
    let (one, other) = (first.template.as_ref(), second.template.as_ref());
    !template_covers(one, other) && !template_covers(other, one)
}

fn is_apart(first: &[String], second: &[String]) -> bool {
    !first.is_empty() && !second.is_empty() && !first.iter().any(|item| second.contains(item))
}

/// The items that two lists have in common. An empty list stands for everything.
fn both(first: &[String], second: &[String]) -> Vec<String> {
    match (first, second) {
        ([], all) | (all, []) => all.to_vec(),
        (first, second) => second.iter().filter(|item| first.contains(item)).cloned().collect(),
    }
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
        (Some((Segment::Capture(one), first)), Some((Segment::Capture(other), second))) => {
            one.covers(other) && segments_cover(first, second)
        }
        (Some((Segment::Capture(pattern), first)), Some((Segment::Literal(text), second))) => {
            pattern.takes(text) && segments_cover(first, second)
        }
        (Some((Segment::Literal(one), first)), Some((Segment::Literal(other), second))) => {
            one == other && segments_cover(first, second)
        }
        _ => false,
    }
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
            ("/a/{x}", "/a/{y}:cancel", true),
            ("/a/{x}:cancel", "/a/{y}", false),
            ("/a/{x}:cancel", "/a/7:cancel", true),
            ("/a/{x}:cancel", "/a/%3Acancel", false),
            ("/a/{x}.pdf", "/a/v{y}.pdf", true),
            ("/a/v{x}", "/a/v{y}.pdf", true),
            ("/a/v{x}.pdf", "/a/v{y}", false),
            ("/a/{x}%20", "/a/b{y}%20", true),
            ("/a/{x}0", "/a/b{y}%20", false),
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
        let cross = |first, second| {
            let (first, second) = (matcher(first, &["GET"]), matcher(second, &["GET"]));
            let common = common(&first, &second).filter(|_| paths_cross(&first, &second))?;
            common.template.map(|template| template.to_string())
        };
        assert_eq!(cross("/a/{x}", "/{y}/b").as_deref(), Some("/a/b"));
        assert_eq!(cross("/a/{x...}", "/{y}/b").as_deref(), Some("/a/b"));
        assert_eq!(cross("/a/{x}/{z...}", "/{y}/b/{r...}").as_deref(), Some("/a/b/{r...}"));
        assert_eq!(cross("/a/v{x}", "/a/{y}.pdf").as_deref(), Some("/a/v{y}.pdf"));
        assert_eq!(cross("/a/v{x}", "/a/{y}/{z...}").as_deref(), None);
        assert_eq!(cross("/a/{x}:read", "/a/{y}:cancel"), None);
        assert_eq!(cross("/a/{x}", "/a/b"), None, "one inside the other is how rules are written");
        assert_eq!(cross("/a/{x}", "/b/{y}"), None);
        assert!(common(&matcher("/a/{x}", &["GET"]), &matcher("/{y}/b", &["PUT"])).is_none());
    }

    #[test]
    fn what_two_have_in_common() {
        let with = |hosts: &[&str], metadata: &[(&str, &str)]| Matcher {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            metadata: metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..matcher("/a/{x}", &["GET", "PUT"])
        };
        let one = with(&["a", "b"], &[("tier", "gold")]);
        let other = with(&["b", "c"], &[("zone", "1")]);
        let both = common(&one, &other).unwrap();
        assert_eq!(both.hosts, ["b"]);
        assert_eq!(describe(&both, &other), "requests to `b` on routes with `tier: gold`");
        assert_eq!(
            describe(&both, &Matcher::default()),
            "`GET`, `PUT` requests for `/a/{x}` to `b` on routes with `zone: 1`, `tier: gold`"
        );
        assert!(common(&one, &with(&["b"], &[("tier", "silver")])).is_none());
        assert!(common(&one, &with(&["c"], &[])).is_none());
        assert_eq!(cells(&one).len(), 4);
        assert!(cells(&one).iter().all(|cell| covers(&one, cell)));
        let grpc = Matcher { grpc: true, ..with(&[], &[]) };
        assert_eq!(describe(&common(&grpc, &with(&[], &[])).unwrap(), &with(&[], &[])), "requests over gRPC");
    }
}
