//! Width: what a grant allowed, against what was used of it, in cells of rule x action x identifier.

use crate::evidence::measures::catalog::{Catalog, Label, Use, method};
use crate::evidence::measures::narrower;
use crate::evidence::model::GrantRow;
use crate::evidence::report::{Cell, Width};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use taskfence_core::token::detail::Detail;
use taskfence_core::uses::allowance::{Reach, RuleAllowance};

/// So many cells of one grant are counted. A grant with more is as good as unbounded for whoever reads the report.
pub const MOST_CELLS: usize = 10_000;

/// So many cells are listed.
const LISTED: usize = 100;

/// Combinations of configurations and scopes that are remembered.
const REMEMBERED: usize = 10_000;

/// The numbers of a [`Width`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// What was allowed can be counted.
    Bounded {
        /// Cells that were allowed.
        allowed: u64,
        /// Those of them that were used.
        used: u64,
    },
    /// Something was allowed without a bound.
    Unbounded {
        /// Different cells that were used.
        used: u64,
    },
    /// It is not known what was allowed, or not what was used.
    Unknown,
}

/// Measures widths.
pub struct Widths<'c> {
    catalog: &'c Catalog,
    /// By configurations, and by scopes: the rules that a grant with them may use.
    candidates: HashMap<Vec<String>, HashMap<Vec<String>, Rc<Candidates>>>,
    remembered: usize,
}

/// The rules that a grant with certain scopes may use.
#[derive(Debug, Default)]
struct Candidates {
    /// What the rules allow that ask for no detail.
    plain: Vec<Key>,
    /// The rules that ask for one, by its type.
    by_type: HashMap<String, Vec<usize>>,
}

/// A cell. Rules of one name are the same rule, also if a configuration changed it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    rule: Rc<str>,
    /// `None`: any method.
    action: Option<String>,
    /// `None`: anything.
    captures: Option<Vec<String>>,
    /// What is shown if nothing is captured.
    fixed: Option<Rc<str>>,
}

impl Key {
    fn new(label: &Label, action: Option<String>, captures: Option<Vec<String>>) -> Key {
        let is_fixed = captures.as_ref().is_some_and(Vec::is_empty);
        let fixed = is_fixed.then(|| Rc::clone(&label.fixed));
        Key { rule: Rc::clone(&label.rule), action, captures, fixed }
    }

    /// See [`Cell::identifier`].
    fn shown(&self) -> Option<String> {
        match &self.fixed {
            Some(fixed) => Some(fixed.to_string()),
            None => self.captures.as_ref().map(|captures| captures.join("/")),
        }
    }
}

/// What a grant allowed.
enum Allowed {
    Bounded(BTreeSet<Key>),
    Unbounded(BTreeSet<Key>),
    Unknown(String),
}

