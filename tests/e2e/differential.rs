//! A real Envoy and the data plane's own code outside of one say the same about the same configuration, token, request
//! and signals; so does `taskfence explain`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fastrand::Rng;
use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use taskfence_tests::{
    Result, artefacts,
    bootstrap::{Paths, Settings},
    client::Answer,
    in_process::{InProcess, Verdict},
    mint::{self, Alg, Jwt},
    orders,
    raw::{self, Http1, Http1Request},
    refusal::{assert_signal_accepted, describe},
    sidecar::Sidecar,
    tamper,
};

/// How many triples there are for each of the configurations, before any signal came and after.
const BEFORE: usize = 40;
const AFTER: usize = 180;
/// Every so many of them goes through the command line too.
const EXPLAIN_EVERY: usize = 10;
const SEED: u64 = 0x7A5C_FE4C;

/// One of the configurations, and the requests that its rules are about.
struct Setting {
    name: &'static str,
    config: Value,
    requests: Vec<(&'static str, &'static str, &'static str)>,
}

/// One request with all that it says.
struct Case {
    method: &'static str,
    host: String,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    /// For the person who has to find out.
    what: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_and_explain_and_the_judge_agree() {
    let settings = settings();
    let sidecar = start(&settings).await;
    let mut judges: Vec<_> = settings.iter().map(|setting| InProcess::new(&setting.config)).collect();
    let mut chance = Rng::with_seed(SEED);
    let mut generator =
        |count| -> Vec<Vec<Case>> { settings.iter().map(|setting| cases(setting, count, &mut chance)).collect() };

    let before = generator(BEFORE);
    let mut found = ask_both(&sidecar, &settings, &mut judges, &before, &[]).await;
    let signals: Vec<_> = signals().iter().map(Jwt::sign).collect();
    for set in &signals {
        let push = taskfence_tests::client::Request::push(orders::SIGNALS_PATH, set);
        let answer = taskfence_tests::client::send(sidecar.signals(), taskfence_tests::client::Http::One, &push).await;
        assert_signal_accepted(&answer.unwrap());
        for (judge, setting) in judges.iter_mut().zip(&settings) {
            assert_eq!(judge.push(set), 202, "in process, {}", setting.name);
        }
    }
    let after = generator(AFTER);
    found.merge(ask_both(&sidecar, &settings, &mut judges, &after, &signals).await);

    println!("{} triples, {} of them through the command line; seed {SEED:#x}", found.asked, found.explained);
    for (verdict, count) in &found.verdicts {
        println!("{count:6}  {verdict}");
    }
    let wrong = &found.wrong;
    assert!(wrong.is_empty(), "{} disagree:\n\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n\n"));
    assert_counted(&sidecar, &found).await;
    // A test in which all are refused for one reason would show little.
    let reasons = found.verdicts.keys().filter(|verdict| *verdict != ALLOWED).count();
    let allowed = found.verdicts.get(ALLOWED).copied().unwrap_or_default();
    assert!(found.asked >= 2_000 && found.explained >= 200, "{} asked, {} explained", found.asked, found.explained);
    assert!(reasons >= 12, "only {reasons} kinds of refusal");
    assert!(allowed * 5 >= found.asked, "only {allowed} of {} allowed", found.asked);
}

/// What was found about all triples.
#[derive(Default)]
struct Found {
    asked: usize,
    explained: usize,
    verdicts: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

const ALLOWED: &str = "allowed";

impl Found {
    fn merge(&mut self, other: Self) {
        self.asked += other.asked;
        self.explained += other.explained;
        self.wrong.extend(other.wrong);
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
    }
}

/// One listener for each configuration, in an Envoy that leaves paths alone.
async fn start(settings: &[Setting]) -> Sidecar {
    let envoy = Settings::new("differential", settings[0].config.clone()).paths(Paths::Raw);
    let envoy = settings.iter().fold(envoy, |envoy, setting| envoy.also(setting.name, setting.config.clone()));
    Sidecar::start(envoy).await.unwrap()
}

async fn ask_both(
    sidecar: &Sidecar,
    settings: &[Setting],
    judges: &mut [InProcess],
    cases: &[Vec<Case>],
    signals: &[String],
) -> Found {
    let answers = settings.iter().zip(cases).map(|(setting, cases)| ask_envoy(sidecar, setting.name, cases));
    let answers = join_all(answers).await;
    let mut found = Found::default();
    let mut to_explain = Vec::new();
    for (((setting, judge), cases), answers) in settings.iter().zip(judges).zip(cases).zip(answers) {
        for (case, answer) in cases.iter().zip(answers.unwrap()) {
            let verdict = case.judge(judge);
            found.asked += 1;
            *found.verdicts.entry(name(&verdict)).or_default() += 1;
            if let Some(difference) = difference(&verdict, &answer) {
                found.wrong.push(format!("{}: {}\n  {difference}", setting.name, case.what));
            }
            if found.asked % EXPLAIN_EVERY == 0 {
                to_explain.push((setting, case, verdict, answer));
            }
        }
    }
    let folder = artefacts::target().join("tests").join(mint::unique("differential"));
    let files = Files::write(&folder, settings, signals).unwrap();
    found.explained = to_explain.len();
    let explained =
        stream::iter(to_explain.into_iter().enumerate()).map(|(number, (setting, case, verdict, answer))| {
            let command = files.explain(number, setting, case);
            async move {
                let output = tokio::task::spawn_blocking(|| run(command)).await.unwrap();
                let how = difference_explained(&verdict, &answer, &output)?;
                Some(format!("explain, {}: {}\n  {how}", setting.name, case.what))
            }
        });
    found.wrong.extend(explained.buffer_unordered(2).filter_map(|found| async { found }).collect::<Vec<_>>().await);
    found
}

/// How a verdict is counted: shadowed refusals are not what enforced ones are.
fn name(verdict: &Verdict) -> String {
    match (verdict.reason, verdict.shadowed) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(reason)) => format!("shadowed {reason}"),
        (None, None) => ALLOWED.to_owned(),
    }
}

