//! What events say about grants, in compact maps: when grants ended, of which kind they are, and which were issued.
//!
//! An event is about the most specific thing that it names: a token, else a task, else a session, else a user and a
//! client (both, if it names both), else all grants of its issuer. An end takes some 50 bytes. Names are kept as hashes of 64
//! bits under a random key, so that no sender can choose two names that are taken for one.

use crate::evidence::model::{EventKind, EventRow, GrantId, GrantRow};
use serde_json::Value;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use taskfence_core::uses::batch::GrantInfo;

/// So many kinds of tasks are told apart.
const MOST_KINDS: usize = 10_000;

/// What the id of the event of an undo has behind the id of the signal.
const LIFTED: &str = "/lifted";

/// The events of a feed.
#[derive(Debug, Default)]
pub struct Lifecycle {
    hasher: RandomState,
    /// By what it is about: the last of its ends in `ends`.
    about: HashMap<u64, u32>,
    /// By the form of what ends are about, whether there are any: most forms never occur, and then need no look.
    has_ends: [bool; FORMS],
    ends: Vec<End>,
    /// Whether an end does not say whose grants it is about.
    is_issuer_missing: bool,
    kinds: HashMap<u64, u32>,
    /// By the form of what kinds are known of, whether there are any.
    has_kinds: [bool; FORMS],
    kind_names: Vec<String>,
    kind_numbers: HashMap<String, u32>,
}

/// One end.
#[derive(Debug, Clone, Copy)]
struct End {
    /// The hash of the id of its event.
    id: u64,
    at: u64,
    kind: EventKind,
    /// Whether it ends tokens that are issued later as well.
    for_good: bool,
    lifted: bool,
    /// Another end of the same.
    next: Option<u32>,
}

/// Members of the subject of a signal that events have names for.
const NAMED: [&str; 8] = ["format", "issuer", "token", "task", "session", "user", "client", "application"];

/// When a grant ended, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// In milliseconds since 1970.
    pub at: u64,
    /// The kind of event; `None`: it expired.
    pub by: Option<EventKind>,
}

/// What an event, or a grant, can be found by.
#[derive(Hash)]
enum About<'a> {
    Token(&'a str, &'a str),
    Task(&'a str, &'a str),
    Session(&'a str, &'a str),
    Party(&'a str, Option<&'a str>, Option<&'a str>),
}

/// How many values [`About::form`] has.
const FORMS: usize = 7;

impl About<'_> {
    /// Of which form it is: a number below [`FORMS`].
    fn form(&self) -> usize {
        match self {
            About::Token(..) => 0,
            About::Task(..) => 1,
            About::Session(..) => 2,
            About::Party(_, None, None) => 3,
            About::Party(_, Some(_), None) => 4,
            About::Party(_, None, Some(_)) => 5,
            About::Party(_, Some(_), Some(_)) => 6,
        }
    }

    /// Whether `forms` has its form.
    fn is_among(&self, forms: &[bool; FORMS]) -> bool {
        forms.get(self.form()).is_some_and(|has| *has)
    }

    /// Adds its form to `forms`.
    fn note(&self, forms: &mut [bool; FORMS]) {
        if let Some(has) = forms.get_mut(self.form()) {
            *has = true;
        }
    }
}

impl Lifecycle {
    /// Takes in one event, in the order of their times.
    pub fn add(&mut self, event: &EventRow) {
        let Some(kind) = event.kind else { return };
        if let Some(name) = &event.task_kind {
            self.add_kind(event, name);
        }
        if kind == EventKind::SignalLifted {
            self.lift(event);
        }
        if matches!(kind, EventKind::Ended | EventKind::SignalEnded) && is_named(event) {
            self.is_issuer_missing |= event.issuer.is_empty();
            let about = about(event);
            let for_good = matches!(about, About::Token(..) | About::Task(..));
            about.note(&mut self.has_ends);
            let key = self.hasher.hash_one(&about);
            let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
            let next = self.about.insert(key, number);
            let id = self.hasher.hash_one(event.id.as_str());
            self.ends.push(End { id, at: event.at, kind, for_good, lifted: false, next });
        }
    }

    /// Takes back the end by a signal that was undone: the event of the undo has the id of the signal's, and `/lifted`.
    /// After the event of the signal.
    fn lift(&mut self, event: &EventRow) {
        let id = event.id.strip_suffix(LIFTED).unwrap_or(&event.id);
        let id = self.hasher.hash_one(id);
        let mut next = self.about.get(&self.hasher.hash_one(about(event))).copied();
        while let Some(end) = next.and_then(|at| self.ends.get_mut(usize::try_from(at).unwrap_or(usize::MAX))) {
            end.lifted |= end.kind == EventKind::SignalEnded && end.id == id;
            next = end.next;
        }
    }