impl<'c> Widths<'c> {
    /// Measures by the rules of `catalog`.
    pub fn new(catalog: &'c Catalog) -> Widths<'c> {
        Widths { catalog, candidates: HashMap::new(), remembered: 0 }
    }

    /// The numbers alone, which is cheaper than [`Widths::width`].
    pub fn count(&mut self, grant: &GrantRow) -> Counted {
        let (allowed, uses) = match (self.allowed(grant), self.uses(grant)) {
            (Allowed::Unknown(_), _) | (_, Err(_)) => return Counted::Unknown,
            (allowed, Ok(uses)) => (allowed, uses),
        };
        let used = self.used(&uses);
        match allowed {
            Allowed::Bounded(_) if self.untold(grant, &uses).is_some() => Counted::Unknown,
            Allowed::Bounded(allowed) => Counted::Bounded {
                allowed: number(allowed.len()),
                used: number(used.iter().filter(|key| allowed.contains(key)).count()),
            },
            Allowed::Unbounded(_) | Allowed::Unknown(_) => Counted::Unbounded { used: number(used.len()) },
        }
    }

    /// All about the width of a grant, with proposals for a narrower one.
    pub fn width(&mut self, grant: &GrantRow) -> Width {
        let uses = match self.uses(grant) {
            Ok(uses) => uses,
            Err(unknown) => return Width { unknown: Some(unknown), ..Width::default() },
        };
        let used = self.used(&uses);
        let mut width = Width::default();
        match self.allowed(grant) {
            Allowed::Unknown(unknown) => return Width { unknown: Some(unknown), ..Width::default() },
            Allowed::Bounded(allowed) => {
                width.allowed_cells = Some(number(allowed.len()));
                width.used_cells = number(used.iter().filter(|key| allowed.contains(key)).count());
                width.allowed = listed(&allowed, &used);
            }
            Allowed::Unbounded(allowed) => {
                width.used_cells = number(used.len());
                width.allowed = listed(&allowed, &used);
            }
        }
        match self.untold(grant, &uses) {
            // That it is unbounded is known all the same.
            Some(untold) if width.allowed_cells.is_none() => width.notes.push(untold),
            untold @ Some(_) => width.unknown = untold,
            None => narrower::propose(self.catalog, grant, &uses, &mut width),
        }
        width
    }

    /// Why some of what was used of `grant` is not told, if so.
    fn untold(&self, grant: &GrantRow, uses: &[Use<'_>]) -> Option<String> {
        let captures = |one: &Use<'_>| self.catalog.rule(one.position).is_some_and(|rule| rule.captures());
        if grant.other > 0 {
            let text =
                "permitted requests were counted without their rule and identifiers: no narrower grant is proposed";
            return Some(format!("{} {text}", grant.other));
        }
        let is_masked = grant.info.masked.iter().any(|name| name == "captures");
        (is_masked && uses.iter().any(captures))
            .then(|| "the identifiers that were used are masked: no narrower grant is proposed".to_owned())
    }

    fn allowed(&mut self, grant: &GrantRow) -> Allowed {
        let info = &grant.info;
        if info.cut {
            return Allowed::Unknown("scopes or details were too long to be sent whole".to_owned());
        }
        if info.masked.iter().any(|name| matches!(name.as_str(), "scopes" | "details")) {
            return Allowed::Unknown("scopes or details are masked".to_owned());
        }
        let configs = configs(grant);
        let candidates = match self.candidates(&configs, &info.scopes) {
            Ok(candidates) => candidates,
            Err(unknown) => return Allowed::Unknown(unknown),
        };
        let mut keys: BTreeSet<Key> = candidates.plain.iter().cloned().collect();
        let mut reached = Vec::new();
        let details = info.details.iter().filter_map(|detail| Detail::read(detail.as_object()?));
        for held in details {
            for position in candidates.by_type.get(&held.kind).into_iter().flatten() {
                let Some((rule, label)) = self.labelled(*position) else { continue };
                if rule.reach(&held, MOST_CELLS, &mut reached).is_err() || keys.len() > MOST_CELLS {
                    return Allowed::Unknown(format!("it allows more than {MOST_CELLS} cells"));
                }
                reached.drain(..).for_each(|reach| add(rule, label, reach, &mut keys));
            }
        }
        if keys.len() > MOST_CELLS {
            return Allowed::Unknown(format!("it allows more than {MOST_CELLS} cells"));
        }
        match keys.iter().any(|key| key.captures.is_none() || key.action.is_none()) {
            true => Allowed::Unbounded(keys),
            false => Allowed::Bounded(keys),
        }
    }

    /// The rules that a grant with `scopes` may use under `configs`; all configurations if it names none.
    fn candidates(&mut self, configs: &[&str], scopes: &[String]) -> Result<Rc<Candidates>, String> {
        let names: Vec<String> = configs.iter().map(|&name| name.to_owned()).collect();
        if let Some(found) = self.candidates.get(&names).and_then(|by_scopes| by_scopes.get(scopes)) {
            return Ok(Rc::clone(found));
        }
        if self.catalog.is_empty() {
            return Err("no proxy has told its rules".to_owned());
        }
        let mut rules = Vec::new();
        for name in configs {
            let config = self.catalog.config(name);
            let config = config.ok_or_else(|| format!("the rules of the configuration {name} are not known"))?;
            rules.extend(config.rules.iter().copied());
        }
        if configs.is_empty() {
            rules = self.catalog.all().to_vec();
        }
        let mut seen = HashSet::new();
        rules.retain(|position| seen.insert(*position));
        let mut candidates = Candidates::default();
        let mut plain = BTreeSet::new();
        for position in rules {
            let Some((rule, label)) = self.labelled(position) else { continue };
            if !rule.requires_grant() || !rule.has_scopes(scopes) {
                continue;
            }
            match &rule.outline().detail {
                Some(detail) => candidates.by_type.entry(detail.kind.clone()).or_default().push(position),
                None => add(rule, label, rule.reach_without_detail(), &mut plain),
            }
        }
        candidates.plain = plain.into_iter().collect();
        let candidates = Rc::new(candidates);
        if self.remembered >= REMEMBERED {
            self.candidates.clear();
            self.remembered = 0;
        }
        self.remembered = self.remembered.saturating_add(1);
        self.candidates.entry(names).or_default().insert(scopes.to_vec(), Rc::clone(&candidates));
        Ok(candidates)
    }

    /// What was permitted, with the rules in the catalog. What passed by break-glass alone is not among it: the grant did
    /// not allow it by its scopes and details.
    fn uses<'g>(&self, grant: &'g GrantRow) -> Result<Vec<Use<'g>>, String> {
        let rows = grant.permitted.iter().filter(|row| row.count > row.break_glass);
        let found = rows.map(|row| {
            let config = self.catalog.config(&row.config);
            let position = config.and_then(|config| config.position(&row.rule));
            let position = position
                .ok_or_else(|| format!("the rule {} of the configuration {} is not known", row.rule, row.config))?;
            Ok(Use { position, row })
        });
        found.collect()
    }

