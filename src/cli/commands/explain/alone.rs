//! `taskfence explain --token` without a configuration: what the token is, and what a configuration must say about its
//! issuer.

use serde_json::{Map, Value, json};
use taskfence_core::time::Timestamp;

use super::Output;
use super::human::Page;
use crate::drafting::draft::Draft;
use crate::drafting::guess::Signs;
use crate::drafting::issuer::{self, Keys, KnownIssuer, Sample};
use crate::drafting::losses;
use crate::drafting::route::Route;
use crate::failure::Failure;
use crate::input::configuration;
use crate::offline::token_report::Fact;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::{printable, time_from};

/// What is found out about a token.
struct Report {
    sample: Sample,
    profile: Option<&'static str>,
    /// A configuration that accepts it, as far as there is one.
    draft: Draft,
    /// What is lost with that configuration.
    losses: Vec<String>,
}

/// Writes what `token` is. Nothing of it is verified.
pub fn explain(token: Vec<u8>, now: Timestamp, output: Output, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let report = Report::new(Sample::read(token)?);
    match output {
        Output::Human => write!(console.out, "{}", report.human(now))?,
        Output::Json => writeln!(console.out, "{}", serde_json::to_string_pretty(&report.object())?)?,
    }
    Ok(Exit::Done)
}

impl Report {
    fn new(sample: Sample) -> Report {
        let name = issuer::named_by(&sample.says).unwrap_or_default();
        let profile = Signs::new(&name, Some(&sample)).profile();
        let audiences = issuer::audiences(&sample.says.claims, profile);
        let known = KnownIssuer { name, profile, audiences, keys: Keys::Unknown };
        let mut draft = Draft { routes: vec![Route::everything()], ..Draft::default() };
        issuer::describe(&mut draft, &known, Some(&sample));
        let losses = configuration::parse(draft.to_yaml().as_bytes()).map(|configuration| {
            let warnings = configuration.loaded.warnings.into_iter();
            let warnings = warnings.filter(|problem| problem.path.starts_with("issuers[0]"));
            let warnings = warnings.map(|problem| format!("{}: {}", problem.path, problem.message));
            losses::losses(&configuration.loaded.policy).into_iter().chain(warnings).collect()
        });
        let losses = losses.unwrap_or_default();
        Report { sample, profile, draft, losses }
    }

    fn human(&self, now: Timestamp) -> String {
        let facts = self.sample.says.facts().into_iter().map(|(name, fact)| {
            let value = match fact {
                Fact::Text(text) => printable(&text),
                Fact::Time(at) => time_from(at, now),
            };
            format!("{name:<8}  {value}")
        });
        let profile = match self.profile {
            Some(profile) => format!("{profile}, by the name of its issuer or its claims"),
            None => "none is known that fits; the names of RFC 9068 are taken".to_owned(),
        };
        let mut page = Page::default();
        page.section(
            "token",
            std::iter::once("a JWT; its own statements, not verified:".to_owned()).chain(facts).collect(),
        );
        page.section("profile", vec![profile]);
        page.section("issuer", self.settings().map(|(key, value)| format!("{key}: {value}")).collect());
        page.section("notes", self.draft.notes.clone());
        page.section("lost", self.losses.clone());
        page.text
    }

    fn object(&self) -> Value {
        let facts = self.sample.says.facts().into_iter().map(|(name, fact)| {
            let value = match fact {
                Fact::Text(text) => text.into(),
                Fact::Time(at) => at.0.into(),
            };
            (name.to_owned(), value)
        });
        let settings: Map<String, Value> = self.settings().map(|(key, value)| (key.to_owned(), value.into())).collect();
        json!({
            "token": facts.collect::<Map<String, Value>>(), "profile": self.profile,
            "issuer": settings, "notes": self.draft.notes, "lost": self.losses,
        })
    }

    /// What a configuration must say of the issuer, but for its keys.
    fn settings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let settings = self.draft.settings.iter().filter(|setting| setting.key != "keys");
        settings.map(|setting| (setting.key, setting.value.as_str()))
    }
}
