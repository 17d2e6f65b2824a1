//! Canonical request paths: `:path` is read in one way, or refused.
//!
//! If two readers can understand a path differently, a rule can be bypassed. So an ambiguous path is not repaired but
//! refused. The canonical form has one spelling: characters that a path may contain (`pchar`, RFC 3986 §3.3) are not
//! escaped, all others are escaped with upper-case digits. Servers decode once before they look up a path, so `:` and
//! `%3A` are the same path for them and for the rules. To read the canonical form again changes nothing, so it does not
//! matter how often a proxy before the filter or an upstream normalises it.

use memchr::memchr;
use std::borrow::Cow;

/// The maximum length of a path in bytes, without the query, as received and in canonical form.
pub(crate) const MAX_PATH: usize = 8 * 1024;

/// A canonical path: ASCII, begins with `/`, no empty, `.` or `..` segments, no query. Only [`Canonical::parse`]
/// makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical<'p> {
    path: Cow<'p, str>,
}

/// Why a path was refused. In each case two parsers may read it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than `MAX_PATH`.
    #[error("longer than {MAX_PATH} bytes")]
    TooLong,
    /// Does not begin with `/`: `*`, an authority, or empty.
    #[error("does not begin with `/`")]
    NotAbsolute,
    /// A byte that RFC 3986 does not allow: a control character, space, `\`, `#`, or non-ASCII.
    #[error("a byte that no path may hold")]
    ForbiddenByte,
    /// `%` without two hexadecimal digits, or escapes that are not UTF-8 (RFC 3986 §2.5).
    #[error("a broken percent-escape")]
    BrokenEscape,
    /// An escaped `/`, `\`, `%` or control character: decoded once more, it has another meaning.
    #[error("an escape that hides a delimiter")]
    HiddenDelimiter,
    /// `//`, which some servers merge and others do not.
    #[error("an empty segment")]
    EmptySegment,
    /// `.` or `..`, escaped or not.
    #[error("a dot segment")]
    DotSegment,
    /// `;`, which some servers remove together with the text after it (RFC 3986 §3.3).
    #[error("a path parameter")]
    PathParameter,
}

impl<'p> Canonical<'p> {
    /// Reads the value of `:path`. Everything after the first `?` is ignored.
    pub fn parse(target: &'p [u8]) -> Result<Canonical<'p>, PathError> {
        let end = memchr(b'?', target).unwrap_or(target.len());
        let (raw, query) = target.split_at_checked(end).unwrap_or((target, &[]));
        if raw.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if raw.first() != Some(&b'/') {
            return Err(PathError::NotAbsolute);
        }
        let kinds = raw.iter().fold(0, |kinds, byte| kinds | kind(*byte));
        if kinds & FORBIDDEN != 0 || memchr(b'#', query).is_some() {
            return Err(PathError::ForbiddenByte);
        }
        let raw = std::str::from_utf8(raw).map_err(|_| PathError::ForbiddenByte)?;
        let path = match kinds & ESCAPED {
            0 => Cow::Borrowed(raw),
            _ => Cow::Owned(normalise(raw)?),
        };
        // Escaping makes the path longer: check the length again.
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        check_segments(&path)?;
        Ok(Canonical { path })
    }

    /// The canonical path.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// The canonical path, if it is not the path as received without its query.
    pub(crate) fn rewritten(&self) -> Option<&str> {
        match &self.path {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path),
        }
    }

    /// The segments after the first `/`; a trailing `/` gives an empty last segment.
    pub fn segments(&self) -> std::str::Split<'_, char> {
        self.path.strip_prefix('/').unwrap_or(&self.path).split('/')
    }
}

/// The decoded bytes of a part of a canonical path.
#[derive(Debug, Clone)]
pub struct Decoded<'s> {
    rest: std::slice::Iter<'s, u8>,
}

