use super::*;
use crate::state::fact::{Claim, Compliance, Risk};
use crate::state::key::Kind;
use crate::state::room::{Group, Topic};
use proptest::prelude::*;

const FACTS: [Fact; 8] = [
    Fact::Revoked,
    Fact::Completed,
    Fact::CutOff,
    Fact::Device(Compliance::Compliant),
    Fact::Device(Compliance::NotCompliant),
    Fact::Risk(Risk::Low),
    Fact::Risk(Risk::Medium),
    Fact::Risk(Risk::High),
];

const NOW: Timestamp = Timestamp(0);

fn entry(name: &str, fact: Fact, at: u64, until: u64) -> Entry {
    about_kind(Kind::User, name, fact, at, until)
}

fn about_kind(kind: Kind, name: &str, fact: Fact, at: u64, until: u64) -> Entry {
    let key = StateKey::new(kind, "i", name);
    Entry {
        key,
        fact,
        at: Timestamp(at),
        until: Timestamp(until),
        conditions: Vec::new(),
        data: Vec::new(),
        source: SourceTag::NONE,
        lifted: false,
    }
}

fn by(name: &str) -> TransmitterId {
    TransmitterId::new(name)
}

/// What is in doubt about the key of that name: class and until when.
fn doubts(table: &Table, kind: Kind, name: &str) -> Vec<(Topic, u64)> {
    let about = about(&table.encode(), StateKey::new(kind, "i", name)).unwrap();
    about.marks.iter().map(|mark| (mark.class.topic, mark.until.0)).collect()
}

/// Inserts up to `count` entries of one class by one transmitter; how many of them found room.
fn flood(table: &mut Table, transmitter: &str, kind: Kind, fact: Fact, count: usize) -> usize {
    let entries = (0..count).map(|n| about_kind(kind, &format!("{transmitter}-{n}"), fact, 1, 100));
    entries.filter(|entry| table.insert(entry.clone(), by(transmitter), NOW)).count()
}

#[test]
fn survives_its_stored_form() {
    let mut table = Table::default();
    let mut narrow = entry("b", Fact::Revoked, 7, 9);
    narrow.conditions = vec![StateKey::new(Kind::Session, "i", "s"), StateKey::absent(Kind::Task)];
    assert!(table.insert(entry("a", Fact::CutOff, 5, 100), by("t"), NOW));
    assert!(table.insert(narrow, by("u"), NOW));
    flood(&mut table, "t", Kind::Tenant, Fact::CutOff, 100);
    assert_eq!(table.marks.len(), 1);
    assert_eq!(Table::decode(&table.encode()), Ok(table));
    assert_eq!(Table::decode(&[]), Ok(Table::default()));
}

/// The number that the documentation has.
#[test]
fn an_entry_is_small() {
    let size = |entries: usize| {
        let mut table = Table::default();
        flood(&mut table, "t", Kind::Task, Fact::Completed, entries);
        table.encode().len()
    };
    assert_eq!((size(0), size(1), size(2)), (3, 3 + 8 + 32, 3 + 8 + 64));
}

#[test]
fn full_says_what_overflowed_and_keeps_what_it_has() {
    let mut table = Table::default();
    let stored = flood(&mut table, "mdm", Kind::Device, Fact::Device(Compliance::Compliant), 1024);
    assert_eq!(stored, 384, "three quarters of 512");
    assert_eq!(doubts(&table, Kind::Device, "any"), [(Topic::Device, 100)]);
    assert_eq!(doubts(&table, Kind::User, "alice"), [], "who has no device is not in doubt");
    let other = StateKey::new(Kind::Device, "another issuer", "any");
    assert_eq!(about(&table.encode(), other), Ok(About::default()), "nor are the grants of another issuer");
    let known = about_kind(Kind::Device, "mdm-0", Fact::Device(Compliance::NotCompliant), 2, 200);
    assert!(table.insert(known.clone(), by("mdm"), NOW), "what is known always fits");
    assert_eq!(about(&table.encode(), known.key).unwrap().entries, [known]);
}

