//! Comparing bytes where it counts.

/// Whether the two hold the same bytes: what `==` says, sixteen bytes at a time. The C library of wasm32-wasip1, which
/// `==` calls, goes byte by byte, and a token has hundreds of them.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    let ((blocks, rest), (other_blocks, other_rest)) = (one.as_chunks::<16>(), other.as_chunks::<16>());
    let mut pairs = blocks.iter().zip(other_blocks);
    one.len() == other.len()
        && pairs.all(|(block, other)| u128::from_ne_bytes(*block) == u128::from_ne_bytes(*other))
        && rest == other_rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn says_what_equality_says(one in proptest::collection::vec(0u8..2, 0..70), at in 0usize..70, by in 0u8..2) {
            prop_assert!(same(&one, &one.clone()));
            let mut other = one.clone();
            if let Some(byte) = other.get_mut(at) {
                *byte ^= by;
            } else {
                other.push(by);
            }
            prop_assert_eq!(same(&one, &other), one == other);
        }
    }
}
