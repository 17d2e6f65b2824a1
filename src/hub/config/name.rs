//! Names of hubs and feeds.

/// The longest name of a feed.
const MAX_NAME: usize = 63;

/// Whether `name` may name a feed: it stands in paths, in statements and in file names.
pub(super) fn is_feed_name(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (1..=MAX_NAME).contains(&name.len()) && letters && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether `name` may be the `iss` of statements: printable ASCII without spaces.
pub(super) fn is_hub_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}
