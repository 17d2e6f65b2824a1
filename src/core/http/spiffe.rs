//! SPIFFE IDs of workloads (SPIFFE-ID §2), and patterns that match them.

/// The maximum length of a SPIFFE ID in bytes (SPIFFE-ID §2.3).
const MAX_ID: usize = 2048;

/// One workload, or all below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerPattern {
    /// Exactly this ID.
    Exactly(String),
    /// Every ID that begins with this text, which ends in `/`.
    Below(String),
}

impl PeerPattern {
    /// Reads a SPIFFE ID whose last segment may be `*`, which matches one or more segments.
    pub fn parse(text: &str) -> Option<PeerPattern> {
        match text.strip_suffix("/*") {
            Some(start) => is_spiffe_id(start).then(|| PeerPattern::Below(format!("{start}/"))),
            None => (is_spiffe_id(text) && text != "spiffe://").then(|| PeerPattern::Exactly(text.to_owned())),
        }
    }

    /// Whether `peer`, the URI of a certificate, matches.
    pub fn matches(&self, peer: &str) -> bool {
        match self {
            PeerPattern::Exactly(id) => id == peer,
            // The rest must be a valid ID too: with `..` in it, it would name another path.
            PeerPattern::Below(start) => peer.len() > start.len() && peer.starts_with(start) && is_spiffe_id(peer),
        }
    }

    /// The pattern as it was written.
    pub fn text(&self) -> String {
        match self {
            PeerPattern::Exactly(id) => id.clone(),
            PeerPattern::Below(start) => format!("{start}*"),
        }
    }
}

/// `spiffe://`, a trust domain in lower case, and a path without empty or dot segments.
fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let mut parts = rest.split('/');
    let domain = parts.next().unwrap_or_default();
    let domain_letter =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let segment_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    text.len() <= MAX_ID
        && !domain.is_empty()
        && domain.bytes().all(domain_letter)
        && parts.all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(segment_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_patterns() {
        let exactly = PeerPattern::parse("spiffe://td/ns/prod/sa/web").unwrap();
        assert!(exactly.matches("spiffe://td/ns/prod/sa/web"));
        assert!(!exactly.matches("spiffe://td/ns/prod/sa/web2") && !exactly.matches("spiffe://td/ns/prod/sa/WEB"));
        let below = PeerPattern::parse("spiffe://td/ns/prod/*").unwrap();
        for (peer, met) in [
            ("spiffe://td/ns/prod/sa/web", true),
            ("spiffe://td/ns/prod/web", true),
            ("spiffe://td/ns/prod/", false),
            ("spiffe://td/ns/prod", false),
            ("spiffe://td/ns/production/web", false),
            ("spiffe://td/ns/prod/../dev/web", false),
            ("spiffe://td/ns/prod//web", false),
            ("spiffe://other/ns/prod/web", false),
        ] {
            assert_eq!(below.matches(peer), met, "{peer}");
        }
        assert!(PeerPattern::parse("spiffe://td/*").unwrap().matches("spiffe://td/a"));
        for text in ["spiffe://td/ns/prod/*", "spiffe://td/a"] {
            assert_eq!(PeerPattern::parse(text).unwrap().text(), text);
        }
        for bad in [
            "",
            "*",
            "spiffe://",
            "spiffe:///*",
            "spiffe://TD/a",
            "spiffe://td/",
            "https://td/a",
            "spiffe://td/a b",
            "spiffe://td/*/a",
            "spiffe://td/a*",
        ] {
            assert_eq!(PeerPattern::parse(bad), None, "{bad}");
        }
    }
}
