//! Patterns of other systems: `*` of globs, `:id` of routers, `.*` of regular expressions. Here they would be literal
//! text, and a rule that meant them as a wildcard would never match.

/// The characters that a literal of a template must escape because they are special in other systems. In a canonical
/// path they are not escaped.
const SPECIAL: [char; 6] = ['*', ':', '$', '(', ')', '+'];

/// How to write `segment` of a path template if it is a pattern of another system; `last`: it is the last segment.
pub(crate) fn remedy(segment: &str, last: bool) -> Option<String> {
    match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) => remedy_of_capture(inner),
        None => remedy_of_literal(segment, last),
    }
}

/// `{id:[0-9]+}` of routers, `{*rest}` of Rust and .NET, `{path=**}` of Google, `{proxy+}` of AWS, `{$}` of Go.
fn remedy_of_capture(inner: &str) -> Option<String> {
    if inner == "$" {
        return Some("leave it out: a template ends where its last segment does".to_owned());
    }
    let (name, pattern) = inner.split_at_checked(inner.find([':', '=', '?', '+', '*', '<'])?)?;
    let (name, pattern) = if name.is_empty() { (pattern.trim_start_matches('*'), "*") } else { (name, pattern) };
    let name = if is_name(name) { name } else { "name" };
    Some(match matches!(pattern, "*" | "+" | "=**" | ":*" | ":**" | ":.*" | ":.+") {
        true => format!("write `{{{name}...}}` for all that is left"),
        false => format!("write `{{{name}}}`, and ask for more about it with `when`"),
    })
}

fn remedy_of_literal(segment: &str, last: bool) -> Option<String> {
    let one =
        if last { "`{name...}` for all that is left, `{name}` for one segment" } else { "`{name}` for one segment" };
    let found = |what: &str| {
        let literal = escape(what);
        Some(match literal == what {
            true => format!("write {one}"),
            false => format!("write {one}, or `{literal}` for a literal `{what}`"),
        })
    };
    if let Some(name) = segment.strip_prefix(':') {
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        let (name, rest) = name.split_at_checked(end)?;
        let name = if is_name(name) { name } else { "name" };
        return Some(match rest.starts_with(['*', '+']) {
            true => format!("write `{{{name}...}}` for all that is left"),
            false => format!("write `{{{name}}}` for one segment, or `%3A` for a literal `:`"),
        });
    }
    if let Some(name) = segment.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        // `<int:id>` and `<path:rest>` of Flask.
        let (kind, name) = name.rsplit_once(':').unwrap_or(("", name));
        let name = if is_name(name) { name } else { "name" };
        let dots = if kind == "path" { "..." } else { "" };
        return Some(format!("write `{{{name}{dots}}}`"));
    }
    if segment.contains("${") {
        return Some("write `{name}` for one segment".to_owned());
    }
    match segment {
        "..." => return Some(format!("write {one}")),
        "$" => {
            return Some(
                "leave it out: a template ends where its last segment does; `%24` is a literal `$`".to_owned(),
            );
        }
        "+" => return found("+"),
        _ => {}
    }
    if segment.contains(".+") {
        return found(".+");
    }
    let signs = ['*', '(', ')', '[', ']', '|', '^', '\\'];
    if let Some(sign) = segment.chars().find(|c| signs.contains(c)) {
        return found(sign.encode_utf8(&mut [0; 4]));
    }
    segment
        .ends_with('$')
        .then(|| "leave `$` out: a template ends where its last segment does; `%24` is a literal `$`".to_owned())
}

/// Removes the escapes that only templates have: `%2A` becomes `*`. Other escapes stay.
pub(crate) fn unescape(segment: &str) -> String {
    SPECIAL.iter().fold(segment.to_owned(), |text, special| {
        let escaped = escape_of(*special);
        text.replace(&escaped, special.encode_utf8(&mut [0; 4]))
            .replace(&escaped.to_ascii_lowercase(), special.encode_utf8(&mut [0; 4]))
    })
}

/// Escapes a segment of a canonical path for a template, if it would look like a pattern of another system.
pub(crate) fn escape(segment: &str) -> String {
    if remedy_is_needless(segment) {
        return segment.to_owned();
    }
    segment.chars().map(|c| if SPECIAL.contains(&c) { escape_of(c) } else { c.to_string() }).collect()
}

fn remedy_is_needless(segment: &str) -> bool {
    !segment.starts_with(':')
        && !segment.ends_with('$')
        && !segment.contains(['*', '(', ')'])
        && !segment.contains(".+")
        && segment != "+"
}

fn escape_of(special: char) -> String {
    format!("%{:02X}", u32::from(special))
}

fn is_name(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_of_other_systems_have_a_remedy() {
        for (segment, spelling) in [
            ("*", "`{name...}`"),
            ("**", "`{name...}`"),
            ("*.txt", "`{name...}`"),
            ("v*", "`%2A`"),
            (":id", "`{id}`"),
            (":id?", "`{id}`"),
            (":rest*", "`{rest...}`"),
            (":", "`{name}`"),
            ("<id>", "`{id}`"),
            ("<int:id>", "`{id}`"),
            ("<path:rest>", "`{rest...}`"),
            ("${id}", "`{name}`"),
            ("...", "`{name...}`"),
            (".*", "`{name...}`"),
            (".+", "`{name...}`"),
            ("v.+", "`{name...}`"),
            ("+", "`%2B`"),
            ("$", "`%24`"),
            ("secret$", "`%24`"),
            ("^secret", "`{name}`"),
            ("(a|b)", "`%28`"),
            ("orders(", "`%28`"),
            ("[0-9]+", "`{name}`"),
            ("a|b", "`{name}`"),
            ("\\d", "`{name}`"),
            ("{id:[0-9]+}", "`{id}`"),
            ("{id:int}", "`{id}`"),
            ("{id?}", "`{id}`"),
            ("{id=*}", "`{id}`"),
            ("{*rest}", "`{rest...}`"),
            ("{**rest}", "`{rest...}`"),
            ("{rest:.*}", "`{rest...}`"),
            ("{path=**}", "`{path...}`"),
            ("{proxy+}", "`{proxy...}`"),
            ("{$}", "leave it out"),
        ] {
            let remedy = remedy(segment, true).unwrap_or_default();
            assert!(remedy.contains(spelling), "{segment}: {remedy}");
        }
    }

    #[test]
    fn what_paths_have_is_no_pattern() {
        for segment in [
            "",
            "orders",
            "orders:purge",
            "v1.2",
            "a+b",
            "c++",
            "$metadata",
            "a$b",
            "@me",
            "~user",
            "a,b=c",
            "..c",
            "{id}",
            "{rest...}",
            "%2A",
            "%3Aid",
        ] {
            assert_eq!(remedy(segment, true), None, "{segment}");
            assert_eq!(remedy(segment, false), None, "{segment}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_no_pattern_and_stands_for_itself(segment in "[a-z.~!$&'()*+,=:@_-]{0,6}") {
            let escaped = escape(&segment);
            prop_assume!(segment != "...");
            prop_assert_eq!(remedy(&escaped, true), None);
            prop_assert_eq!(unescape(&escaped), segment);
        }

        #[test]
        fn never_panics(segment in any::<String>()) {
            let _ = (remedy(&segment, true), remedy(&segment, false), unescape(&segment), escape(&segment));
        }
    }
}