async fn ask_envoy(sidecar: &Sidecar, listener: &str, cases: &[Case]) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut connection = Http1::open(sidecar.listener(listener)).await?;
    for case in cases {
        let mut request = Http1Request::without_host(case.method, &case.path).header("host", &case.host);
        for (name, value) in &case.headers {
            request = request.header(name, value);
        }
        let answer = connection.send(&request).await?;
        if raw::closes(&answer) {
            connection = Http1::open(sidecar.listener(listener)).await?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// What Envoy did that the judge did not say.
fn difference(verdict: &Verdict, answer: &Answer) -> Option<String> {
    // Only what came from the upstream carries it.
    let passed = answer.header("x-envoy-upstream-service-time").is_some();
    let Some(expected) = &verdict.answer else {
        return (!passed).then(|| format!("the judge allows it, Envoy says\n{}", describe(answer)));
    };
    let grpc = answer.header("grpc-status");
    let header = |name: &str| expected.headers.iter().find(|(have, _)| *have == name).map(|(_, value)| value.clone());
    let challenge = answer.header("www-authenticate") == header("www-authenticate");
    let same = match &grpc {
        Some(status) => {
            *status == expected.grpc_status.to_string()
                && answer.header("grpc-message").as_ref() == Some(&expected.body)
        }
        None => answer.line() == verdict.line(),
    };
    (passed || !same || !challenge).then(|| format!("the judge says {expected:?}, Envoy says\n{}", describe(answer)))
}

/// What `taskfence explain` said that the judge did not, or Envoy.
fn difference_explained(verdict: &Verdict, answer: &Answer, explained: &Value) -> Option<String> {
    let expected = json!({
        "verdict": if verdict.answer.is_none() { "allowed" } else { "denied" },
        "reason": verdict.reason.or(verdict.shadowed),
        "shadow": verdict.shadowed.is_some(),
        "rule": verdict.rule,
    });
    let came = json!({
        "verdict": explained["verdict"],
        "reason": explained["reason"],
        "shadow": explained["shadow"],
        "rule": explained["rule"]["name"],
    });
    if came != expected {
        return Some(format!("the judge says {expected}, explain says {came}"));
    }
    // Of a request that passes under shadow it shows the answer that refusing would have given.
    verdict.answer.as_ref()?;
    let told = &explained["answer"];
    let headers: Vec<(String, String)> = serde_json::from_value(told["headers"].clone()).unwrap_or_default();
    let same_headers =
        headers.iter().all(|(name, value)| name == DECISION || answer.header(name).as_ref() == Some(value));
    let same =
        told.is_null() || told["status"] == answer.status && same_headers && told_body(told) == body(&answer.text());
    (!same).then(|| format!("explain says {told:#}, Envoy says\n{}", describe(answer)))
}

const DECISION: &str = "x-taskfence-decision";

fn told_body(told: &Value) -> Value {
    body(told["body"].as_str().unwrap_or_default())
}

/// Without what is new in every answer.
fn body(text: &str) -> Value {
    let mut body: Value = serde_json::from_str(text).unwrap_or(json!(text));
    if let Some(members) = body.as_object_mut() {
        members.remove("instance");
    }
    body
}

/// Counted by Envoy, over all listeners, is what was found: for shadowed refusals the only trace.
async fn assert_counted(sidecar: &Sidecar, found: &Found) {
    let stats = sidecar.envoy().stats().await.unwrap();
    for (verdict, count) in &found.verdicts {
        let counter = match verdict.split_once(' ') {
            Some((_, reason)) => format!("shadow_denied.{reason}"),
            None if verdict == ALLOWED => "allowed".to_owned(),
            None => format!("denied.{verdict}"),
        };
        let counted = stats.value(&format!("wasmcustom.taskfence.{counter}")).unwrap();
        assert_eq!(counted, *count as u64, "{counter} (left: Envoy's, right: the judge's)");
    }
}

impl Case {
    fn judge(&self, judge: &mut InProcess) -> Verdict {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        judge.judge(self.method, self.host.as_bytes(), self.path.as_bytes(), &headers)
    }
}

/// What the command line reads.
struct Files {
    folder: PathBuf,
    signals: Vec<PathBuf>,
}

impl Files {
    fn write(folder: &Path, settings: &[Setting], signals: &[String]) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        for setting in settings {
            fs::write(folder.join(setting.name), setting.config.to_string())?;
        }
        let mut files = Self { folder: folder.to_owned(), signals: Vec::new() };
        for (number, set) in signals.iter().enumerate() {
            files.signals.push(folder.join(format!("signal-{number}")));
            fs::write(&files.signals[number], set)?;
        }
        Ok(files)
    }

    /// The command line for a case. One bearer token is given as one, everything else about credentials as a header.
    fn explain(&self, number: usize, setting: &Setting, case: &Case) -> Command {
        let mut command = Command::new(artefacts::command().unwrap());
        command
            .args(["explain", "--output", "json", "--source", "127.0.0.1", "--config"])
            .arg(self.folder.join(setting.name));
        command.args(["--method", case.method, "--url", &case.path, "--header"]).arg(format!("host: {}", case.host));
        for (name, value) in &case.headers {
            let value = String::from_utf8(value.clone()).expect("text");
            match value.strip_prefix("Bearer ").filter(|token| *name == "authorization" && !token.contains([',', ' ']))
            {
                Some(token) if !token.is_empty() => {
                    let file = self.folder.join(format!("token-{number}"));
                    fs::write(&file, token).unwrap();
                    command.arg("--token").arg(format!("@{}", file.display()));
                }
                _ => drop(command.arg("--header").arg(format!("{name}: {value}"))),
            }
        }
        for signal in &self.signals {
            command.arg("--signal").arg(signal);
        }
        command
    }
}

fn run(mut command: Command) -> Value {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{command:?}: {error}\n{}", String::from_utf8_lossy(&output.stderr));
    })
}

