//! The known word that a misspelled one is nearest to.

/// The word of `known` that `typed` was most likely meant to be.
pub fn nearest<'k>(typed: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let scored = known.into_iter().map(|word| (strsim::damerau_levenshtein(typed, word), word));
    let (distance, word) = scored.min_by_key(|(distance, _)| *distance)?;
    let bound = typed.len().max(word.len()).div_ceil(3).max(1);
    (distance <= bound).then_some(word)
}
