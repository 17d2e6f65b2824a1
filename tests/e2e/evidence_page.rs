//! The page of a report in a real browser: it is complete without a network, and nothing of the report becomes part of it.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{Router, http::Uri, response::IntoResponse};
use serde_json::{Value, json};
use taskfence_tests::{artefacts, mint::unique};
use tokio::net::TcpListener;

const FEED: &str = "main";
const SINCE: u64 = 1_790_000_000_000;

/// The browser; `None`: there is none, and the test is skipped, which this says by its name.
pub(crate) fn chromium(test: &str) -> Option<PathBuf> {
    if let Some(named) = env::var_os("TASKFENCE_CHROMIUM_BIN") {
        return Some(named.into());
    }
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = folders.iter().flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.exists());
    if found.is_none() {
        eprintln!("skipped: {test}: Chromium is not installed");
    }
    found
}

/// What a browser made of a page.
pub(crate) struct Seen {
    pub(crate) dom: String,
    /// What it wrote into its console: errors of scripts, and what the policy of the page refused.
    pub(crate) console: Vec<String>,
}

pub(crate) fn open(browser: &Path, folder: &Path, page: &Path) -> Seen {
    let run = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{log}");
    let console = log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    Seen { dom: String::from_utf8(run.stdout).unwrap(), console }
}

/// A hub that knows one report, and all that it was asked for.
async fn hub(report: impl Fn(SocketAddr) -> Value) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (body, asked) = (report(address).to_string(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&asked);
    let answer = move |uri: Uri| {
        noted.lock().unwrap().push(uri.path().to_owned());
        async move { ([("content-type", "application/json")], body).into_response() }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, asked)
}

/// A report of one grant, with `text` wherever the report has a text.
fn report(text: &str) -> Value {
    let rollup = |name: &str| {
        json!({
            "name": name, "grants": 1, "unused": 0, "permitted": 3, "refused": 1, "break_glass": 0, "unbounded": 1,
            "used_share": null, "allowed_cells": 0, "used_cells": 0, "repeated": 0, "with_residual": 1,
            "residual_median": 4.0, "residual_longest": 4.0, "attempts_after_end": 1, "shared": 1,
            "lifetime_median": 3600.0, "in_use_median": 4.0
        })
    };
    let bars = json!([{"label": text, "grants": 1}, {"label": "more", "grants": 2}]);
    json!({
        "hub": text, "feed": text, "since": SINCE, "until": SINCE + 3_600_000, "total": rollup(""),
        "by_kind": [rollup(text), rollup("refund")], "by_client": [rollup(text)], "by_subject": [rollup(text)],
        "spread": {"used_share": bars, "residual": bars, "lifetime": bars, "in_use": bars, "over_time": bars},
        "grants": [{
            "id": text, "issuer": text, "token": text, "subject": text, "client": text, "task": text, "kind": text,
            "issued_at": SINCE, "expires_at": SINCE + 3_600_000, "first": SINCE, "last": SINCE + 4_000,
            "permitted": 3, "refused": 1, "break_glass": 0, "repeated": false,
            "width": {
                "allowed": [{"rule": text, "action": text, "identifier": text, "used": true}], "allowed_cells": null,
                "used_cells": 1, "unused_scopes": [text], "narrower_scopes": [text],
                "narrower_details": [{"type": text}], "narrower_rules": [{"name": text}]
            },
            "residual": {
                "ended_at": SINCE, "ended_by": text, "seconds": 4.0, "permitted_after": 1, "attempts_after": 1,
                "streams_ended": 0
            },
            "sharing": {"peers": [text, "spiffe://mesh/b"], "sources": [text], "keys": [text], "shared": true}
        }],
        "repeats": [{
            "subject": text, "client": text, "kind": text, "shape": text, "grants": 3, "every": 60.0,
            "irregularity": 0.1, "routine": true, "broad": true
        }],
        "gaps": [{"node": text, "vm": text, "since": SINCE, "until": SINCE + 1_000}],
        "losses": {"other_permitted": 1, "other_refused": 0, "records_dropped": 0, "batches_dropped": 0},
        "comparison": {"roles": [{
            "name": text, "allowed_cells": null, "subjects": [text], "seconds": 3600.0, "grants": 1,
            "grant_seconds": 60.0, "grant_cells": null
        }]}
    })
}

/// The page as the command writes it.
fn page(hub: SocketAddr, folder: &Path) -> PathBuf {
    let page = folder.join("report.html");
    let run = Command::new(artefacts::command().unwrap())
        .args(["report", "--feed", FEED, "--output", "html", "--hub-token", "token", "--since", "1h"])
        .arg("--hub")
        .arg(format!("http://{hub}"))
        .arg("--out")
        .arg(&page)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_it_without_an_error_and_asks_nobody() {
    let Some(browser) = chromium("evidence_page::a_browser_shows_it_without_an_error_and_asks_nobody") else { return };
    let folder = artefacts::target().join("tests").join(unique("evidence-page"));
    fs::create_dir_all(&folder).unwrap();
    let hostile = |address: SocketAddr| {
        report(&format!(
            "\u{202e}\"><img src=http://{address}/image><script>document.title='taken'</script>\
             <link rel=stylesheet href=http://{address}/style>'</style></title></svg>"
        ))
    };
    let (address, asked) = hub(hostile).await;
    let page = page(address, &folder);
    let wanted = vec![format!("/v1/feeds/{FEED}/report")];
    assert_eq!(*asked.lock().unwrap(), wanted);

    let seen = open(&browser, &folder, &page);
    assert_eq!(seen.console, Vec::<String>::new());
    assert_eq!(*asked.lock().unwrap(), wanted, "the page asked for something");
    for part in ["<html lang=\"en\">", "role=\"button\"", "<svg", "id=\"definitions\"", "&lt;img src=http"] {
        assert!(seen.dom.contains(part), "{part} is not in {}", page.display());
    }
    assert!(!seen.dom.contains("<title>taken") && !seen.dom.contains("<img"), "{}", page.display());

    // What was looked for can be found: markup that gets into the page is refused by its policy, and without the policy
    // it asks for what it wants.
    let text = fs::read_to_string(&page).unwrap();
    let image = format!("<img src=http://{address}/image>");
    let copy = folder.join("injected.html");
    fs::write(&copy, text.replace("<main>", &format!("<main>{image}<script>document.title='taken'</script>"))).unwrap();
    let seen = open(&browser, &folder, &copy);
    assert!(seen.console.len() >= 2, "{:?}", seen.console);
    assert!(!seen.dom.contains("<title>taken"));
    assert_eq!(*asked.lock().unwrap(), wanted, "the policy of the page lets it ask");
    fs::write(&copy, format!("<!DOCTYPE html>{image}<script>document.title='taken'</script>")).unwrap();
    assert!(open(&browser, &folder, &copy).dom.contains("<title>taken"));
    assert_eq!(asked.lock().unwrap().len(), 2);
}