#[test]
fn what_ends_has_room_that_nothing_else_takes() {
    let mut table = Table::default();
    for transmitter in ["t", "u"] {
        for kind in [Kind::Token, Kind::Task, Kind::Session, Kind::User, Kind::Client, Kind::Device, Kind::Tenant] {
            for fact in [Fact::Device(Compliance::NotCompliant), Fact::Risk(Risk::High), Fact::Began] {
                flood(&mut table, transmitter, kind, fact, 1_000);
            }
        }
    }
    for (kind, room) in [(Kind::Task, 768), (Kind::Token, 384), (Kind::User, 192), (Kind::Client, 48)] {
        assert_eq!(flood(&mut table, "t", kind, Fact::Revoked, room), room, "{kind:?}");
    }
    // And a flood of one kind takes nothing from another.
    assert_eq!(flood(&mut table, "t", Kind::Actor, Fact::CutOff, 1_000), 48);
    assert_eq!(flood(&mut table, "t", Kind::Tenant, Fact::CutOff, 48), 48);
    assert_eq!(flood(&mut table, "t", Kind::Device, Fact::CutOff, 48), 48);
}

#[test]
fn one_transmitter_leaves_room_to_the_others() {
    let mut table = Table::default();
    assert_eq!(flood(&mut table, "loud", Kind::Task, Fact::Completed, 2_000), 768);
    assert_eq!(flood(&mut table, "quiet", Kind::Task, Fact::Completed, 256), 256);
    assert_eq!(flood(&mut table, "third", Kind::Task, Fact::Completed, 1), 0);
    // What another said first takes of the other's share.
    assert!(table.insert(about_kind(Kind::Task, "quiet-0", Fact::Completed, 1, 100), by("loud"), NOW));
}

/// A full room by one that exceeds its share is not the doing of the others: their issuers are not in doubt.
#[test]
fn whoever_exceeds_a_share_puts_only_those_in_doubt_that_it_spoke_about() {
    let mut table = Table::default();
    let say = |table: &mut Table, transmitter: &str, issuer: &str, n: usize| {
        let key = StateKey::new(Kind::Tenant, issuer, &format!("{transmitter}-{n}"));
        table.insert(
            Entry { key, ..about_kind(Kind::Tenant, "", Fact::Risk(Risk::High), 1, 100) },
            by(transmitter),
            NOW,
        )
    };
    let in_doubt = |table: &Table, issuer: &str| {
        let key = StateKey::new(Kind::Tenant, issuer, "somebody");
        !about(&table.encode(), key).unwrap().marks.is_empty()
    };
    assert!((0..4).all(|n| say(&mut table, "quiet", "j", n)));
    assert!((0..12).all(|n| say(&mut table, "loud", "i", n)));
    assert!(!say(&mut table, "loud", "i", 12));
    assert_eq!((in_doubt(&table, "i"), in_doubt(&table, "j")), (true, false));
    // One more within its share: nobody knows any more whose entry is the one too many.
    assert!(!say(&mut table, "quiet", "j", 4));
    assert_eq!((in_doubt(&table, "i"), in_doubt(&table, "j")), (true, true));
}

#[test]
fn data_has_room_of_its_own_in_each_class() {
    let mut table = Table::default();
    let narrowing = |kind, name: usize| Entry {
        data: vec![b'x'; MAX_DATA],
        ..about_kind(kind, &name.to_string(), Fact::Narrowed, 1, 100)
    };
    let stored =
        |table: &mut Table, kind| (0..100).filter(|name| table.insert(narrowing(kind, *name), by("t"), NOW)).count();
    assert_eq!(stored(&mut table, Kind::Task), 12, "three quarters of 64 KiB");
    assert_eq!(stored(&mut table, Kind::Client), 1, "three quarters of 8 KiB");
    assert_eq!(doubts(&table, Kind::Task, "x"), [(Topic::End, 100)]);
    assert!(table.insert(about_kind(Kind::Task, "y", Fact::Completed, 1, 100), by("t"), NOW), "it has no data");
}

