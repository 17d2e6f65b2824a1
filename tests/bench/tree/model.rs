//! A hub, its relays and their followers in model time: discrete events, each with the costs that were measured.
//!
//! ```text
//! signal ─► root: commit ─► round ─► page ─► relay ─► page ─► follower applies ─► request: acknowledged at the relay
//!                                              └───────────── report, four times a second ─────────────► root
//! ```
//! The rounds of the root are those of the hub: [`Pace`] says when the next one may begin. A relay has no pace: it answers
//! whoever waits as soon as a page has come. A CPU of the model does one thing after the other, in the order in which they
//! came.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use taskfence_hub::feed::{
    pace::{MAX_WAIT, Meter, Pace},
    turns::{MIN_PAUSE, SLICE},
};

use super::costs::Costs;

/// A relay tells the root this often what has been acknowledged, as `src/hub/relay/reporter.rs`.
const REPORT: Duration = Duration::from_millis(250);
/// The pause of a follower after its connection ended, as in the filter: the shortest and the longest, in milliseconds.
const BACK_OFF: (u64, u64) = (200, 400);
/// The clients of a bench come from one thread; see [`Plan::clients_share_a_thread`].
const NO_NODE: usize = usize::MAX;

/// What is modelled.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Relays below the root. 0: the followers follow the root.
    pub relays: usize,
    /// Followers, evenly over the relays.
    pub followers: usize,
    /// CPUs that a node has for its work.
    pub cpus: usize,
    /// CPUs of its machine, which the pace counts with.
    pub machine_cpus: u64,
    /// When signals come, from the start on, in order.
    pub signals: Vec<Duration>,
    /// All followers connect anew in the first second.
    pub cold: bool,
    /// The first relay is gone from this time on.
    pub lost_at: Option<Duration>,
    /// How long it runs.
    pub time: Duration,
    /// All followers share one thread, as in the bench with real ones; else each has its own machine.
    pub clients_share_a_thread: bool,
    /// Longest wait of a request; it is shortened by up to a fifth.
    pub wait: Duration,
    /// Of the random numbers.
    pub seed: u64,
    /// What things cost.
    pub costs: Costs,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Of each signal: from its 202 until all followers had sent that they have applied it.
    pub applied: Vec<Duration>,
    /// Of each signal: the same, until the root knew it.
    pub known: Vec<Duration>,
    /// When each follower had caught up after a cold start, or had a page again after its relay was lost; in order.
    pub back: Vec<Duration>,
    /// CPU time of the root, and of the busiest relay.
    pub cpu: (Duration, Duration),
    /// Bytes that the root sent, and that the relay with the most did.
    pub bytes: (u64, u64),
    /// Pages that were sent, and those that came to whom they were sent, or were lost with a relay.
    pub pages: (u64, u64),
    /// Acknowledgements that were counted.
    pub acknowledgements: u64,
    /// The position of each follower at the end.
    pub positions: Vec<u32>,
    /// How many signals were answered 202.
    pub stored: u32,
}

type Time = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A signal comes to the root.
    Signal,
    /// It is on disk, and answered.
    Stored,
    /// A node would begin a round, and has wanted to since `since`.
    Round { node: usize, since: Time },
    /// The least pause after a round is over.
    Pause { node: usize },
    /// The node may begin another.
    Ready { node: usize },
    /// The CPU has sent a page.
    Sent { client: usize, upto: u32, from: usize },
    /// A page is there.
    Came { client: usize, upto: u32, from: usize },
    /// It is applied.
    Applied { client: usize, upto: u32 },
    /// A request is there.
    Asked { client: usize },
    /// The CPU has read it.
    Read { client: usize, at: usize },
    /// A request has waited long enough.
    Waited { client: usize, turn: u32 },
    /// A relay tells the root.
    Report { node: usize },
    /// What it told is counted.
    Told { node: usize },
    /// A client connects.
    Connects { client: usize },
    /// The node has let it in.
    Connected { client: usize },
    /// The root has signed a statement for a nonce.
    Signed { client: usize },
    /// It is lost.
    Lost { node: usize },
}

struct Node {
    /// When each of its CPUs is free.
    free: Vec<Time>,
    busy: Time,
    bytes: u64,
    meter: Arc<Meter>,
    pace: Pace,
    head: u32,
    published: u32,
    /// A round is asked for, or under way.
    in_round: bool,
    waiting: Vec<usize>,
    /// Acknowledged since the last report: follower and position.
    unreported: BTreeMap<usize, u32>,
    /// On their way to the root.
    reported: Vec<(usize, u32)>,
    alive: bool,
}