fn settings() -> Vec<Setting> {
    let rule = |name: &str, matches: Value, require: Value| json!({"name": name, "match": matches, "require": require});
    let get = |path: &str| json!({"methods": ["GET"], "path": path});
    let order = json!({"type": "order", "action": "read", "identifier": "{order}"});
    let with = |change: &dyn Fn(&mut Value), mut config: Value| {
        change(&mut config);
        config
    };
    let glass = |mut rule: Value, lifts: Value| {
        rule["break_glass"] = json!({"scope": "emergency", "lifts": lifts});
        rule
    };
    let host = orders::HOST;
    vec![
        Setting {
            name: "orders",
            config: orders::config(),
            requests: vec![
                ("GET", host, "/v1/orders/1881"),
                ("GET", host, "/v1/orders/1882"),
                ("POST", host, "/v1/orders/1881/refund"),
                ("GET", "reports.mesh", "/v1/report"),
                ("GET", host, "/internal/x"),
                ("GET", host, "/healthz"),
            ],
        },
        Setting {
            name: "scopes",
            config: orders::config_of(json!([
                rule("one", get("/s/one"), json!({"scope": "a"})),
                rule("all", get("/s/all"), json!({"scope": "a b"})),
                rule("any", get("/s/any"), json!({"scope": {"any": ["b", "c"]}})),
                rule("both", get("/s/both"), json!({"scope": {"all": ["a"], "any": ["b", "z"]}})),
                rule("none", get("/s/{any}"), json!({})),
            ])),
            requests: vec![
                ("GET", host, "/s/one"),
                ("GET", host, "/s/all"),
                ("GET", host, "/s/any"),
                ("GET", host, "/s/both"),
                ("GET", host, "/s/else"),
                ("PUT", host, "/s/one"),
            ],
        },
        Setting {
            name: "details",
            config: orders::config_of(json!([
                rule("read", get("/d/{order}"), json!({"detail": order})),
                rule(
                    "place",
                    json!({"path": "/d/{order}/place"}),
                    json!({"detail": {"type": "order", "action": "*", "identifier": "{order}", "location": "https://orders.mesh"}})
                ),
                rule(
                    "file",
                    json!({"path": "/f/{kind}/{name...}"}),
                    json!({"detail": {"type": "file", "action": "{kind}", "identifier": "file:{name}"}})
                ),
                rule(
                    "any",
                    json!({"path": "/any/{order}"}),
                    json!({"detail": {"type": "order", "action": "read", "identifier": "*"}})
                ),
            ])),
            requests: vec![
                ("GET", host, "/d/1881"),
                ("GET", host, "/d/1882"),
                ("POST", host, "/d/7/place"),
                ("GET", host, "/f/read/a/b"),
                ("GET", host, "/f/read/a%20b"),
                ("GET", host, "/any/1"),
            ],
        },
        Setting {
            name: "claims",
            config: orders::config_of(json!([
                rule("tenant", json!({"path": "/c/tenant"}), json!({"claims": {"tenant": "acme"}})),
                rule("actor", json!({"path": "/c/actor"}), json!({"actor": {"agents": ["agent-a7"]}})),
                rule("alone", json!({"path": "/c/alone"}), json!({"actor": {"delegation": "none"}})),
                rule(
                    "when",
                    json!({"path": "/c/when/{level}"}),
                    json!({
                        "when": "claims.tenant == 'acme' && captures.level in ['1', '2'] && request.method != 'DELETE'"
                    })
                ),
                rule(
                    "groups",
                    json!({"path": "/c/groups"}),
                    json!({"when": "claims.groups.exists(g, g.startsWith('gold'))"})
                ),
                rule("scope", json!({"path": "/c/scope"}), json!({"when": "claims.scope.contains('orders.refund')"})),
                rule(
                    "first",
                    json!({"path": "/c/first"}),
                    json!({"when": "'read' in claims.authorization_details[0].actions"})
                ),
                rule(
                    "line",
                    json!({"path": "/c/line"}),
                    json!({"when": "request.host == 'orders.mesh' && request.method == 'GET'"})
                ),
                rule(
                    "heavy",
                    json!({"path": "/c/heavy"}),
                    json!({"when": format!("claims.groups{}.size() > 0", ".map(g, [g, g])".repeat(18))})
                ),
            ])),
            requests: vec![
                ("GET", host, "/c/scope"),
                ("GET", host, "/c/first"),
                ("GET", host, "/c/line"),
                ("GET", "Orders.MESH:80", "/c/line"),
                ("GET", "other.mesh", "/c/line"),
                ("GET", host, "/c/heavy"),
                ("GET", host, "/c/tenant"),
                ("GET", host, "/c/actor"),
                ("GET", host, "/c/alone"),
                ("POST", host, "/c/when/1"),
                ("DELETE", host, "/c/when/2"),
                ("GET", host, "/c/when/3"),
                ("GET", host, "/c/groups"),
            ],
        },
        Setting {
            name: "assurance",
            config: orders::config_of(json!([
                rule("acr", json!({"path": "/a/acr"}), json!({"acr": ["phr", "phrh"]})),
                rule("age", json!({"path": "/a/age"}), json!({"auth_age": "5m"})),
                rule("both", json!({"path": "/a/both"}), json!({"scope": "a", "acr": ["phr"], "auth_age": "5m"})),
            ])),
            requests: vec![("GET", host, "/a/acr"), ("GET", host, "/a/age"), ("POST", host, "/a/both")],
        },
        Setting {
            name: "context",
            config: orders::config_of(json!([
                rule("device", json!({"path": "/x/device"}), json!({"device": "compliant"})),
                rule("lenient", get("/x/lenient"), json!({"device": {"status": "compliant", "unknown": "allow"}})),
                rule("risk", json!({"path": "/x/risk"}), json!({"risk": {"below": "HIGH"}})),
                rule("risk-lenient", get("/x/calm"), json!({"risk": {"below": "MEDIUM", "unknown": "allow"}})),
                rule("fresh", json!({"path": "/x/fresh"}), json!({"state_age": "1h"})),
                rule(
                    "when",
                    json!({"path": "/x/when"}),
                    json!({"when": "context.risk != 'HIGH' && context.device != 'unknown'"})
                ),
                rule("here", json!({"path": "/x/here"}), json!({"source": ["127.0.0.0/8"]})),
                rule("elsewhere", json!({"path": "/x/elsewhere"}), json!({"source": ["10.0.0.0/8"]})),
            ])),
            requests: vec![
                ("GET", host, "/x/device"),
                ("GET", host, "/x/lenient"),
                ("GET", host, "/x/risk"),
                ("GET", host, "/x/calm"),
                ("GET", host, "/x/fresh"),
                ("GET", host, "/x/when"),
                ("GET", host, "/x/here"),
                ("GET", host, "/x/elsewhere"),
            ],
        },
        Setting {
            name: "order-of-rules",
            config: orders::config_of(json!([
                {"name": "no-delete", "match": {"methods": ["DELETE"], "path": "/m/{rest...}"}, "deny": true},
                {"name": "secret", "match": {"hosts": ["secret.mesh"], "path": "/m/{rest...}"}, "deny": true},
                {"name": "public", "match": {"methods": ["GET"], "path": "/m/public/{rest...}"}, "allow": "anonymous"},
                rule("named", json!({"path": "/m/{a}/{b}"}), json!({"scope": "a"})),
                rule("rest", json!({"path": "/m/{rest...}"}), json!({"scope": "b"})),
                {"name": "other", "match": {"hosts": ["other.mesh"]}, "allow": "anonymous"},
            ])),
            requests: vec![
                ("GET", host, "/m/x"),
                ("GET", host, "/m/x/y"),
                ("GET", host, "/m/x/y/z"),
                ("GET", host, "/m/"),
                ("DELETE", host, "/m/public/x"),
                ("GET", host, "/m/public/x"),
                ("GET", "secret.mesh", "/m/public/x"),
                ("GET", "Other.Mesh:80", "/whatever"),
                ("POST", host, "/whatever"),
            ],
        },
        Setting {
            name: "shadow",
            config: with(
                &|config| config["mode"] = json!("shadow"),
                orders::config_of(json!([
                    rule("scope", json!({"path": "/h/scope"}), json!({"scope": "z"})),
                    rule("order", json!({"path": "/h/{order}"}), json!({"detail": order})),
                    {"name": "strict", "match": {"path": "/h/strict/{x}"}, "require": {"scope": "a"}, "mode": "enforce"},
                    {"name": "closed", "match": {"path": "/h/closed/{x}"}, "deny": true},
                ])),
            ),
            requests: vec![
                ("GET", host, "/h/scope"),
                ("GET", host, "/h/1881"),
                ("GET", host, "/h/strict/1"),
                ("GET", host, "/h/closed/1"),
            ],
        },
        Setting {
            name: "glass",
            config: orders::config_of(json!([
                glass(rule("both", json!({"path": "/g/both"}), json!({"scope": "a", "device": "compliant", "acr": ["phr"]})), json!(["device", "acr"])),
                glass(rule("half", json!({"path": "/g/half"}), json!({"claims": {"tenant": "acme"}, "auth_age": "5m"})), json!(["claims"])),
                {"name": "trial", "match": {"path": "/g/trial"}, "require": {"scope": "c"}, "mode": "shadow"},
            ])),
            requests: vec![("GET", host, "/g/both"), ("GET", host, "/g/half"), ("GET", host, "/g/trial")],
        },
        Setting {
            name: "strict",
            config: with(
                &|config| {
                    let issuer = &mut config["issuers"][0];
                    issuer["algorithms"] = json!(["ES256"]);
                    issuer["keys"] = json!({"inline": {"keys": [mint::ISSUER.signer(Alg::Es256).public()]}});
                    issuer["audiences"] = json!(["https://other.mesh", orders::AUDIENCE]);
                    issuer["max_lifetime"] = json!("6m");
                    issuer["max_session"] = json!("2h");
                    config["realm"] = json!("strict");
                    config["forward_token"] = json!(false);
                },
                orders::config_of(json!([
                    rule(
                        "get",
                        json!({"grpc": {"service": "orders.v1.Orders", "method": "Get"}}),
                        json!({"scope": "a"})
                    ),
                    rule("billing", json!({"grpc": {"service": "billing.v1.Billing"}}), json!({"scope": "z"})),
                    rule("plain", json!({"path": "/t/{x}"}), json!({"scope": "a"})),
                ])),
            ),
            requests: vec![
                ("POST", host, "/orders.v1.Orders/Get"),
                ("POST", host, "/orders.v1.Orders/Put"),
                ("POST", host, "/billing.v1.Billing/Any"),
                ("GET", host, "/t/1"),
                ("GET", host, "/t/2"),
            ],
        },
    ]
}

