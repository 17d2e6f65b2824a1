//! The main job, step by step, in a real Envoy: what a token of one task may do, and how it ends.
//!
//! Keys, tokens and the signal are made by the `taskfence` command, as a reader of the screen would make them.

mod hub;
mod replicas;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use taskfence_tests::{
    Error, Result, artefacts,
    bootstrap::{APP, Settings},
    client::{self, Answer, Http, Request},
    grpc, orders, refusal, services,
    sidecar::Sidecar,
    socket,
    streaming::Connection,
    tamper,
};

const HELP: &str = "\
Shows what Taskfence does, in a real Envoy with two workers, and checks every answer.

Usage: demo [--keep] [--postgres]

  --keep      leave it all running afterwards and print lines to try, until Ctrl-C
  --postgres  a hub of two processes over one PostgreSQL, which the demo starts

Exits with 0 when every step came out as expected, otherwise with 1.";

/// The task that the demo is about, and the one that comes after it.
const TASK: &str = "task-42";
const NEXT_TASK: &str = "task-43";
/// The task that streams are running for.
const LIVE_TASK: &str = "task-44";
/// The task whose grant becomes less.
const NARROWED_TASK: &str = "task-45";
/// The device that goes bad.
const DEVICE: &str = "laptop-7";
/// Longer than this after its end was signalled no stream may go on.
const SOON: Duration = Duration::from_millis(500);
/// How many new connections ask each worker.
const FRESH: usize = 40;
/// How many of them are open at the same time, so that the workers share them.
const AT_A_TIME: usize = 8;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (keep, postgres) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (false, false),
        ["--keep"] => (true, false),
        ["--postgres"] => (false, true),
        ["--keep", "--postgres"] | ["--postgres", "--keep"] => (true, true),
        ["--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("error: what is `{}`?\n\n{HELP}", arguments.join(" "));
            return ExitCode::from(64);
        }
    };
    match run(keep, postgres).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every step came out as expected.
async fn run(keep: bool, postgres: bool) -> Result<bool> {
    let mut demo = Demo::set_up().await?;
    if postgres {
        replicas::show(&mut demo).await?;
    } else {
        demo.all().await?;
    }
    let right = demo.steps.summary();
    if keep {
        demo.keep().await?;
    }
    // Its private keys are of no use to anybody any more.
    let _ = fs::remove_dir_all(&demo.folder);
    Ok(right)
}

struct Demo {
    folder: PathBuf,
    command: Taskfence,
    sidecar: Sidecar,
    token: String,
    steps: Steps,
}

impl Demo {
    async fn set_up() -> Result<Self> {
        let command = Taskfence(artefacts::command()?);
        let folder = new_folder()?;
        println!("Keys: one for the issuer of tokens, one for the transmitter of signals.");
        for name in ["issuer", "transmitter"] {
            command.show(&["keys", "new", "--alg", "ES256", "--out", &text(&folder.join(name))])?;
        }
        println!("\nThe configuration, checked by the code that the filter runs.");
        let config = with_streams(orders::config_with(
            read_json(&folder.join("issuer.jwks.json"))?,
            read_json(&folder.join("transmitter.jwks.json"))?,
        ));
        let config_file = folder.join("taskfence.json");
        fs::write(&config_file, format!("{config:#}\n")).map_err(Error::doing(config_file.display()))?;
        command.show(&["check", &text(&config_file)])?;

        let settings = Settings::new("demo", config).balanced().patch(|bootstrap| {
            // So that a WebSocket is closed as soon as nothing more is written to it.
            bootstrap.pointer_mut(APP).expect("our own bootstrap")["delayed_close_timeout"] = json!("0.01s");
        });
        let sidecar = Sidecar::start(settings).await?;
        println!("\nEnvoy (process {}) with 2 workers and the filter, and a service behind it.", sidecar.envoy().pid());
        println!("  requests to  http://{}", sidecar.app());
        println!("  signals to   http://{}{}", sidecar.signals(), orders::SIGNALS_PATH);
        println!("  log          {}", sidecar.envoy().log_file().display());

        println!("\nA token for {TASK}: to read order {}, for five minutes.", orders::ORDER);
        let token = command.show(&mint(&folder, TASK, &[]))?;
        println!();
        Ok(Self { folder, command, sidecar, token, steps: Steps::default() })
    }

