//! What is done beside taking evidence in: signals are copied, proxies that went away are noted, old days are removed.

use crate::config::hub::Hub;
use crate::evidence::copy;
use crate::evidence::model::Write;
use crate::evidence::senders::Senders;
use crate::evidence::service::{Evidence, NotTaken};
use crate::evidence::store::EvidenceStore;
use crate::feed::Feeds;
use crate::repeated::Repeated;
use crate::store::Store;
use crate::store::model::StoreError;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use taskfence_core::uses::batch::Gap;

/// Signals are looked for this often.
const TICK: Duration = Duration::from_secs(1);

/// Between two parts of many signals, so that others have their turn.
const PAUSE: Duration = Duration::from_millis(100);

/// Proxies are looked at every so many ticks.
const LOOK: u64 = 5;

/// What was sent by whom is stored, and old days are removed, every so many ticks.
const KEEP: u64 = 60;

/// Whether it is the turn of this replica to do what one does for all.
pub type IsTurn = Box<dyn Fn() -> bool + Send>;

/// What the upkeep needs.
pub struct Needs {
    /// The evidence.
    pub evidence: Arc<Evidence>,
    /// The store of signals.
    pub signals: Arc<dyn Store>,
    /// The configuration.
    pub hub: Arc<Hub>,
    /// The feeds, with the proxies that follow them.
    pub feeds: Arc<Feeds>,
    /// Who has sent evidence.
    pub senders: Arc<Senders>,
    /// Whether it is the turn of this replica.
    pub is_turn: IsTurn,
}

/// The thread of the upkeep.
#[derive(Debug)]
pub struct Upkeep {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Upkeep {
    /// Starts it; `None` where no evidence is kept.
    pub fn start(needs: Needs) -> io::Result<Option<Upkeep>> {
        if !needs.evidence.is_on() {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let worker = Worker {
            needs,
            stopped,
            remembered: false,
            copying: Repeated::new("signals cannot be copied into the evidence; it is tried again"),
            noting: Repeated::new("proxies that went away cannot be noted in the evidence; it is tried again"),
            keeping: Repeated::new("the store of evidence cannot be looked after; it is tried again"),
        };
        let thread = std::thread::Builder::new().name("evidence-upkeep".to_owned()).spawn(move || worker.run())?;
        Ok(Some(Upkeep { stop, thread }))
    }

    /// Ends it. Blocks for as long as what it does now takes.
    pub fn stop(self) {
        // It may have ended.
        _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the upkeep of the evidence broke off");
        }
    }
}

struct Worker {
    needs: Needs,
    stopped: Receiver<()>,
    /// Whether it was read who has sent evidence before this start.
    remembered: bool,
    copying: Repeated,
    noting: Repeated,
    keeping: Repeated,
}

impl Worker {
    fn run(mut self) {
        let (mut tick, mut pause) = (0u64, Duration::ZERO);
        while let Err(RecvTimeoutError::Timeout) = self.stopped.recv_timeout(pause) {
            pause = TICK;
            if let Some(store) = self.needs.evidence.store() {
                if self.look(&*store, tick) {
                    pause = PAUSE;
                }
                tick = tick.wrapping_add(1);
            }
        }
        if let Some(store) = self.needs.evidence.store() {
            let kept = self.write_senders(&*store);
            self.keeping.note("", &kept);
        }
    }

    /// Does what is due. Returns whether there are more signals to copy.
    fn look(&mut self, store: &dyn EvidenceStore, tick: u64) -> bool {
        if !self.remembered {
            let read = self.read_senders(store);
            self.remembered = self.keeping.note("", &read);
        }
        let (mut more, has_room) = (false, self.needs.evidence.admit().is_ok());
        if has_room && (self.needs.is_turn)() {
            for feed in &self.needs.hub.feeds {
                let copied = copy::copy(&self.needs.evidence, store, &*self.needs.signals, feed);
                self.copying.note(&feed.name, &copied);
                more |= copied.unwrap_or(false);
            }
        }
        if tick.is_multiple_of(LOOK) && self.remembered && has_room {
            let noted = self.note_departed();
            self.noting.note("", &noted);
        }
        // The first evidence is to be seen soon.
        let is_empty = self.needs.evidence.usage().is_none_or(|usage| usage.first_day == 0);
        if tick.is_multiple_of(if is_empty { LOOK } else { KEEP }) {
            let kept = self.keep(store);
            self.keeping.note("", &kept);
        }
        more
    }

    /// Notes a gap of each proxy that has left the list of its feed after it had sent evidence.
    fn note_departed(&self) -> Result<(), NotTaken> {
        let Needs { evidence, feeds, senders, .. } = &self.needs;
        for feed in feeds.iter() {
            let gone = senders.look(&feed.name, |proxy| feed.followers.seen(proxy));
            for (proxy, sender) in gone {
                if sender.until >= sender.seen {
                    continue;
                }
                let gap = Gap { vm: format!("proxy {proxy}"), since: sender.until, until: sender.seen };
                let (name, node) = (feed.name.clone(), sender.node.clone());
                let write = Write::Gap { feed: name, node, gap };
                let stored =
                    evidence.reserve("(upkeep)", 256).and_then(|room| evidence.submit_blocking(room, vec![write]));
                if let Err(error) = stored {
                    senders.put_back(&feed.name, &proxy, sender);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn keep(&self, store: &dyn EvidenceStore) -> Result<(), StoreError> {
        self.write_senders(store)?;
        if (self.needs.is_turn)() {
            let days = store.prune(self.needs.evidence.now())?;
            if days > 0 {
                tracing::info!(days, "days of evidence were removed");
            }
        }
        self.needs.evidence.set_usage(store.usage()?);
        Ok(())
    }

    fn read_senders(&self, store: &dyn EvidenceStore) -> Result<(), StoreError> {
        for feed in self.needs.feeds.iter() {
            if let Some(text) = store.get(&senders_of(&feed.name))? {
                self.needs.senders.remember(&feed.name, &text);
            }
        }
        Ok(())
    }

    /// Replicas write one after the other: each keeps what the others have written.
    fn write_senders(&self, store: &dyn EvidenceStore) -> Result<(), StoreError> {
        if self.needs.evidence.admit().is_err() {
            return Ok(());
        }
        for feed in self.needs.feeds.iter() {
            let Some(text) = self.needs.senders.unwritten(&feed.name) else { continue };
            if let Err(error) = store.set(&senders_of(&feed.name), &text) {
                self.needs.senders.not_written(&feed.name);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The named value with the proxies of a feed that have sent evidence.
fn senders_of(feed: &str) -> String {
    format!("senders/{feed}")
}
