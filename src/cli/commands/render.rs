//! `taskfence render`: makes the resources of all services, checks them as one set, and compares them with what is deployed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use taskfence_core::config::load;
use taskfence_core::config::problem::Problem;

use crate::commands::check;
use crate::commands::hub;
use crate::failure::Failure;
use crate::input::file::{self, Access, Existing};
use crate::input::problem::{self, BadFile, count};
use crate::rendering::base::{Base, Platform};
use crate::rendering::difference::{self, Difference, Place};
use crate::rendering::resource::{self, Resource};
use crate::rendering::service::Service;
use crate::rendering::{alike, block, deployed};
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// The first line of each file that is written.
const HEAD: &str = "# Made by `taskfence render`: change the base or the file of the service instead.\n";

/// The member of a configuration that holds the credential of a request.
const SECRET: &str = "authorization";

/// The members of a configuration that hold secrets.
const SECRETS: [&str; 2] = [SECRET, "mask_key"];

/// Make the resources of many services from a base and one small file each
///
/// Checks all of them as one set with the code that the filter runs: each configuration, that all read the tokens of an issuer
/// alike, that the hub covers them, and that the issuers grant what the rules ask for. Writes nothing when one of them is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence render --base mesh.yaml services/ --output rendered/
  taskfence render --base mesh.yaml services/ --hub hub.yaml | kubectl apply -f -
  kubectl get trafficextensions -A -o json | taskfence render --base mesh.yaml services/ --diff -

Exits with 0, with 1 when --diff finds a difference, and with 3 when a file is wrong.")]
pub struct Render {
    /// What all services share: platform, module, configuration, rules around their own, and what the issuers grant
    #[arg(long, value_name = "FILE")]
    base: PathBuf,

    /// The files of the services, in YAML or JSON, and folders of them
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<PathBuf>,

    /// The configuration of the hub that the filters follow: whether it covers what each of them needs
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,

    /// The folder to write to, as NAMESPACE/SERVICE.yaml. Without it, all goes to standard output
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Remove files below the folder that were rendered before, and whose services are gone
    #[arg(long, requires = "output")]
    prune: bool,

    /// Show what would change instead: a file, or a folder, of what is deployed; `-` reads standard input
    #[arg(long, value_name = "PATH", conflicts_with = "output")]
    diff: Option<PathBuf>,
}

/// A service that was read, with the configuration of its filter.
struct Made {
    file: PathBuf,
    name: String,
    configuration: Value,
    resource: Resource,
}