    async fn all(&mut self) -> Result<()> {
        self.inside_and_outside().await?;
        self.bad_credentials().await?;
        self.the_end_of_the_task().await?;
        self.a_device_goes_bad().await?;
        self.a_grant_is_narrowed().await?;
        self.what_is_running_ends().await?;
        self.through_a_hub().await
    }

    async fn inside_and_outside(&mut self) -> Result<()> {
        let read = self.request("GET", orders::ORDER_PATH);
        let token = Credential { name: "the token", token: Some(self.token.clone()) };
        self.step("Inside its task the token opens its order.", read, &token, "200").await?;
        let other = self.request("GET", "/v1/orders/1882");
        let refusal = self.step("Another order is outside the task.", other, &token, "403 detail_insufficient").await?;
        println!("      The whole answer, as an app team sees it:\n{}\n", indent(&refusal::describe(&refusal)));
        let write = self.request("POST", orders::ORDER_PATH);
        self.step("So is a write: no rule allows it.", write, &token, "403 rule_missing").await?;
        let refund = self.request("POST", "/v1/orders/1881/refund");
        self.step("And what a rule allows needs its scope.", refund, &token, "403 scope_insufficient").await?;
        Ok(())
    }

    async fn bad_credentials(&mut self) -> Result<()> {
        let read = self.request("GET", orders::ORDER_PATH);
        let nobody = Credential { name: "no token", token: None };
        self.step("Without a token the order is closed.", read.clone(), &nobody, "401 token_missing").await?;
        let health = self.request("GET", "/healthz");
        self.step("Health checks need none: a rule says so by name.", health, &nobody, "200").await?;

        let detail: Value = serde_json::from_str(&detail("1882")).map_err(Error::doing("our own JSON"))?;
        let tampered = tamper::change_claim(&self.token, "authorization_details", vec![detail]);
        let tampered = Credential { name: "the token, changed to say order 1882", token: Some(tampered) };
        let other = self.request("GET", "/v1/orders/1882");
        self.step("A tampered token opens nothing.", other, &tampered, "401 signature_invalid").await?;

        println!("A token for {TASK} that was good until 55 minutes ago.");
        let expired = self.command.show(&mint(&self.folder, TASK, &["--issued-at", "-1h", "--lifetime", "5m"]))?;
        println!();
        let expired = Credential { name: "the expired token", token: Some(expired) };
        self.step("Nor does an expired one.", read, &expired, "401 token_expired").await?;
        Ok(())
    }

    async fn the_end_of_the_task(&mut self) -> Result<()> {
        self.on_every_worker("The task goes on, and every worker lets it.", "200").await?;
        self.steps.begin("The task is done: its end is pushed as a signal, and taken.");
        let came = match self.command.show_indented("      ", &self.complete(TASK)) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        self.steps.end("accepted", &came);
        self.on_every_worker("From then on the same token is refused, on every worker.", "401 task_completed").await?;

        println!("A token of the next task.");
        let next = self.command.show(&mint(&self.folder, NEXT_TASK, &[]))?;
        println!();
        let next = Credential { name: "the next task's token", token: Some(next) };
        let read = self.request("GET", orders::ORDER_PATH);
        self.step("Nobody else is touched: the next task goes on.", read, &next, "200").await?;
        Ok(())
    }

    async fn a_device_goes_bad(&mut self) -> Result<()> {
        println!("A token that names the device it was given to.");
        let device = format!("device_id=\"{DEVICE}\"");
        let token = self.command.show(&mint(&self.folder, NEXT_TASK, &["--claim", &device]))?;
        println!();
        let token = Credential { name: "that token", token: Some(token) };
        let read = self.request("GET", orders::ORDER_PATH);
        self.step("Nobody said anything bad about the device.", read.clone(), &token, "200").await?;
        self.steps.begin("The device is no longer compliant: device management says so.");
        let signal = self.signal(&["device", "--device", DEVICE, "--status", "not-compliant"]);
        let came = match self.command.show_indented("      ", &signal) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        self.steps.end("accepted", &came);
        self.step("The very next request is refused.", read, &token, "403 device_not_compliant").await?;
        Ok(())
    }

