//! Comparing bytes: in constant time for secrets, or fast.

/// Whether the two slices are equal. The time it takes does not depend on where they differ. For secrets.
pub fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (l, r)| differ | (l ^ r)) == 0
}

/// Whether the two slices are equal, compared sixteen bytes at a time. Not for secrets. `==` calls the C library of
/// wasm32-wasip1, which compares byte by byte, and a token has hundreds of bytes.
pub(crate) fn fast_eq(one: &[u8], other: &[u8]) -> bool {
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
            prop_assert!(fast_eq(&one, &one.clone()));
            let mut other = one.clone();
            if let Some(byte) = other.get_mut(at) {
                *byte ^= by;
            } else {
                other.push(by);
            }
            prop_assert_eq!(fast_eq(&one, &other), one == other);
            prop_assert_eq!(constant_time_eq(&one, &other), one == other);
        }
    }
}
