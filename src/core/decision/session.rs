//! One verified token, and what one worker remembers about it.

use crate::encoding::digest::{Digest, sha256};
use crate::rules::cel_claims::Claims;
use crate::rules::grant_status::GrantStatus;
use crate::state::key::StateKey;
use crate::token::grant::Grant;
use crate::token::verify::Verified;
use serde_json::Value;
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

/// The approximate bytes of one value of a claim, as JSON and as a CEL value.
pub(crate) const PER_VALUE: usize = 128;

/// A verified token, and what this worker last read about it in the state.
#[derive(Debug)]
pub struct Session {
    token: Arc<[u8]>,
    verified: Verified,
    keys: Vec<StateKey>,
    buckets: Vec<u16>,
    /// The claims in the form that conditions read, if the policy has conditions.
    claims: Option<Claims>,
    /// The number of values of claims that it holds.
    pub(crate) values: usize,
    /// The status of the grant that was last read, after the clock of the worker's view at which it was read.
    grant_status: RefCell<Option<(u64, GrantStatus)>>,
    count_slot: Cell<CountSlot>,
    digest: OnceCell<Digest>,
}

/// Where the uses of a grant are counted: see [`crate::uses::table`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CountSlot {
    /// The generation of the table that the place is valid for. 0: of none.
    pub(crate) generation: u32,
    /// The place.
    pub(crate) place: u32,
}

impl Session {
    /// A session of `verified`, whose token is `token`. `conditions`: whether any rule has a condition. `kept`: the names
    /// of the top-level claims that are read by name; `None` keeps all.
    pub(crate) fn new(mut verified: Verified, token: &[u8], conditions: bool, kept: Option<&[Box<str>]>) -> Session {
        let count_all = |grant: &Grant| grant.claims.values().map(count).fold(0, usize::saturating_add);
        let claims = conditions.then(|| Claims::new(verified.grant()));
        let token: Arc<[u8]> = token.into();
        let converted = if conditions { count_all(verified.grant()) } else { 0 };
        if let Some(kept) = kept {
            verified.keep_claims(kept, &token);
        }
        let values = count_all(verified.grant()).max(converted);
        let keys = verified.grant().state_keys();
        let buckets = keys.iter().map(StateKey::bucket).collect();
        let (grant_status, count_slot, digest) = Default::default();
        Session { token, verified, keys, buckets, claims, values, grant_status, count_slot, digest }
    }

    /// The whole token.
    pub(crate) fn token(&self) -> &[u8] {
        &self.token
    }

    /// The SHA-256 of the whole token.
    pub(crate) fn digest(&self) -> &Digest {
        self.digest.get_or_init(|| sha256(&self.token))
    }

    /// Where its uses are counted.
    pub(crate) fn count_slot(&self) -> CountSlot {
        self.count_slot.get()
    }

    /// Remembers where its uses are counted.
    pub(crate) fn count_at(&self, slot: CountSlot) {
        self.count_slot.set(slot);
    }

    /// Gives its token another name, as if another token had been verified.
    #[cfg(test)]
    pub(crate) fn rename(&mut self, name: &str) {
        self.verified.rename(name);
    }

    /// The verified token.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Its claims in the form that conditions read.
    pub(crate) fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// The keys of entries of the state about it.
    pub(crate) fn keys(&self) -> &[StateKey] {
        &self.keys
    }

    /// The buckets of those keys.
    pub(crate) fn buckets(&self) -> &[u16] {
        &self.buckets
    }

    /// The status of the grant that was last read, and the clock at which it was read.
    pub(crate) fn last_grant_status(&self) -> Option<(u64, GrantStatus)> {
        self.grant_status.try_borrow().ok().and_then(|known| known.clone())
    }

    /// Remembers the status that was read at `clock`.
    pub(crate) fn remember(&self, clock: u64, grant_status: GrantStatus) {
        if let Ok(mut known) = self.grant_status.try_borrow_mut() {
            *known = Some((clock, grant_status));
        }
    }
}

pub(crate) fn count(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Array(items) => items.iter().map(count).fold(0, usize::saturating_add),
        Value::Object(members) => members.values().map(count).fold(0, usize::saturating_add),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    };
    inner.saturating_add(1)
}
