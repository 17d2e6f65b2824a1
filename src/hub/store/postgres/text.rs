//! Texts as PostgreSQL holds them: it has no character U+0000.

use std::borrow::Cow;

/// What stands for U+0000.
const SYMBOL: char = '\u{2400}';

/// The text as it is stored.
pub fn stored(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', &SYMBOL.to_string())) } else { Cow::Borrowed(text) }
}
