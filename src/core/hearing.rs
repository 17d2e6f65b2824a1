//! From what the configuration says about signals to what it means: who may say what, what that does, and who must be
//! heard of.

use crate::compile::Problems;
use crate::config::{ClaimsConfig, Config, EffectConfig, EffectsConfig, SignalsConfig, StaleThen, TransmitterConfig};
use crate::effect::{self, Effect, Effects};
use crate::event::Type;
use crate::freshness::{MAX_TRANSMITTERS, TransmitterId};
use crate::policy::{Effect as RuleEffect, Rule};
use crate::problem::{Problem, nearest};
use crate::remit::Remit;
use crate::requirement::Check;
use crate::signal::Transmitter;
use crate::statekey::Kind;
use crate::subject::kind_of_format;
use crate::time::Span;

/// What events do.
pub fn effects(config: &EffectsConfig) -> Effects {
    Effects {
        token_claims_change: config.token_claims_change.into(),
        credential_change: config.credential_change.into(),
        credential_created: config.credential_created.into(),
        assurance_level_change: config.assurance_level_change.into(),
        device_compliance_change: config.device_compliance_change.into(),
        session_established: config.session_established.into(),
        risk_level_change: config.risk_level_change.into(),
        account_disabled: config.account_disabled.into(),
        account_purged: config.account_purged.into(),
        credential_compromise: config.credential_compromise.into(),
        sessions_revoked: config.sessions_revoked.into(),
    }
}

impl From<EffectConfig> for Effect {
    fn from(config: EffectConfig) -> Effect {
        match config {
            EffectConfig::End => Effect::End,
            EffectConfig::Set => Effect::Set,
            EffectConfig::SetAndEnd => Effect::SetAndEnd,
            EffectConfig::Ignore => Effect::Ignore,
        }
    }
}

/// What a transmitter may say.
pub fn remit(config: &TransmitterConfig, effects: Effects, path: &str, problems: &mut Problems) -> Remit {
    let mut of_name = |name: &str, path: String| {
        let found = Type::from_name(name);
        if found.is_none() {
            let known = Type::ALL.map(Type::name);
            let help = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", known.join(", ")),
            };
            let message = format!("`{name}` is not a type of event that is acted upon");
            problems.errors.push(Problem::at(path, message).help(help));
        }
        found
    };
    let events = config.events.as_ref().map(|events| {
        let events = events.iter().enumerate();
        events.filter_map(|(at, name)| of_name(name, format!("{path}.events[{at}]"))).collect::<Vec<_>>()
    });
    let uris = config.event_uris.iter();
    let uris = uris.filter_map(|(uri, name)| Some((uri.clone(), of_name(name, format!("{path}.event_uris.{uri}"))?)));
    let uris: Vec<_> = uris.collect();
    for (uri, kind) in &uris {
        if let Some(known) = Type::from_uri(uri).filter(|known| known != kind) {
            let message = format!("already stands for {}", known.name());
            problems.error(format!("{path}.event_uris.{uri}"), message);
        }
    }
    for (at, claim) in config.settable_claims.iter().flatten().enumerate() {
        if !effect::may_change(claim, &[]) || matches!(claim.as_str(), "scope" | "authorization_details") {
            let message = format!("`{claim}` cannot be set by a signal");
            problems.error(format!("{path}.settable_claims[{at}]"), message);
        }
    }
    Remit {
        events,
        uris,
        critical: config.critical_members.clone(),
        claims: config.settable_claims.clone(),
        verification_state: config.verification_state.clone(),
        legacy_subject: config.legacy_subject,
        heartbeat: config.heartbeat,
        effects,
    }
}

/// For each of `issuers` issuers, whose silence makes the state about its grants stale.
pub fn heartbeats(transmitters: &[Transmitter], issuers: usize) -> Vec<Vec<TransmitterId>> {
    let beats = |place: usize| {
        let speaks = move |transmitter: &&Transmitter| {
            transmitter.remit.heartbeat && transmitter.subjects.iter().any(|(_, issuer)| *issuer == place)
        };
        transmitters.iter().filter(speaks).map(|transmitter| TransmitterId::new(&transmitter.name)).collect()
    };
    (0..issuers).map(beats).collect()
}

/// The claims that stand for formats of subjects.
pub fn subject_claims(config: &ClaimsConfig, path: &str, problems: &mut Problems) -> Vec<(Kind, String)> {
    let mut claims = Vec::new();
    for (format, claim) in &config.subjects {
        match kind_of_format(format) {
            Some(kind) => claims.push((kind, claim.clone())),
            None => {
                let problem = Problem::at(
                    format!("{path}.subjects.{format}"),
                    format!("`{format}` is not a format that a claim can stand for"),
                );
                problems.errors.push(problem.help("known: email, phone_number, account, did, uri"));
            }
        }
    }
    claims
}

/// Gives each rule the `state_age` that `signals.stale` asks for, and warns where a stale state lets requests pass.
pub fn stale(signals: &SignalsConfig, config: &Config, rules: &mut [Rule], problems: &mut Problems) {
    if signals.transmitters.len() > MAX_TRANSMITTERS {
        problems.error("signals.transmitters", format!("may be {MAX_TRANSMITTERS} at most"));
    }
    let Some(stale) = &signals.stale else {
        for (at, rule) in config.rules.iter().enumerate() {
            if rule.stale.is_some() {
                let problem =
                    Problem::at(format!("rules[{at}].stale"), "depends on `signals.stale`, which is not there");
                problems.errors.push(problem.help("a rule alone may ask for `state_age`"));
            }
        }
        return;
    };
    if stale.after == Span(0) {
        problems.error("signals.stale.after", "must be longer than nothing");
    }
    if stale.then == StaleThen::Allow {
        let message = "lets requests pass by what was heard before, however long ago that was";
        problems.warnings.push(Problem::at("signals.stale.then", message));
    }
    for issuer in &config.issuers {
        let speaks = |transmitter: &&TransmitterConfig| match &transmitter.subjects {
            Some(subjects) => subjects.contains(&issuer.issuer),
            None => transmitter.issuer == issuer.issuer,
        };
        if !signals.transmitters.iter().filter(speaks).any(|transmitter| transmitter.heartbeat) {
            let message = format!(
                "no transmitter with a heartbeat speaks about `{}`: its grants are always stale",
                issuer.issuer
            );
            problems.warnings.push(Problem::at("signals.stale", message));
        }
    }
    for (at, rule) in rules.iter_mut().enumerate() {
        let own = config.rules.get(at).and_then(|rule| rule.stale);
        let RuleEffect::Require(requirement) = &mut rule.effect else { continue };
        let age = requirement.checks.iter().find_map(|check| match check {
            Check::StateAge(age) => Some(*age),
            _ => None,
        });
        match (own.unwrap_or(stale.then), age) {
            (_, Some(age)) if age > stale.after => {
                let message =
                    format!("lets requests pass when the state is older than `signals.stale.after`, {}", stale.after);
                problems.warnings.push(Problem::at(format!("rules[{at}].require.state_age"), message));
            }
            (StaleThen::Deny, None) => requirement.checks.insert(0, Check::StateAge(stale.after)),
            (StaleThen::Allow, None) if own.is_some() => {
                let message = "lets requests pass when the state is stale";
                problems.warnings.push(Problem::at(format!("rules[{at}].stale"), message));
            }
            (StaleThen::Deny | StaleThen::Allow, _) => {}
        }
    }
}