impl<'s> Decoded<'s> {
    /// Reads `piece`.
    pub fn new(piece: &'s str) -> Decoded<'s> {
        Decoded { rest: piece.as_bytes().iter() }
    }
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match *self.rest.next()? {
            b'%' => {
                let high = self.rest.next().copied().and_then(hex);
                let low = self.rest.next().copied().and_then(hex);
                high.zip(low).map(|(high, low)| high << 4 | low)
            }
            byte => Some(byte),
        }
    }
}

/// A byte that is or begins an escape.
const ESCAPED: u8 = 1;
/// A byte that no path may contain.
const FORBIDDEN: u8 = 2;

fn kind(byte: u8) -> u8 {
    match byte {
        b'/' | b';' => 0,
        b'\\' | b'#' => FORBIDDEN,
        _ if is_pchar(byte) => 0,
        0x21..0x7f => ESCAPED,
        _ => FORBIDDEN,
    }
}

fn normalise(raw: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(raw.len());
    // Escaped non-ASCII bytes together must be UTF-8: an overlong encoding of `/` is not a character.
    let mut beyond_ascii = Vec::new();
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            flush(&mut beyond_ascii)?;
            match is_pchar(byte) || matches!(byte, b'/' | b';') {
                true => out.push(char::from(byte)),
                false => push_escape(&mut out, byte),
            }
            continue;
        }
        let high = rest.next().and_then(hex).ok_or(PathError::BrokenEscape)?;
        let low = rest.next().and_then(hex).ok_or(PathError::BrokenEscape)?;
        let decoded = high << 4 | low;
        match decoded {
            b'/' | b'\\' | b'%' | 0..0x20 | 0x7f => return Err(PathError::HiddenDelimiter),
            b';' => return Err(PathError::PathParameter),
            _ if is_pchar(decoded) => {
                flush(&mut beyond_ascii)?;
                out.push(char::from(decoded));
            }
            _ => {
                if decoded.is_ascii() {
                    flush(&mut beyond_ascii)?;
                } else {
                    beyond_ascii.push(decoded);
                }
                push_escape(&mut out, decoded);
            }
        }
    }
    flush(&mut beyond_ascii)?;
    Ok(out)
}

/// The characters that a segment may contain unescaped: unreserved, sub-delims, `:` and `@`, except `;`, which begins a
/// parameter.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    out.push(upper_hex(byte >> 4));
    out.push(upper_hex(byte & 0xf));
}

fn flush(bytes: &mut Vec<u8>) -> Result<(), PathError> {
    if !bytes.is_empty() {
        std::str::from_utf8(bytes).map_err(|_| PathError::BrokenEscape)?;
        bytes.clear();
    }
    Ok(())
}