    async fn a_grant_is_narrowed(&mut self) -> Result<()> {
        println!("A token for {NARROWED_TASK}.");
        let token = self.command.show(&mint(&self.folder, NARROWED_TASK, &[]))?;
        println!();
        let token = Credential { name: "that token", token: Some(token) };
        let read = self.request("GET", orders::ORDER_PATH);
        self.step("It opens its order.", read.clone(), &token, "200").await?;
        self.steps.begin("Reading is done with: the grant is narrowed to refunds.");
        let signal = self.signal(&["narrow", "--task", NARROWED_TASK, "--scope", "orders.refund"]);
        let came = match self.command.show_indented("      ", &signal) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        self.steps.end("accepted", &came);
        self.step("The same token reads nothing any more.", read, &token, "403 scope_insufficient").await?;
        Ok(())
    }

    async fn what_is_running_ends(&mut self) -> Result<()> {
        println!("A token for {LIVE_TASK}, and three streams that it opened.");
        let token = self.command.show(&mint(&self.folder, LIVE_TASK, &[]))?;
        let app = self.sidecar.app();
        let mut connection = Connection::open(app, Http::Two).await?;
        let mut events = connection.start(&self.request("GET", services::EVENTS).bearer(&token)).await?;
        events.read(100).await?;
        println!("  server-sent events (HTTP/2)  http://{app}{}", services::EVENTS);
        let mut client = grpc::Client::open(app, &token).await?;
        let mut watched = client.watch().await.map_err(Error::doing(grpc::WATCH))?;
        watched.message().await.map_err(Error::doing(grpc::WATCH))?;
        println!("  gRPC server stream           http://{app}{}", grpc::WATCH);
        let mut socket = socket::open(app, services::SOCKET, &token).await?;
        socket.next().await;
        println!("  WebSocket                    ws://{app}{}\n", services::SOCKET);

        self.steps.begin("That task ends, and so does all that runs for it.");
        let mut signal = self.complete(LIVE_TASK);
        signal.truncate(signal.len() - 2);
        signal.push("--print".to_owned());
        let set = self.command.show_indented("      ", &signal)?;
        let ends = tokio::spawn(async move {
            let watched = async {
                while let Ok(Some(_)) = watched.message().await {}
                Instant::now()
            };
            let socket = async {
                while let Some(Ok(_)) = socket.next().await {}
                Instant::now()
            };
            tokio::join!(events.end(client::ANSWER_WITHIN), watched, socket)
        });
        let to = self.sidecar.signals();
        let answer = client::send(to, Http::One, &Request::push(orders::SIGNALS_PATH, &set)).await?;
        let pushed = Instant::now();
        println!("      pushed to http://{to}{}: {}", orders::SIGNALS_PATH, answer.status);
        let (events, watched, socket) = ends.await.map_err(Error::doing("wait for the streams"))?;
        let mut late = Vec::new();
        for (name, ended) in [("server-sent events", events?.ended), ("gRPC", watched), ("WebSocket", socket)] {
            let after = ended.saturating_duration_since(pushed);
            println!("      ended     {name}, {:.1} ms after the 202", after.as_secs_f64() * 1000.0);
            late.extend((after > SOON).then_some(name));
        }
        let came = if late.is_empty() { "all ended".to_owned() } else { format!("late: {}", late.join(", ")) };
        self.steps.end("all ended", &came);
        Ok(())
    }

    async fn through_a_hub(&mut self) -> Result<()> {
        let config = read_json(&self.folder.join("taskfence.json"))?;
        let mut hub = hub::HubDemo::set_up(&self.folder, &self.command, &config).await?;
        hub.a_task_ends_everywhere(&mut self.steps).await?;
        hub.restarts(&config, &mut self.steps).await?;
        hub.a_mistake_is_undone(&mut self.steps).await?;
        hub.what_was_done(&mut self.steps).await
    }