impl Render {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let text = file::read(&self.base)?;
        let base = Base::read(&text).map_err(|problems| BadFile::new(&self.base, problems))?;
        let mut wrong: BTreeMap<PathBuf, Vec<Problem>> = BTreeMap::new();
        let mut warnings: BTreeMap<PathBuf, Vec<Problem>> = BTreeMap::new();
        let mut made = Vec::new();
        for path in self.files()? {
            match self.make(&base, &path, &mut warnings)? {
                Ok(one) => made.push(one),
                Err(problems) => drop(wrong.insert(path, problems)),
            }
        }
        check_names(&made, &mut wrong);
        check_issuers(&made, &mut wrong);
        print_warnings(&warnings, console)?;
        if !wrong.is_empty() {
            for (path, problems) in &wrong {
                print_of(path, "error", problems, console)?;
            }
            let all = made
                .len()
                .saturating_add(wrong.keys().filter(|path| !made.iter().any(|one| one.file == **path)).count());
            writeln!(console.err, "{} of {} have errors; nothing was written", wrong.len(), count(all, "service"))?;
            return Ok(Exit::BadConfig);
        }
        made.sort_by(|left, right| left.resource.file.cmp(&right.resource.file));
        match (&self.diff, &self.output) {
            (Some(path), _) => self.show_difference(path, &made, console),
            (None, Some(folder)) => self.write(folder, base.platform, &made, console),
            (None, None) => {
                for one in &made {
                    let begin = if base.platform == Platform::Plain { "" } else { "---\n" };
                    write!(console.out, "{begin}{}", text_of(base.platform, &one.resource)?)?;
                }
                Ok(Exit::Done)
            }
        }
    }

    /// The files of the services, in a stable order.
    fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut files = BTreeSet::new();
        for path in &self.services {
            if path.is_dir() {
                let below = deployed::files(path).map_err(|source| file::Error::Read { path: path.clone(), source })?;
                if below.is_empty() {
                    return Err(Failure::Usage(format!(
                        "{}: has no file of a service (.yaml, .yml, .json)",
                        path.display()
                    )));
                }
                files.extend(below);
            } else {
                files.insert(path.clone());
            }
        }
        Ok(files.into_iter().collect())
    }

    /// The resource of the service in the file `path`.
    fn make(
        &self,
        base: &Base,
        path: &Path,
        warnings: &mut BTreeMap<PathBuf, Vec<Problem>>,
    ) -> Result<Result<Made, Vec<Problem>>, Failure> {
        let text = file::read(path)?;
        let service = match Service::read(&text) {
            Ok(service) => service,
            Err(problems) => return Ok(Err(problems)),
        };
        let configuration = match service.configuration(base) {
            Ok(configuration) => configuration,
            Err(problems) => return Ok(Err(problems)),
        };
        let value = Value::Object(configuration.clone());
        let loaded = match load::load(value.to_string().as_bytes()) {
            Ok(loaded) => loaded,
            Err(errors) => return Ok(Err(errors.0)),
        };
        let mut problems = Vec::new();
        if let Some(hub) = &self.hub {
            problems.extend(hub::compare_with(hub, &loaded.policy)?);
        }
        if let (Some(catalogue), Some(rules)) = (&base.grants, value.get("rules").and_then(Value::as_array)) {
            problems.extend(catalogue.misses(rules));
        }
        if !problems.is_empty() {
            return Ok(Err(problems));
        }
        let mut told = loaded.warnings;
        if check::holds_secret(&loaded.policy) {
            let help = "use the client certificate of the cluster, or keep what is rendered as the secret that it is";
            told.push(
                Problem::at("signals", format!("has a value of `{SECRET}`, which stands in the resource")).help(help),
            );
        }
        if !told.is_empty() {
            warnings.insert(path.to_owned(), told);
        }
        let made = resource::make(base, &service, configuration).map(|resource| Made {
            file: path.to_owned(),
            name: service.full_name(),
            configuration: value,
            resource,
        });
        Ok(made)
    }

    fn write(
        &self,
        folder: &Path,
        platform: Platform,
        made: &[Made],
        console: &mut Console<'_>,
    ) -> Result<Exit, Failure> {
        let (mut written, mut kept) = (0usize, BTreeSet::new());
        for one in made {
            let path = folder.join(&one.resource.file);
            let text = text_of(platform, &one.resource)?;
            kept.insert(path.clone());
            if fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
                continue;
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|source| file::Error::Write { path: path.clone(), source })?;
            }
            file::write(&path, &text, Access::Everyone, Existing::Replace)?;
            written = written.saturating_add(1);
        }
        let old = deployed::files(folder).map_err(|source| file::Error::Read { path: folder.to_owned(), source })?;
        let mut gone = 0usize;
        for path in old.into_iter().filter(|path| !kept.contains(path)) {
            if !fs::read(&path).is_ok_and(|text| text.starts_with(HEAD.as_bytes())) {
                continue;
            }
            gone = gone.saturating_add(1);
            if self.prune {
                fs::remove_file(&path).map_err(|source| file::Error::Write { path, source })?;
            }
        }
        let folder = folder.display();
        write!(console.out, "{folder}: {}, {written} written", count(made.len(), "service"))?;
        match (gone, self.prune) {
            (0, _) => writeln!(console.out)?,
            (gone, true) => writeln!(console.out, ", {gone} removed")?,
            (gone, false) => {
                writeln!(console.out, "; {gone} of services that are gone stay there: --prune removes them")?
            }
        }
        Ok(Exit::Done)
    }

    fn show_difference(&self, path: &Path, made: &[Made], console: &mut Console<'_>) -> Result<Exit, Failure> {
        let files = match path.is_dir() {
            true => deployed::files(path).map_err(|source| file::Error::Read { path: path.to_owned(), source })?,
            false => vec![path.to_owned()],
        };
        let mut there = Vec::new();
        for path in files {
            let text = file::read_or_input(&path, console.input)?;
            there.extend(deployed::read(&text).map_err(|problem| BadFile::new(&path, vec![problem]))?);
        }
        let rendered: Vec<Value> = made.iter().map(|one| one.resource.value.clone()).collect();
        let found = difference::differences(&rendered, &there);
        for one in &found {
            match one {
                Difference::Added(id) => writeln!(console.out, "+ {}", name_of(id))?,
                Difference::Removed(id) => writeln!(console.out, "- {}", name_of(id))?,
                Difference::Changed(id, places) => {
                    writeln!(console.out, "~ {}", name_of(id))?;
                    for Place { path, deployed, rendered } in places {
                        writeln!(
                            console.out,
                            "    {path}: {} -> {}",
                            shown(path, deployed.as_ref()),
                            shown(path, rendered.as_ref())
                        )?;
                    }
                }
            }
        }
        let (same, changed) = (made.len(), found.len());
        writeln!(console.err, "{}, {}", count(same, "service"), count(changed, "difference"))?;
        Ok(if found.is_empty() { Exit::Done } else { Exit::Failed })
    }
}

