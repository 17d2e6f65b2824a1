//! The rules of a configuration as the hub needs them, to say what a grant allowed.

use serde::{Deserialize, Serialize};

/// The rules of one configuration, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// The hash of the configuration.
    pub config: String,
    /// The rules.
    pub rules: Vec<RuleOutline>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOutline {
    /// Its name.
    pub name: String,
    /// `require`, `anonymous` or `deny`.
    pub effect: String,
    /// The methods; empty: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The hosts; empty: every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The template of the path, as it is written; absent: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The names of the captures of the path, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<String>,
    /// The scopes that it requires, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Scopes of which it requires at least one; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any_scopes: Vec<String>,
    /// The object of `authorization_details` that it requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<DetailOutline>,
    /// What else it matches by or requires, by the names of the keys: `metadata`, `when`, `peer` and so on. A grant can
    /// be wide by its scopes and details, and narrower by these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// The scope of its `break_glass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
    /// Whether it matches gRPC requests only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grpc: bool,
    /// Whether it only records refusals.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// What a rule requires of an object of `authorization_details`. Each value is a pattern as it is written: `*`, or text in
/// which `{name}` stands for a capture of the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailOutline {
    /// `type`, exactly.
    #[serde(rename = "type")]
    pub kind: String,
    /// One of `actions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `identifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// One of `locations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// One of `datatypes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datatype: Option<String>,
    /// One of `privileges`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privilege: Option<String>,
}
