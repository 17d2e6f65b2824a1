//! The pictures of dashboards in `docs/images`: the data that a real Prometheus has of a real proxy and hub after eleven
//! minutes, drawn with the titles, units and legends of the panels.

use std::{
    f64::consts::TAU,
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    client::{Connection, Http, Request},
    hub::{Hub, fresh, wait_ready},
    mint::{self, Jwt, complete_task, now, revoke_session, unique},
    orders,
    prometheus::{self, Prometheus},
    refusal::assert_signal_accepted,
    services,
    sidecar::Sidecar,
    streaming,
};
use tokio::time::{sleep, sleep_until};

use crate::{
    evidence_page::{Seen, chromium, open},
    observability::{dashboard, query_of, yaml},
};

/// How long there is traffic. The hub looks at the measures ten seconds after its start, and each five minutes from then on.
const MINUTES: f64 = 11.0;
/// Between two points of a line, in seconds.
const STEP: u32 = 5;
/// How wide a picture is, in pixels, as `pictures.html` has it.
const WIDTH: u32 = 980;
/// Each picture: its dashboard, and the titles of the panels that are drawn. Where nothing happened there is little to see.
const PICTURES: [(&str, &[&str]); 2] = [
    (
        "proxy",
        &[
            "Caught up",
            "Age of the state",
            "Revision",
            "Live streams",
            "Verdicts",
            "Refusals by reason",
            "Decisions by rule, mode and verdict",
            "Tokens",
            "Streams ended",
            "From a change to the end of a stream",
        ],
    ),
    (
        "evidence",
        &[
            "Grants in use",
            "Width: unbounded",
            "Repeat: routine and broad",
            "Residual: longest",
            "Attempts after the end",
            "Width",
            "Repeat",
            "Residual",
            "Uses",
            "Single decisions and events",
        ],
    ),
];

/// The path of a rule whose grants have no bounds: nothing in a token says which reports.
const REPORT: &str = "/v1/reports/7";
const REPORT_SCOPE: &str = "reports.read";

/// A hub, and a proxy that follows it with a second listener in shadow mode.
struct Mesh {
    hub: Hub,
    proxy: Sidecar,
    start: Instant,
}

impl Mesh {
    async fn start() -> Mesh {
        let hub = Hub::start_with("pictures", |config| config["evidence"] = json!({"period": "5s"})).await.unwrap();
        let mut config = orders::config();
        config["rules"] = json!([
            config["rules"][0],
            config["rules"][1],
            {
                "name": "live", "match": {"methods": ["GET"], "path": services::EVENTS},
                "require": {"scope": orders::SCOPE}
            },
            {
                "name": "read-reports", "match": {"methods": ["GET"], "path": "/v1/reports/{report}"},
                "require": {"scope": REPORT_SCOPE}
            },
        ]);
        let mut shadow = hub.followed_by(&config);
        shadow["mode"] = json!("shadow");
        let stats = yaml("envoy/plain/sidecar-with-signals.yaml")["stats_config"].clone();
        let proxy = hub.plain("pictures-proxy", &config).also("shadow", shadow);
        let proxy = Sidecar::start(proxy.patch(|bootstrap| bootstrap["stats_config"] = stats)).await.unwrap();
        wait_ready(&proxy).await.unwrap();
        Mesh { hub, proxy, start: Instant::now() }
    }

    fn scraped(&self) -> Value {
        let job = |name: &str, path: &str, target: SocketAddr| {
            let targets = json!([{"targets": [target.to_string()]}]);
            json!({"job_name": name, "metrics_path": path, "static_configs": targets})
        };
        let mut hub = job("taskfence-hub", "/metrics", self.hub.address());
        hub["authorization"] = json!({"credentials": self.hub.operator});
        json!({
            "global": {"scrape_interval": "5s", "scrape_timeout": "4s"},
            "scrape_configs": [job("orders", "/stats/prometheus", self.proxy.envoy().admin()), hub]
        })
    }

    fn minute(&self) -> f64 {
        self.start.elapsed().as_secs_f64() / 60.0
    }

    async fn until(&self, minute: f64) {
        sleep_until((self.start + Duration::from_secs_f64(60.0 * minute)).into()).await;
    }

    async fn signal(&self, set: &Jwt) {
        assert_signal_accepted(&self.hub.push(set).await.unwrap());
    }

    /// Sends the same request from one minute to another, so often in a second.
    async fn repeat(&self, to: SocketAddr, request: &Request, (from, end): (f64, f64), rate: f64) {
        self.until(from).await;
        let mut connection = Connection::open(to, Http::One).await.unwrap();
        while self.minute() < end {
            connection.send(request).await.unwrap();
            sleep(Duration::from_secs_f64(1.0 / rate)).await;
        }
    }