#[test]
fn saturation_ends_by_itself() {
    let mut table = Table::default();
    for n in 0..48 {
        let entry = about_kind(Kind::Tenant, &n.to_string(), Fact::CutOff, 1, 100 + n);
        assert!(table.insert(entry, by("t"), NOW));
    }
    // A transmitter that gets no 202 pushes again and again, and each time it would have been kept for 50 s.
    let lost = |now: u64| about_kind(Kind::Tenant, "lost", Fact::CutOff, 1, now + 50);
    for now in 0..100 {
        assert!(!table.insert(lost(now), by("t"), Timestamp(now)), "{now}");
    }
    assert_eq!(doubts(&table, Kind::Tenant, "x"), [(Topic::End, 149)]);
    // The first that goes makes room, and nothing prolongs the mark any more.
    assert!(table.insert(lost(100), by("t"), Timestamp(100)));
    assert_eq!(doubts(&table, Kind::Tenant, "x"), [(Topic::End, 149)]);
    assert!(table.insert(lost(150), by("t"), Timestamp(150)));
    assert_eq!(doubts(&table, Kind::Tenant, "x"), []);
    assert_eq!(table.len(), 1);
}

#[test]
fn other_bytes_are_not_a_table() {
    let mut table = Table::default();
    table.insert(entry("a", Fact::Revoked, 1, 2), by("t"), NOW);
    let mut bytes = table.encode();
    assert!(Table::decode(&bytes[..bytes.len() - 1]).is_err());
    bytes[0] = 2;
    assert_eq!(Table::decode(&bytes), Err(Corrupt));
}

#[test]
fn every_fact_survives_its_byte() {
    for family in 0..=u8::MAX {
        for value in 0..=u8::MAX {
            if let Some(fact) = Fact::decode(family, value) {
                assert_eq!(fact_of(family << 4 | value), Ok(fact));
            }
        }
    }
}

/// The entries that a bucket may meet, of the classes that are full soonest.
fn said() -> impl Strategy<Value = Vec<(Entry, TransmitterId)>> {
    let one = (0usize..3, 0u32..26, 0usize..2, 0usize..3);
    proptest::collection::vec(one, 1..120).prop_map(|said| {
        let facts = [
            (Kind::Tenant, Fact::Risk(Risk::High)),
            (Kind::Client, Fact::Risk(Risk::Medium)),
            (Kind::Tenant, Fact::Claim(crate::state::fact::Claim::Set)),
        ];
        let said = said.into_iter().map(|(fact, name, issuer, transmitter)| {
            let (kind, fact) = facts[fact];
            // Each transmitter speaks about things of its own, and not all about both issuers.
            let issuer = [["i", "i"], ["i", "j"], ["j", "j"]][transmitter][issuer];
            let key = StateKey::new(kind, issuer, &format!("{transmitter}-{name}"));
            let entry = Entry {
                key,
                fact,
                at: Timestamp(1),
                until: Timestamp(100),
                conditions: Vec::new(),
                data: if fact.has_data() { vec![1, b'c', b'1'] } else { Vec::new() },
                source: SourceTag::NONE,
                lifted: false,
            };
            (entry, by(["t", "u", "v"][transmitter]))
        });
        said.collect()
    })
}

/// Whether a grant with `entry`'s key is refused for it, by what is stored or by a doubt.
fn is_refused(bytes: &[u8], entry: &Entry, now: Timestamp) -> bool {
    let about = about(bytes, entry.key).unwrap();
    let class = Class::of(entry.fact, &entry.key);
    about.entries.iter().any(|stored| stored.fact.same_family(entry.fact) && stored.until > now)
        || about.marks.iter().any(|mark| mark.class == class && mark.until > now)
}

