//! The streams of a hub: what its endpoints and its pushes share.

use crate::access::principal::Principal;
use crate::config::hub::{self, Feed, Hub};
use crate::config::role::Role;
use crate::feed::keys::KeysError;
use crate::problem::Problem;
use crate::repeated::Repeated;
use crate::store::Store;
use crate::store::model::{SignalQuery, StoreError};
use crate::store::writer::Writer;
use crate::streams::backlog;
use crate::streams::counters::Counters;
use crate::streams::delivery_url::{self, Allowed, NoClient};
use crate::streams::keys::{NotSigned, SetKeys};
use crate::streams::outgoing::Sender;
use crate::streams::record::{Status, StreamRecord};
use crate::streams::records::Records;
use crate::streams::waiting::WaitingPolls;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// The clock of the hub, in milliseconds since 1970.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Whether a principal may have streams of a feed now.
pub type MayReceive = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Whether the configuration of this replica is the accepted one. Blocks.
pub type IsAccepted = Arc<dyn Fn() -> Result<(), StoreError> + Send + Sync>;

/// The streams of a hub. Clones are the same streams.
#[derive(Clone)]
pub struct Streams(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) settings: hub::Streams,
    pub(super) feeds: Vec<SentFeed>,
    pub(super) records: Records,
    pub(super) keys: Arc<SetKeys>,
    pub(super) writer: Writer,
    pub(super) replica: String,
    pub(super) now: Now,
    pub(super) may_receive: MayReceive,
    pub(super) is_accepted: IsAccepted,
    pub(super) allowed: Allowed,
    pub(super) client: reqwest::Client,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) polls: WaitingPolls,
    pub(super) storing: Repeated,
}

/// A feed as an issuer of SETs.
pub(super) struct SentFeed {
    pub(super) feed: Arc<Feed>,
    /// `iss` of its SETs.
    pub(super) issuer: String,
    pub(super) counters: Counters,
}

/// What the streams need of the hub.
pub struct Needs {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Says when there are new signals.
    pub writer: Writer,
    /// The clock.
    pub now: Now,
    /// Who may have streams.
    pub may_receive: MayReceive,
    /// Whether the configuration of this replica is the accepted one.
    pub is_accepted: IsAccepted,
    /// The name of this replica.
    pub replica: String,
    /// When the hub stops.
    pub stop: watch::Receiver<bool>,
}

/// Why the streams cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys for SETs.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The client for pushes.
    #[error(transparent)]
    Client(#[from] NoClient),
}

/// The scope to read streams and their status, and to poll.
pub(super) const READ: &str = "ssf.read";

/// The scope to change them.
pub(super) const MANAGE: &str = "ssf.manage";

impl Streams {
    /// The streams of `hub`, with their keys in the folder `keys`; `Ok(None)`: it is no transmitter. Blocks.
    pub fn open(hub: &Hub, keys: &Path, needs: Needs) -> Result<Option<Streams>, StartError> {
        let Some(settings) = hub.streams.clone() else { return Ok(None) };
        let Needs { store, writer, now, may_receive, is_accepted, replica, stop } = needs;
        let feeds = hub.feeds.iter().map(|feed| SentFeed {
            feed: Arc::clone(feed),
            issuer: format!("{}/feeds/{}", settings.issuer, feed.name),
            counters: Counters::default(),
        });
        let allowed = Allowed(settings.allow.clone().into());
        let client = delivery_url::client(allowed.clone(), settings.ca.as_deref())?;
        let polls = WaitingPolls::default();
        let storing = Repeated::new("the position of a stream was not stored; its receiver may get SETs again");
        let (feeds, keys, records) = (feeds.collect(), Arc::new(SetKeys::open(keys)?), Records(store));
        let inner = Inner {
            settings,
            feeds,
            records,
            keys,
            writer,
            replica,
            now,
            may_receive,
            is_accepted,
            allowed,
            client,
            stop,
            polls,
            storing,
        };
        Ok(Some(Streams(Arc::new(inner))))
    }