    /// One request, once over HTTP/1 and once over HTTP/2; the answer over HTTP/1.
    async fn step(&mut self, title: &str, request: Request, credential: &Credential, expected: &str) -> Result<Answer> {
        self.steps.begin(title);
        let request = credential.on(request);
        println!("      request   {}  ({}; over HTTP/1 and HTTP/2)", request.line(), credential.name);
        let one = client::send(self.sidecar.app(), Http::One, &request).await?;
        let two = client::send(self.sidecar.app(), Http::Two, &request).await?;
        let mut came = vec![one.line(), two.line()];
        came.dedup();
        self.steps.end(expected, &came.join(" and "));
        Ok(one)
    }

    /// Many new connections, and from Envoy's own statistics which worker took how many.
    async fn on_every_worker(&mut self, title: &str, expected: &str) -> Result<()> {
        self.steps.begin(title);
        let request = self.request("GET", orders::ORDER_PATH).bearer(&self.token);
        let (request, app) = (&request, self.sidecar.app());
        let before = self.sidecar.connections_by_worker().await?;
        let answers: Vec<_> = stream::iter(0..FRESH)
            .map(|number| client::send(app, Http::BOTH[number % 2], request))
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await?;
        let after = self.sidecar.connections_by_worker().await?;
        let taken: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();

        println!("      request   {}  (the token; on {FRESH} new connections)", request.line());
        for (worker, count) in taken.iter().enumerate() {
            println!("      worker {worker}  took {count} of them (listener.app.worker_{worker}.downstream_cx_total)");
        }
        let mut lines: Vec<_> = answers.iter().map(Answer::line).collect();
        lines.sort_unstable();
        let mut came = String::new();
        for group in lines.chunk_by(|one, other| one == other) {
            println!("      answer    {} ({} times)", group[0], group.len());
            let separator = if came.is_empty() { "" } else { " and " };
            let _ = write!(came, "{separator}{}", group[0]);
        }
        if taken.contains(&0) {
            came.push_str(", but not from every worker");
        }
        self.steps.end(expected, &came);
        Ok(())
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, path).host(&self.sidecar.app().to_string())
    }

    fn complete(&self, task: &str) -> Vec<String> {
        self.signal(&["complete", "--task", task])
    }

    fn signal(&self, what: &[&str]) -> Vec<String> {
        let to = format!("http://{}{}", self.sidecar.signals(), orders::SIGNALS_PATH);
        let key = text(&self.folder.join("transmitter.private.jwk"));
        ["signal"]
            .iter()
            .chain(what)
            .chain(&["--key", &key, "--issuer", orders::TRANSMITTER])
            .chain(&["--audience", orders::SIGNALS_AUDIENCE, "--to", &to])
            .map(|argument| (*argument).to_owned())
            .collect()
    }

    /// Leaves it running until Ctrl-C.
    async fn keep(&self) -> Result<()> {
        let app = self.sidecar.app();
        let token = mint(&self.folder, NEXT_TASK, &["--lifetime", "15m"]);
        println!("\nIt keeps running. In another terminal, with a token that is good for 15 minutes:\n");
        println!("  TOKEN=$({})", self.command.line(&token));
        println!("  curl -i -H \"Authorization: Bearer $TOKEN\" http://{app}{}", orders::ORDER_PATH);
        println!("  curl -i -H \"Authorization: Bearer $TOKEN\" http://{app}/v1/orders/1882");
        println!("  curl -i http://{app}{}", orders::ORDER_PATH);
        println!("\nEnd its task, and ask for the order again:\n");
        println!("  {}", self.command.line(&self.complete(NEXT_TASK)));
        println!("  curl -i -H \"Authorization: Bearer $TOKEN\" http://{app}{}", orders::ORDER_PATH);
        println!("\nWhat Envoy counts: curl http://{}/stats\n", self.sidecar.envoy().admin());
        println!("Ctrl-C ends it.");
        tokio::signal::ctrl_c().await.map_err(Error::doing("wait for Ctrl-C"))
    }
}

/// The rules of the sample service, with orders for compliant devices only, and with streams.
fn with_streams(mut config: Value) -> Value {
    config["issuers"][0]["claims"] = json!({"device": "device_id"});
    config["rules"][0]["require"]["device"] = json!({"status": "compliant", "unknown": "allow"});
    if let Some(rules) = config["rules"].as_array_mut() {
        let require = json!({"scope": orders::SCOPE});
        rules.push(json!({"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": require}));
        rules.push(json!({"name": "live-grpc", "match": {"grpc": {"service": "live.Live"}}, "require": require}));
    }
    config
}

