//! Checks constants that are compared with values of the request. These values are in normal form. A constant that is
//! not in normal form equals none of them, so a condition that refuses by it would refuse nothing.

use crate::http::host::Host;
use crate::http::method::Method;
use crate::http::path::Canonical;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators as op};
use std::net::IpAddr;

/// Refuses a comparison of a value of the request with a constant that it can never equal.
pub(super) fn check(call: &CallExpr) -> Result<(), String> {
    let (of, constant, is_whole) = match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
        (op::EQUALS | op::NOT_EQUALS, None, [left, right]) => match field(&left.expr) {
            Some(_) => (&left.expr, &right.expr, true),
            None => (&right.expr, &left.expr, true),
        },
        (op::IN, None, [value, list]) => (&value.expr, &list.expr, true),
        ("startsWith" | "endsWith" | "contains", Some(target), [part]) => (&target.expr, &part.expr, false),
        _ => return Ok(()),
    };
    let Some(field) = field(of) else { return Ok(()) };
    for text in texts(constant) {
        let starts = call.func_name == "startsWith";
        if let Some(right) = respelled(field, text, is_whole, starts) {
            let help = match right {
                Some(right) => format!("write `{}`", right.escape_debug()),
                None => "no value has this form".to_owned(),
            };
            return Err(format!(
                "compares `request.{field}` with `{}`, which matches nothing: {help}",
                text.escape_debug()
            ));
        }
    }
    Ok(())
}

/// The field of `request` that `expression` reads; `None` if it reads none.
fn field(expression: &Expr) -> Option<&str> {
    let (of, name) = match expression {
        Expr::Select(select) if !select.test => (&select.operand.expr, select.field.as_str()),
        Expr::Call(call) => {
            return super::evaluation::indexed(call).filter(|(root, _)| *root == "request").map(|(_, name)| name);
        }
        _ => return None,
    };
    matches!(of, Expr::Ident(root) if root == "request").then_some(name)
}

/// The string of a literal, or the strings in a list literal.
fn texts(expression: &Expr) -> Vec<&str> {
    match expression {
        Expr::Literal(LiteralValue::String(text)) => vec![text.inner()],
        Expr::List(list) => list.elements.iter().flat_map(|element| texts(&element.expr)).collect(),
        _ => Vec::new(),
    }
}

/// `None` if `text` is in the normal form of values of `field`. Otherwise that form, or `Some(None)` if no value of
/// `field` has such a text. `is_whole`: it is compared with the whole value. `starts`: with its beginning.
#[allow(clippy::option_option, reason = "in normal form, not in normal form, and no value at all are three results")]
fn respelled(field: &str, text: &str, is_whole: bool, starts: bool) -> Option<Option<String>> {
    let right = match (field, is_whole) {
        ("method", _) => Some(Method::fold(text).as_str().to_owned()),
        ("host", true) => Host::parse(text.as_bytes()).ok().map(|host| host.folded().into_owned()),
        ("source", true) => text.parse::<IpAddr>().ok().map(|address| address.to_string()),
        ("host" | "source", false) => Some(text.to_ascii_lowercase()),
        ("path", true) => Canonical::parse(text.as_bytes()).ok().map(|path| path.as_str().to_owned()),
        // The beginning of a path need not be a valid path.
        ("path", false) if starts => match Canonical::parse(text.as_bytes()) {
            Ok(path) => Some(path.as_str().to_owned()),
            Err(_) => return None,
        },
        _ => return None,
    };
    (right.as_deref() != Some(text)).then_some(right)
}

#[cfg(test)]
mod tests {
    use crate::rules::condition::Condition;

    #[test]
    fn a_constant_has_the_spelling_of_what_it_is_compared_with() {
        for (source, help) in [
            ("request.host == 'Orders.Mesh'", "write `orders.mesh`"),
            ("'orders.mesh:443' != request.host", "write `orders.mesh`"),
            ("!(request.host in ['a.mesh', 'b.mesh.'])", "write `b.mesh`"),
            ("request['host'] == 'A.mesh'", "write `a.mesh`"),
            ("request.host == 'https://a.mesh'", "no value has this form"),
            ("request.host.endsWith('.Mesh')", "write `.mesh`"),
            ("request.method != 'delete'", "write `DELETE`"),
            ("request.method.startsWith('p')", "write `P`"),
            ("request.source == '2001:DB8::1'", "write `2001:db8::1`"),
            ("request.source == '10.0.0.0/8'", "no value has this form"),
            ("request.path == '/a b'", "no value has this form"),
            ("request.path == '/%7euser'", "write `/~user`"),
            ("request.path.startsWith('/%7Euser')", "write `/~user`"),
            ("request.path == '/a?b=c'", "write `/a`"),
        ] {
            let fault = Condition::compile(source, &[]).unwrap_err();
            assert!(fault.ends_with(help), "{source}: {fault}");
        }
        for source in [
            "request.host == 'orders.mesh' && request.host.endsWith('.mesh') && request.host != claims.host",
            "request.method in ['GET', 'M-SEARCH'] && request.source.startsWith('10.')",
            "request.path.startsWith('/v1/') && request.path == '/a%20b' && request.path.endsWith('/x')",
            "claims.host == 'Orders.Mesh' && request.source in ['::1', '10.1.2.3']",
        ] {
            assert_eq!(Condition::compile(source, &[]).err(), None, "{source}");
        }
    }
}