    /// An agent with a new token each twenty seconds, whose requests come in waves of four minutes. Its tasks end with its
    /// tokens, and it is told so three seconds later.
    async fn agent(&self, number: usize) {
        let user = format!("spiffe://td/agent/a{number}");
        let mut connection = Connection::open(self.proxy.app(), Http::One).await.unwrap();
        while self.minute() < MINUTES {
            let task = unique("task");
            let request = Request::get(orders::ORDER_PATH).bearer(&fresh().user(&user).task(&task).sign());
            let renewed = Instant::now() + Duration::from_secs(20);
            while Instant::now() < renewed {
                assert_eq!(connection.send(&request).await.unwrap().status, 200);
                let rate = 3.0 + 2.0 * (TAU * self.minute() / 4.0).sin();
                sleep(Duration::from_secs_f64(1.0 / rate)).await;
            }
            self.signal(&complete_task(&task).dated(now() - 3)).await;
        }
    }

    /// An agent that gets the same wide grant each ten seconds, and reads one report with it.
    async fn routine(&self) {
        while self.minute() < MINUTES {
            let token = fresh().user("spiffe://td/agent/nightly").claim("scope", REPORT_SCOPE);
            let token = token.without("authorization_details").sign();
            self.proxy.send(Http::One, &Request::get(REPORT).bearer(&token)).await.unwrap();
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// An agent that goes on after its task was completed. The proxy is told of it so many seconds late.
    async fn after_the_end(&self, (from, told, end): (f64, f64, f64), late: i64) {
        let task = unique("task");
        let request = Request::get(orders::ORDER_PATH).bearer(&fresh().valid(0, 900).task(&task).sign());
        tokio::join!(self.repeat(self.proxy.app(), &request, (from, end), 3.0), async {
            self.until(told).await;
            self.signal(&complete_task(&task).dated(now() - late)).await;
        });
    }

    /// A stream each second, which ends half a minute later with its task. When their minutes have passed, a signal ends the
    /// session of all.
    async fn streams(&self, session: &str, (from, end): (f64, f64)) {
        self.until(from).await;
        let mut connection = streaming::Connection::open(self.proxy.app(), Http::Two).await.unwrap();
        let request = Request::get(&format!("{}?every=1000", services::EVENTS));
        let mut open = Vec::new();
        while self.minute() < end {
            let task = unique("task");
            let token = fresh().session(session).task(&task).sign();
            let stream = connection.start(&request.clone().bearer(&token)).await.unwrap();
            assert_eq!(stream.status, 200);
            open.push((task, stream));
            if open.len() > 30 {
                let (task, stream) = open.remove(0);
                self.signal(&complete_task(&task)).await;
                assert!(stream.end(Duration::from_secs(20)).await.unwrap().broken.is_some());
            }
            sleep(Duration::from_secs(1)).await;
        }
        if end >= MINUTES {
            return;
        }
        self.signal(&revoke_session(session)).await;
        for (_, stream) in open {
            assert!(stream.end(Duration::from_secs(20)).await.unwrap().broken.is_some());
        }
    }

    /// All of it, at once.
    async fn traffic(&self) {
        let (app, shadow) = (self.proxy.app(), self.proxy.listener("shadow"));
        let read = Request::get(orders::ORDER_PATH);
        let refund = Request::new("POST", "/v1/orders/1881/refund").bearer(&mint::token().sign());
        let other = Request::get("/v1/orders/1882").bearer(&fresh().valid(0, 900).sign());
        let expired = read.clone().bearer(&fresh().expired().sign());
        let whole = (0.0, MINUTES);
        tokio::join!(
            self.agent(1),
            self.agent(2),
            self.agent(3),
            self.routine(),
            self.after_the_end((2.0, 4.0, 6.0), 40),
            self.after_the_end((6.0, 8.5, 9.5), 70),
            self.streams("session-1", (0.2, 3.0)),
            self.streams("session-2", (3.2, 8.0)),
            self.streams("session-3", (8.2, MINUTES)),
            self.repeat(app, &read, whole, 0.5),
            self.repeat(shadow, &read, whole, 1.0),
            self.repeat(app, &refund, (1.5, 3.0), 2.0),
            self.repeat(app, &other, (5.5, 9.0), 1.0),
            self.repeat(app, &expired, (8.0, MINUTES), 1.5),
        );
    }
}

/// What Prometheus has for the panels of a dashboard, in the order of the panels and their targets: where a panel shows one
/// figure, that of the end.
async fn answers(server: &Prometheus, board: &Value, (start, end): (i64, i64)) -> Vec<Vec<Vec<Value>>> {
    let mut answers = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        let mut of_panel = Vec::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let start = if target["instant"] == true { end } else { start };
            of_panel.push(server.range(&query_of(target), (start, end), STEP).await.unwrap());
        }
        answers.push(of_panel);
    }
    answers
}

