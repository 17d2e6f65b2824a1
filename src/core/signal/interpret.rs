//! Interprets an authenticated SET: its event, its subject, its time, and the entries that result.

use crate::encoding::bytes::constant_time_eq;
use crate::index::IssuerIndex;
use crate::signal::accepted::Notes;
use crate::signal::accepted::Origin;
use crate::signal::accepted::Signal;
use crate::signal::effect::{self, Meaning};
use crate::signal::event::{Event, Type};
use crate::signal::oddity::Oddities;
use crate::signal::set_error::SetError;
use crate::signal::set_error::SetErrorCode::AccessDenied;
use crate::signal::set_error::SetErrorCode::InvalidRequest;
use crate::signal::set_error::SetErrorCode::InvalidState;
use crate::signal::set_error::SetErrorCode::TooEarly;
use crate::signal::signal_time::{self, Form, Stated};
use crate::signal::subject::{self, Reading, Subject, SubjectError};
use crate::signal::transmitter::Transmitter;
use crate::state::freshness::{Heartbeat, TransmitterId};
use crate::state::key::Kind;
use crate::state::seen_sets::Fingerprint;
use crate::time::{Span, Timestamp};
use crate::token::issuer::Issuer;
use serde_json::{Map, Value};

/// How far the clocks of a transmitter and of this proxy may differ.
pub(crate) const CLOCK_SKEW: Span = Span(60);

/// Turns the claims of an authenticated SET into a signal.
pub(crate) fn interpret(
    claims: &Map<String, Value>,
    transmitter: &Transmitter,
    issuers: &[Issuer],
    now: Timestamp,
) -> Result<Signal, SetError> {
    let mut oddities = Oddities::of(transmitter.permissions.tolerant);
    let events = claims.get("events").and_then(Value::as_object);
    let uri = events.and_then(|events| events.keys().next()).map_or("", String::as_str);
    let id = id(claims, &mut oddities);
    let origin =
        Origin { transmitter: transmitter.name.clone(), id: id.clone().unwrap_or_default(), event: uri.to_owned() };
    let refused = |error: SetError| SetError { origin: Some(Box::new(origin.clone())), ..error };
    let id =
        id.ok_or_else(|| refused(InvalidRequest.because("jti is missing or not a string of at most 1024 bytes")))?;
    for needless in ["sub", "exp"] {
        if claims.contains_key(needless) {
            oddities.fault(format!("{needless} stands in a SET"));
        }
    }
    let issued = issued_at(claims, &mut oddities);
    let ahead = issued.is_some_and(|issued| issued > now.plus(CLOCK_SKEW));
    if ahead {
        oddities.fault("iat lies in the future");
    }
    let mut signal = Signal {
        // Freshness depends on the time at which the SET was issued. A SET without a valid `iat` proves no freshness.
        heartbeat: Heartbeat {
            transmitter: TransmitterId::new(&transmitter.stream),
            issued: issued.filter(|_| !ahead).unwrap_or_default(),
            stream: None,
        },
        fingerprint: Fingerprint::new(&transmitter.stream, &id, claims),
        origin: origin.clone(),
        entries: Vec::new(),
        notes: Notes::default(),
        dated_ahead: false,
    };
    let set = Set { claims, transmitter, issuers, issued, now };
    set.fill(&mut signal, &mut oddities).map_err(refused)?;
    signal.notes.oddities = oddities;
    // SETs are not commands: an event that has no effect here is still acknowledged (RFC 8935 §2).
    Ok(signal)
}

/// An authenticated SET.
pub(crate) struct Set<'s> {
    claims: &'s Map<String, Value>,
    transmitter: &'s Transmitter,
    issuers: &'s [Issuer],
    issued: Option<Timestamp>,
    now: Timestamp,
}

/// One member of `events` whose type is supported.
pub(crate) struct Named<'s> {
    uri: &'s str,
    kind: Type,
    payload: &'s Map<String, Value>,
    event: Event,
    meanings: Vec<Meaning>,
}

