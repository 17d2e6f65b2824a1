//! Any history of a store against a model that holds all of it in memory.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::Arc;

/// One thing that happens to a store.
#[derive(Debug, Clone)]
enum Step {
    /// A group of signals.
    Signals(Vec<New>),
    /// The signal with this place in the history is lifted.
    Lift(usize),
    /// So much time passes, and the store is pruned.
    Prune(u8),
    /// The process ends, and another one opens the store.
    Reopen,
}

/// A signal: the transmitter, `jti`, fingerprint, and for each entry the task and how long it lives.
type New = (u8, u8, u8, Vec<(u8, u8)>);

/// A signal that the store is said to hold.
#[derive(Debug, Clone)]
struct Signal {
    id: u64,
    transmitter: String,
    jti: String,
    fingerprint: u8,
    lifted: bool,
    revision: Revision,
}

/// All that ever happened.
struct Model {
    now: u64,
    head: Revision,
    /// The chain at each number.
    chains: Vec<Chain>,
    /// All signals, also those that were removed.
    signals: Vec<Signal>,
    /// The entries that stand, in order.
    entries: Vec<StoredEntry>,
}

impl Model {
    fn new() -> Model {
        let head = Revision { epoch: 7, number: 0, chain: Chain::default() };
        Model { now: 1_000, head, chains: vec![head.chain], signals: Vec::new(), entries: Vec::new() }
    }

    fn number(&mut self, entries: &[StoredEntry]) {
        for stored in entries {
            let number = self.head.number + 1;
            assert_eq!(stored.number, number, "numbers are dense");
            self.head = Revision { number, chain: self.head.chain.after(number, &stored.entry.bytes), ..self.head };
            self.chains.push(self.head.chain);
            self.entries.push(stored.clone());
        }
    }

    fn chain(&self, number: u64) -> Chain {
        self.chains[usize::try_from(number).unwrap()]
    }

    fn signal(&mut self, new: &NewSignal, fingerprint: u8, outcome: Outcome) {
        let same = |known: &&Signal| (&known.transmitter, &known.jti) == (&new.transmitter, &new.jti);
        let known = self.signals.iter().rev().find(same).cloned();
        let stands = |known: &Signal| self.entries.iter().any(|stored| stored.signal == known.id);
        match outcome {
            Outcome::Stored { signal, revision, entries } => {
                assert!(known.is_none_or(|known| !stands(&known)), "it was there already");
                let keys: Vec<_> = entries.iter().map(|stored| &stored.entry.key).collect();
                assert_eq!(keys, new.entries.iter().map(|entry| &entry.key).collect::<Vec<_>>());
                let kept = entries.iter().zip(&new.entries).all(|(stored, new)| stored.entry.until >= new.until);
                assert!(kept, "as long as the signal says, or as another about the same");
                self.number(&entries);
                assert_eq!(revision, self.head);
                let (transmitter, jti) = (new.transmitter.clone(), new.jti.clone());
                self.signals.push(Signal { id: signal, transmitter, jti, fingerprint, lifted: false, revision });
            }
            Outcome::Repeated { signal, revision } => {
                let known = known.unwrap();
                assert_eq!((signal, revision, fingerprint), (known.id, known.revision, known.fingerprint));
            }
            Outcome::Contradicts { signal } => {
                let known = known.unwrap();
                assert!(signal == known.id && fingerprint != known.fingerprint);
            }
            Outcome::Unknown => panic!("nothing was lifted"),
        }
    }

    fn lift(&mut self, at: usize, outcome: Outcome) {
        let signal = self.signals[at].clone();
        let stood: Vec<_> = self.entries.iter().filter(|stored| stored.signal == signal.id).cloned().collect();
        match outcome {
            Outcome::Stored { entries, revision, .. } => {
                assert!(!signal.lifted);
                let keys = |entries: &[StoredEntry]| -> Vec<_> {
                    entries.iter().map(|stored| stored.entry.key.clone()).collect()
                };
                assert_eq!(keys(&entries), keys(&stood));
                self.entries.retain(|stored| stored.signal != signal.id);
                self.number(&entries);
                assert_eq!(revision, self.head);
                self.signals[at] = Signal { lifted: true, revision, ..signal };
            }
            Outcome::Repeated { revision, .. } => {
                assert!(signal.lifted && revision == signal.revision);
            }
            Outcome::Unknown => assert!(stood.is_empty(), "it stands"),
            Outcome::Contradicts { .. } => panic!("a lift contradicts nothing"),
        }
    }

    fn prune(&mut self) -> usize {
        let before = self.entries.len();
        let now = self.now;
        self.entries.retain(|stored| stored.entry.until.0 > now);
        before - self.entries.len()
    }

