//! Names of headers: which are reserved for the filter, and which a server takes for the same.

/// Headers under this prefix are ours whether a configuration names them or not.
pub const PREFIX: &[u8] = b"x-taskfence-";

/// Whether a header is ours whether a configuration names it or not.
pub fn is_reserved(name: &[u8]) -> bool {
    name.split_at_checked(PREFIX.len()).is_some_and(|(start, _)| same_to_a_server(PREFIX, start))
}

/// Servers that hand headers on as variables (CGI, WSGI) see `-` and `_` as one letter.
pub(crate) fn same_to_a_server(ours: &[u8], theirs: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    ours.len() == theirs.len() && ours.iter().map(fold).eq(theirs.iter().map(fold))
}
