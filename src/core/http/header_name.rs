//! Header names: which are reserved for the filter, and which ones a server may confuse.

/// Headers with this prefix are always reserved for the filter, whether the configuration uses them or not.
pub(crate) const PREFIX: &[u8] = b"x-taskfence-";

/// Whether the header is reserved for the filter.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.split_at_checked(PREFIX.len()).is_some_and(|(start, _)| is_same_to_servers(PREFIX, start))
}

/// Whether a server may treat the two names as the same header: servers that pass headers on as variables (CGI, WSGI)
/// do not distinguish `-` and `_`.
pub(crate) fn is_same_to_servers(own: &[u8], other: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    own.len() == other.len() && own.iter().map(fold).eq(other.iter().map(fold))
}
