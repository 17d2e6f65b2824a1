//! A page of a poll (RFC 8936 §2.3), of which only the SETs are kept while it is read: a transmitter must not fill the memory
//! with the rest.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The SETs of a page, by the `jti` that the transmitter has for them, the first `most` of them. What is beyond is left: it
/// comes again. So is `moreAvailable`: the next poll asks at once in any case. What is no text is no SET, and empty here:
/// the intake refuses it, so that it does not come again for ever.
pub(super) fn read(page: &[u8], most: usize) -> Result<Vec<(String, String)>, serde_json::Error> {
    let mut page = serde_json::Deserializer::from_slice(page);
    let sets = Members(most).deserialize(&mut page)?;
    page.end()?;
    Ok(sets)
}

type Sets = Vec<(String, String)>;

/// The members of a page.
struct Members(usize);

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Sets;

    fn deserialize<D: Deserializer<'de>>(self, page: D) -> Result<Sets, D::Error> {
        page.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Sets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `sets`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Sets, A::Error> {
        let mut sets = None;
        while let Some(Name(name)) = members.next_key()? {
            if name != "sets" {
                members.next_value::<IgnoredAny>()?;
            } else if sets.replace(members.next_value_seed(ByJti(self.0))?).is_some() {
                return Err(A::Error::duplicate_field("sets"));
            }
        }
        Ok(sets.unwrap_or_default())
    }
}

/// The value of `sets`.
struct ByJti(usize);

impl<'de> DeserializeSeed<'de> for ByJti {
    type Value = Sets;

    fn deserialize<D: Deserializer<'de>>(self, sets: D) -> Result<Sets, D::Error> {
        sets.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ByJti {
    type Value = Sets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`sets` to be an object")
    }

    fn visit_unit<E: Error>(self) -> Result<Sets, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Sets, A::Error> {
        let mut sets = Vec::new();
        while sets.len() < self.0 {
            let Some((jti, Text(set))) = members.next_entry::<String, Text>()? else { return Ok(sets) };
            sets.push((jti, set));
        }
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(sets)
    }
}

/// The name of a member.
#[derive(serde::Deserialize)]
struct Name(String);

/// A text; anything else is empty, and not kept.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Text, D::Error> {
        value.deserialize_any(AnyText)
    }
}

struct AnyText;

impl<'de> Visitor<'de> for AnyText {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SET")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
        Ok(Text(String::new()))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Text, E> {
        Ok(Text(String::new()))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Text, E> {
        Ok(Text(String::new()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
        Ok(Text(String::new()))
    }

    fn visit_unit<E: Error>(self) -> Result<Text, E> {
        Ok(Text(String::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(String::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Text, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn page(json: &Value) -> Option<Sets> {
        read(json.to_string().as_bytes(), 3).ok()
    }

    fn sets(all: &[(&str, &str)]) -> Option<Sets> {
        Some(all.iter().map(|(jti, set)| ((*jti).to_owned(), (*set).to_owned())).collect())
    }

    #[test]
    fn a_page_may_be_empty_or_paused_and_must_be_one() {
        for empty in [json!({"sets": {}}), json!({}), json!({"sets": null, "moreAvailable": true})] {
            assert_eq!(page(&empty), sets(&[]), "{empty}");
        }
        let many =
            json!({"other": [{"sets": 1}], "sets": {"a": "1", "b": 7, "c": "3", "d": "4"}, "moreAvailable": true});
        assert_eq!(page(&many), sets(&[("a", "1"), ("b", ""), ("c", "3")]), "the fourth comes again");
        for odd in [json!(true), json!(-1), json!(0.5), json!(null), json!(["x", []]), json!({"x": {}})] {
            assert_eq!(page(&json!({"sets": {"a": odd, "b": "2"}})), sets(&[("a", ""), ("b", "2")]), "{odd}");
        }
        for bad in [json!([]), json!({"sets": []}), json!({"sets": "x"}), json!("x")] {
            assert_eq!(page(&bad), None, "{bad}");
        }
    }

    #[test]
    fn two_sets_of_one_jti_are_both_taken_in() {
        assert_eq!(read(br#"{"sets": {"a": "1", "a": "2"}}"#, 3).ok(), sets(&[("a", "1"), ("a", "2")]));
        assert!(read(br#"{"sets": {}, "sets": {"a": "1"}}"#, 3).is_err(), "which of them is acknowledged?");
        assert!(read(br#"{"sets": {}} {}"#, 3).is_err());
        assert!(read("[".repeat(100_000).as_bytes(), 3).is_err(), "depth is bounded");
        let deep = format!(r#"{{"sets": {{"a": {}}}}}"#, "[".repeat(100_000));
        assert!(read(deep.as_bytes(), 3).is_err());
    }
}