/// What a bucket should do, told by what it was given and by nothing that it remembers: a transmitter whose share does
/// not suffice puts the issuers in doubt that it spoke about, and all that are left too many for the room put all in doubt.
fn is_refused_by_the_model(said: &[(Entry, TransmitterId)], asked: &Entry) -> bool {
    let class = Class::of(asked.fact, &asked.key);
    let mut keys: Vec<(StateKey, TransmitterId)> = Vec::new();
    for (entry, by) in said.iter().filter(|(entry, _)| Class::of(entry.fact, &entry.key) == class) {
        if !keys.contains(&(entry.key, *by)) {
            keys.push((entry.key, *by));
        }
    }
    let (capacity, share) = (class.capacity(), class.capacity() * 3 / 4);
    let of_one = |by: TransmitterId| keys.iter().filter(|(_, other)| *other == by).count();
    let mut speakers: Vec<TransmitterId> = keys.iter().map(|(_, by)| *by).collect();
    speakers.sort_by_key(|by| *by.as_bytes());
    speakers.dedup();
    let room_is_full = speakers.iter().map(|by| of_one(*by).min(share)).sum::<usize>() > capacity;
    keys.iter().any(|(key, by)| {
        let in_doubt = room_is_full || of_one(*by) > share;
        *key == asked.key || in_doubt && key.issuer() == asked.key.issuer()
    })
}

fn shuffled<T: Clone>(items: &[T], swaps: &[proptest::sample::Index]) -> Vec<T> {
    let mut other = items.to_vec();
    let len = other.len();
    for (at, to) in (0..len).zip(swaps) {
        other.swap(at, to.index(len));
    }
    other
}

/// The facts that signals leave, with the data of those that have some.
const WITH_DATA: [(Fact, &[u8]); 9] = [
    (Fact::Revoked, b""),
    (Fact::CutOff, b""),
    (Fact::Blocked, b""),
    (Fact::Narrowed, b"{}"),
    (Fact::Narrowed, b"{\"scope\":\"a\"}"),
    (Fact::Device(Compliance::NotCompliant), b""),
    (Fact::Risk(Risk::Low), b""),
    (Fact::Claim(crate::state::fact::Claim::Set), b"\x01c1"),
    (Fact::Claim(crate::state::fact::Claim::Set), b"\x01c2"),
];

/// An entry about a user: of one of two streams, in one of several generations; of stream 0 no source is recorded.
fn of_stream(name: u8, fact: usize, at: u64, until: u64, (stream, generation): (u8, u32), lifted: bool) -> Entry {
    let (fact, data) = WITH_DATA[fact];
    let source = if stream == 0 { SourceTag::NONE } else { SourceTag::new("main", &stream.to_string(), generation) };
    let lifted = lifted && stream != 0;
    Entry { data: data.to_vec(), source, lifted, ..entry(&name.to_string(), fact, at, until) }
}

/// What is stored about the user of that name and has an effect.
fn standing(table: &Table, name: &str) -> Vec<Entry> {
    let about = about(&table.encode(), StateKey::new(Kind::User, "i", name)).unwrap();
    about.entries.into_iter().filter(|entry| !entry.lifted).collect()
}