#[derive(Clone, Copy)]
struct Client {
    node: usize,
    /// The node that it is, for a relay.
    is: usize,
    applied: u32,
    waits: bool,
    turn: u32,
    /// It asks with a nonce: it has not caught up yet.
    nonce: bool,
    /// It has a page again, or for the first time.
    back: bool,
    /// It waits before it connects again.
    pauses: bool,
}

/// How far all followers are.
#[derive(Default)]
struct Positions {
    at: Vec<u32>,
    counts: BTreeMap<u32, usize>,
    /// When all had each number.
    all_had: Vec<Time>,
}

impl Positions {
    fn new(count: usize) -> Self {
        Self { at: vec![0; count], counts: BTreeMap::from([(0, count)]), all_had: vec![0] }
    }

    fn moved(&mut self, follower: usize, to: u32, now: Time) {
        let from = self.at[follower];
        if to <= from {
            return;
        }
        self.at[follower] = to;
        *self.counts.entry(to).or_default() += 1;
        if let Some(count) = self.counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&from);
            }
        }
        let least = self.counts.keys().next().copied().unwrap_or(0) as usize;
        while self.all_had.len() <= least {
            self.all_had.push(now);
        }
    }
}

struct Model<'p> {
    plan: &'p Plan,
    now: Time,
    begin: Instant,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    made: u64,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    random: fastrand::Rng,
    thread_free: Time,
    applied: Positions,
    known: Positions,
    answered: Vec<Time>,
    outcome: Outcome,
}

/// Runs the model.
pub fn run(plan: &Plan) -> Outcome {
    let mut model = Model::new(plan);
    let end = nanos(plan.time);
    while let Some(Reverse((time, _, event))) = model.events.pop() {
        if time > end {
            break;
        }
        model.now = time;
        model.happen(event);
    }
    model.end()
}

impl<'p> Model<'p> {
    fn new(plan: &'p Plan) -> Self {
        let begin = Instant::now();
        let node = |_| Node {
            free: vec![0; plan.cpus.max(1)],
            busy: 0,
            bytes: 0,
            meter: Arc::default(),
            pace: Pace::new(plan.machine_cpus, None, begin),
            head: 0,
            published: 0,
            in_round: false,
            waiting: Vec::new(),
            unreported: BTreeMap::new(),
            reported: Vec::new(),
            alive: true,
        };
        let client =
            |node, is| Client { node, is, applied: 0, waits: false, turn: 0, nonce: false, back: false, pauses: false };
        let relays = (0..plan.relays).map(|relay| client(0, relay + 1));
        let of = |follower: usize| if plan.relays == 0 { 0 } else { follower % plan.relays + 1 };
        let followers = (0..plan.followers).map(|follower| client(of(follower), NO_NODE));
        let mut model = Self {
            plan,
            now: 0,
            begin,
            events: BinaryHeap::new(),
            made: 0,
            nodes: (0..=plan.relays).map(node).collect(),
            clients: relays.chain(followers).collect(),
            random: fastrand::Rng::with_seed(plan.seed),
            thread_free: 0,
            applied: Positions::new(plan.followers),
            known: Positions::new(plan.followers),
            answered: vec![0],
            outcome: Outcome::default(),
        };
        model.begin();
        model
    }

