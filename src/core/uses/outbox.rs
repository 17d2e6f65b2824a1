//! What one VM does with what it has counted: it cuts a batch at the end of a period, lays it into its place of the shared
//! memory, and cuts no other one until the hub has it.
//!
//! A hub that is away so costs no counts, only memory up to the bounds of the table. A VM that is replaced loses what was in
//! its table; its batch lies in the shared memory and is sent all the same.

use crate::state::store::{FeedId, Store, StoreError};
use crate::uses::cut::{Cut, MAX_BATCH, cut};
use crate::uses::roster::{self, Entry, RENEW};
use crate::uses::table::Table;

/// The numbers and the batch of one VM for one feed.
#[derive(Debug)]
pub struct Outbox {
    feed: FeedId,
    /// This VM: random, and not 0.
    vm: u64,
    /// The number of the last batch.
    number: u64,
    /// The batch that the hub does not have yet.
    waiting: Option<Cut>,
    /// The place in the roster.
    place: Option<u16>,
    /// Whether the roster says that this VM has uses that are in no batch.
    is_marked: bool,
    /// When the roster was told last that this VM is alive.
    renewed: u64,
    /// Whether the last batch left something behind: then the next one does not wait for the period.
    left_some: bool,
}

impl Outbox {
    /// The outbox of the VM `vm`, a random number.
    pub fn new(feed: FeedId, vm: u64) -> Outbox {
        let vm = vm.max(1);
        let (number, waiting, place, is_marked, renewed, left_some) = (0, None, None, false, 0, false);
        Outbox { feed, vm, number, waiting, place, is_marked, renewed, left_some }
    }

    /// Whether [`Outbox::mark`] is to be called because something was counted.
    pub fn needs_mark(&self) -> bool {
        !self.is_marked
    }

    /// Tells the roster that this VM has uses that are in no batch, so that a VM that is replaced leaves a gap. Where that
    /// fails, [`Outbox::tick`] does it.
    pub fn mark(&mut self, store: &mut impl Store, now: u64) -> Result<(), StoreError> {
        self.write(store, now, None, now)
    }

    /// Does what is due at `now`. A store that fails is tried again at the next tick.
    pub fn tick(&mut self, store: &mut impl Store, table: &mut Table, now: u64) -> Result<(), StoreError> {
        if table.is_empty() && self.waiting.is_none() {
            return Ok(());
        }
        let roster = roster::read(store, self.feed)?;
        let own = self.place.and_then(|place| roster.entry(place, self.vm)).copied();
        if own.is_some_and(|own| own.taken >= self.number) && self.waiting.take().is_some() {
            // The memory of a batch is worth a write.
            if let Some(place) = self.place {
                roster::put(store, (self.feed, place), self.vm, 0, &[])?;
            }
        }
        let since = table.since();
        let is_due = since.is_some_and(|since| self.left_some || now.abs_diff(since) >= roster.period_ms());
        if self.waiting.is_none() && is_due {
            self.cut(table, now);
            return self.lay(store, table, now);
        }
        match own {
            // The VM was held to be gone: its clock was changed, or it stood still.
            None if self.waiting.is_some() => self.lay(store, table, now),
            // The store failed when the batch was laid.
            Some(own) if self.waiting.is_some() && own.cut != self.number => self.lay(store, table, now),
            Some(own) if now.abs_diff(self.renewed) < RENEW && (since.is_none() || own.since != 0) => Ok(()),
            _ => self.write(store, since.unwrap_or(0), None, now),
        }
    }

    fn cut(&mut self, table: &mut Table, now: u64) {
        let number = self.number.saturating_add(1);
        if let Some(cut) = cut(table, &vm_text(self.vm), number, now) {
            debug_assert!(cut.json.len() <= MAX_BATCH, "{} bytes", cut.json.len());
            (self.number, self.waiting, self.left_some) = (number, Some(cut), !table.is_empty());
        }
    }

    /// Lays the batch into the place of this VM, and then says so.
    fn lay(&mut self, store: &mut impl Store, table: &Table, now: u64) -> Result<(), StoreError> {
        let (vm, number) = (self.vm, self.number);
        let mut place = None;
        roster::change(store, self.feed, &mut |roster| place = roster.claim(vm, now))?;
        self.place = place;
        if let (Some(place), Some(cut)) = (place, &self.waiting) {
            roster::put(store, (self.feed, place), vm, number, cut.json.as_bytes())?;
            let since = cut.since;
            self.write(store, table.since().unwrap_or(0), Some((number, since)), now)?;
        }
        Ok(())
    }

    /// Writes the entry of this VM, which gets a place if it has none and one is free. `since`: see [`Entry::since`]; `laid`:
    /// the number of the batch that was laid into the place, and since when it has uses.
    fn write(
        &mut self,
        store: &mut impl Store,
        since: u64,
        laid: Option<(u64, u64)>,
        now: u64,
    ) -> Result<(), StoreError> {
        let (vm, known, mut place) = (self.vm, self.place, None);
        roster::change(store, self.feed, &mut |roster| {
            let kept = known.filter(|place| roster.entry(*place, vm).is_some());
            place = kept.or_else(|| roster.claim(vm, now));
            let entry = place.and_then(|place| roster.places.get_mut(usize::from(place)));
            if let Some(entry) = entry {
                // The batch does not lie in a place that was taken anew.
                let (cut, cut_since) = laid.filter(|_| kept.is_some()).unwrap_or((entry.cut, entry.cut_since));
                *entry = Entry { vm, alive: now, since, cut, cut_since, taken: entry.taken };
            }
        })?;
        self.place = place;
        self.is_marked = place.is_some() && since != 0;
        self.renewed = if place.is_some() { now } else { 0 };
        Ok(())
    }
}

/// The name of a VM: 16 hexadecimal digits.
pub(crate) fn vm_text(vm: u64) -> String {
    format!("{vm:016x}")
}

#[cfg(test)]
impl Outbox {
    /// The batch that the hub does not have yet.
    pub(crate) fn waiting(&self) -> Option<&[u8]> {
        self.waiting.as_ref().map(|cut| cut.json.as_bytes())
    }
}
