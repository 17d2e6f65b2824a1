//! Deciding again about what is running: a stream that was admitted is held against the state of now, under the rule
//! that admitted it.

use crate::authority::Host;
use crate::cache::Session;
use crate::config::Mode;
use crate::evidence::{Evidence, RequestLine};
use crate::judge::{Judge, Nobody, Permit, Ports, Refusal, stand_at, unreadable, weigh_all};
use crate::path::Canonical;
use crate::policy::{Effect, Policy, Rule};
use crate::reason::Reason;
use crate::request::Request;
use crate::requirement::Check;
use crate::routes::{Captures, captures};
use crate::streams::{Place, Streams};
use crate::time::{Span, Timestamp};
use crate::token;
use std::net::IpAddr;
use std::rc::Rc;

/// How often a stream is looked at again that nothing else gives a time for: conditions may ask for the time, and what
/// shadow mode lets run on is only counted.
const EVERY: Span = Span(10);

/// A second.
const TICK: Span = Span(1);

/// All that is needed to decide about a stream again. Small: there may be a hundred thousand of them.
#[derive(Debug)]
pub struct Admitted {
    rule: u32,
    session: Rc<Session>,
    /// `:method`, `:authority` and `:path` without its query, as they came.
    line: Box<[u8]>,
    method_len: u32,
    host_len: u32,
    /// Known where the rule asks for it, which few do.
    source: Option<Box<IpAddr>>,
    /// Whether the proxy answers it as gRPC.
    grpc: bool,
    /// The reasons for which shadow mode has already said that it would have ended it: a bit for each of
    /// [`Reason::ALL`].
    said: u64,
}

/// A stream that may not go on.
#[derive(Debug)]
pub struct Ending {
    /// The number that the proxy gave it.
    pub stream: u32,
    /// Why.
    pub refusal: Refusal,
    /// Whether the proxy answers it as gRPC.
    pub grpc: bool,
    /// Whether to end it. Otherwise it goes on, in shadow mode, and this is said once for each reason.
    pub enforced: bool,
}

impl Admitted {
    /// What `request` was admitted with by `permit`. `None` where there is nothing to decide again: without a session
    /// no signal is about it, and what shadow mode let pass was not admitted.
    pub fn new(permit: &Permit, request: &Request<'_>) -> Option<Admitted> {
        if permit.shadowed().is_some() {
            return None;
        }
        let path = request.path.split(|byte| *byte == b'?').next().unwrap_or_default();
        Some(Admitted {
            rule: u32::try_from(permit.rule()?).ok()?,
            session: Rc::clone(permit.shared_session()?),
            line: [request.method, request.authority, path].concat().into_boxed_slice(),
            method_len: u32::try_from(request.method.len()).ok()?,
            host_len: u32::try_from(request.authority.len()).ok()?,
            source: permit.source().map(Box::new),
            grpc: request.grpc,
            said: 0,
        })
    }

    /// The buckets of the state that its session is in.
    pub fn buckets(&self) -> impl Iterator<Item = u16> {
        self.session.buckets().iter().copied()
    }

    fn rule(&self) -> Option<usize> {
        usize::try_from(self.rule).ok()
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        Refusal { reason, rule: self.rule(), session: Some(Rc::clone(&self.session)) }
    }

    fn request(&self) -> Option<(&str, Host<'_>, Canonical<'_>)> {
        let (method, rest) = self.line.split_at_checked(usize::try_from(self.method_len).ok()?)?;
        let (host, path) = rest.split_at_checked(usize::try_from(self.host_len).ok()?)?;
        // What the judge has read once reads the same again.
        let method = std::str::from_utf8(method).unwrap_or_default();
        Some((method, Host::parse(host).ok()?, Canonical::parse(path).ok()?))
    }

    /// Whether `reason` is said for the first time.
    fn is_new(&mut self, reason: Reason) -> bool {
        let bit = Reason::ALL.iter().position(|known| *known == reason).and_then(|at| u32::try_from(at).ok());
        let bit = bit.and_then(|at| 1u64.checked_shl(at)).unwrap_or(1 << 63);
        let new = self.said & bit == 0;
        self.said |= bit;
        new
    }
}

impl Judge {
    /// Decides again about a stream that was admitted: under the rule that admitted it, with the request as it was and
    /// the state and the time as they are. What came before the token is not weighed again: the request has not changed.
    pub fn review(&mut self, admitted: &Admitted, ports: &mut impl Ports, now: Timestamp) -> Result<(), Refusal> {
        let clock = self.view.refresh(ports).map_err(|error| admitted.refusal(unreadable(error)))?;
        self.review_at(clock, admitted, ports, now).map_err(|reason| admitted.refusal(reason))
    }