fn check_segments(path: &str) -> Result<(), PathError> {
    if memchr(b';', path.as_bytes()).is_some() {
        return Err(PathError::PathParameter);
    }
    let mut segments = path.as_bytes().split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." | b".." => return Err(PathError::DotSegment),
            // A trailing slash is a path of its own, and `/` alone is one.
            b"" if segments.peek().is_some() => return Err(PathError::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn upper_hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether `segment`, a part of a canonical path, decodes to `value`.
    fn decodes_to(segment: &str, value: &str) -> bool {
        Decoded::new(segment).eq(value.bytes())
    }

    fn parse(path: &str) -> Result<String, PathError> {
        Canonical::parse(path.as_bytes()).map(|canonical| canonical.as_str().to_owned())
    }

    #[test]
    fn plain_paths_stay() {
        for path in ["/", "/a", "/a/b/", "/a.b/..c/d~", "/a:b@c!$&'()*+,=", "/pkg.Service/Method"] {
            assert_eq!(parse(path).as_deref(), Ok(path));
        }
    }

    #[test]
    fn the_query_is_not_the_path() {
        assert_eq!(parse("/admin?").as_deref(), Ok("/admin"));
        assert_eq!(parse("/admin?x=/../y;z").as_deref(), Ok("/admin"));
        assert_eq!(parse("/admin#x"), Err(PathError::ForbiddenByte));
        assert_eq!(parse("/admin?x#y"), Err(PathError::ForbiddenByte));
    }

    #[test]
    fn escapes_are_decoded_once_or_kept() {
        assert_eq!(parse("/%61dmin").as_deref(), Ok("/admin"));
        assert_eq!(parse("/a%3fb%20c").as_deref(), Ok("/a%3Fb%20c"));
        assert_eq!(parse("/orders%3apurge%2B%40%28x%29").as_deref(), Ok("/orders:purge+@(x)"));
        assert_eq!(parse("/a|b{c}\"%7c").as_deref(), Ok("/a%7Cb%7Bc%7D%22%7C"));
        assert_eq!(parse("/caf%c3%a9").as_deref(), Ok("/caf%C3%A9"));
        for path in ["/%zz", "/%", "/%4", "/%c0%af", "/%e9", "/%c3x%a9"] {
            assert_eq!(parse(path), Err(PathError::BrokenEscape), "{path}");
        }
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/%00", "/%0d%0a", "/%252e%252e", "/%7f"] {
            assert_eq!(parse(path), Err(PathError::HiddenDelimiter), "{path}");
        }
    }

    #[test]
    fn ways_around_are_refused() {
        for path in ["/a/../b", "/a/%2e%2e/b", "/a/.%2E", "/.", "/public/%2E/admin"] {
            assert_eq!(parse(path), Err(PathError::DotSegment), "{path}");
        }
        for path in ["//admin", "/a//b", "/a//"] {
            assert_eq!(parse(path), Err(PathError::EmptySegment), "{path}");
        }
        for path in ["/admin;x=y/a", "/..;/", "/.;/", "/a%3bb"] {
            assert_eq!(parse(path), Err(PathError::PathParameter), "{path}");
        }
        for path in ["/a\\b", "/a b", "/a\tb", "/\u{e9}", "/a\u{0}"] {
            assert_eq!(parse(path), Err(PathError::ForbiddenByte), "{path}");
        }
        for path in ["", "*", "admin", "http://x/", "?/a"] {
            assert_eq!(parse(path), Err(PathError::NotAbsolute), "{path}");
        }
        assert_eq!(parse(&format!("/{}", "a".repeat(MAX_PATH))), Err(PathError::TooLong));
        assert_eq!(Canonical::parse(b"/caf\xe9"), Err(PathError::ForbiddenByte));
    }

    /// Found by `scripts/fuzz path`.
    #[test]
    fn what_escaping_makes_too_long_is_refused() {
        let raw = |letters: usize| format!("/{}", ">".repeat(letters));
        let most = (MAX_PATH - 1) / "%3E".len();
        let longest = parse(&raw(most)).unwrap();
        assert_eq!(parse(&longest), Ok(longest.clone()));
        assert_eq!(parse(&raw(most + 1)), Err(PathError::TooLong));
    }

    #[test]
    fn captures_are_compared_decoded() {
        assert!(decodes_to("a%20b", "a b"));
        assert!(decodes_to("caf%C3%A9", "café"));
        assert!(!decodes_to("a%20b", "a%20b"));
        assert!(!decodes_to("a", "ab"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_a_fixed_point(path in "/[ -~]{0,40}") {
            if let Ok(once) = parse(&path) {
                prop_assert_eq!(parse(&once), Ok(once.clone()));
            }
        }

        #[test]
        fn any_spelling_of_a_letter_is_one_path(path in "(/[a-zA-Z0-9._~!$&'()*+,=:@|^-]{1,5}){1,4}", mask in any::<u64>()) {
            let spelled: String = path.chars().enumerate().map(|(at, letter)| {
                let escape = letter != '/' && mask >> (at % 64) & 1 == 1;
                if escape { format!("%{:02x}", u32::from(letter)) } else { letter.to_string() }
            }).collect();
            prop_assert_eq!(parse(&spelled), parse(&path));
        }

        #[test]
        fn never_panics(path in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Canonical::parse(&path);
        }
    }
}
