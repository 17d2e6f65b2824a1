//! Issuers that have one name for everybody: whoever has an account there gets tokens for the audience that they ask for.

use taskfence_core::config::problem::Problem;
use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::requirement::Check;
use taskfence_core::rules::rule::{Effect, Rule};

/// The issuers, each with a claim that says whose token it is.
const SHARED: [(&str, &str); 6] = [
    ("https://token.actions.githubusercontent.com", "repository_owner"),
    ("https://gitlab.com", "namespace_path"),
    ("https://agent.buildkite.com", "organization_slug"),
    ("https://app.terraform.io", "terraform_organization_name"),
    ("https://accounts.google.com", "email"),
    ("accounts.google.com", "email"),
];

/// The claim that says whose token it is, if strangers have tokens of `issuer` too.
pub fn owner_claim(issuer: &str) -> Option<&'static str> {
    SHARED.iter().find(|(name, _)| *name == issuer).map(|(_, claim)| *claim)
}

/// A warning for each such issuer of `policy` whose tokens a rule lets pass, whoever they belong to.
pub fn warnings(policy: &Policy) -> Vec<Problem> {
    let Some(open) = policy.rules().iter().find(|rule| takes_anybody(rule)) else { return Vec::new() };
    let shared = policy.issuers().iter().filter(|issuer| issuer.required.is_empty());
    let warning = |name: &str, entry: usize, claim: &str| {
        let message = format!(
            "is missing: anybody can get a token of `{name}` for this audience, and rule `{}` compares none of its claims",
            open.name()
        );
        let help = format!("write whose tokens are meant, such as `where: {{{claim}: ...}}`");
        Problem::at(format!("issuers[{entry}].where"), message).help(help)
    };
    shared.filter_map(|issuer| Some(warning(&issuer.name, issuer.entry, owner_claim(&issuer.name)?))).collect()
}

/// Whether it asks for a token and compares no claim that says whose it is.
fn takes_anybody(rule: &Rule) -> bool {
    let Effect::Require(requirement) = rule.effect() else { return false };
    !requirement.checks().iter().any(|check| matches!(check, Check::Claims(_) | Check::When(_)))
}