    /// When to look at `admitted` again even if no signal comes: the first moment at which something that passes with
    /// time may not hold any more.
    pub fn holds_until(&self, admitted: &Admitted, now: Timestamp) -> Timestamp {
        let verified = admitted.session.verified();
        let Some(issuer) = self.policy.issuers().get(verified.issuer()) else { return now };
        let mut until = token::holds_until(verified, issuer);
        let authenticated_at = verified.grant().authenticated_at;
        let checks = match rule(&self.policy, admitted).map(Rule::effect) {
            Some(Effect::Require(requirement)) => requirement.checks(),
            _ => &[],
        };
        for check in checks {
            let limit = match check {
                Check::StateAge(longest) => Some(self.view.fresh_at().plus(*longest).plus(TICK)),
                Check::AuthAge(longest) => authenticated_at.map(|at| at.plus(*longest).plus(TICK)),
                Check::When(condition) if condition.asks_for_time() => Some(now.plus(EVERY)),
                _ => None,
            };
            // What break-glass lifts may have passed already.
            let limit = limit.map(|limit| if limit > now { limit } else { now.plus(EVERY) });
            until = limit.map_or(until, |limit| until.min(limit));
        }
        until
    }

    /// Looks at those of `streams` that the changes since the last look touch and at those whose time has come, and
    /// takes out the ones that may not go on.
    pub fn look(&mut self, streams: &mut Streams, ports: &mut impl Ports, now: Timestamp) -> Vec<Ending> {
        let (clock, touched) = match self.view.refresh(ports) {
            Ok(clock) => (Ok(clock), streams.touched(&self.view.changes_since(streams.seen), now)),
            // Nobody knows what changed: no stream is above doubt.
            Err(error) => (Err(unreadable(error)), streams.all()),
        };
        if let Ok(clock) = clock {
            streams.seen = clock;
        }
        touched.into_iter().filter_map(|place| self.look_at(place, clock, streams, ports, now)).collect()
    }

    fn look_at(
        &mut self,
        place: Place,
        clock: Result<u64, Reason>,
        streams: &mut Streams,
        ports: &mut impl Ports,
        now: Timestamp,
    ) -> Option<Ending> {
        let admitted = streams.admitted_mut(place)?;
        let verdict = clock.and_then(|clock| self.review_at(clock, admitted, ports, now));
        let Err(reason) = verdict else {
            let until = self.holds_until(admitted, now);
            streams.look_again(place, until);
            return None;
        };
        let (refusal, grpc) = (admitted.refusal(reason), admitted.grpc);
        let enforced = self.policy.mode(admitted.rule()) == Mode::Enforce;
        if enforced {
            streams.remove(place);
        } else {
            let new = admitted.is_new(reason);
            streams.look_again(place, now.plus(EVERY));
            if !new {
                return None;
            }
        }
        Some(Ending { stream: place.id(), refusal, grpc, enforced })
    }

    fn review_at(&self, clock: u64, admitted: &Admitted, ports: &mut impl Ports, now: Timestamp) -> Result<(), Reason> {
        let session = &admitted.session;
        let issuer = self.policy.issuers().get(session.verified().issuer()).ok_or(Reason::InternalError)?;
        token::check_times(session.verified(), issuer, now)?;
        let standing = stand_at(clock, &self.view, session, ports, now)?;
        let rule = rule(&self.policy, admitted).ok_or(Reason::InternalError)?;
        let Effect::Require(requirement) = rule.effect() else { return Err(Reason::InternalError) };
        let (method, host, path) = admitted.request().ok_or(Reason::InternalError)?;
        let captures = match rule.matcher().template() {
            Some(template) => captures(template, &path).ok_or(Reason::InternalError)?,
            None => Captures::default(),
        };
        let evidence = Evidence {
            grant: session.verified().grant(),
            claims: session.claims(),
            standing,
            request: RequestLine { method, host: host.as_str(), path: path.as_str() },
            capture_names: rule.matcher().capture_names(),
            captures,
            source: admitted.source.as_deref().copied(),
            fresh_at: self.view.fresh_at(),
            now,
        };
        weigh_all(requirement, &evidence, &mut Nobody).map(|_| ())
    }
}

fn rule<'p>(policy: &'p Policy, admitted: &Admitted) -> Option<&'p Rule> {
    policy.rules().get(admitted.rule()?)
}