/// Two services of one name would overwrite each other.
fn check_names(made: &[Made], wrong: &mut BTreeMap<PathBuf, Vec<Problem>>) {
    let mut first: BTreeMap<&str, &Path> = BTreeMap::new();
    for one in made {
        if let Some(other) = first.insert(&one.name, &one.file) {
            let message = format!("`{}` is the service of {} too", one.name, other.display());
            let problem = Problem::at("service", message).help("give each its own name, or put the rules together");
            wrong.entry(one.file.clone()).or_default().push(problem);
        }
    }
}

fn check_issuers(made: &[Made], wrong: &mut BTreeMap<PathBuf, Vec<Problem>>) {
    let files: Vec<_> = made.iter().map(|one| one.file.display().to_string()).collect();
    let services: Vec<_> = files.iter().zip(made).map(|(file, one)| (file.as_str(), &one.configuration)).collect();
    for (file, problem) in alike::differences(&services) {
        wrong.entry(PathBuf::from(file)).or_default().push(problem);
    }
}

fn print_of(path: &Path, word: &str, problems: &[Problem], console: &mut Console<'_>) -> Result<(), Failure> {
    let placed = |problem: &Problem| {
        let place = if problem.path.is_empty() { String::new() } else { format!(": {}", problem.path) };
        Problem { path: format!("{}{place}", path.display()), ..problem.clone() }
    };
    let placed: Vec<_> = problems.iter().map(placed).collect();
    Ok(problem::print(word, &placed, console.err)?)
}

/// Prints each warning once, with the services that have it: most are about what all of them share.
fn print_warnings(warnings: &BTreeMap<PathBuf, Vec<Problem>>, console: &mut Console<'_>) -> Result<(), Failure> {
    let mut by_warning: Vec<(&Problem, Vec<&Path>)> = Vec::new();
    for (path, problem) in
        warnings.iter().flat_map(|(path, problems)| problems.iter().map(move |problem| (path, problem)))
    {
        match by_warning.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, paths)) => paths.push(path),
            None => by_warning.push((problem, vec![path])),
        }
    }
    for (warning, paths) in by_warning {
        let Some((first, others)) = paths.split_first() else { continue };
        match others.len() {
            0 => print_of(first, "warning", std::slice::from_ref(warning), console)?,
            more => {
                let message = format!("{} (and {})", warning.message, count(more, "other service"));
                print_of(first, "warning", &[Problem { message, ..warning.clone() }], console)?;
            }
        }
    }
    Ok(())
}

fn text_of(platform: Platform, resource: &Resource) -> Result<String, Failure> {
    match platform {
        Platform::Plain => Ok(format!("{}\n", serde_json::to_string_pretty(&resource.value)?)),
        _ => Ok(format!("{HEAD}{}", block::document(&resource.value))),
    }
}

fn name_of((kind, namespace, name): &deployed::Id) -> String {
    format!("{kind} {namespace}/{name}")
}

/// The value of a place, for people: a secret in it is not shown.
fn shown(path: &str, value: Option<&Value>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(_) if path.rsplit_once('.').is_some_and(|(_, name)| SECRETS.contains(&name)) => "a secret".to_owned(),
        Some(value) => {
            let mut value = value.clone();
            mask(&mut value);
            value.to_string()
        }
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match SECRETS.contains(&name.as_str()) {
                    true => *member = "a secret".into(),
                    false => mask(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
