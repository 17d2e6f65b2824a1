//! Which issuers each feed covered when its hub last ran.
//!
//! A proxy leaves out the entries about issuers that the statement of their page does not cover, and moves on. If such an
//! issuer is covered again later, these entries are behind the position of that proxy, which would take the issuer for
//! covered and judge its tokens without them. So a feed whose store holds entries about an issuer that comes in begins a
//! new epoch: every proxy then takes everything anew, and the issuer counts as covered where that is done.

use crate::config::hub::Hub;
use crate::store::Store;
use crate::store::model::StoreError;
use std::collections::BTreeSet;
use taskfence_core::signal::hub_source::covered;
use taskfence_core::state::key::{IssuerTag, StateKey};
use taskfence_core::time::Timestamp;

/// Begins a new epoch in each feed of `hub` that covers an issuer which it did not cover when this was last called and
/// whose entries it holds. Call it before the writer starts. Blocks.
pub fn renew(store: &dyn Store, hub: &Hub, now: Timestamp) -> Result<(), StoreError> {
    for feed in &hub.feeds {
        let name = format!("issuers/{}", feed.name);
        let tags: BTreeSet<String> = feed.policy().issuers().iter().map(|one| text(covered(one).id.tag())).collect();
        let before = store.get(&name)?;
        let known: BTreeSet<&str> = before.as_deref().unwrap_or_default().split(' ').collect();
        let new: Vec<&String> = tags.iter().filter(|tag| !known.contains(tag.as_str())).collect();
        store.open_feed(&feed.name, random()?)?;
        if !new.is_empty() && holds(store, &feed.name, &new, now)? {
            let head = store.renew_feed(&feed.name, random()?)?;
            tracing::warn!(feed = feed.name, %head, "an issuer is covered again: every proxy takes everything anew");
        }
        let all: Vec<String> = tags.into_iter().collect();
        if before.as_deref() != Some(&*all.join(" ")) {
            store.set(&name, &all.join(" "))?;
        }
    }
    Ok(())
}

/// Whether the feed holds an entry about one of the issuers.
fn holds(store: &dyn Store, feed: &str, tags: &[&String], now: Timestamp) -> Result<bool, StoreError> {
    let mut found = false;
    store.full_state(feed, now, &mut |stored| {
        let key = stored.entry.key.first_chunk().and_then(StateKey::decode);
        found |= key.is_some_and(|key| tags.iter().any(|tag| **tag == text(key.issuer())));
    })?;
    Ok(found)
}

fn text(tag: IssuerTag) -> String {
    let [low, high] = tag.encode();
    format!("{low:02x}{high:02x}")
}

fn random() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::config::role::Role;
    use crate::testing::{Running, config};
    use serde_json::{Value, json};

    async fn epoch(hub: &Running, token: &str) -> String {
        let (_, feeds) = hub.call("GET", "/v1/feeds", Some(token), None).await;
        let main = feeds.as_array().unwrap().iter().find(|feed| feed["name"] == "main").unwrap();
        main["revision"].as_str().unwrap().split('.').next().unwrap().to_owned()
    }

    async fn again(hub: Running, issuers: &[Value]) -> Running {
        let folder = hub.stop().await;
        let mut config = config(folder.path());
        config["feeds"][0]["issuers"] = json!(issuers);
        Running::start_with(config, folder).await
    }

    #[tokio::test]
    async fn an_issuer_that_comes_back_makes_every_proxy_take_all_anew() {
        let hub = Running::start().await;
        let ops = hub.token("ops", Role::Operator, &[]).await;
        let all = config(std::path::Path::new("/"))["feeds"][0]["issuers"].as_array().unwrap().clone();
        let first = epoch(&hub, &ops).await;
        let hub = again(hub, &all[..1]).await;
        let hub = again(hub, &all).await;
        assert_eq!(epoch(&hub, &ops).await, first, "no proxy can have left out anything");
        let stop = json!({"issuer": "https://two.example", "reason": "r"});
        let (status, taken) = hub.call("POST", "/v1/feeds/main/stops", Some(&ops), Some(stop)).await;
        assert_eq!(status, 200, "{taken}");
        let hub = again(hub, &all).await;
        assert_eq!(epoch(&hub, &ops).await, first);
        let hub = again(hub, &all[..1]).await;
        assert_eq!(epoch(&hub, &ops).await, first, "what is not covered any more is not judged");
        let hub = again(hub, &all).await;
        assert_ne!(epoch(&hub, &ops).await, first, "a proxy may have left out the stop");
        hub.stop().await;
    }
}
