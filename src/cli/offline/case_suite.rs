//! The cases of a file, ready to run: every name is resolved and every text is parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value};
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::digest::Digest;
use taskfence_core::encoding::nearest::nearest;
use taskfence_core::http::connection::parse_address;
use taskfence_core::policy::policy::Policy;
use taskfence_core::reason::Reason;
use taskfence_core::time::Timestamp;
use taskfence_core::token::dpop_nonce::Nonces;

use crate::input::file;
use crate::offline::case_file::{Case, Expected, File, JwtSource, Request, Time, Verdict};
use crate::offline::host::OfflineHost;
use crate::offline::request_input::{self, Header, TypedRequest, Url};
use crate::offline::unsigned;
use crate::signing::certificate;
use crate::signing::dpop_proof::Contents;
use crate::signing::key::SigningKey;
use crate::terminal::time::Moment;

/// Everything that a run needs.
#[derive(Debug)]
pub struct Suite {
    pub cases: Vec<PreparedCase>,
    /// Tokens and SETs that count as signed.
    pub made_up: Vec<String>,
}

/// A case, ready to run.
#[derive(Debug)]
pub struct PreparedCase {
    pub name: String,
    pub typed: TypedRequest,
    pub source: Option<IpAddr>,
    pub peer_certificate: Option<Digest>,
    pub peer_uri: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub heard_at: Option<Timestamp>,
    /// Names and SETs, in the order in which they come.
    pub signals: Vec<(String, Vec<u8>)>,
    pub now: Timestamp,
    pub expect: Expected,
}

impl Suite {
    /// Reads what `file` names, relative to `folder`. `now` is the time of the requests where the file gives none.
    ///
    /// Fails with everything that is wrong with it.
    pub fn new(file: File, folder: &Path, policy: &Policy, now: u64) -> Result<Self, Vec<Problem>> {
        let mut builder = Builder { folder, policy, made_up: Vec::new(), problems: Vec::new() };
        let now = builder.time(file.now, Timestamp(now), "now");
        let tokens = builder.named("tokens", &file.tokens, now, unsigned::token);
        let signals = builder.named("signals", &file.signals, now, unsigned::signal);
        let mut names = BTreeSet::new();
        let mut cases = Vec::new();
        for (at, case) in file.cases.into_iter().enumerate() {
            let place = format!("cases[{at}]");
            if !names.insert(case.name.clone()) {
                builder.problem(format!("{place}.name"), format!("`{}` is used twice", case.name));
            }
            cases.extend(builder.case(case, &place, &tokens, &signals, now));
        }
        if names.is_empty() {
            builder.problem("cases", "there must be at least one");
        }
        let Builder { made_up, problems, .. } = builder;
        if problems.is_empty() { Ok(Self { cases, made_up }) } else { Err(problems) }
    }
}

type Named = BTreeMap<String, Vec<u8>>;

type MakeUp = fn(&str, &Map<String, Value>, &Policy, Timestamp) -> Result<String, Problem>;

