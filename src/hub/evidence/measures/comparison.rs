//! The permanent path beside the grants: what roles allow for as long as somebody has them.

use crate::evidence::measures::residual::seconds;
use crate::evidence::measures::width::{Counted, Widths};
use crate::evidence::model::{GrantRow, Window};
use crate::evidence::report::{Comparison, RoleWidth, Width};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use taskfence_core::uses::batch::GrantInfo;
use utoipa::ToSchema;

/// A role of the permanent path: what it allows, written as a grant would be, and who has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Who has it, by `sub`.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Its scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Its `authorization_details` (RFC 9396).
    #[serde(default)]
    pub authorization_details: Vec<Value>,
    /// How many cells it allows, where scopes and details cannot say it.
    #[serde(default)]
    pub cells: Option<Cells>,
}

/// A number of cells, or `unbounded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Cells {
    /// So many.
    Number(u64),
    /// No bound.
    Word(Unbounded),
}

/// The word `unbounded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unbounded {
    /// No bound.
    Unbounded,
}

/// The comparison while grants are read.
#[derive(Debug)]
pub struct Comparing {
    window: Window,
    roles: Vec<RoleWidth>,
    /// The positions of the roles that a subject has.
    by_subject: HashMap<String, Vec<usize>>,
}

impl Comparing {
    /// Measures `roles` under all configurations of the feed.
    pub fn new(roles: &[Role], widths: &mut Widths<'_>, window: Window) -> Comparing {
        let span = seconds(window.until.saturating_sub(window.since));
        let mut by_subject = HashMap::<String, Vec<usize>>::new();
        let mut measured = Vec::new();
        for (at, role) in roles.iter().enumerate() {
            let mut subjects = role.subjects.clone();
            subjects.sort_unstable();
            subjects.dedup();
            subjects.iter().for_each(|subject| by_subject.entry(subject.clone()).or_default().push(at));
            let count = u32::try_from(subjects.len()).unwrap_or(u32::MAX);
            let Width { allowed_cells, unknown, .. } = width(role, widths);
            measured.push(RoleWidth {
                name: role.name.clone(),
                allowed_cells,
                unknown,
                subjects,
                seconds: span * f64::from(count),
                grant_cells: Some(0),
                ..RoleWidth::default()
            });
        }
        Comparing { window, roles: measured, by_subject }
    }

    /// Adds a grant; `end`: when it ended, in milliseconds since 1970.
    pub fn add(&mut self, grant: &GrantRow, counted: Counted, end: u64) {
        let Some(roles) = self.by_subject.get(&grant.info.subject) else { return };
        let from = grant.info.issued_at.saturating_mul(1_000).max(self.window.since);
        let span = seconds(end.min(self.window.until).saturating_sub(from));
        for at in roles {
            let Some(role) = self.roles.get_mut(*at) else { continue };
            role.grants = role.grants.saturating_add(1);
            role.grant_seconds += span;
            match counted {
                Counted::Bounded { allowed, .. } => role.grant_cells = role.grant_cells.map(|most| most.max(allowed)),
                Counted::Unbounded { .. } => role.grant_cells = None,
                Counted::Unknown => role.unknown_grants = role.unknown_grants.saturating_add(1),
            }
        }
    }

    /// The comparison as it is reported.
    pub fn finish(self) -> Comparison {
        Comparison { roles: self.roles }
    }
}

/// What a role allows: as the file says it, or else as a grant with its scopes and details that was never used.
fn width(role: &Role, widths: &mut Widths<'_>) -> Width {
    match role.cells {
        Some(Cells::Number(cells)) => return Width { allowed_cells: Some(cells), ..Width::default() },
        Some(Cells::Word(Unbounded::Unbounded)) => return Width::default(),
        None => {}
    }
    let info =
        GrantInfo { scopes: role.scopes.clone(), details: role.authorization_details.clone(), ..GrantInfo::default() };
    widths.width(&GrantRow { info, ..GrantRow::default() })
}
