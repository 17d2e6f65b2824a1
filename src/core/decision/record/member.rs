//! One member of a record: masked, then cut.

use crate::policy::evidence::Masks;
use std::borrow::Cow;

/// The longest text of most members, in bytes.
pub(super) const TEXT: usize = 256;

/// The longest path, in bytes.
pub(super) const PATH: usize = 1024;

/// The longest method and the longest address, in bytes.
pub(super) const WORD: usize = 64;

/// The most actors.
pub(super) const ACTORS: usize = 16;

/// Makes the members of one record, and notes what it changed.
pub(super) struct Members<'p> {
    masks: &'p Masks,
    pub(super) masked: Vec<String>,
    pub(super) cut: Vec<String>,
}

impl<'p> Members<'p> {
    /// Members of a record with those masks.
    pub(super) fn new(masks: &'p Masks) -> Members<'p> {
        Members { masks, masked: Vec::new(), cut: Vec::new() }
    }

    /// The member `name` with at most [`TEXT`] bytes of `value`.
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) -> Option<String> {
        self.at_most(TEXT, name, value)
    }

    /// The member `name` with at most `longest` bytes of `value`.
    pub(super) fn at_most(&mut self, longest: usize, name: &'static str, value: Option<&str>) -> Option<String> {
        let value = value?;
        let shown = self.masks.apply(name, value);
        if self.masks.of(name).is_some() {
            note(&mut self.masked, name);
        }
        shown.map(|shown| self.short(longest, name, &shown))
    }

    /// `actors`, which is masked as `actor` is.
    pub(super) fn actors<'v>(&mut self, values: impl ExactSizeIterator<Item = &'v str>) -> Vec<String> {
        if values.len() < 2 {
            return Vec::new();
        }
        if self.masks.of("actor").is_some() {
            note(&mut self.masked, "actors");
        }
        if values.len() > ACTORS {
            note(&mut self.cut, "actors");
        }
        let shown: Vec<Cow<'v, str>> =
            values.take(ACTORS).filter_map(|value| self.masks.apply("actor", value)).collect();
        shown.iter().map(|value| self.short(TEXT, "actors", value)).collect()
    }

    fn short(&mut self, longest: usize, name: &'static str, value: &str) -> String {
        if value.len() > longest {
            note(&mut self.cut, name);
        }
        value.get(..value.floor_char_boundary(longest)).unwrap_or_default().to_owned()
    }
}

fn note(names: &mut Vec<String>, name: &str) {
    if names.last().is_none_or(|last| last != name) {
        names.push(name.to_owned());
    }
}