struct Builder<'s> {
    folder: &'s Path,
    policy: &'s Policy,
    made_up: Vec<String>,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::at(path, message));
    }

    fn time(&mut self, time: Option<Time>, otherwise: Timestamp, place: &str) -> Timestamp {
        let Some(Time(moment)) = time else { return otherwise };
        match Moment::resolve(moment, otherwise.0) {
            Ok(seconds) => Timestamp(seconds),
            Err(error) => {
                self.problem(place, error.to_string());
                otherwise
            }
        }
    }

    /// The tokens or the signals, whichever `what` says. An invalid one is kept as empty bytes, so that its name is known.
    fn named(&mut self, what: &str, all: &BTreeMap<String, JwtSource>, now: Timestamp, make_up: MakeUp) -> Named {
        let mut named = Named::new();
        for (name, made) in all {
            let bytes = match self.made(name, made, now, make_up) {
                Ok(bytes) => bytes,
                Err(problem) => {
                    let inner = if problem.path.is_empty() { String::new() } else { format!(".{}", problem.path) };
                    self.problems.push(Problem { path: format!("{what}.{name}{inner}"), ..problem });
                    Vec::new()
                }
            };
            named.insert(name.clone(), bytes);
        }
        named
    }

    fn made(&mut self, name: &str, made: &JwtSource, now: Timestamp, make_up: MakeUp) -> Result<Vec<u8>, Problem> {
        match (&made.claims, &made.file, &made.compact) {
            (Some(claims), None, None) => {
                let text = make_up(name, claims, self.policy, now)?;
                self.made_up.push(text.clone());
                Ok(text.into_bytes())
            }
            (None, Some(path), None) => {
                let bytes = file::read(&self.folder.join(path));
                bytes.map(|bytes| bytes.trim_ascii().to_vec()).map_err(|error| Problem::at("file", error.to_string()))
            }
            (None, None, Some(text)) => Ok(text.trim().as_bytes().to_vec()),
            _ => Err(Problem::at("", "must have exactly one of `claims`, `file` and `compact`")),
        }
    }

    fn case(
        &mut self,
        case: Case,
        place: &str,
        tokens: &Named,
        signals: &Named,
        now: Timestamp,
    ) -> Option<PreparedCase> {
        let now = self.time(case.now, now, &format!("{place}.now"));
        let token = case.token.as_ref().map(|name| self.find(name, tokens, &format!("{place}.token"), "tokens"));
        let mut came = Vec::new();
        for (at, name) in case.signals.iter().enumerate() {
            came.push((name.clone(), self.find(name, signals, &format!("{place}.signals[{at}]"), "signals")));
        }
        self.check_expected(&case.expect, &format!("{place}.expect"));
        let place = format!("{place}.request");
        let Request { source, state_age, .. } = &case.request;
        let source = source.as_ref().and_then(|text| {
            let source = parse_address(text.as_bytes());
            if source.is_none() {
                self.problem(format!("{place}.source"), format!("`{text}` is not an IP address"));
            }
            source
        });
        let heard_at = state_age.map(|age| Timestamp(now.0.saturating_sub(age.0.as_secs())));
        let peer_certificate = case.request.certificate.as_ref().and_then(|path| {
            let digest = certificate::digest(&self.folder.join(path));
            digest.map_err(|error| self.problem(format!("{place}.certificate"), error.to_string())).ok()
        });
        let mut typed = self.typed(&case.request, &place)?;
        if let Some(token) = token {
            if let Some(path) = &case.request.proof_key {
                match self.proof(&token, &typed, path, now) {
                    Ok(proof) => typed = typed.proof(proof.as_bytes()),
                    Err(error) => self.problem(format!("{place}.proof_key"), error),
                }
            }
            typed = typed.present(&token, self.policy);
        } else if case.request.proof_key.is_some() {
            self.problem(format!("{place}.proof_key"), "goes with a `token`, and the case has none");
        }
        let Case { name, request, expect, .. } = case;
        let Request { metadata, peer: peer_uri, .. } = request;
        Some(PreparedCase {
            name,
            typed,
            source,
            peer_certificate,
            peer_uri,
            metadata,
            heard_at,
            signals: came,
            now,
            expect,
        })
    }

    /// A DPoP proof that is valid for the request; whether `key` is the key of the token is not checked.
    fn proof(&self, token: &[u8], typed: &TypedRequest, key: &Path, now: Timestamp) -> Result<String, String> {
        let key = SigningKey::read(&self.folder.join(key)).map_err(|error| error.to_string())?;
        let text = |name: &[u8]| String::from_utf8_lossy(typed.header(name).unwrap_or_default()).into_owned();
        let settings = request_input::issuer(token, self.policy).map(|issuer| &issuer.presentation.dpop);
        let origin = settings.and_then(|settings| settings.origins.first().cloned());
        let origin = origin.unwrap_or_else(|| format!("{}://{}", text(b":scheme"), text(b":authority")));
        let lifetime = settings.and_then(|settings| settings.nonce);
        let nonce = match lifetime {
            Some(lifetime) => {
                let mut host = OfflineHost::new().map_err(|error| error.to_string())?;
                let nonces = Nonces::read(&mut host.ports.store).map_err(|error| error.to_string())?;
                Some(nonces.current(lifetime, now))
            }
            None => None,
        };
        let contents = Contents {
            id: "proof",
            method: &text(b":method"),
            url: &format!("{origin}{}", text(b":path")),
            token,
            nonce: nonce.as_deref(),
            issued_at: now.0,
        };
        contents.sign(&key).map_err(|error| error.to_string())
    }

    fn find(&mut self, name: &str, named: &Named, place: &str, what: &str) -> Vec<u8> {
        named.get(name).cloned().unwrap_or_else(|| {
            let problem = Problem::at(place, format!("`{name}` is not one of `{what}`"));
            self.problems.push(suggest(problem, name, named.keys().map(String::as_str)));
            Vec::new()
        })
    }

    fn check_expected(&mut self, expect: &Expected, place: &str) {
        let Expected { verdict, reason, rule, status, grpc_status } = expect;
        if let Some(reason) = reason.as_ref().filter(|reason| Reason::ALL.iter().all(|known| known.code() != **reason))
        {
            let problem = Problem::at(format!("{place}.reason"), format!("`{reason}` is not a reason"));
            self.problems.push(suggest(problem, reason, Reason::ALL.iter().map(|reason| reason.code())));
        }
        let rules = self.policy.rules();
        if let Some(rule) = rule.as_ref().filter(|rule| rules.iter().all(|known| known.name() != **rule)) {
            let problem = Problem::at(
                format!("{place}.rule"),
                format!("`{rule}` is not the name of a rule of the configuration"),
            );
            self.problems.push(suggest(problem, rule, rules.iter().map(|rule| rule.name())));
        }
        for (name, given) in [("status", status.is_some()), ("grpc_status", grpc_status.is_some())] {
            if *verdict == Verdict::Allow && given {
                let problem = Problem::at(format!("{place}.{name}"), "an allowed request is answered by the service");
                self.problems.push(problem.help("leave it out"));
            }
        }
    }

    fn typed(&mut self, request: &Request, place: &str) -> Option<TypedRequest> {
        let mut headers = Vec::new();
        for (name, values) in &request.headers {
            for value in &values.0 {
                match Header::of(name.as_bytes(), value.as_bytes()) {
                    Ok(header) => headers.push(header),
                    Err(_) => self.problem(format!("{place}.headers.{name}"), "is not a header that can be sent"),
                }
            }
        }
        let method = request.method.as_deref().unwrap_or(if request.grpc { "POST" } else { "GET" });
        let url = Url::parse(request.url.as_bytes());
        match url.and_then(|url| TypedRequest::new(method.as_bytes(), &url, &headers, request.grpc)) {
            Ok(typed) => Some(typed),
            Err(error) => {
                self.problem(format!("{place}.url"), error.to_string());
                None
            }
        }
    }
}

fn suggest<'k>(problem: Problem, typed: &str, known: impl Iterator<Item = &'k str>) -> Problem {
    let known: Vec<&str> = known.collect();
    match nearest(typed, known.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => problem.help("there is none"),
        None => problem.help(format!("known: `{}`", known.join("`, `"))),
    }
}