/// Whom the signals are about; tokens name them now and then.
const POOL: usize = 3;

fn pooled(kind: &str, number: usize) -> String {
    format!("{kind}-{number}")
}

fn signals() -> Vec<Jwt> {
    let ago = |seconds: i64| mint::now() - seconds;
    let opaque = |id: String| json!({"format": "opaque", "id": id});
    let mut all = vec![
        mint::device_is("good-device", "compliant").dated(ago(50)),
        mint::device_is("bad-device", "compliant").dated(ago(50)),
        mint::device_is("bad-device", "not-compliant").dated(ago(40)),
        mint::device_is("bad-device", "compliant").dated(ago(45)),
        mint::risk_is("calm-user", "HIGH").dated(ago(50)),
        mint::risk_is("calm-user", "LOW").dated(ago(40)),
        mint::risk_is("odd-user", "MEDIUM").dated(ago(40)),
        mint::risk_is("risky-user", "HIGH").dated(ago(40)),
        // Cut off before the sessions of the tokens here began, which is no end of them.
        mint::revoke_user("back-user").dated(ago(100_000)),
        mint::signal("urn:example:other", opaque("x".to_owned())),
        narrowed("scope", json!("orders.read a")),
        narrowed("authorization_details", json!([{"type": "order", "actions": ["list"], "identifier": "1881"}])),
    ];
    for number in 0..POOL {
        all.push(mint::complete_task(&pooled("done-task", number)));
        all.push(mint::revoke_session(&pooled("gone-session", number)));
        all.push(mint::revoke_user(&pooled("gone-user", number)));
        all.push(mint::revoke_token(&pooled("gone-token", number)));
        let pair = json!({"format": "complex", "user": opaque(pooled("pair-user", number)), "session": opaque("pair-session".to_owned())});
        all.push(mint::signal(mint::SESSION_REVOKED, pair));
        let client = json!({"format": "complex", "application": opaque(pooled("gone-client", number))});
        all.push(mint::signal(mint::SESSION_REVOKED, client));
    }
    all
}

