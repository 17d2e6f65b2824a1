//! Which proxies have sent evidence, and up to when: of one that goes away without a last batch something may be missing.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many proxies of one feed are remembered.
const MAX: usize = 50_000;

/// The proxies of all feeds.
#[derive(Debug, Default)]
pub struct Senders(Mutex<BTreeMap<String, OfFeed>>);

#[derive(Debug, Default)]
struct OfFeed {
    known: BTreeMap<String, Sender>,
    changed: bool,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Its node.
    pub node: String,
    /// When its last batch was cut, in milliseconds since 1970, by its clock.
    pub until: u64,
    /// When the hub last heard of it, in milliseconds since 1970.
    #[serde(default)]
    pub seen: u64,
}

impl Senders {
    /// The proxy with this id in the list of followers has sent a batch that was cut at `until`.
    pub fn sent(&self, feed: &str, proxy: &str, node: &str, until: u64) {
        let mut all = self.all();
        let OfFeed { known, changed } = all.entry(feed.to_owned()).or_default();
        *changed = true;
        if let Some(sender) = known.get_mut(proxy) {
            sender.until = sender.until.max(until);
        } else if known.len() < MAX {
            known.insert(proxy.to_owned(), Sender { node: node.to_owned(), until, seen: 0 });
        }
    }

    /// Looks at all proxies of a feed: `seen` says when the hub last heard of one, and `None` of one that has left the list.
    /// Those are taken out and returned.
    pub fn look(&self, feed: &str, seen: impl Fn(&str) -> Option<u64>) -> Vec<(String, Sender)> {
        let mut all = self.all();
        let Some(OfFeed { known, changed }) = all.get_mut(feed) else { return Vec::new() };
        let mut gone = Vec::new();
        known.retain(|proxy, sender| match seen(proxy) {
            Some(seen) => {
                sender.seen = sender.seen.max(seen);
                true
            }
            None => {
                gone.push((proxy.clone(), sender.clone()));
                false
            }
        });
        *changed |= !gone.is_empty();
        gone
    }

    /// What was taken out could not be dealt with.
    pub fn put_back(&self, feed: &str, proxy: &str, sender: Sender) {
        let mut all = self.all();
        let of_feed = all.entry(feed.to_owned()).or_default();
        of_feed.known.entry(proxy.to_owned()).or_insert(sender);
        of_feed.changed = true;
    }

    /// Takes in what was remembered before, as [`Senders::unwritten`] gave it.
    pub fn remember(&self, feed: &str, text: &str) {
        let Ok(stored) = serde_json::from_str::<BTreeMap<String, Sender>>(text) else { return };
        let mut all = self.all();
        let of_feed = all.entry(feed.to_owned()).or_default();
        for (proxy, sender) in stored {
            let known = of_feed.known.entry(proxy).or_insert_with(|| sender.clone());
            (known.until, known.seen) = (known.until.max(sender.until), known.seen.max(sender.seen));
        }
    }

    /// All proxies of a feed as text, if something has changed since the last time.
    pub fn unwritten(&self, feed: &str) -> Option<String> {
        let mut all = self.all();
        let of_feed = all.get_mut(feed)?;
        let is_new = std::mem::take(&mut of_feed.changed);
        is_new.then(|| serde_json::to_string(&of_feed.known).ok()).flatten()
    }

    /// They were not written: they are to be written again.
    pub fn not_written(&self, feed: &str) {
        if let Some(of_feed) = self.all().get_mut(feed) {
            of_feed.changed = true;
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, OfFeed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_batch_of_a_proxy_is_known_until_it_goes_away_and_after_a_restart() {
        let senders = Senders::default();
        assert_eq!(senders.unwritten("main"), None);
        senders.sent("main", "proxy-a", "a", 20);
        senders.sent("main", "proxy-a", "a", 10);
        senders.sent("main", "proxy-b", "b", 30);
        let text = senders.unwritten("main").unwrap();
        assert_eq!(senders.unwritten("main"), None);
        let after = Senders::default();
        after.sent("main", "proxy-b", "b", 40);
        after.remember("main", &text);
        assert_eq!(after.look("main", |_| Some(50)), []);
        let gone = after.look("main", |proxy| (proxy == "proxy-b").then_some(60));
        let sender = Sender { node: "a".to_owned(), until: 20, seen: 50 };
        assert_eq!(gone, [("proxy-a".to_owned(), sender.clone())]);
        let kept = r#"{"proxy-b":{"node":"b","until":40,"seen":60}}"#;
        assert_eq!(after.unwritten("main").as_deref(), Some(kept));
        after.put_back("main", "proxy-a", sender);
        assert_eq!(after.look("main", |_| None).len(), 2);
        assert_eq!((after.unwritten("main").as_deref(), after.look("other", |_| None).len()), (Some("{}"), 0));
    }
}