/// A token and how to call it on the screen.
struct Credential {
    name: &'static str,
    token: Option<String>,
}

impl Credential {
    fn on(&self, request: Request) -> Request {
        match &self.token {
            Some(token) => request.bearer(token),
            None => request,
        }
    }
}

/// The steps so far.
#[derive(Default)]
struct Steps {
    done: usize,
    as_expected: usize,
}

impl Steps {
    fn begin(&mut self, title: &str) {
        self.done += 1;
        println!("{:>3}.  {title}", self.done);
    }

    fn end(&mut self, expected: &str, came: &str) {
        let right = expected == came;
        self.as_expected += usize::from(right);
        println!("      expected  {expected}");
        println!("      came      {came}   {}\n", if right { "ok" } else { "DIFFERS" });
    }

    fn summary(&self) -> bool {
        println!("demo: {} of {} steps as expected", self.as_expected, self.done);
        self.as_expected == self.done
    }
}

/// The command line.
struct Taskfence(PathBuf);

impl Taskfence {
    /// Runs it before the reader's eyes; what it printed on standard output, without the line break at its end.
    fn show<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String> {
        self.show_indented("  ", arguments)
    }

    fn show_indented<S: AsRef<str>>(&self, indent: &str, arguments: &[S]) -> Result<String> {
        let line = self.line(arguments);
        println!("{indent}$ {line}");
        let run = Command::new(&self.0).args(arguments.iter().map(AsRef::as_ref)).output();
        let run = run.map_err(Error::doing(format!("run `{}`", self.0.display())))?;
        let said = String::from_utf8_lossy(&run.stdout).trim_end().to_owned();
        let complained = String::from_utf8_lossy(&run.stderr).trim_end().to_owned();
        for line in said.lines().chain(complained.lines()) {
            println!("{indent}{}", shorten(line));
        }
        if run.status.success() {
            return Ok(said);
        }
        Err(Error::new(format!("`{line}` ended with {}: {complained}", run.status)))
    }

    /// As a person would type it.
    fn line<S: AsRef<str>>(&self, arguments: &[S]) -> String {
        let program = quote(&text(&from_here(self.0.clone())));
        let words = arguments.iter().map(|argument| quote(argument.as_ref()));
        std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
    }
}

fn mint(folder: &Path, task: &str, more: &[&str]) -> Vec<String> {
    let key = text(&folder.join("issuer.private.jwk"));
    let detail = detail(orders::ORDER);
    ["token", "mint", "--key", &key, "--issuer", orders::ISSUER, "--audience", orders::AUDIENCE]
        .iter()
        .chain(&["--subject", orders::USER, "--client", "agent-a7", "--task", task, "--session", orders::SESSION])
        .chain(&["--scope", orders::SCOPE, "--detail", &detail])
        .chain(more)
        .map(|argument| (*argument).to_owned())
        .collect()
}

fn detail(order: &str) -> String {
    format!(r#"{{"type":"order","actions":["read"],"identifier":"{order}"}}"#)
}

/// A folder of its own for every run: one with `--keep` may still need its keys.
fn new_folder() -> Result<PathBuf> {
    let folder = artefacts::target().join("demo").join(std::process::id().to_string());
    // A process of long ago may have had the same id.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
    Ok(from_here(folder))
}

/// A path as short as it can be typed where the demo is run.
fn from_here(path: PathBuf) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).map(Path::to_owned).unwrap_or(path)
}

fn read_json(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).map_err(Error::doing(file.display()))?;
    serde_json::from_str(&text).map_err(Error::doing(file.display()))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A token is longer than a screen is wide.
fn shorten(line: &str) -> String {
    let is_token = line.len() > 120 && !line.contains(' ');
    match (is_token, line.get(..48), line.get(line.len().saturating_sub(16)..)) {
        (true, Some(begin), Some(end)) => format!("{begin}...{end}"),
        _ => line.to_owned(),
    }
}

fn indent(lines: &str) -> String {
    lines.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}

/// For a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
