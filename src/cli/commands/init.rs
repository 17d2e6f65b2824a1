//! `taskfence init`: a first configuration, made from an issuer or a token of it and from the routes of a service.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{NonEmptyStringValueParser as NonEmpty, OsStringValueParser, TypedValueParser};
use reqwest::Url;
use serde_json::Value;
use taskfence_core::config::issuers::profile;
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::nearest::nearest;

use crate::drafting::ask;
use crate::drafting::draft::Draft;
use crate::drafting::guess::Signs;
use crate::drafting::issuer::{self, Keys, KnownIssuer, Sample};
use crate::drafting::losses;
use crate::drafting::metadata;
use crate::drafting::openapi;
use crate::drafting::route::{self, Route};
use crate::failure::Failure;
use crate::input::configuration::{self, Configuration};
use crate::input::document;
use crate::input::file::{self, Access, Existing};
use crate::input::problem::{self, BadFile, count};
use crate::input::secret::Secret;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::printable;

/// Write a first configuration, in shadow mode, with comments
///
/// Takes the issuer's URL or one of its tokens, and the routes of the service. What is missing is asked. The token is not
/// verified and not sent anywhere; it shows what the tokens of this issuer are like.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence init --token @token.jwt --openapi openapi.yaml --out taskfence.yaml
  taskfence init https://sso.example/realms/shop --audience https://orders.mesh \\
      --route 'GET /v1/orders/{order} orders.read' --route 'GET /healthz anonymous'
  taskfence init https://jit.example --audience https://orders.mesh --routes routes.txt \\
      --jwks jit.jwks.json --offline")]
pub struct Init {
    /// `iss` of the tokens, usually a URL [default: that of the token]
    #[arg(value_parser = NonEmpty::new())]
    issuer: Option<String>,

    /// A token of the issuer, or `@FILE` to read it from a file
    #[arg(long, value_parser = OsStringValueParser::new().map(Secret::from))]
    token: Option<Secret>,

    /// The profile of the issuer [default: guessed from its name and the token]
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    profile: Option<String>,

    /// `aud` that tokens for this service have; may be given more than once [default: that of the token]
    #[arg(long, value_parser = NonEmpty::new())]
    audience: Vec<String>,

    /// A route, like `GET /v1/orders/{order} orders.read`: methods, path or URL, and scope values or `anonymous`; may be given more than once
    #[arg(long, value_parser = OsStringValueParser::new().try_map(route), help_heading = "The service")]
    route: Vec<Route>,

    /// A file of such routes, one a line
    #[arg(long, value_name = "FILE", help_heading = "The service")]
    routes: Option<PathBuf>,

    /// An OpenAPI 3 or Swagger 2 document, in JSON or YAML
    #[arg(long, value_name = "FILE", help_heading = "The service")]
    openapi: Option<PathBuf>,

    /// A JWK Set of the issuer, which is then written into the configuration [default: keys are fetched by Envoy]
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,

    /// Do not look up what the issuer publishes about itself
    #[arg(long)]
    offline: bool,

    /// Where to write the configuration [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Replace that file if it exists
    #[arg(long, requires = "out")]
    force: bool,
}