#[test]
fn a_lift_ends_what_its_stream_said_and_nothing_else() {
    for (fact, (kind, _)) in WITH_DATA.iter().enumerate().filter(|(_, (fact, _))| fact.is_kept_by_signal()) {
        let said = |stream, generation, lifted| of_stream(1, fact, 5, 100, (stream, generation), lifted);
        let mut table = Table::default();
        for new in [said(1, 7, false), said(2, 7, false), said(0, 0, false), said(1, 8, true)] {
            assert!(table.insert(new, by("t"), NOW));
        }
        assert_eq!(standing(&table, "1"), [said(2, 7, false), said(0, 0, false)], "{kind:?}");
        assert!(table.insert(said(1, 7, false), by("t"), NOW), "an old page comes again");
        assert_eq!(standing(&table, "1"), [said(2, 7, false), said(0, 0, false)], "{kind:?}");
        assert!(table.insert(said(1, 9, false), by("t"), NOW), "it is said again");
        assert_eq!(standing(&table, "1"), [said(1, 9, false), said(2, 7, false), said(0, 0, false)], "{kind:?}");
        assert_eq!(table.len(), 3, "one entry for each stream");
    }
}

#[test]
fn the_next_generation_has_a_life_of_its_own() {
    let block = WITH_DATA.iter().position(|(fact, _)| *fact == Fact::Blocked).unwrap();
    let said = |until: u64, generation, lifted| of_stream(1, block, 5, until, (1, generation), lifted);
    for order in
        [[said(Timestamp::MAX.0, 7, false), said(50, 8, true)], [said(50, 8, true), said(Timestamp::MAX.0, 7, false)]]
    {
        let mut table = Table::default();
        order.into_iter().for_each(|entry| assert!(table.insert(entry, by("t"), NOW)));
        assert_eq!((standing(&table, "1").len(), table.len()), (0, 1));
        table.insert(entry("2", Fact::Revoked, 1, 100), by("t"), Timestamp(50));
        assert_eq!(table.len(), 1, "what was lifted has gone");
    }
}

#[test]
fn of_what_is_not_kept_by_signal_the_last_word_counts() {
    let said = |fact, at, source, lifted| Entry { fact, ..of_stream(1, 5, at, 100, (source, 1), lifted) };
    let (good, bad) = (Fact::Device(Compliance::Compliant), Fact::Device(Compliance::NotCompliant));
    let mut table = Table::default();
    for new in [said(bad, 5, 1, false), said(good, 6, 2, false), said(bad, 5, 1, true), said(good, 6, 2, true)] {
        assert!(table.insert(new, by("t"), NOW));
    }
    assert_eq!((standing(&table, "1"), table.len()), (vec![said(good, 6, 0, false)], 1));
}

