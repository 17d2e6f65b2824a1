//! Compiles `access`.

use crate::config::hub::Access;
use crate::config::model::{AccessConfig, HubConfig};
use crate::config::problem::{self, Found, Problem};
use crate::config::role::Role;
use taskfence_core::http::spiffe::PeerPattern;

/// The entries of `access` that can be used.
pub(super) fn access(config: &HubConfig, found: &mut Found) -> Vec<Access> {
    let mut all = Vec::new();
    for (at, entry) in config.access.iter().enumerate() {
        let path = format!("access[{at}]");
        let peers = peers(&entry.spiffe);
        if peers.is_none() {
            let help = "write an id such as `spiffe://mesh.example/ns/prod/sa/web`, or `spiffe://mesh.example/` for all ids below it";
            found.error(format!("{path}.spiffe"), format!("`{}` is not a SPIFFE id", entry.spiffe), help);
        } else if config.access.iter().take(at).any(|earlier| earlier.spiffe == entry.spiffe) {
            let message = format!("`{}` stands here twice, and only the first entry counts", entry.spiffe);
            found.error(format!("{path}.spiffe"), message, "give each id one role");
        }
        let role = Role::from_name(&entry.role);
        if role.is_none() {
            let problem = Problem::at(format!("{path}.role"), format!("unknown role `{}`", entry.role));
            let help = problem::known(&entry.role, Role::ALL.map(Role::as_str)).unwrap_or_default();
            found.errors.push(problem.help(help));
        }
        for (index, feed) in entry.feeds.iter().enumerate() {
            let names = config.feeds.iter().map(|feed| feed.name.as_str());
            if !names.clone().any(|name| name == feed) {
                let problem = Problem::at(format!("{path}.feeds[{index}]"), format!("`{feed}` is not one of `feeds`"));
                let help = problem::known(feed, names).unwrap_or_else(|| "add it to `feeds`".to_owned());
                found.errors.push(problem.help(help));
            }
        }
        check_issuer(entry, role, &path, found);
        let (feeds, issuer) = (entry.feeds.clone(), entry.issuer.clone());
        all.extend(peers.zip(role).map(|(peers, role)| Access { peers, role, feeds, issuer }));
    }
    let has_ca = config.listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if !config.access.is_empty() && !has_ca {
        let help = "add `listen.tls.client_ca`, or remove `access` and give callers bearer tokens";
        found.error("access", "needs client certificates, and the hub asks for none", help);
    }
    all
}

/// An issuer may only end what it granted, so the hub must know which one it is.
fn check_issuer(entry: &AccessConfig, role: Option<Role>, path: &str, found: &mut Found) {
    let path = format!("{path}.issuer");
    match (role == Some(Role::Issuer), &entry.issuer) {
        (true, None) => {
            found.error(path, "is missing", "name the issuer whose grants the caller may end, as `feeds` does")
        }
        (false, Some(_)) => found.error(path, "belongs to `role: issuer` only", "remove it"),
        _ => {}
    }
}

/// One id, or all below a path or a trust domain.
fn peers(text: &str) -> Option<PeerPattern> {
    match text.ends_with('/') {
        true => PeerPattern::parse(&format!("{text}*")),
        false => PeerPattern::parse(text),
    }
}