    fn begin(&mut self) {
        for at in &self.plan.signals {
            self.at(nanos(*at), Event::Signal);
        }
        for client in 0..self.clients.len() {
            let is_cold = self.plan.cold && client >= self.plan.relays;
            if is_cold {
                let at = self.random.u64(0..1_000_000_000);
                self.clients[client].nonce = true;
                self.at(at, Event::Connects { client });
            } else {
                self.clients[client].waits = true;
                self.nodes[self.clients[client].node].waiting.push(client);
                // They began to wait at some time before.
                let longest = self.wait();
                let wait = self.random.u64(0..=longest);
                self.at(wait, Event::Waited { client, turn: 0 });
            }
        }
        for node in 1..self.nodes.len() {
            let phase = self.random.u64(0..nanos(REPORT));
            self.at(phase, Event::Report { node });
        }
        if let Some(lost) = self.plan.lost_at.filter(|_| self.plan.relays > 1) {
            self.at(nanos(lost), Event::Lost { node: 1 });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Signal => {
                let done = self.work(0, self.plan.costs.signal);
                self.at(done + nanos(self.plan.costs.commit), Event::Stored);
            }
            Event::Stored => {
                self.answered.push(self.now);
                self.nodes[0].head += 1;
                self.news(0);
            }
            Event::Round { node, since } => self.round(node, since),
            Event::Pause { node } => {
                let (now, meter) = (self.instant(), Arc::clone(&self.nodes[node].meter));
                let slice = self.nodes[node].pace.wait(&meter, now, 1).min(SLICE.saturating_sub(MIN_PAUSE));
                self.after(slice, Event::Ready { node });
            }
            Event::Ready { node } => {
                self.nodes[node].in_round = false;
                if self.nodes[node].head > self.nodes[node].published {
                    self.news(node);
                }
            }
            Event::Sent { client, upto, from } => {
                self.nodes[from].meter.add(self.plan.costs.page);
                self.outcome.pages.0 += 1;
                let way = self.way();
                self.at(self.now + way, Event::Came { client, upto, from });
            }
            Event::Came { client, upto, from } => self.came(client, upto, from),
            Event::Applied { client, upto } => {
                let applied = &mut self.clients[client].applied;
                *applied = upto.max(*applied);
                let way = self.way();
                self.at(self.now + way, Event::Asked { client });
            }
            Event::Asked { client } => {
                let node = self.clients[client].node;
                if self.nodes[node].alive && !self.clients[client].pauses {
                    let done = self.work(node, self.plan.costs.request);
                    self.at(done, Event::Read { client, at: node });
                }
            }
            Event::Read { client, at } => self.read(client, at),
            Event::Waited { client, turn } => {
                let Client { node, waits, turn: current, applied, .. } = self.clients[client];
                if waits && turn == current && self.nodes[node].alive {
                    self.clients[client].waits = false;
                    let upto = self.nodes[node].published.max(applied);
                    self.send(client, upto);
                }
            }
            Event::Report { node } => {
                if self.nodes[node].alive {
                    let told: Vec<_> = std::mem::take(&mut self.nodes[node].unreported).into_iter().collect();
                    if !told.is_empty() && self.nodes[node].reported.is_empty() {
                        let cost = self.plan.costs.report.saturating_mul(u32::try_from(told.len()).unwrap_or(u32::MAX));
                        self.nodes[node].reported = told;
                        let done = self.work(0, cost) + 2 * self.way();
                        self.at(done, Event::Told { node });
                    } else {
                        self.nodes[node].unreported.extend(told);
                    }
                    self.after(REPORT, Event::Report { node });
                }
            }
            Event::Told { node } => {
                for (follower, position) in std::mem::take(&mut self.nodes[node].reported) {
                    self.known.moved(follower, position, self.now);
                }
            }
            Event::Connects { client } => {
                let node = self.clients[client].node;
                self.clients[client].pauses = false;
                let done = self.work(node, self.plan.costs.connect);
                self.at(done, Event::Connected { client });
            }
            Event::Connected { client } => self.at(self.now, Event::Asked { client }),
            Event::Signed { client } => {
                self.clients[client].nonce = false;
                let node = self.clients[client].node;
                self.send(client, self.nodes[node].published);
            }
            Event::Lost { node } => self.lost(node),
        }
    }

    /// Something new is at a node.
    fn news(&mut self, node: usize) {
        if node > 0 {
            self.publish(node);
        } else if !std::mem::replace(&mut self.nodes[node].in_round, true) {
            self.round(node, self.now);
        }
    }

    /// As `Turns::round` of a hub with one feed.
    fn round(&mut self, node: usize, since: Time) {
        let (now, meter) = (self.instant(), Arc::clone(&self.nodes[node].meter));
        let left = nanos(MAX_WAIT).saturating_sub(self.now - since);
        let wait = nanos(self.nodes[node].pace.wait(&meter, now, 1)).min(left);
        if wait > 0 {
            return self.at(self.now + wait, Event::Round { node, since });
        }
        self.publish(node);
        self.after(MIN_PAUSE, Event::Pause { node });
    }

    fn publish(&mut self, node: usize) {
        self.nodes[node].published = self.nodes[node].head;
        for client in std::mem::take(&mut self.nodes[node].waiting) {
            if self.clients[client].waits && self.clients[client].node == node {
                self.clients[client].waits = false;
                self.send(client, self.nodes[node].published);
            }
        }
    }

    fn send(&mut self, client: usize, upto: u32) {
        let Client { node, applied, .. } = self.clients[client];
        let done = self.work(node, self.plan.costs.page);
        let entries = u64::from(upto.saturating_sub(applied));
        self.nodes[node].bytes += self.plan.costs.page_bytes + entries * self.plan.costs.entry_bytes;
        self.at(done, Event::Sent { client, upto, from: node });
    }

