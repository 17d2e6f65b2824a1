//! Suggests the known name that is closest to a misspelled one.

/// The name in `known` that `typed` was most likely meant to be; `None` when none is close.
pub fn nearest<'k>(typed: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let scored = known.into_iter().map(|name| (strsim::damerau_levenshtein(typed, name), name));
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    let bound = typed.len().max(name.len()).div_ceil(3).max(1);
    (distance <= bound).then_some(name)
}
