//! Names that others chose are looked up here: a connection goes only to an address that a rule allows.

use futures_util::future::FutureExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Whether a connection to that name may go to that address.
pub type Rule = dyn Fn(&str, IpAddr) -> bool + Send + Sync;

/// Resolves names to those of their addresses that a rule allows. The connection goes to an address of this answer, so that
/// a name cannot be looked up in two ways. Addresses that stand in a URL are never looked up: check them before.
#[derive(Clone)]
pub struct CheckedNames(Arc<Rule>);

impl CheckedNames {
    /// Names have the addresses that `rule` allows.
    pub fn new(rule: impl Fn(&str, IpAddr) -> bool + Send + Sync + 'static) -> CheckedNames {
        CheckedNames(Arc::new(rule))
    }
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = Arc::clone(&self.0);
        async move {
            let all = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let some: Vec<SocketAddr> = all.filter(|address| rule(name.as_str(), address.ip())).collect();
            if some.is_empty() {
                return Err("the name has only addresses that the hub must not connect to".into());
            }
            let some: Addrs = Box::new(some.into_iter());
            Ok(some)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_has_only_addresses_that_are_allowed() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(CheckedNames::new(|_, _| false).resolve(name()).await.is_err());
        let wanted = IpAddr::from([127, 0, 0, 1]);
        let rule = CheckedNames::new(move |name, address| name == "localhost" && address == wanted);
        let some: Vec<_> = rule.resolve(name()).await.unwrap().collect();
        assert!(some.iter().all(|address| address.ip() == wanted) && !some.is_empty());
    }
}
