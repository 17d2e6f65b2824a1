//! The audit log of a hub, for what is done on its host.

use serde_json::Value;
use taskfence_hub::store::Store;
use taskfence_hub::store::model::Audit;

use super::failed;
use crate::failure::Failure;

/// Whom the log names where the host does not say who it is.
const HOST: &str = "host";

/// Notes that `call` was done at `now`, in seconds since 1970. What it did stays if this fails.
pub fn note(store: &dyn Store, now: u64, call: &str, detail: &Value) -> Result<(), Failure> {
    let (at, by) = (now.saturating_mul(1000), by(|name| std::env::var(name).ok()));
    let audit = Audit { at, by, call: call.to_owned(), status: 200, detail: detail.to_string() };
    store
        .audit(std::slice::from_ref(&audit))
        .map_err(|error| failed(format!("`{call}` is done, and not in the audit log: {error}")))
}

/// `host/NAME`, with the name of the user of the host.
fn by(variable: impl Fn(&str) -> Option<String>) -> String {
    let user = ["SUDO_USER", "LOGNAME", "USER"].into_iter().filter_map(variable).find(|user| !user.is_empty());
    user.map_or_else(|| HOST.to_owned(), |user| format!("{HOST}/{user}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_who_became_root_is_named() {
        let set = |name: &str| ["SUDO_USER", "USER"].contains(&name).then(|| format!("{name}-"));
        assert_eq!(by(set), "host/SUDO_USER-");
        assert_eq!(by(|name| (name == "USER").then(|| "root".to_owned())), "host/root");
        assert_eq!(by(|_| Some(String::new())), "host");
    }
}