/// The page that draws the panels: it needs nothing but itself.
fn write_page(file: &Path, drawn: &Value) {
    let page = include_str!("pictures.html");
    assert_eq!(page.matches("null /* what to draw */").count(), 1);
    fs::write(file, page.replace("null /* what to draw */", &drawn.to_string().replace('<', "\\u003c"))).unwrap();
}

/// Takes the picture of a whole page, which says in an attribute how high it is.
fn photograph(browser: &Path, folder: &Path, page: &Path, picture: &Path) {
    let seen = open(browser, folder, page);
    assert_eq!(seen.console, Vec::<String>::new());
    let height = seen.dom.split("data-height=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let run = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--window-size={WIDTH},{height}"))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(run.status.success() && picture.exists(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// What was drawn stands there as text: titles, descriptions, units, legends and the place of each point.
#[test]
fn a_panel_is_drawn_with_its_title_unit_and_legend() {
    let Some(browser) = chromium("pictures::a_panel_is_drawn_with_its_title_unit_and_legend") else { return };
    let folder = artefacts::target().join("tests").join(unique("picture"));
    fs::create_dir_all(&folder).unwrap();
    let panel = |kind: &str, title: &str, unit: &str| {
        let steps = json!([{"color": "green", "value": null}, {"color": "red", "value": 5}]);
        json!({
            "type": kind, "title": title, "description": "<b>What</b>", "targets": [{"legendFormat": "by {{name}}"}],
            "fieldConfig": {"defaults": {"unit": unit, "thresholds": {"steps": steps}}}
        })
    };
    let row = json!({"type": "row", "title": "Row"});
    let panels =
        [row, panel("stat", "Figure", "s"), panel("timeseries", "Lines", "reqps"), panel("stat", "Other", "s")];
    let line = json!({"metric": {"name": "<i>"}, "values": [[1_000, "0"], [1_005, "NaN"], [1_010, "4"]]});
    let figure = json!({"metric": {}, "values": [[1_060, "90"]]});
    let page = folder.join("page.html");
    let drawn = json!({
        "board": {"title": "Board", "panels": panels}, "titles": ["Figure", "Lines"], "start": 1_000, "end": 1_060,
        "answers": [[], [[figure]], [[line]], [[figure]]]
    });
    write_page(&page, &drawn);
    let Seen { dom, console } = open(&browser, &folder, &page);
    assert_eq!(console, Vec::<String>::new());
    for part in [
        ">Board</h1>",
        ">Row</h2>",
        "<h3>Figure</h3><b class=\"red\">1.5 min</b>",
        "<h3>Lines</h3><p>&lt;b&gt;What",
        ">2 req/s</text>",
        ">4 req/s</text>",
        "by &lt;i&gt;</span>",
        "d=\"M72.0 166.0L134.3 10.0\"",
    ] {
        assert!(dom.contains(part), "{part} is not in {}", page.display());
    }
    assert!(!dom.contains("<h3>Other"), "{}", page.display());
}

#[tokio::test]
#[ignore = "takes eleven minutes, and writes docs/images: scripts/pictures"]
async fn of_dashboards() {
    let name = "pictures::of_dashboards";
    let (Some(program), Some(browser)) = (prometheus::program("prometheus", name), chromium(name)) else { return };
    let mesh = Mesh::start().await;
    let server = Prometheus::start(&program, &mesh.scraped()).await.unwrap();
    let start = now();
    mesh.traffic().await;
    let end = start + (60.0 * MINUTES) as i64;
    for (name, titles) in PICTURES {
        let (file, board) = dashboard(name);
        for title in titles {
            assert!(
                board["panels"].as_array().unwrap().iter().any(|panel| panel["title"] == **title),
                "{file}: {title}"
            );
        }
        let answers = answers(&server, &board, (start, end)).await;
        let drawn = json!({"board": board, "titles": titles, "start": start, "end": end, "answers": answers});
        let page = mesh.hub.folder().join(format!("{name}.html"));
        write_page(&page, &drawn);
        let picture = artefacts::in_repository(format!("docs/images/dashboard-{name}.png"));
        photograph(&browser, mesh.hub.folder(), &page, &picture);
        println!("{}, of {}", picture.display(), page.display());
    }
}
