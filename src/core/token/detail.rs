//! `authorization_details` (RFC 9396): the objects that describe what a grant permits.

use serde_json::{Map, Value};

/// The maximum number of objects in a grant.
pub(crate) const MAX_DETAILS: usize = 128;

/// One object of `authorization_details`. It permits every combination of the values in its lists; values of two
/// objects are never combined (RFC 9396 §2).
#[derive(Debug, Clone, PartialEq)]
pub struct Detail {
    /// `type`, which defines the meaning of the other members.
    pub kind: String,
    /// `actions`.
    pub actions: Option<Vec<String>>,
    /// `locations`.
    pub locations: Option<Vec<String>>,
    /// `datatypes`.
    pub datatypes: Option<Vec<String>>,
    /// `privileges`.
    pub privileges: Option<Vec<String>>,
    /// `identifier`.
    pub identifier: Option<String>,
    /// Members that RFC 9396 §2.2 does not define: restrictions that cannot be checked here.
    pub unknown: Vec<String>,
}

impl Detail {
    /// Parses the claim. `None` when it is not an array of at most `MAX_DETAILS` valid objects.
    pub fn list(claim: &Value) -> Option<Vec<Detail>> {
        let list = claim.as_array().filter(|list| list.len() <= MAX_DETAILS)?;
        list.iter().map(|detail| detail.as_object().and_then(Detail::read)).collect()
    }

    /// Parses one object. `None` when it is not valid.
    pub fn read(members: &Map<String, Value>) -> Option<Detail> {
        let kind = members.get("type")?.as_str()?.to_owned();
        let identifier = match members.get("identifier") {
            None => None,
            Some(value) => Some(value.as_str()?.to_owned()),
        };
        Some(Detail {
            kind,
            actions: strings(members, "actions")?,
            locations: strings(members, "locations")?,
            datatypes: strings(members, "datatypes")?,
            privileges: strings(members, "privileges")?,
            identifier,
            unknown: members.keys().filter(|name| !KNOWN.contains(&name.as_str())).cloned().collect(),
        })
    }

    /// Whether the member `name` is a list of which a request must match one value.
    pub(crate) fn is_list(name: &str) -> bool {
        KNOWN_LISTS.contains(&name)
    }
}

const KNOWN_LISTS: [&str; 4] = ["actions", "locations", "datatypes", "privileges"];
const KNOWN: [&str; 6] = ["type", "actions", "locations", "datatypes", "privileges", "identifier"];

/// `Some(None)` when the member is absent, `None` when it is not an array of strings.
#[allow(clippy::option_option, reason = "absent and wrong are different answers")]
fn strings(members: &Map<String, Value>, name: &str) -> Option<Option<Vec<String>>> {
    let Some(value) = members.get(name) else { return Some(None) };
    let list = value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
    Some(Some(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_the_common_members() {
        let details = Detail::list(&json!([{
            "type": "order", "actions": ["read"], "locations": ["https://orders.mesh"], "identifier": "1881", "limit": 3
        }]))
        .unwrap();
        assert_eq!(details.len(), 1);
        assert_eq!(details[0].actions, Some(vec!["read".to_owned()]));
        assert_eq!(details[0].datatypes, None);
        assert_eq!(details[0].unknown, ["limit"]);
    }

    #[test]
    fn refuses_wrong_shapes() {
        for bad in [
            json!({}),
            json!("order"),
            json!([1]),
            json!([{}]),
            json!([{"type": 1}]),
            json!([{"type": "order", "actions": "read"}]),
            json!([{"type": "order", "actions": ["read", 1]}]),
            json!([{"type": "order", "identifier": 1881}]),
        ] {
            assert_eq!(Detail::list(&bad), None, "{bad}");
        }
        let many: Vec<Value> = (0..=MAX_DETAILS).map(|_| json!({"type": "order"})).collect();
        assert_eq!(Detail::list(&Value::Array(many)), None);
    }
}
