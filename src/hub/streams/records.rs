//! The streams in the store: named values `stream/FEED/ID`, changed by one replica at a time.

use crate::store::Store;
use crate::store::model::StoreError;
use crate::streams::record::StreamRecord;
use std::sync::Arc;

/// A change is tried so often. Others that change the same stream at the same time are a push and a few requests.
const TRIES: usize = 32;

/// All streams. All calls block.
#[derive(Clone)]
pub struct Records(pub Arc<dyn Store>);

impl Records {
    /// The stream, if there is one.
    pub fn read(&self, feed: &str, id: &str) -> Result<Option<StreamRecord>, StoreError> {
        self.0.get(&name(feed, id))?.map(|text| parse(&text)).transpose()
    }

    /// The streams of a feed, by id.
    pub fn of_feed(&self, feed: &str) -> Result<Vec<StreamRecord>, StoreError> {
        let values = self.0.values(&name(feed, ""))?;
        values.iter().map(|(_, text)| parse(text)).collect()
    }

    /// Adds a stream with an id that no other has.
    pub fn add(&self, stream: &StreamRecord) -> Result<(), StoreError> {
        let added = self.0.swap(&name(&stream.feed, &stream.id), None, Some(&text(stream)?))?;
        if added { Ok(()) } else { Err(StoreError::Failed("the id of a new stream exists".to_owned())) }
    }

    /// Changes a stream, and returns it as it is then; `Ok(None)`: there is none. `change` may be called several times.
    pub fn change(
        &self,
        feed: &str,
        id: &str,
        mut change: impl FnMut(&mut StreamRecord),
    ) -> Result<Option<StreamRecord>, StoreError> {
        let name = name(feed, id);
        for _ in 0..TRIES {
            let Some(stored) = self.0.get(&name)? else { return Ok(None) };
            let mut stream = parse(&stored)?;
            change(&mut stream);
            let new = text(&stream)?;
            if new == stored || self.0.swap(&name, Some(&stored), Some(&new))? {
                return Ok(Some(stream));
            }
        }
        Err(StoreError::Failed("the stream changes all the time".to_owned()))
    }

    /// Removes a stream. `Ok(false)`: there is none.
    pub fn remove(&self, feed: &str, id: &str) -> Result<bool, StoreError> {
        let name = name(feed, id);
        for _ in 0..TRIES {
            let Some(stored) = self.0.get(&name)? else { return Ok(false) };
            if self.0.swap(&name, Some(&stored), None)? {
                return Ok(true);
            }
        }
        Err(StoreError::Failed("the stream changes all the time".to_owned()))
    }
}

fn name(feed: &str, id: &str) -> String {
    format!("stream/{feed}/{id}")
}

fn parse(text: &str) -> Result<StreamRecord, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(format!("a stream: {error}")))
}

fn text(stream: &StreamRecord) -> Result<String, StoreError> {
    serde_json::to_string(stream).map_err(|error| StoreError::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::tests::record;
    use std::thread;

    #[test]
    fn changes_at_the_same_time_are_all_there() {
        let (_folder, store) = crate::testing::store();
        let records = Records(store);
        records.add(&record("main", "one")).unwrap();
        assert!(records.add(&record("main", "one")).is_err());
        let add = |id: u64| {
            let records = records.clone();
            thread::spawn(move || {
                records.change("main", "one", |stream| {
                    stream.acknowledged.insert(id);
                })
            })
        };
        let all: Vec<_> = (0..8).map(add).collect();
        assert!(all.into_iter().all(|one| matches!(one.join(), Ok(Ok(Some(_))))));
        assert_eq!(records.read("main", "one").unwrap().unwrap().acknowledged.len(), 8);
        assert_eq!(records.of_feed("mai").unwrap(), [], "a feed with a name that begins alike");
        assert_eq!((records.remove("main", "one"), records.remove("main", "one")), (Ok(true), Ok(false)));
        assert_eq!(records.change("main", "one", |_| {}), Ok(None));
    }
}
