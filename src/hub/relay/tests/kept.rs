//! The line of pages, and the folder that it is kept in.

use crate::feed::signer::SigningKey;
use crate::relay::disk::Disk;
use crate::relay::kept::Kept;
use crate::relay::line::{Line, Look, State};
use bytes::Bytes;
use std::fs;
use std::sync::Arc;
use taskfence_core::encoding::digest::sha256;
use taskfence_core::feed::page::PageError;
use taskfence_core::feed::position::Refused;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::feed::statement::{Part, Statement};
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::KeySet;
use taskfence_core::jose::signature::PureRust;

const NOW: u64 = 1_790_000_000_000;
const MAX: usize = 1024 * 1024;

struct Hub {
    key: SigningKey,
    keys: KeySet,
}

impl Hub {
    fn new() -> Hub {
        let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
        let jwks = serde_json::json!({"keys": [key.jwk()]});
        Hub { key, keys: KeySet::from_jwks(&jwks, &[Algorithm::ES256]).unwrap().0 }
    }

    fn verify(&self, bytes: Bytes) -> Result<Kept, PageError> {
        Kept::verify(bytes, ("hub", "main"), &self.keys, &mut PureRust)
    }

    fn page(&self, (prev, upto): (u64, u64), at: u64, entries: usize, part: Option<Part>) -> Arc<Kept> {
        let entries = vec![0; entries];
        let statement = Statement {
            hub: "hub".to_owned(),
            feed: "main".to_owned(),
            at,
            prev,
            prev_chain: if part.is_some() { Chain::default() } else { revision(prev).chain },
            upto: revision(upto),
            head: upto,
            format: 1,
            count: 0,
            length: entries.len() as u64,
            digest: sha256(&entries),
            part,
            nonce: None,
            issuers: Vec::new(),
        };
        let bytes = [&self.key.sign(&statement).unwrap()[..], &entries].concat();
        Arc::new(self.verify(bytes.into()).unwrap())
    }

    fn changes(&self, prev: u64, upto: u64, at: u64) -> Arc<Kept> {
        self.page((prev, upto), at, 10, None)
    }

    fn heartbeat(&self, number: u64, at: u64) -> Arc<Kept> {
        self.page((number, number), at, 0, None)
    }

    fn state(&self, number: u64, parts: u32, at: u64) -> Arc<State> {
        let part = |part| self.page((0, number), at, 100, Some(Part { part, parts }));
        Arc::new(State::of((0..parts).map(part).collect()).unwrap())
    }
}

fn revision(number: u64) -> Revision {
    Revision { epoch: 7, number, chain: Chain(number.to_be_bytes()) }
}

#[test]
fn whoever_stands_at_the_end_of_a_page_gets_the_next() {
    let hub = Hub::new();
    let mut line = Line::new(hub.state(3, 2, NOW), MAX, 0);
    assert_eq!((line.look(Revision::START), line.look(revision(3))), (Look::Start, Look::Head));
    let (first, second) = (hub.changes(3, 5, NOW + 1), hub.changes(5, 9, NOW + 2));
    line.take(&first, NOW).unwrap();
    line.take(&second, NOW).unwrap();
    assert_eq!((line.look(revision(3)), line.look(revision(5))), (Look::Page(first), Look::Page(second)));
    assert_eq!((line.look(revision(9)), line.look(revision(10))), (Look::Head, Look::Ahead));
    for (after, look) in [
        (revision(4), Look::Unknown),
        (Revision { chain: Chain([1; 8]), ..revision(5) }, Look::Unknown),
        (Revision { chain: Chain([1; 8]), ..revision(9) }, Look::Unknown),
        (Revision { epoch: 8, ..revision(5) }, Look::OtherEpoch),
    ] {
        assert_eq!(line.look(after), look, "{after}");
    }
    assert_eq!((line.head(), line.heartbeat()), ((revision(9), NOW + 2), None));
    let heartbeat = hub.heartbeat(9, NOW + 3);
    line.take(&heartbeat, NOW).unwrap();
    assert_eq!((line.head(), line.heartbeat()), ((revision(9), NOW + 3), Some(heartbeat)));
}

#[test]
fn what_a_filter_would_not_take_is_not_taken() {
    let hub = Hub::new();
    let mut line = Line::new(hub.state(3, 1, NOW), MAX, 0);
    line.take(&hub.heartbeat(3, NOW + 5), NOW).unwrap();
    assert_eq!(line.take(&hub.heartbeat(3, NOW + 4), NOW), Err(Refused::Old));
    assert_eq!(line.take(&hub.changes(4, 5, NOW + 6), NOW), Err(Refused::Gap { prev: 4, number: 3 }));
    assert_eq!(line.take(&hub.changes(2, 5, NOW + 6), NOW), Err(Refused::Overlap));
    assert_eq!(
        line.take(&hub.changes(0, 5, NOW + 6), NOW),
        Err(Refused::Overlap),
        "its beginning is nobody's position"
    );
    assert!(matches!(line.take(&hub.heartbeat(3, NOW + 70_000), NOW), Err(Refused::Ahead(_))));
    assert_eq!(line.head(), (revision(3), NOW + 5));
}