    fn came(&mut self, client: usize, upto: u32, from: usize) {
        self.outcome.pages.1 += 1;
        let Client { node, is, back, nonce, .. } = self.clients[client];
        if node != from || !self.nodes[from].alive || (is != NO_NODE && !self.nodes[is].alive) {
            // Its relay was lost meanwhile: it asks another.
            return;
        }
        if is != NO_NODE {
            let done = self.work(is, self.plan.costs.take);
            self.clients[client].applied = upto;
            if upto > self.nodes[is].head {
                self.nodes[is].head = upto;
                self.news(is);
            }
            return self.at(done, Event::Asked { client });
        }
        if !back && !nonce && (self.plan.cold || self.plan.lost_at.is_some_and(|lost| self.now >= nanos(lost))) {
            self.clients[client].back = true;
            self.outcome.back.push(Duration::from_nanos(self.now));
        }
        let done = match self.plan.clients_share_a_thread {
            true => {
                self.thread_free = self.thread_free.max(self.now) + nanos(self.plan.costs.client);
                self.thread_free
            }
            false => self.now + self.random.u64(0..=2 * nanos(self.plan.costs.apply)),
        };
        self.at(done, Event::Applied { client, upto });
    }

    fn read(&mut self, client: usize, at: usize) {
        let Client { node, applied, is, nonce, pauses, .. } = self.clients[client];
        if node != at || pauses || !self.nodes[node].alive {
            return;
        }
        self.nodes[node].meter.add(self.plan.costs.request);
        if is == NO_NODE {
            let follower = client - self.plan.relays;
            self.outcome.acknowledgements += u64::from(applied > self.applied.at[follower]);
            self.applied.moved(follower, applied, self.now);
            match node {
                0 => self.known.moved(follower, applied, self.now),
                _ => {
                    self.nodes[node].unreported.insert(follower, applied);
                }
            }
        }
        if nonce {
            // The root signs for it, also where a relay asks in its name.
            let done = self.work(0, self.plan.costs.sign) + if node == 0 { 0 } else { 2 * self.way() };
            return self.at(done, Event::Signed { client });
        }
        if self.nodes[node].published > applied {
            return self.send(client, self.nodes[node].published);
        }
        let turn = self.clients[client].turn.wrapping_add(1);
        (self.clients[client].waits, self.clients[client].turn) = (true, turn);
        self.nodes[node].waiting.push(client);
        let wait = match is {
            NO_NODE => self.wait(),
            // A relay asks once a second.
            _ => 1_000_000_000,
        };
        self.at(self.now + wait, Event::Waited { client, turn });
    }

    fn lost(&mut self, lost: usize) {
        self.nodes[lost].alive = false;
        let left = self.plan.relays - 1;
        for client in self.plan.relays..self.clients.len() {
            if self.clients[client].node != lost {
                // Only those that lost their relay are waited for.
                self.clients[client].back = true;
                continue;
            }
            let to = self.random.usize(0..left) + 2;
            let turn = self.clients[client].turn.wrapping_add(1);
            self.clients[client] =
                Client { node: to, waits: false, turn, nonce: true, pauses: true, ..self.clients[client] };
            let pause = self.random.u64(BACK_OFF.0..=BACK_OFF.1) * 1_000_000;
            self.at(self.now + pause, Event::Connects { client });
        }
        // What it had not told is told by where its followers are now, with their first request.
    }

    /// When the CPUs of the node are through with it.
    fn work(&mut self, node: usize, cost: Duration) -> Time {
        let now = self.now;
        let node = &mut self.nodes[node];
        let free = node.free.iter_mut().min().expect("a node has a CPU");
        *free = now.max(*free) + nanos(cost);
        node.busy += nanos(cost);
        *free
    }

    fn way(&mut self) -> Time {
        nanos(self.plan.costs.way)
    }

    fn wait(&mut self) -> Time {
        let wait = nanos(self.plan.wait);
        wait - self.random.u64(0..=wait / 5)
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::from_nanos(self.now)
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + nanos(pause), event);
    }

    fn at(&mut self, time: Time, event: Event) {
        self.made += 1;
        self.events.push(Reverse((time, self.made, event)));
    }

    fn end(self) -> Outcome {
        let Self { nodes, clients, mut outcome, applied, known, answered, plan, .. } = self;
        let took = |all_had: &[Time]| -> Vec<Duration> {
            let of_signal = all_had.iter().zip(&answered).skip(1);
            of_signal.map(|(had, answered)| Duration::from_nanos(had.saturating_sub(*answered))).collect()
        };
        (outcome.applied, outcome.known) = (took(&applied.all_had), took(&known.all_had));
        outcome.stored = nodes[0].head;
        let busiest = nodes.iter().skip(1).map(|node| (node.busy, node.bytes)).max().unwrap_or_default();
        outcome.cpu = (Duration::from_nanos(nodes[0].busy), Duration::from_nanos(busiest.0));
        outcome.bytes = (nodes[0].bytes, busiest.1);
        outcome.positions = clients.iter().skip(plan.relays).map(|client| client.applied).collect();
        outcome.back.sort_unstable();
        outcome
    }
}

fn nanos(time: Duration) -> Time {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