proptest! {
    #[test]
    fn any_order_of_signals_and_lifts_gives_one_table(
        inserts in proptest::collection::vec(
            (0u8..3, 0..WITH_DATA.len(), 1u64..6, 100u64..200, (0u8..3, 1u32..4), any::<bool>()), 1..30,
        ),
        swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 60),
    ) {
        let entries: Vec<Entry> = inserts.iter().map(|(name, fact, at, until, source, lifted)| {
            of_stream(*name, *fact, *at, *until, *source, *lifted)
        }).collect();
        let fold = |order: &[Entry]| {
            let mut table = Table::default();
            for entry in order {
                // Through its stored form each time, as a bucket goes.
                table = Table::decode(&table.encode()).unwrap();
                table.insert(entry.clone(), by("t"), NOW);
            }
            table.entries.sort_by_key(|Held { entry, .. }| {
                (entry.key.encode(), entry.fact.encode(), entry.source.0, entry.data.clone())
            });
            table
        };
        let one = fold(&entries);
        prop_assert_eq!(&one, &fold(&shuffled(&[entries.clone(), entries.clone()].concat(), &swaps)));
        // Of each stream the highest generation counts alone: there all is lifted, or the latest of it stands.
        for entry in entries.iter().filter(|entry| entry.fact.is_kept_by_signal()) {
            let same: Vec<_> = entries.iter().filter(|other| other.is_about_same_as(entry)).collect();
            let highest = same.iter().map(|other| other.source.generation()).max();
            let counts: Vec<_> = same.iter().filter(|other| Some(other.source.generation()) == highest).collect();
            let lifted = counts.iter().any(|other| other.lifted);
            let counts = || counts.iter().filter(|other| other.lifted == lifted);
            let (at, until) = (counts().map(|other| other.at).max(), counts().map(|other| other.until).max());
            let stored: Vec<_> = one.entries.iter().map(|held| &held.entry).filter(|held| held.is_about_same_as(entry)).collect();
            prop_assert_eq!(stored.len(), 1);
            let stored = stored[0];
            prop_assert_eq!((stored.lifted, Some(stored.at), Some(stored.until)), (lifted, at, until));
        }
    }

    #[test]
    fn any_order_and_repetition_gives_one_table(
        inserts in proptest::collection::vec((0u8..4, 0usize..8, 1u64..100, 100u64..200), 1..20),
        swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 40),
    ) {
        let entries: Vec<Entry> = inserts.iter().map(|(name, fact, at, until)| {
            entry(&name.to_string(), FACTS[*fact], *at, *until)
        }).collect();
        let fold = |order: Vec<Entry>| {
            let mut table = Table::default();
            order.into_iter().for_each(|entry| { table.insert(entry, by("t"), NOW); });
            table.entries.sort_by_key(|held| (held.entry.key.encode(), held.entry.fact.encode()));
            table
        };
        let other = shuffled(&[entries.clone(), entries.clone()].concat(), &swaps);
        prop_assert_eq!(fold(entries), fold(other));
    }

    /// Also where more is said than there is room for: whatever comes first, the same grants are refused, and they are
    /// those that the model says.
    #[test]
    fn any_order_gives_the_same_refusals(
        said in said(),
        swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 120),
    ) {
        let fold = |order: &[(Entry, TransmitterId)]| {
            let mut table = Table::default();
            for (entry, by) in order {
                // Through its stored form each time, as a bucket goes.
                table = Table::decode(&table.encode()).unwrap();
                table.insert(entry.clone(), *by, NOW);
            }
            table.encode()
        };
        let (one, two) = (fold(&said), fold(&shuffled(&said, &swaps)));
        for (entry, _) in &said {
            prop_assert!(is_refused(&one, entry, NOW) && is_refused(&two, entry, NOW), "nothing is forgotten");
        }
        for (kind, issuer) in [(Kind::Tenant, "i"), (Kind::Tenant, "j"), (Kind::Client, "i"), (Kind::User, "i")] {
            let key = StateKey::new(kind, issuer, "stranger");
            let stranger = Entry { key, ..about_kind(kind, "stranger", Fact::Risk(Risk::High), 1, 100) };
            let model = is_refused_by_the_model(&said, &stranger);
            prop_assert_eq!((is_refused(&one, &stranger, NOW), is_refused(&two, &stranger, NOW)), (model, model));
        }
    }

    /// As time passes nothing that was said is forgotten before its time, nothing stays in doubt beyond the time of
    /// what was lost, and in the end there is room for all.
    #[test]
    fn nothing_is_forgotten_early_and_no_doubt_lasts(
        steps in proptest::collection::vec((0u32..40, 0usize..2, 0u64..4, 1u64..60), 1..150),
    ) {
        let (mut table, mut now, mut said) = (Table::default(), 0, Vec::new());
        for (name, transmitter, pause, span) in steps {
            now += pause;
            let name = format!("{transmitter}-{name}");
            let entry = about_kind(Kind::Tenant, &name, Fact::Risk(Risk::High), now, now + span);
            table.insert(entry.clone(), by(["t", "u"][transmitter]), Timestamp(now));
            said.push(entry);
            let bytes = table.encode();
            for entry in said.iter().filter(|entry| entry.until.0 > now) {
                prop_assert!(is_refused(&bytes, entry, Timestamp(now)));
            }
        }
        let last = said.iter().map(|entry| entry.until).max().unwrap_or_default();
        let more = about_kind(Kind::Tenant, "more", Fact::Risk(Risk::High), last.0, last.0 + 1);
        prop_assert!(table.insert(more, by("t"), last));
        prop_assert_eq!((table.len(), table.marks.len()), (1, 0));
    }

    #[test]
    fn what_is_passed_over_is_what_is_about_others(
        inserts in proptest::collection::vec((0u8..4, 0usize..10, 0usize..3, "[a-z]{0,5}", 0usize..3), 0..12),
        marks in 0usize..3,
        cut in 0usize..400,
    ) {
        let mut table = Table::default();
        let class = Class { topic: Topic::Risk, group: Group::User };
        for at in 0..marks {
            let issuer = StateKey::new(Kind::User, ["i", "j", "k"][at], "x").issuer();
            table.marks.push(Mark { class, issuer, until: Timestamp(7) });
        }
        for (name, fact, conditions, data, transmitter) in inserts {
            let fact = FACTS.get(fact).copied().unwrap_or(Fact::Narrowed);
            let mut entry = entry(&name.to_string(), fact, 1, 100);
            entry.conditions = (0..conditions).map(|at| StateKey::new(Kind::Task, "i", &at.to_string())).collect();
            entry.data = if fact.has_data() { data.into_bytes() } else { Vec::new() };
            let by = [by("t"), by("u"), TransmitterId::UNKNOWN][transmitter];
            table.entries.push(Held { entry, by });
        }
        let bytes = table.encode();
        for name in 0u8..5 {
            let key = StateKey::new(Kind::User, "i", &name.to_string());
            let entries = table.entries.iter().map(|held| &held.entry).filter(|entry| entry.key == key).cloned().collect();
            let said = About { entries, marks: table.marks.iter().take(1).copied().collect() };
            prop_assert_eq!(about(&bytes, key), Ok(said));
            // What is not a whole table says nothing.
            let cut = &bytes[..cut.min(bytes.len())];
            prop_assert_eq!(about(cut, key).is_err(), Table::decode(cut).is_err());
        }
    }

    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Table::decode(&bytes);
        let _ = about(&bytes, StateKey::new(Kind::User, "i", "a"));
        let framed = [&[FORMAT, 0, 1][..], &bytes].concat();
        let _ = Table::decode(&framed);
        let _ = about(&framed, StateKey::new(Kind::User, "i", "a"));
    }
}