    fn labelled(&self, position: usize) -> Option<(&'c RuleAllowance, &'c Label)> {
        Some((self.catalog.rule(position)?, self.catalog.label(position)?))
    }

    fn used(&self, uses: &[Use<'_>]) -> BTreeSet<Key> {
        let key = |one: &Use<'_>| {
            let (rule, label) = self.labelled(one.position)?;
            let captures = &one.row.captures;
            let action = rule.action_of(captures).unwrap_or_else(|| method(rule, &one.row.method));
            Some(Key::new(label, Some(action), Some(captures.clone())))
        };
        uses.iter().filter_map(key).collect()
    }
}

impl Counted {
    /// Which share of what was allowed was used, from 0 to 1; `None` if there is none.
    pub fn share(self) -> Option<f64> {
        match self {
            Counted::Bounded { allowed, used } if allowed > 0 =>
            {
                #[expect(clippy::as_conversions, reason = "at most `MOST_CELLS`")]
                Some(used as f64 / allowed as f64)
            }
            _ => None,
        }
    }
}

/// The configurations that the uses of `grant` name.
fn configs(grant: &GrantRow) -> Vec<&str> {
    let permitted = grant.permitted.iter().map(|row| row.config.as_str());
    let refused = grant.refused.iter().map(|row| row.config.as_str());
    let mut names: Vec<_> = permitted.chain(refused).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Adds the cells of `reach`.
fn add(rule: &RuleAllowance, label: &Label, reach: Reach, keys: &mut BTreeSet<Key>) {
    let methods = &rule.outline().methods;
    match reach.action {
        Some(action) => {
            keys.insert(Key::new(label, Some(action), reach.captures));
        }
        None if methods.is_empty() => {
            keys.insert(Key::new(label, None, reach.captures));
        }
        None => methods.iter().for_each(|method| {
            keys.insert(Key::new(label, Some(method.clone()), reach.captures.clone()));
        }),
    }
}

/// The cells as they are listed: those that were used first. A use of an unbounded cell is a cell of its own.
fn listed(allowed: &BTreeSet<Key>, used: &BTreeSet<Key>) -> Vec<Cell> {
    let cell = |key: &Key, used| Cell {
        rule: key.rule.to_string(),
        action: key.action.clone().unwrap_or_else(|| "*".to_owned()),
        identifier: key.shown(),
        used,
    };
    let mut cells: BTreeSet<Cell> = used.iter().map(|key| cell(key, true)).collect();
    cells.extend(allowed.iter().filter(|key| !used.contains(key)).map(|key| cell(key, false)));
    let mut cells: Vec<Cell> = cells.into_iter().collect();
    cells.sort_by_key(|cell| !cell.used);
    cells.truncate(LISTED);
    cells
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
