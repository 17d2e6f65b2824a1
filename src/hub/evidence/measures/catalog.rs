//! The rules of all configurations of a feed, read once for a report.

use crate::evidence::model::PermittedRow;
use std::collections::HashMap;
use std::rc::Rc;
use taskfence_core::uses::allowance::RuleAllowance;
use taskfence_core::uses::outline::Outline;

/// The rules. Those that two configurations have alike are in it once.
#[derive(Debug, Default)]
pub struct Catalog {
    rules: Vec<RuleAllowance>,
    /// What cells of each rule are called.
    labels: Vec<Label>,
    /// The rules of each configuration, in order, by its hash.
    configs: HashMap<String, Rc<Configuration>>,
    all: Rc<Vec<usize>>,
}

/// What cells of a rule are called.
#[derive(Debug)]
pub(crate) struct Label {
    /// The name of the rule.
    pub(crate) rule: Rc<str>,
    /// What is shown of a cell without captures: the identifier that the rule requires, or else its path.
    pub(crate) fixed: Rc<str>,
}

/// One configuration.
#[derive(Debug, Default)]
pub struct Configuration {
    /// The positions of its rules in the catalog, in the order of the configuration.
    pub rules: Rc<Vec<usize>>,
    by_name: HashMap<String, usize>,
}

/// Permitted requests that are alike, and their rule.
#[derive(Debug)]
pub(crate) struct Use<'g> {
    /// The position of the rule in the catalog.
    pub(crate) position: usize,
    pub(crate) row: &'g PermittedRow,
}

impl Catalog {
    /// Reads `outlines`. A rule that cannot be read is left out and logged: a proxy said what no configuration can have.
    pub fn new(outlines: Vec<Outline>) -> Catalog {
        let mut catalog = Catalog::default();
        let mut known = HashMap::new();
        for Outline { config, rules } in outlines {
            let mut positions = Vec::new();
            let mut by_name = HashMap::new();
            for rule in rules {
                let (name, text) = (rule.name.clone(), serde_json::to_string(&rule).unwrap_or_default());
                let position = match known.get(&text) {
                    Some(position) => *position,
                    None => match RuleAllowance::new(rule) {
                        Ok(rule) => {
                            let position = catalog.rules.len();
                            catalog.labels.push(Label::of(&rule));
                            catalog.rules.push(rule);
                            known.insert(text, position);
                            position
                        }
                        Err(error) => {
                            tracing::warn!(config, "{error}");
                            continue;
                        }
                    },
                };
                positions.push(position);
                by_name.insert(name, position);
            }
            catalog.configs.insert(config, Rc::new(Configuration { rules: Rc::new(positions), by_name }));
        }
        catalog.all = Rc::new((0..catalog.rules.len()).collect());
        catalog
    }

    /// The rule at `position`.
    pub fn rule(&self, position: usize) -> Option<&RuleAllowance> {
        self.rules.get(position)
    }

    /// What the cells of the rule at `position` are called.
    pub(crate) fn label(&self, position: usize) -> Option<&Label> {
        self.labels.get(position)
    }

    /// The configuration with that hash.
    pub fn config(&self, hash: &str) -> Option<&Rc<Configuration>> {
        self.configs.get(hash)
    }

    /// All rules of all configurations.
    pub fn all(&self) -> Rc<Vec<usize>> {
        Rc::clone(&self.all)
    }

    /// Whether there is no configuration.
    pub fn is_empty(&self) -> bool {
        self.configs.is_empty()
    }
}

impl Label {
    fn of(rule: &RuleAllowance) -> Label {
        let outline = rule.outline();
        let fixed = rule.identifier_of(&[]).or_else(|| outline.path.clone()).unwrap_or_default();
        Label { rule: outline.name.as_str().into(), fixed: fixed.into() }
    }
}

impl Configuration {
    /// The position in the catalog of the rule `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// The method as the rule writes it. A HEAD request is decided as GET, unless a rule names HEAD.
pub(crate) fn method(rule: &RuleAllowance, method: &str) -> String {
    let methods = &rule.outline().methods;
    let named = |name: &str| methods.iter().find(|ours| ours.eq_ignore_ascii_case(name));
    let as_get = || named("GET").filter(|_| method.eq_ignore_ascii_case("HEAD"));
    named(method).or_else(as_get).map_or_else(|| method.to_owned(), Clone::clone)
}