/// What is left of the grants of one user.
fn narrowed(member: &str, left: Value) -> Jwt {
    let subject = json!({"format": "iss_sub", "iss": orders::ISSUER, "sub": "narrow-user"});
    mint::signal("urn:taskfence:secevent:grant-narrowed", subject).event(member, left)
}

fn pick<'a, T: ?Sized>(chance: &mut Rng, from: &[&'a T]) -> &'a T {
    from[chance.usize(..from.len())]
}

fn cases(setting: &Setting, count: usize, chance: &mut Rng) -> Vec<Case> {
    let mut tokens: Vec<(String, String)> = Vec::new();
    (0..count)
        .map(|_| {
            // A token that was seen before comes from a cache, and must not be judged in another way for it.
            let (token, what) = match tokens.len() {
                known @ 1.. if chance.u8(..10) < 4 => tokens[chance.usize(..known)].clone(),
                _ => {
                    let new = token(chance);
                    tokens.push(new.clone());
                    new
                }
            };
            case(setting, token, what, chance)
        })
        .collect()
}

fn case(setting: &Setting, token: String, mut what: String, chance: &mut Rng) -> Case {
    let (method, host, path) = setting.requests[chance.usize(..setting.requests.len())];
    let method =
        if chance.u8(..20) == 0 { pick(chance, &["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) } else { method };
    let host = if chance.u8(..25) == 0 { odd_host(host, chance) } else { host.to_owned() };
    let path = if chance.u8(..8) == 0 { odd_path(path, chance) } else { path.to_owned() };
    let mut headers: Vec<(&'static str, Vec<u8>)> = Vec::new();
    match chance.u8(..50) {
        0 => what = "no credential".to_owned(),
        1 => headers.push(("authorization", b"Basic eDp5".to_vec())),
        2 => headers.push(("authorization", format!("Bearer {token}, Bearer {token}").into_bytes())),
        3 => headers.push(("authorization", b"Bearer".to_vec())),
        4 => headers.push(("authorization", format!("bEARER   {token}").into_bytes())),
        _ => headers.push(("authorization", format!("Bearer {token}").into_bytes())),
    }
    if path.contains(".v1.") && chance.u8(..8) != 0 {
        headers
            .push(("content-type", pick(chance, &["application/grpc", "application/grpc+proto"]).as_bytes().to_vec()));
        headers.push(("te", b"trailers".to_vec()));
    }
    match chance.u8(..20) {
        0 => headers.push(("x-forwarded-host", b"secret.mesh".to_vec())),
        1 => headers.push(("x-taskfence-subject", b"root".to_vec())),
        2 => headers.push(("x-envoy-original-path", b"/healthz".to_vec())),
        _ => {}
    }
    let shown: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {:.40}", String::from_utf8_lossy(value))).collect();
    let what = format!("{method} http://{host} {path}, {}\n  with {what}", shown.join(", "));
    Case { method, host, path, headers, what }
}

/// Only what Envoy leaves to the filter: `paths.rs` has the rest.
fn odd_path(path: &str, chance: &mut Rng) -> String {
    let at = chance.usize(1..path.len().max(2)).min(path.len());
    let (head, tail) = path.split_at(at);
    match chance.u8(..9) {
        0 => format!("{path}?a=/../b&c=%2e"),
        1 => format!("{path}/"),
        2 => format!("{head}{}{tail}", pick(chance, &["%2f", "%5c", "%00", "%zz", "%", "%252e", "%c0%af", "%e9"])),
        3 => format!("{head}{}{tail}", pick(chance, &["//", "/./", "/../", "/%2e%2e/", ";x=y", "/..;/", "\\"])),
        4 => tail
            .chars()
            .next()
            .map_or(path.to_owned(), |first| format!("{head}%{:02x}{}", u32::from(first), &tail[first.len_utf8()..])),
        5 => format!("{path}?access_token=x"),
        6 => path.to_uppercase(),
        7 => format!("{path}{}", pick(chance, &["x", "/x", "%20", "%c3%a9", "."])),
        _ => format!("/nowhere{path}"),
    }
}

fn odd_host(host: &str, chance: &mut Rng) -> String {
    match chance.u8(..7) {
        0 => host.to_uppercase(),
        1 => format!("{host}:8080"),
        2 => format!("{host}."),
        3 => format!("{host}.."),
        4 => format!("user@{host}"),
        5 => format!("x{host}"),
        _ => format!("{host}:80:80"),
    }
}

/// A token, and how a person would describe it. Half of them hold all that most rules ask for.
fn token(chance: &mut Rng) -> (String, String) {
    let alg = Alg::ALL[[0, 0, 0, 1, 2][chance.usize(..5)]];
    let mut jwt = mint::token()
        .user(&pooled("user", chance.usize(..1_000)))
        .signed_by(mint::ISSUER.signer(alg))
        .claim(
            "scope",
            pick(
                chance,
                &[
                    "orders.read orders.refund a b c",
                    "a b c orders.refund orders.read",
                    "orders.read orders.refund a b c emergency",
                    "orders.read a b c emergency",
                    "a",
                    "b c",
                    "emergency a",
                    "orders.read",
                    "x",
                    "",
                ],
            ),
        )
        .claim("acr", pick(chance, &["phr", "phr", "phrh", "pwd"]))
        .claim("tenant", pick(chance, &["acme", "acme", "acme", "other"]))
        .claim(
            "groups",
            pick(chance, &[&json!(["gold-1", "x"]), &json!(["silver"]), &json!(["gold"]), &json!("gold")]).clone(),
        )
        .claim("auth_time", mint::now() - pick(chance, &[&60, &90, &200, &1_000, &20_000]))
        .claim("authorization_details", details(chance));
    if chance.bool() {
        jwt = jwt.claim("device_id", pick(chance, &["good-device", "good-device", "bad-device", "new-device"]));
    }
    if chance.u8(..3) == 0 {
        jwt = jwt.claim(
            "act",
            json!({"sub": pick(chance, &["agent-a7", "agent-a7", "stranger"]), "act": {"sub": "agent-a7"}}),
        );
    }
    if chance.u8(..3) == 0 {
        jwt = jwt.user(pick(chance, &["calm-user", "calm-user", "odd-user", "risky-user", "back-user", "narrow-user"]));
    }
    let number = chance.usize(..POOL);
    match chance.u8(..40) {
        0 => jwt = jwt.task(&pooled("done-task", number)),
        1 => jwt = jwt.session(&pooled("gone-session", number)),
        2 => jwt = jwt.user(&pooled("gone-user", number)),
        3 => jwt = jwt.claim("jti", pooled("gone-token", number)),
        4 => jwt = jwt.user(&pooled("pair-user", number)).session(pick(chance, &["pair-session", "own-session"])),
        5 => jwt = jwt.user(&pooled("pair-user", number)).without("sid"),
        6 => jwt = jwt.claim("client_id", pooled("gone-client", number)),
        _ => {}
    }
    let (text, how) = match chance.u8(..5) {
        0 => spoilt(jwt.clone(), chance),
        _ => (jwt.sign(), "good"),
    };
    (text, format!("a token, {how}: {}", jwt.claims_text()))
}

fn details(chance: &mut Rng) -> Value {
    let order = |identifier: &str| json!({"type": "order", "actions": ["read", "list"], "identifier": identifier});
    let all = [
        order("1881"),
        order("1882"),
        json!({"type": "order", "actions": ["write"], "identifier": "1881"}),
        json!({"type": "order", "actions": ["refund"], "identifier": "1881"}),
        json!({"type": "order", "actions": ["read"], "identifier": "1881", "limit": 3}),
        json!({"type": "order", "actions": ["read"], "identifier": "7", "locations": ["https://Orders.mesh:443/"]}),
        json!({"type": "order", "actions": ["read"], "identifier": "7", "locations": ["http://orders.mesh"]}),
        json!({"type": "file", "actions": ["read"], "identifier": "file:a/b"}),
        json!({"type": "file", "actions": ["read"], "identifier": "file:a b"}),
        json!({"type": "invoice"}),
    ];
    let chosen: Vec<_> = (0..chance.usize(1..7)).map(|_| all[chance.usize(..all.len())].clone()).collect();
    json!(chosen)
}

/// The token made bad in one of all the ways there are.
fn spoilt(jwt: Jwt, chance: &mut Rng) -> (String, &'static str) {
    match chance.u8(..27) {
        0 => (jwt.expired().sign(), "expired"),
        1 => (jwt.valid(120, 300).sign(), "from the future"),
        2 => (jwt.claim("nbf", mint::now() + 120).sign(), "not yet valid"),
        3 => (jwt.valid(0, 5_000).sign(), "living too long"),
        4 => (jwt.claim("aud", "https://other.mesh").sign(), "for somebody else"),
        5 => (jwt.claim("aud", json!(["https://other.mesh", 7])).sign(), "for a number"),
        6 => (jwt.claim("iss", "https://evil.example").sign(), "by somebody else"),
        7 => (jwt.header("typ", pick(chance, &["JWT", "secevent+jwt", ""])).sign(), "of another type"),
        8 => (jwt.without_header("typ").sign(), "of no type"),
        9 => (jwt.header("kid", "nobody").sign(), "by an unknown key"),
        10 => (jwt.signed_by(mint::FORGER.signer(Alg::Es256)).sign(), "forged"),
        11 => (tamper::flip_signature_bit(&jwt.sign()), "with a flipped bit"),
        12 => (tamper::change_claim(&jwt.sign(), "scope", "a b c orders.read orders.refund"), "with a changed claim"),
        13 => (tamper::unsigned(&jwt, "none"), "unsigned"),
        14 => (tamper::hs256(&jwt, b"secret"), "with a MAC"),
        15 => (jwt.header("alg", "RS512").sign(), "of another algorithm"),
        16 => (jwt.header("crit", json!(["x"])).sign(), "with a critical header"),
        17 => {
            let claim = pick(chance, &["jti", "sub", "txn", "client_id", "exp", "iat", "aud", "iss"]);
            (jwt.without(claim).sign(), "without a claim")
        }
        18 => {
            let claim = pick(
                chance,
                &["jti", "sub", "txn", "scope", "acr", "act", "authorization_details", "auth_time", "device_id"],
            );
            (jwt.claim(claim, json!([7])).sign(), "with a claim of the wrong kind")
        }
        19 => (jwt.claim("auth_time", mint::now() - 200_000).sign(), "of an old session"),
        20 => (jwt.claim("padding", "x".repeat(13_000)).sign(), "too large"),
        21 => ("a.b.c".to_owned(), "not one"),
        22 => (jwt.sign() + "x", "with a letter more"),
        23 => (jwt.claim("events", json!({})).sign(), "of a signal"),
        24 => (mint::complete_task("x").sign(), "a signal"),
        25 => (jwt.user("a\nb").sign(), "with a line break"),
        _ => (jwt.claim("exp", "1790000000").sign(), "with a time in words"),
    }
}