impl Set<'_> {
    /// Writes the effect of the event into `signal`.
    fn fill(&self, signal: &mut Signal, oddities: &mut Oddities) -> Result<(), SetError> {
        let none = Map::new();
        let named = self.event(&none, oddities)?;
        let Some(main) = named.first() else { return Ok(()) };
        signal.origin.event = main.uri.to_owned();
        let subjects = self.subjects(&named, oddities)?;
        let stream = main.kind.is_of_the_stream();
        let permits = named.iter().any(|one| one.event.permits()) && (stream || !main.meanings.is_empty());
        match &main.event {
            Event::Verification(state) => self.check_state(state.as_deref())?,
            Event::Stream(status) => {
                signal.heartbeat.stream = Some((*status, self.time(&named, permits, signal, oddities)?));
            }
            _ => {
                let at = self.time(&named, permits, signal, oddities)?;
                self.change(signal, main, &subjects, at, oddities)?;
            }
        }
        match oddities.first_fault() {
            Some(fault) if permits => {
                let message = format!("{fault}, and what permits something must be without fault");
                Err(InvalidRequest.because(printable(&message)))
            }
            _ => Ok(()),
        }
    }

    /// Writes the entries that the event produces into `signal`.
    fn change(
        &self,
        signal: &mut Signal,
        main: &Named<'_>,
        subjects: &[&Value],
        at: Timestamp,
        oddities: &mut Oddities,
    ) -> Result<(), SetError> {
        let subjects_of = self.transmitter.subjects.iter();
        let issuers: Vec<(IssuerIndex, &Issuer)> =
            subjects_of.filter_map(|(_, index)| Some((*index, index.of(self.issuers)?))).collect();
        let permissions = &self.transmitter.permissions;
        let reading = Reading {
            issuers: &issuers,
            critical: &permissions.critical,
            legacy: permissions.legacy_subject,
            renamed: &permissions.subject_issuers,
            opaque: matches!(main.event, Event::Device(_)).then_some(Kind::Device),
        };
        let subject = reading.read_all(subjects, oddities).map_err(|error| match error {
            SubjectError::ForeignIssuer => AccessDenied.because(error.to_string()),
            _ => InvalidRequest.because(printable(&error.to_string())),
        })?;
        check_task(&main.event, &subject)?;
        let mut meanings = main.meanings.clone();
        self.check_claims(&mut meanings, &issuers, oddities)?;
        let faulty = oddities.first_fault().is_some();
        signal.entries = effect::entries(&meanings, faulty, &subject, &issuers, at, self.now)
            .map_err(|error| InvalidRequest.because(error.to_string()))?;
        signal.notes.unknown_subject = subject.alternatives.is_empty() && !meanings.is_empty();
        signal.notes.unmatched = subject.unmatched;
        if !subject.alternatives.iter().all(|members| effect::has_one_issuer(members)) {
            signal.notes.unmatched.push("members of other issuers".to_owned());
        }
        Ok(())
    }

    /// The one event of the SET, under each URI that is supported; the first decides. Several URIs may stand for the
    /// same event (SSF 1.0 §4.2.1): they do if they have the same meaning here.
    fn event<'s>(&'s self, none: &'s Map<String, Value>, oddities: &mut Oddities) -> Result<Vec<Named<'s>>, SetError> {
        let permissions = &self.transmitter.permissions;
        let events = self.claims.get("events").and_then(Value::as_object);
        let events = events.ok_or_else(|| InvalidRequest.because("events is missing or not an object"))?;
        if events.is_empty() {
            return Err(InvalidRequest.because("events is empty"));
        }
        let mut named: Vec<Named<'s>> = Vec::new();
        let mut error = None;
        for (uri, payload) in events {
            let Some(kind) = permissions.type_of(uri) else { continue };
            if !permissions.may_send(kind) {
                let message = format!("the transmitter may not send {}", kind.name());
                error.get_or_insert(AccessDenied.because(message));
                continue;
            }
            if !payload.is_object() {
                oddities.fault("the event is not an object");
            }
            let payload = payload.as_object().unwrap_or(none);
            let read = Event::read(kind, payload, oddities).and_then(|event| {
                let meanings = permissions.effects.meanings(&event)?;
                Ok(Named { uri, kind, payload, event, meanings })
            });
            match read {
                Ok(one) => named.push(one),
                Err(unread) => {
                    error.get_or_insert(InvalidRequest.because(unread.to_string()));
                }
            }
        }
        match error {
            Some(error) if named.is_empty() => return Err(error),
            Some(error) => oddities.fault(error.description),
            None => {}
        }
        // An event without effect here does not conflict with any other.
        let acts = |one: &Named<'_>| one.kind.is_of_the_stream() || !one.meanings.is_empty();
        if named.iter().any(acts) {
            named.retain(acts);
        }
        let differs = |one: &Named<'_>, other: &Named<'_>| {
            let stream = one.kind.is_of_the_stream() || other.kind.is_of_the_stream();
            one.meanings != other.meanings || (stream && one.event != other.event)
        };
        if named.split_first().is_some_and(|(first, others)| others.iter().any(|other| differs(first, other))) {
            return Err(InvalidRequest.because("events holds more than one event"));
        }
        // Whether a URI that is not supported means the same event is not known.
        match events.len() {
            1 => {}
            all if all == named.len() => oddities.note("events holds more than one URI"),
            _ => oddities.fault("events holds a second URI that is not known to mean the same"),
        }
        Ok(named)
    }

    /// The subjects of the event: `sub_id`, and the member `subject` inside the event that drafts used instead. If both
    /// exist and differ, both are affected.
    fn subjects(&self, named: &[Named<'_>], oddities: &mut Oddities) -> Result<Vec<&Value>, SetError> {
        let sub_id = self.claims.get("sub_id");
        let Some(main) = named.first() else { return Ok(Vec::new()) };
        if main.kind.is_of_the_stream() {
            // An event about the transmitter's own stream has no subject other than the stream.
            if sub_id.is_none() && Type::from_uri(main.uri).is_some() {
                oddities.fault("sub_id is missing");
            }
            return Ok(Vec::new());
        }
        let mut subjects: Vec<&Value> = sub_id.into_iter().collect();
        for inside in named.iter().filter(|one| one.kind.may_hold_subject()) {
            let Some(inside) = self.inside(inside.uri) else { continue };
            if subjects.contains(&inside) {
                continue;
            }
            if !subjects.is_empty() {
                oddities.fault("a second subject stands beside the first");
            } else if !self.transmitter.permissions.legacy_subject {
                oddities.fault("sub_id is missing, and a subject stands inside the event");
            }
            subjects.push(inside);
        }
        if subjects.is_empty() { Err(InvalidRequest.because("sub_id is missing")) } else { Ok(subjects) }
    }

    fn inside(&self, uri: &str) -> Option<&Value> {
        self.claims.get("events")?.get(uri)?.get("subject")
    }

    /// Compares `state` with the value that is configured, where one is (SSF 1.0 §8.1.4).
    fn check_state(&self, state: Option<&str>) -> Result<(), SetError> {
        match (&self.transmitter.permissions.verification_state, state) {
            (Some(asked), Some(state)) if !constant_time_eq(asked.as_bytes(), state.as_bytes()) => {
                Err(InvalidState.because("state is not the one that was asked for"))
            }
            _ => Ok(()),
        }
    }

    /// Removes from `meanings` the claims that no signal, or not this transmitter, may change. A narrowing in the same
    /// event stays.
    fn check_claims(
        &self,
        meanings: &mut Vec<Meaning>,
        issuers: &[(IssuerIndex, &Issuer)],
        oddities: &mut Oddities,
    ) -> Result<(), SetError> {
        let mut error = None;
        // A grant may always be narrowed.
        let narrows = |name: &str| issuers.iter().all(|(_, issuer)| issuer.carriers.role(name).is_some());
        let contains = |name: &str| issuers.iter().any(|(_, issuer)| issuer.carriers.inside(name).next().is_some());
        meanings.retain_mut(|meaning| {
            let Some(name) = meaning.claim().filter(|name| !narrows(name)) else { return true };
            let allowed = &self.transmitter.permissions.claims;
            let refused = if !effect::may_change(name, issuers) {
                let message = format!("no signal can change the claim {}; end the token instead", printable(name));
                InvalidRequest.because(message)
            } else if allowed.as_ref().is_some_and(|allowed| !allowed.iter().any(|allowed| allowed == name)) {
                AccessDenied.because(format!("the transmitter may not change {}", printable(name)))
            } else {
                return true;
            };
            error.get_or_insert(refused);
            let is_left = contains(name);
            if is_left && let Meaning::Change(_, data) = meaning {
                *meaning = Meaning::NarrowedInside(std::mem::take(data));
            }
            is_left
        });
        let narrows = |meaning: &Meaning| meaning.revokes_or_narrows() || meaning.claim().is_some_and(narrows);
        let narrows = meanings.iter().any(narrows);
        match error {
            Some(error) if !narrows => Err(error),
            Some(error) => {
                oddities.fault(error.description);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The time of the event: `event_timestamp`, else `toe`, else `iat`, else now. A value that cannot be read is
    /// skipped.
    ///
    /// A time in the future counts as now if the event revokes or restricts: a later time would lock out sessions that
    /// have not begun yet. An event that permits something is refused until its time has come: if it were applied
    /// earlier, it would win over an event that comes in between.
    fn time(
        &self,
        named: &[Named<'_>],
        permits: bool,
        signal: &mut Signal,
        oddities: &mut Oddities,
    ) -> Result<Timestamp, SetError> {
        let in_events = named.iter().filter_map(|one| one.payload.get("event_timestamp"));
        let in_events: Vec<Stated> = in_events.filter_map(|value| stated(value, "event_timestamp", oddities)).collect();
        let toe = self.claims.get("toe").filter(|_| in_events.is_empty());
        let toe = toe.and_then(|value| stated(value, "toe", oddities));
        let all = in_events.iter().chain(&toe);
        // Round the fraction so that a cut-off covers the whole second, and an event that permits something gains
        // nothing.
        let time = match permits {
            true => all.map(|time| time.floor).min(),
            false => all.map(|time| time.ceil).max(),
        };
        let time = time.or(self.issued).unwrap_or(self.now);
        let ahead = time.since(self.now);
        if ahead == Span(0) {
            return Ok(time);
        }
        if ahead > CLOCK_SKEW {
            signal.notes.future = true;
            oddities.fault("the time of the event lies in the future");
        } else if permits {
            let early = TooEarly.because("the event is dated ahead of the receiver's clock");
            return Err(SetError { retry_after: Some(ahead), ..early });
        }
        signal.dated_ahead = true;
        Ok(self.now)
    }
}

/// Reads a time, and records how it is irregular.
pub(crate) fn stated(value: &Value, name: &str, oddities: &mut Oddities) -> Option<Stated> {
    let stated = signal_time::read(value);
    match stated.map(|stated| stated.form) {
        Some(Form::Seconds) => {}
        Some(Form::Milliseconds) => oddities.note(format!("{name} is in milliseconds")),
        Some(Form::Text) => oddities.fault(format!("{name} is a string")),
        None => oddities.fault(format!("{name} is not a time in seconds since 1970")),
    }
    stated
}

/// task-completed must name its task: without the name, all tasks of the user would be completed.
pub(crate) fn check_task(event: &Event, subject: &Subject) -> Result<(), SetError> {
    if *event != Event::Plain(Type::TaskCompleted) {
        return Ok(());
    }
    let names = |members: &Vec<subject::Member>| members.iter().any(|member| member.kind == Kind::Task);
    if subject.alternatives.iter().all(names) && !subject.alternatives.is_empty() {
        return Ok(());
    }
    Err(InvalidRequest.because("sub_id of task-completed has no member `task`"))
}

/// `jti`: without it a SET cannot be identified.
pub(crate) fn id(claims: &Map<String, Value>, oddities: &mut Oddities) -> Option<String> {
    let id = match claims.get("jti")? {
        Value::String(id) => id.clone(),
        Value::Number(number) => {
            oddities.fault("jti is a number");
            number.to_string()
        }
        _ => return None,
    };
    (!id.is_empty() && id.len() <= 1024).then_some(id)
}

/// `iat` in whole seconds. `None`, with a doubt recorded, when it cannot be read.
pub(crate) fn issued_at(claims: &Map<String, Value>, oddities: &mut Oddities) -> Option<Timestamp> {
    let none = Value::Null;
    let issued = stated(claims.get("iat").unwrap_or(&none), "iat", oddities);
    issued.map(|issued| issued.floor)
}

/// Keeps only what the answer may contain: printable ASCII without quotes and backslashes, at most 200 bytes.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).take(200).collect()
}
