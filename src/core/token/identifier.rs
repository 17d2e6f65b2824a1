//! Normalises user identifiers, so that a signal and a token which spell one differently still mean the same user.

use crate::http::uri;
use crate::state::key::Kind;
use crate::state::key::StateKey;
use crate::token::identifier;

/// The normal form of `value`, which is an identifier of `kind`. A value without a normal form is returned unchanged.
pub(crate) fn canonical(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Email => value.trim().to_ascii_lowercase(),
        Kind::Phone => phone(value).map_or_else(|| value.to_owned(), |phone| phone.digits),
        Kind::Account => account(value).unwrap_or_else(|| value.to_owned()),
        Kind::Did => did(value).unwrap_or_else(|| value.to_owned()),
        Kind::Uri => uri::canonical(value).unwrap_or_else(|| value.to_owned()),
        _ => value.to_owned(),
    }
}

/// Whether `value` is a valid identifier of `kind` in a subject identifier (RFC 9493 §3.2).
pub(crate) fn is_one(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Email => value.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty()),
        Kind::Phone => phone(value).is_some_and(|phone| phone.international && (1..=15).contains(&phone.digits.len())),
        Kind::Account => has_scheme(value, "acct:"),
        Kind::Did => has_scheme(value, "did:"),
        _ => value.contains(':'),
    }
}

struct Phone {
    /// Digits only; an international number begins with the country code.
    digits: String,
    international: bool,
}

/// An E.164 number. Also accepts the notation of E.123 and of `tel` URIs (RFC 3966): `+1 (206) 555-0100`,
/// `tel:+1-206-555-0100`, `0041 44 123 45 67`.
fn phone(value: &str) -> Option<Phone> {
    let value = if has_scheme(value, "tel:") { value.get(4..)? } else { value };
    let value = value.split(';').next()?.trim();
    let value = value.replacen("(0)", "", 1);
    let is_separator = |c: char| matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}' | '\u{2010}' | '\u{2011}');
    let plain: String = value.chars().filter(|c| !is_separator(*c)).collect();
    let (international, digits) = match (plain.strip_prefix('+'), plain.strip_prefix("00")) {
        (Some(digits), _) | (None, Some(digits)) => (true, digits),
        (None, None) => (false, plain.as_str()),
    };
    let fits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| Phone { digits: digits.to_owned(), international })
}

/// `user@host` of an `acct` URI (RFC 7565), with or without the scheme: the host in lower case, unreserved characters
/// of the user part unescaped.
fn account(value: &str) -> Option<String> {
    let value = if has_scheme(value, "acct:") { value.get(5..)? } else { value };
    let (user, host) = value.rsplit_once('@')?;
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    Some(format!("{}@{host}", unreserved(user)))
}

/// The DID in a DID URL (DID Core §3.2): without path, query and fragment.
fn did(value: &str) -> Option<String> {
    if !has_scheme(value, "did:") {
        return None;
    }
    let end = value.find(['/', '?', '#', ';']).unwrap_or(value.len());
    let (method, id) = value.get(4..end)?.split_once(':')?;
    Some(format!("did:{}:{id}", method.to_ascii_lowercase()))
}

fn has_scheme(value: &str, scheme: &str) -> bool {
    value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// RFC 3986 §6.2.2: unescapes unreserved characters, and writes the other escapes in upper case.
fn unreserved(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let escaped = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match escaped {
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => {
                out.push(char::from(byte));
                after.get(2..).unwrap_or_default()
            }
            Some(byte) => {
                out.push_str(&format!("%{byte:02X}"));
                after.get(2..).unwrap_or_default()
            }
            None => {
                out.push('%');
                after
            }
        };
    }
    out.push_str(rest);
    out
}

/// The key of a user in the key space `issuer` whose claim has `value`, in any spelling.
pub(crate) fn user_key(kind: Kind, issuer: &str, value: &str) -> StateKey {
    StateKey::new(kind, issuer, &identifier::canonical(kind, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_identifier_are_one() {
        let table: [(Kind, &str, &[&str]); 5] = [
            (Kind::Email, "alice@example.org", &["Alice@Example.ORG", " alice@example.org"]),
            (
                Kind::Phone,
                "12065550100",
                &["+12065550100", "+1 (206) 555-0100", "tel:+1-206-555-0100;ext=7", "001.206.555.0100", "12065550100"],
            ),
            (Kind::Phone, "41441234567", &["+41 (0)44 123 45 67", "0041441234567", "+41/44/123-45-67"]),
            (
                Kind::Account,
                "alice@example.org",
                &["acct:alice@Example.org", "ACCT:alice@example.org.", "alice@EXAMPLE.org", "acct:%61lice@example.org"],
            ),
            (
                Kind::Did,
                "did:example:123",
                &["did:example:123#key-1", "did:example:123/path", "DID:Example:123?service=x", "did:example:123;v=1"],
            ),
        ];
        for (kind, one, spellings) in table {
            for spelling in spellings {
                assert_eq!(canonical(kind, spelling), one, "{spelling}");
            }
            assert_eq!(canonical(kind, one), one);
        }
        assert_eq!(canonical(Kind::Uri, "HTTPS://People.example/alice"), "https://people.example/alice");
    }

    #[test]
    fn different_identifiers_stay_apart() {
        for (kind, one, other) in [
            (Kind::Phone, "+12065550100", "+12065550101"),
            (Kind::Phone, "0441234567", "+41441234567"),
            (Kind::Account, "acct:Alice@example.org", "acct:alice@example.org"),
            (Kind::Account, "acct:a%2Fb@example.org", "acct:a/b@example.org"),
            (Kind::Did, "did:example:abc", "did:example:ABC"),
            (Kind::Uri, "https://people.example/Alice", "https://people.example/alice"),
        ] {
            assert_ne!(canonical(kind, one), canonical(kind, other), "{one} {other}");
        }
    }

    #[test]
    fn what_a_subject_may_say() {
        for (kind, good, bad) in [
            (Kind::Email, "a@b", "alice"),
            (Kind::Phone, "+41", "0123"),
            (Kind::Phone, "0041 44 123", "+41x"),
            (Kind::Phone, "tel:+41", "+1234567890123456"),
            (Kind::Account, "ACCT:a@b", "a@b"),
            (Kind::Did, "did:example:1", "example:1"),
            (Kind::Uri, "urn:x", "alice"),
        ] {
            assert!(is_one(kind, good) && !is_one(kind, bad), "{good} {bad}");
        }
    }

    proptest! {
        #[test]
        fn one_form_is_its_own(kind in 0usize..5, text in "\\PC{0,30}", near in "(acct:|did:|tel:)?[%+a-zA-Z0-9:@.#/;()-]{0,20}") {
            let kind = [Kind::Email, Kind::Phone, Kind::Account, Kind::Did, Kind::Uri][kind];
            for value in [&text, &near] {
                let one = canonical(kind, value);
                let _ = is_one(kind, value);
                if kind != Kind::Phone && kind != Kind::Account {
                    prop_assert_eq!(canonical(kind, &one), one.clone());
                }
            }
        }
    }
}