    /// The store holds exactly what the model holds, and every way to read it agrees.
    fn check(&self, store: &dyn Store) {
        let now = Timestamp(self.now);
        assert_eq!(store.head(FEED), Ok(self.head));
        let kept: Vec<_> = self.entries.iter().filter(|stored| stored.entry.until > now).cloned().collect();
        for after in 0..=self.head.number {
            let expected: Vec<_> = kept.iter().filter(|stored| stored.number > after).cloned().collect();
            let all = store.entries_after(FEED, after, usize::MAX, now);
            assert_eq!(all, Ok((expected.clone(), self.head)), "after {after}");
            // Page by page it is the same.
            let (mut at, mut pages) = (after, Vec::new());
            while at < self.head.number {
                let (page, upto) = store.entries_after(FEED, at, 150, now).unwrap();
                assert!(upto.number > at, "a page moves on");
                assert_eq!(upto.chain, self.chain(upto.number));
                pages.extend(page);
                at = upto.number;
            }
            assert_eq!(pages, expected);
            let chain = store.chain(FEED, after).unwrap();
            assert!(chain.is_none_or(|chain| chain == self.chain(after)));
            assert!(chain.is_some() || after + WINDOW <= self.head.number, "{after} is one of the last");
        }
        let mut state = Vec::new();
        assert_eq!(store.full_state(FEED, now, &mut |entry| state.push(entry)), Ok(self.head));
        assert!(state.is_sorted_by_key(|stored| stored.entry.bucket));
        state.sort_by_key(|stored| stored.number);
        assert_eq!(state, kept);
        for signal in self.signals.iter().filter(|signal| kept.iter().any(|stored| stored.signal == signal.id)) {
            let own: Vec<_> = self.entries.iter().filter(|stored| stored.signal == signal.id).cloned().collect();
            assert_eq!(numbers(&store.entries_of(FEED, signal.id).unwrap()), numbers(&own));
        }
    }
}

/// Of so many numbers the chain is kept.
const WINDOW: u64 = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entries = proptest::collection::vec((0u8..6, 0u8..40), 0..4);
    let signals = proptest::collection::vec((0u8..2, 0u8..5, 0u8..2, entries), 1..4);
    let step = prop_oneof![
        5 => signals.prop_map(Step::Signals),
        2 => (0usize..20).prop_map(Step::Lift),
        2 => (0u8..20).prop_map(Step::Prune),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..14)
}

fn any_history_keeps_numbers_dense_chains_true_and_pages_complete(home: &mut Home) {
    let is_postgres = home.postgres.is_some();
    // Databases are made by the server one after the other.
    let cases = if is_postgres { 10 } else { 48 };
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let run = |steps| {
        let mut home = if is_postgres { Home::postgres("history").unwrap() } else { Home::sqlite() };
        home.window = WINDOW;
        live(&home, steps);
        Ok(())
    };
    TestRunner::new(config).run(&steps(), run).unwrap();
}

on_every_engine! { any_history_keeps_numbers_dense_chains_true_and_pages_complete }

fn live(home: &Home, steps: Vec<Step>) {
    let (mut store, mut model): (Arc<dyn Store>, _) = (home.store(), Model::new());
    for step in steps {
        match step {
            Step::Signals(group) => {
                let group: Vec<_> = group.into_iter().map(|new| made(new, model.now)).collect();
                let changes: Vec<_> = group.iter().map(|(_, new)| Change::Signal(new.clone())).collect();
                let outcomes = store.commit(&changes).unwrap();
                for ((fingerprint, new), outcome) in group.iter().zip(outcomes) {
                    model.signal(new, *fingerprint, outcome);
                }
            }
            Step::Lift(at) if at < model.signals.len() => {
                let Change::Lift { feed, signal, by, reason, .. } = lift(model.signals[at].id) else { panic!() };
                let at_ms = model.now * 1_000;
                let outcome = commit(&*store, Change::Lift { feed, signal, by, reason, at: at_ms });
                model.lift(at, outcome);
            }
            Step::Lift(_) => {}
            Step::Prune(seconds) => {
                model.now += u64::from(seconds);
                let removed = store.prune(Timestamp(model.now)).unwrap();
                assert_eq!(usize::try_from(removed), Ok(model.prune()));
            }
            Step::Reopen => {
                drop(store);
                store = home.open();
            }
        }
        model.check(&*store);
    }
}

/// The fingerprint, and the signal.
fn made((transmitter, jti, fingerprint, tasks): New, now: u64) -> (u8, NewSignal) {
    let tasks: Vec<_> = tasks.iter().map(|(task, life)| (task.to_string(), now + u64::from(*life))).collect();
    let tasks: Vec<_> = tasks.iter().map(|(task, until)| (task.as_str(), *until)).collect();
    let new = signal(&transmitter.to_string(), &jti.to_string(), &tasks);
    (fingerprint, NewSignal { fingerprint: vec![fingerprint], taken_in: now * 1_000, ..new })
}
