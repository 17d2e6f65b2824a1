//! The method of a request, in the form that rules compare.

use std::borrow::Cow;

/// RFC 9110 §9.3.1.
pub(crate) const GET: &str = "GET";

/// RFC 9110 §9.3.2.
pub(crate) const HEAD: &str = "HEAD";

/// A method in upper case. RFC 9110 §9.1 makes methods case-sensitive, but some servers ignore case, so a different
/// case must not bypass a rule. Only [`Method::fold`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method<'h>(Cow<'h, str>);

impl<'h> Method<'h> {
    /// Converts a method to upper case.
    pub(crate) fn fold(text: &'h str) -> Method<'h> {
        match text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            true => Method(Cow::Owned(text.to_ascii_uppercase())),
            false => Method(Cow::Borrowed(text)),
        }
    }

    /// The method in upper case.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