    /// The end of a grant: the earliest event that ended it, or its expiry.
    pub fn end(&self, info: &GrantInfo) -> Ended {
        let issued = info.issued_at.saturating_mul(1_000);
        let expired = Ended { at: info.expires_at.saturating_mul(1_000), by: None };
        let (subject, client) = (Some(info.subject.as_str()), info.client.as_deref());
        let abouts = |issuer| {
            [
                Some(About::Token(issuer, info.token.as_str())),
                info.task.as_deref().map(|task| About::Task(issuer, task)),
                info.session.as_deref().map(|session| About::Session(issuer, session)),
                Some(About::Party(issuer, subject, None)),
                client.map(|client| About::Party(issuer, None, Some(client))),
                client.map(|client| About::Party(issuer, subject, Some(client))),
                Some(About::Party(issuer, None, None)).filter(|_| !issuer.is_empty()),
            ]
        };
        let issuers = [Some(info.issuer.as_str()), Some("").filter(|_| self.is_issuer_missing)];
        let mut ended = expired;
        let abouts = issuers.into_iter().flatten().flat_map(abouts).flatten();
        for about in abouts.filter(|about| about.is_among(&self.has_ends)) {
            let mut next = self.about.get(&self.hasher.hash_one(&about)).copied();
            while let Some(end) = next.and_then(|at| self.ends.get(usize::try_from(at).unwrap_or(usize::MAX))) {
                next = end.next;
                // What ends a user, a client or a session spares tokens that are issued later.
                if end.lifted || (!end.for_good && end.at < issued) {
                    continue;
                }
                let at = end.at.max(issued);
                if at < ended.at {
                    ended = Ended { at, by: Some(end.kind) };
                }
            }
        }
        ended
    }

    /// The kind of task that an event gave the token or its task.
    pub fn kind(&self, info: &GrantInfo) -> Option<&str> {
        let number = |about: About<'_>| {
            let is_known = about.is_among(&self.has_kinds);
            is_known.then(|| self.kinds.get(&self.hasher.hash_one(&about))).flatten()
        };
        let by_task = || number(About::Task(&info.issuer, info.task.as_deref()?));
        let found = number(About::Token(&info.issuer, &info.token)).or_else(by_task)?;
        self.kind_names.get(usize::try_from(*found).ok()?).map(String::as_str)
    }

    fn add_kind(&mut self, event: &EventRow, name: &str) {
        let number = match self.kind_numbers.get(name) {
            Some(number) => *number,
            None if self.kind_names.len() >= MOST_KINDS => return,
            None => {
                let number = u32::try_from(self.kind_names.len()).unwrap_or(u32::MAX);
                self.kind_names.push(name.to_owned());
                self.kind_numbers.insert(name.to_owned(), number);
                number
            }
        };
        let issuer = event.issuer.as_str();
        let token = event.token.as_deref().map(|token| About::Token(issuer, token));
        let task = event.task.as_deref().map(|task| About::Task(issuer, task));
        for about in task.or(token).into_iter() {
            about.note(&mut self.has_kinds);
            self.kinds.insert(self.hasher.hash_one(&about), number);
        }
    }
}

/// The id of the grant that [`issued`] tells of.
pub fn issued_id(event: &EventRow) -> Option<GrantId> {
    let token = event.token.as_deref().filter(|_| event.kind == Some(EventKind::Issued))?;
    Some(GrantId::new(&event.issuer, token))
}

/// A grant of which only its issuance is known, from an event with a token: `data` has `scope`, `authorization_details`
/// and `expires_at` (seconds since 1970), as its sender gave them.
pub fn issued(event: &EventRow) -> Option<GrantRow> {
    let id = issued_id(event)?;
    let data = &event.data;
    let issued_at = event.at.checked_div(1_000).unwrap_or_default();
    let scopes = match data.get("scope") {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let details = data.get("authorization_details").and_then(Value::as_array).cloned().unwrap_or_default();
    let info = GrantInfo {
        issuer: event.issuer.clone(),
        subject: event.subject.clone().unwrap_or_default(),
        client: event.client.clone(),
        task: event.task.clone(),
        session: event.session.clone(),
        issued_at,
        expires_at: data.get("expires_at").and_then(Value::as_u64).unwrap_or(issued_at),
        cut: scopes.is_empty() && details.is_empty(),
        scopes,
        details,
        token: event.token.clone().unwrap_or_default(),
        ..GrantInfo::default()
    };
    Some(GrantRow { id, info, ..GrantRow::default() })
}

fn about(event: &EventRow) -> About<'_> {
    let issuer = event.issuer.as_str();
    match (&event.token, &event.task, &event.session) {
        (Some(token), ..) => About::Token(issuer, token),
        (None, Some(task), _) => About::Task(issuer, task),
        (None, None, Some(session)) => About::Session(issuer, session),
        (None, None, None) => About::Party(issuer, event.subject.as_deref(), event.client.as_deref()),
    }
}

/// Whether the names of an event say all that it is about. A signal may be about a device, an actor, a tenant or a group,
/// alone or beside a user, and a grant does not say whose they are.
fn is_named(event: &EventRow) -> bool {
    let EventRow { token, task, session, subject, client, .. } = event;
    let has_name = [token, task, session, subject, client].into_iter().any(Option::is_some);
    match event.data.get("subject") {
        Some(Value::Object(members)) => match members.get("format").and_then(Value::as_str) {
            Some(format) if format != "complex" => has_name,
            _ => members.keys().all(|name| NAMED.contains(&name.as_str())),
        },
        Some(_) if event.kind == Some(EventKind::SignalEnded) => has_name,
        _ => true,
    }
}

/// The name of what ended a grant.
pub fn end_name(by: Option<EventKind>) -> &'static str {
    match by {
        None => "expired",
        Some(EventKind::SignalEnded) => "signal_ended",
        Some(_) => "ended",
    }
}
