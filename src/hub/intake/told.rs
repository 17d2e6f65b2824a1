//! What identity providers say in other ways than by SETs: stored as a signal of a stream of its own.

use crate::intake::aws_lc::AwsLc;
use crate::intake::derive::Origin;
use crate::intake::service::{self, FeedIntake, Intake};
use crate::store::model::{Change, Outcome};
use serde_json::Value;
use std::sync::Arc;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::provider::assertion::{Told, Way};
use taskfence_core::signal::receiver::Received;
use taskfence_core::signal::set_error::{SetError, SetErrorCode};
use taskfence_core::state::store::StoreError;
use taskfence_core::time::Timestamp;

impl Intake {
    /// Stores what came this `way` into the feed. `read` reads it; where the key that signed `jwt` is not known, it is
    /// fetched, and `read` tries again. The signal is durable when this returns [`Received::Applied`].
    pub(super) async fn take_in_told(
        &self,
        feed: &Arc<FeedIntake>,
        way: Way,
        jwt: Option<&[u8]>,
        read: impl Fn(&Policy, &mut AwsLc, Timestamp) -> Result<Told, SetError>,
    ) -> Received {
        let read_now = || read(&feed.feed.policy(), &mut self.signatures(), self.clock().now());
        let mut told = read_now();
        if let (Err(SetError { code: SetErrorCode::KeysUnavailable, .. }), Some(jwt)) = (&told, jwt)
            && self.fetch_keys_of(feed, jwt).await
        {
            told = read_now();
        }
        let received = match told {
            Ok(told) => self.keep_told(feed, way, told).await,
            Err(error) => Received::Refused(error),
        };
        service::log(&feed.feed.name, &received);
        service::count(&feed.counters, &received);
        received
    }

    async fn keep_told(&self, feed: &Arc<FeedIntake>, way: Way, told: Told) -> Received {
        let Told { signal, claims, transmitter } = told;
        let (feed_name, stream, now) = (&feed.feed.name, way.stream(&transmitter), self.clock().now_ms());
        // Whatever a provider says uses the room that it has.
        let (by, share) = (signal.transmitter(), &transmitter);
        let origin = Origin { feed: feed_name, stream: &stream, by, share, now, skew: self.skew() };
        let record = origin.record(&signal, Value::Object(claims).to_string());
        match self.writer().submit(Change::Signal(record)).await {
            Ok(Outcome::Stored { .. }) => service::stored(feed),
            Ok(Outcome::Repeated { .. }) => feed.counters.repeated.add(),
            Ok(Outcome::Contradicts { .. }) => return Received::Contradicts(signal),
            Ok(Outcome::Unknown) => return Received::Failed(signal, StoreError::Corrupt),
            Err(error) => return service::not_stored(feed, signal, &error),
        }
        Received::Applied(signal)
    }
}
