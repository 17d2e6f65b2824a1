//! The method of a request, in the form that rules compare.

use std::borrow::Cow;

/// A method as it is compared: in upper case. RFC 9110 §9.1 tells methods apart by their case, and some servers do not,
/// so no case is a way around a rule. Only [`Method::fold`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method<'h>(Cow<'h, str>);

impl<'h> Method<'h> {
    /// Reads a method in any case.
    pub fn fold(text: &'h str) -> Method<'h> {
        match text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            true => Method(Cow::Owned(text.to_ascii_uppercase())),
            false => Method(Cow::Borrowed(text)),
        }
    }

    /// The method.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
