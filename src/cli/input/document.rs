//! A document in YAML or JSON, converted to JSON.

use taskfence_core::config::problem::Problem;

use crate::input::yaml;

/// The JSON of `text`, which is JSON when it begins with `{` and YAML otherwise. `what` is what messages call it.
///
/// JSON is returned unchanged, byte by byte. The code that reads it reports its errors.
pub fn to_json(text: &[u8], what: &str) -> Result<Vec<u8>, Problem> {
    if is_json(text) {
        return Ok(text.to_vec());
    }
    let text = std::str::from_utf8(text)
        .map_err(|error| Problem::at("", format!("{what} is not UTF-8 after byte {}", error.valid_up_to())))?;
    let json = yaml::to_json(text);
    json.map(String::into_bytes).map_err(|error| Problem::at("", format!("{what} cannot be read as YAML: {error}")))
}

/// Whether it is JSON and not YAML.
fn is_json(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}