impl Init {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        if let Some(out) = &self.out {
            file::check_free(out, existing)?;
        }
        let (name, sample) = self.issuer_and_token(console)?;
        let known = self.known(name, sample.as_ref(), console)?;
        let mut routes = self.service(console)?;
        route::arrange(&mut routes);
        let mut draft = Draft { routes, ..Draft::default() };
        issuer::describe(&mut draft, &known, sample.as_ref());
        note_losses(&mut draft)?;
        let (yaml, configuration) = checked(&mut draft)?;
        match &self.out {
            Some(out) => file::write(out, &yaml, Access::Everyone, existing)?,
            None => write!(console.out, "{yaml}")?,
        }
        problem::print("warning", &configuration.loaded.warnings, console.err)?;
        self.say_next(&draft, console)?;
        Ok(Exit::Done)
    }

    /// The name of the issuer, and one of its tokens if there is one.
    fn issuer_and_token(&self, console: &mut Console<'_>) -> Result<(String, Option<Sample>), Failure> {
        let mut token = self.token.as_ref().map(Secret::read).transpose()?;
        let mut issuer = self.issuer.clone();
        if token.is_none() && issuer.is_none() {
            let question = "The issuer's URL, or a token of it (@FILE reads it from a file):";
            let answer = ask::needed(question, "an issuer, or --token", console)?;
            match is_token(&answer) {
                true => token = Some(Secret::from(OsString::from(answer)).read()?),
                false => issuer = Some(answer),
            }
        }
        let sample = token.map(Sample::read).transpose()?;
        let named = issuer.or_else(|| issuer::named_by(&sample.as_ref()?.says));
        let issuer = match named {
            Some(issuer) => issuer,
            None => ask::needed("The token names no issuer. Which is it?", "an issuer", console)?,
        };
        Ok((issuer, sample))
    }

    fn known(&self, name: String, sample: Option<&Sample>, console: &mut Console<'_>) -> Result<KnownIssuer, Failure> {
        let profile = match &self.profile {
            Some(profile) => Some(known_profile(profile)?),
            None => Signs::new(&name, sample).profile(),
        };
        let mut audiences = self.audience.clone();
        if audiences.is_empty() {
            audiences = sample.map(|sample| issuer::audiences(&sample.says.claims, profile)).unwrap_or_default();
        }
        if audiences.is_empty() && issuer::audience_claim(profile).is_some() {
            let question = "The audience: `aud` that tokens for this service have:";
            audiences.push(ask::needed(question, "--audience", console)?);
        }
        let keys = self.keys(&name, console)?;
        Ok(KnownIssuer { name, profile, audiences, keys })
    }

    fn keys(&self, issuer: &str, console: &mut Console<'_>) -> Result<Keys, Failure> {
        if let Some(path) = &self.jwks {
            let text = file::read(path)?;
            let set: Value = serde_json::from_slice(&text)
                .map_err(|error| BadFile::new(path, vec![Problem::at("", format!("is no JWK Set: {error}"))]))?;
            return Ok(Keys::Inline(set));
        }
        let url: Option<Url> = issuer.parse().ok();
        let Some(url) = url.filter(|url| url.scheme() == "https" && url.host_str().is_some()) else {
            return Ok(Keys::Unknown);
        };
        if self.offline {
            return Ok(Keys::Discover { issuer: url, found: None });
        }
        match metadata::fetch(&url) {
            Ok(found) => Ok(Keys::Discover { issuer: url, found: Some(Box::new(found)) }),
            Err(error @ metadata::Error::OtherIssuer { .. }) => Err(Failure::Failed(error.to_string())),
            Err(error) => {
                writeln!(console.err, "warning: {error}")?;
                Ok(Keys::Discover { issuer: url, found: None })
            }
        }
    }

    /// The routes, from wherever they are given.
    fn service(&self, console: &mut Console<'_>) -> Result<Vec<Route>, Failure> {
        let mut routes = self.route.clone();
        if let Some(path) = &self.routes {
            let text = file::read(path)?;
            let text = String::from_utf8_lossy(&text);
            routes.extend(Route::parse_file(&text).map_err(|problems| BadFile::new(path, problems))?);
        }
        if let Some(path) = &self.openapi {
            let bad = |problems| BadFile::new(path, problems);
            let json = document::to_json(&file::read(path)?, "the document").map_err(|problem| bad(vec![problem]))?;
            let value: Value = serde_json::from_slice(&json)
                .map_err(|error| bad(vec![Problem::at("", format!("the document is not JSON: {error}"))]))?;
            routes.extend(openapi::routes(&value).map_err(bad)?);
        }
        if routes.is_empty() {
            let question = format!("A route of the service, like `{}` (an empty line: all of it):", route::EXAMPLE);
            for line in ask::lines(&question, console)? {
                routes.push(Route::parse(&line).map_err(Failure::Usage)?);
            }
        }
        if routes.is_empty() {
            routes.push(Route::everything());
        }
        Ok(routes)
    }

    fn say_next(&self, draft: &Draft, console: &mut Console<'_>) -> Result<(), Failure> {
        let rules = count(draft.routes.len(), "rule");
        let Some(out) = &self.out else { return Ok(()) };
        let file = printable(&out.display().to_string());
        writeln!(console.err, "wrote {file}: 1 issuer, {rules}, in shadow mode")?;
        writeln!(console.err, "next: taskfence explain --config {file} --token @token.jwt --url URL")?;
        Ok(())
    }
}

fn is_token(answer: &str) -> bool {
    answer.starts_with('@') || answer.starts_with("eyJ")
}

fn route(text: OsString) -> Result<Route, String> {
    Route::parse(&text.into_string().map_err(|_| "it is not UTF-8".to_owned())?)
}

fn known_profile(name: &str) -> Result<&'static str, Failure> {
    profile::names().find(|known| *known == name).ok_or_else(|| {
        let help = match nearest(name, profile::names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", profile::names().collect::<Vec<_>>().join(", ")),
        };
        Failure::Usage(format!("`{name}` is no profile; {help}"))
    })
}

/// The text of `draft` and what it means. A path that no rule can express is made wider first, and says so.
fn checked(draft: &mut Draft) -> Result<(String, Configuration), BadFile> {
    loop {
        let yaml = draft.to_yaml();
        match configuration::parse(yaml.as_bytes()) {
            Ok(configuration) => return Ok((yaml, configuration)),
            Err(problems) if widen(draft, &problems) => {}
            Err(problems) => return Err(BadFile::new(Path::new("the draft"), problems)),
        }
    }
}

/// Writes what is lost as notes.
fn note_losses(draft: &mut Draft) -> Result<(), BadFile> {
    let (_, configuration) = checked(draft)?;
    draft.notes.extend(losses::losses(&configuration.loaded.policy));
    Ok(())
}

/// Makes the paths of rules wider that `problems` are about. Returns whether one has changed.
fn widen(draft: &mut Draft, problems: &[Problem]) -> bool {
    let about = |at: usize| problems.iter().any(|problem| problem.path == format!("rules[{at}].match.path"));
    let places: Vec<usize> = (0..draft.routes.len()).filter(|at| about(*at)).collect();
    let mut changed = false;
    for at in places {
        changed |= draft.routes.get_mut(at).is_some_and(Route::widen);
    }
    route::merge(&mut draft.routes);
    route::arrange(&mut draft.routes);
    changed
}
