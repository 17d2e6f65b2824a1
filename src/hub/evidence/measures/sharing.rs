//! Sharing: who used a grant, as far as the proxies looked.

use crate::evidence::model::GrantRow;
use crate::evidence::report::Sharing;
use taskfence_core::uses::batch::SeenKind;

/// So many of each are listed.
const LISTED: usize = 100;

/// Who used `grant`.
pub fn sharing(grant: &GrantRow) -> Sharing {
    let values = |kind| {
        let mut values = distinct(grant, kind);
        values.truncate(LISTED);
        values.into_iter().map(str::to_owned).collect()
    };
    Sharing {
        peers: values(SeenKind::Peer),
        sources: values(SeenKind::Source),
        keys: values(SeenKind::Key),
        shared: is_shared(grant),
    }
}

/// Whether more than one workload used `grant`: it was seen with more than one peer, or, where no peer was seen, with more
/// than one key. A workload that rotates its certificate keeps its peer, and has a new key.
pub fn is_shared(grant: &GrantRow) -> bool {
    match distinct(grant, SeenKind::Peer).len() {
        0 => distinct(grant, SeenKind::Key).len() > 1,
        peers => peers > 1,
    }
}

fn distinct(grant: &GrantRow, kind: SeenKind) -> Vec<&str> {
    let mut values: Vec<_> =
        grant.seen.iter().filter(|seen| seen.kind == kind).map(|seen| seen.value.as_str()).collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::model::SeenRow;

    #[test]
    fn a_new_key_of_the_same_workload_is_not_sharing() {
        let seen = |kind, value: &str| SeenRow { kind, value: value.to_owned(), ..SeenRow::default() };
        let shared = |seen: &[SeenRow]| is_shared(&GrantRow { seen: seen.to_vec(), ..GrantRow::default() });
        let (peer, key) = (seen(SeenKind::Peer, "spiffe://a"), seen(SeenKind::Key, "k1"));
        let source = seen(SeenKind::Source, "10.0.0.1");
        assert!(!shared(&[]));
        assert!(!shared(&[peer.clone(), peer.clone(), key.clone(), seen(SeenKind::Key, "k2")]));
        assert!(shared(&[peer, seen(SeenKind::Peer, "spiffe://b")]));
        assert!(shared(&[key.clone(), seen(SeenKind::Key, "k2")]));
        assert!(!shared(&[key, source, seen(SeenKind::Source, "10.0.0.2")]));
    }
}