    /// The counters of each feed, by its name.
    pub fn counters(&self) -> impl Iterator<Item = (&str, &Counters)> {
        self.0.feeds.iter().map(|sent| (sent.feed.name.as_str(), &sent.counters))
    }

    /// The keys for SETs.
    pub fn keys(&self) -> &Arc<SetKeys> {
        &self.0.keys
    }

    pub(super) fn feed(&self, name: &str) -> Option<&SentFeed> {
        self.0.feeds.iter().find(|sent| sent.feed.name == name)
    }

    /// The feed `name`, if `principal` may have streams of it.
    pub(super) fn feed_of(&self, principal: &Principal, name: &str, scope: &'static str) -> Result<&SentFeed, Problem> {
        if !principal.may(&[Role::Receiver], name) {
            let detail = format!("`{}` may not have streams of the feed `{name}`", principal.name);
            return Err(Problem::insufficient_scope(detail, scope));
        }
        self.feed(name).ok_or_else(|| Problem::missing(format!("there is no feed `{name}`"), "ask an operator"))
    }

    /// Runs `work` on a thread where it may block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Streams) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let streams = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&streams)).await;
        done.map_err(|_| Problem::unavailable("the work on the store broke off"))?
    }

    /// The stream `id`, if it is that of `principal`. Blocks.
    pub(super) fn own(&self, principal: &Principal, feed: &str, id: &str) -> Result<StreamRecord, Problem> {
        let stream = self.0.records.read(feed, id)?.filter(|stream| stream.principal == principal.name);
        stream.ok_or_else(no_stream)
    }

    /// Changes the stream `id`, which is there and that of the caller. Blocks.
    pub(super) fn change(
        &self,
        feed: &str,
        id: &str,
        change: impl FnMut(&mut StreamRecord),
    ) -> Result<StreamRecord, Problem> {
        self.0.records.change(feed, id, change)?.ok_or_else(no_stream)
    }

    pub(super) fn now(&self) -> u64 {
        (self.0.now)()
    }

    /// The id of the last signal of the feed. Blocks.
    pub(super) fn last_signal(&self, feed: &str) -> Result<u64, StoreError> {
        let newest = self.0.records.0.signals(feed, &SignalQuery { limit: 1, ..SignalQuery::default() })?;
        Ok(newest.first().map_or(0, |record| record.id))
    }

    /// Pauses a stream that may have missed something, and returns whether it did. Blocks.
    pub(super) fn pause_at_gap(&self, stream: &StreamRecord) -> Result<bool, StoreError> {
        if stream.status == Status::Disabled {
            return Ok(false);
        }
        let Some(pruned) = backlog::gap(&*self.0.records.0, stream)? else { return Ok(false) };
        if stream.reason.as_deref() == Some(GAP) {
            return Ok(true);
        }
        let now = self.now();
        self.0.records.change(&stream.feed, &stream.id, |stream| stream.change_status(Status::Paused, GAP, now))?;
        if let Some(sent) = self.feed(&stream.feed) {
            sent.counters.paused.add();
        }
        let (feed, stream, principal) = (&stream.feed, &stream.id, &stream.principal);
        tracing::error!(feed, stream, principal, pruned, "a stream is paused: {GAP}");
        Ok(true)
    }
}

/// Why a stream is paused that was behind for too long.
pub(super) const GAP: &str = "signals that it has not got may have been removed: ask for the state of what matters in \
    another way, then set the status to enabled";

impl SentFeed {
    /// Who sends the signals of this feed.
    pub(super) fn sender(&self) -> Sender<'_> {
        Sender { issuer: &self.issuer, relay_from: &self.feed.relay_from }
    }
}

pub(super) fn no_stream() -> Problem {
    Problem::missing("there is no such stream of yours", "GET the streams without `stream_id` lists them")
}

impl From<NotSigned> for Problem {
    fn from(error: NotSigned) -> Problem {
        Problem::unavailable(error.to_string())
    }
}

/// A request without that member.
pub(super) fn without(member: &str) -> Problem {
    Problem::bad_request(format!("`{member}` is missing"), "see /openapi.json for the members")
}