#[test]
fn a_newer_state_must_lead_to_a_page_that_is_held() {
    let hub = Hub::new();
    let mut line = Line::new(hub.state(3, 1, NOW), MAX, 0);
    for (prev, upto) in [(3, 5), (5, 9), (9, 12)] {
        line.take(&hub.changes(prev, upto, NOW + upto), NOW).unwrap();
    }
    let state = hub.state(6, 1, NOW + 20);
    assert!(!line.take_state(&state, &[]));
    assert!(!line.take_state(&state, &[hub.changes(6, 8, NOW + 21)]));
    assert!(!line.take_state(&state, &[hub.changes(7, 9, NOW + 21)]));
    assert_eq!(line.state().unwrap().revision, revision(3));
    let bridge = hub.changes(6, 9, NOW + 21);
    assert!(line.take_state(&state, std::slice::from_ref(&bridge)));
    assert_eq!((line.state().unwrap().revision, line.look(revision(6))), (revision(6), Look::Page(bridge)));
    assert!(line.state_of(revision(3)).is_some(), "whoever loads the older one goes on");
    let at_head = hub.state(12, 1, NOW + 30);
    assert!(line.take_state(&at_head, &[]));
    assert!(line.state_of(revision(3)).is_none() && line.state_of(revision(6)).is_some());
}

#[test]
fn old_pages_make_room_and_a_state_is_wanted_before() {
    let hub = Hub::new();
    let mut line = Line::new(hub.state(0, 1, NOW), 20 * 1024, 0);
    for number in 0..100 {
        line.take(&hub.changes(number, number + 1, NOW + number), NOW).unwrap();
    }
    assert!(line.size().1 <= 20 * 1024 && line.needs_state(false));
    assert_eq!((line.look(revision(0)), line.look(revision(100))), (Look::Unknown, Look::Head));
    assert!(matches!(line.look(revision(99)), Look::Page(_)));
    assert!(line.take_state(&hub.state(100, 1, NOW + 200), &[]));
    assert!(!line.needs_state(true));
}

#[test]
fn a_relay_goes_on_with_what_is_on_disk() {
    let hub = Hub::new();
    let folder = tempfile::tempdir().unwrap();
    let open = || Disk::open(folder.path(), 1_000_000, |bytes| hub.verify(bytes)).unwrap();
    let (mut disk, read) = open();
    assert!(Line::restored(read.states, &read.pages, read.heartbeat, MAX).is_none());
    let (older, newer) = (hub.state(3, 1, NOW), hub.state(5, 3, NOW + 1));
    disk.put_state(&older).unwrap();
    disk.put_state(&newer).unwrap();
    for (prev, upto) in [(3, 5), (5, 9), (9, 12)] {
        disk.add(&hub.changes(prev, upto, NOW + upto)).unwrap();
    }
    disk.put_heartbeat(&hub.heartbeat(12, NOW + 50)).unwrap();
    drop(disk);
    let (_, read) = open();
    let line = Line::restored(read.states, &read.pages, read.heartbeat, MAX).unwrap();
    assert_eq!((line.head(), line.state()), ((revision(12), NOW + 50), Some(newer)));
    assert!(line.heartbeat().is_some() && line.state_of(revision(3)).is_some());

    // A byte of a page is another one, and a part is cut off: both count as missing.
    let pages = folder.path().join("pages");
    let mut bytes = fs::read(&pages).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pages, &bytes).unwrap();
    let part = folder.path().join("states").join(revision(5).to_string()).join("0001");
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    let (mut disk, read) = open();
    assert_eq!((read.states, read.pages.len()), (vec![older], 1));
    disk.add(&hub.changes(5, 12, NOW + 60)).unwrap();
    drop(disk);
    let (_, read) = open();
    let line = Line::restored(read.states, &read.pages, read.heartbeat, MAX).unwrap();
    assert_eq!(line.head().0, revision(12), "what comes after the cut is read again");
}

#[test]
fn the_folder_does_not_grow_for_good() {
    let hub = Hub::new();
    let folder = tempfile::tempdir().unwrap();
    let (mut disk, _) = Disk::open(folder.path(), 4_000, |bytes| hub.verify(bytes)).unwrap();
    let mut is_long = false;
    for number in 0..10 {
        is_long = disk.add(&hub.changes(number, number + 1, NOW)).unwrap();
        disk.put_state(&hub.state(number, 1, NOW)).unwrap();
    }
    assert!(is_long);
    disk.rewrite(&[hub.changes(9, 10, NOW)]).unwrap();
    assert!(!disk.add(&hub.changes(10, 11, NOW)).unwrap());
    drop(disk);
    let (_, read) = Disk::open(folder.path(), 4_000, |bytes| hub.verify(bytes)).unwrap();
    assert_eq!((read.pages.len(), read.states.len()), (2, 2));
    assert!(read.states.iter().any(|state| state.revision == revision(9)));
}