#[test]
fn entries_with_the_same_identity_replace_each_other() {
    let mut with_condition = entry("a", Fact::Revoked, 1, 100);
    with_condition.conditions = vec![StateKey::absent(Kind::Device)];
    let with_source = |stream, generation| Entry {
        source: SourceTag::new("f", stream, generation),
        ..entry("a", Fact::Revoked, 1, 100)
    };
    let with_data = |fact, data: &[u8]| Entry { data: data.to_vec(), ..entry("a", fact, 1, 100) };
    let claim = Fact::Claim(Claim::Set);
    let mut entries = vec![
        with_condition,
        with_source("1", 1),
        with_source("2", 1),
        Entry { lifted: true, at: Timestamp(9), until: Timestamp(9), ..with_source("2", 2) },
        with_data(claim, b"\x05grade1"),
        with_data(claim, b"\x05grade2"),
        with_data(Fact::Claim(Claim::Conflicting), b"\x05grade"),
        with_data(claim, b"\x05glade1"),
        with_data(Fact::Narrowed, b"\x05grade1"),
        with_data(Fact::Narrowed, b"\x05grade2"),
        entry("b", Fact::Revoked, 1, 100),
    ];
    entries.extend(FACTS.map(|fact| entry("a", fact, 1, 100)));
    entries.extend(FACTS.map(|fact| Entry { source: SourceTag::new("f", "t", 3), ..entry("a", fact, 2, 100) }));
    for (left, right) in entries.iter().flat_map(|left| entries.iter().map(move |right| (left, right))) {
        assert_eq!(left.is_about_same_as(right), left.identity() == right.identity(), "{left:?} {right:?}");
    }
}
