//! Tokens by `jose`, which shares no code with the filter or with the rest of these tests, are taken as they are; and
//! `jose` takes what `taskfence` makes. Needs npm, see [`oauth::is_there`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::Settings,
    client::{self, Http, Request},
    mint::{self, Alg},
    oauth::{self, jose},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
    tamper,
};

fn claims() -> Value {
    serde_json::from_str(&mint::token().claims_text()).unwrap()
}

#[tokio::test]
async fn tokens_and_signals_by_jose_pass_in_every_algorithm() {
    if !oauth::is_there("tokens_and_signals_by_jose_pass_in_every_algorithm") {
        return;
    }
    let algorithms: Vec<&str> = Alg::names().into_iter().chain(["ES512"]).collect();
    let made = jose("sign", &json!({"typ": "at+jwt", "claims": claims(), "algorithms": algorithms})).unwrap();
    let task = mint::unique("task");
    let set: Value = serde_json::from_str(&mint::complete_task(&task).claims_text()).unwrap();
    let sets = jose("sign", &json!({"typ": "secevent+jwt", "claims": set, "algorithms": algorithms})).unwrap();
    let mut config = orders::config_with(made["jwks"].clone(), sets["jwks"].clone());
    config["issuers"][0]["algorithms"] = json!(algorithms);
    config["signals"]["transmitters"][0]["algorithms"] = json!(algorithms);
    let sidecar = Sidecar::start(Settings::new("jose", config)).await.unwrap();
    for alg in &algorithms {
        let token = made["tokens"][*alg].as_str().unwrap();
        for http in Http::BOTH {
            let answer = sidecar.send(http, &Request::get(orders::ORDER_PATH).bearer(token)).await.unwrap();
            assert_allowed(&sidecar, &answer);
            let forged = tamper::flip_signature_bit(token);
            let answer = sidecar.send(http, &Request::get(orders::ORDER_PATH).bearer(&forged)).await.unwrap();
            assert_refused(&sidecar, &answer, "signature_invalid");
        }
    }
    for alg in &algorithms {
        let push = Request::push(orders::SIGNALS_PATH, sets["tokens"][*alg].as_str().unwrap());
        let answer = client::send(sidecar.signals(), Http::One, &push).await.unwrap();
        assert_signal_accepted(&answer);
    }
}

/// A key as PEM, a key without a name, and tokens without a `kid`: each is found by what fits `alg`.
#[tokio::test]
async fn tokens_by_jose_pass_without_names() {
    if !oauth::is_there("tokens_by_jose_pass_without_names") {
        return;
    }
    let algorithms = ["ES256", "ES384", "ES512", "RS256", "PS384", "EdDSA"];
    let input = json!({"typ": "at+jwt", "claims": claims(), "algorithms": algorithms, "named": false});
    let made = jose("sign", &input).unwrap();
    let mut nameless = orders::config_with(made["jwks"].clone(), mint::TRANSMITTER.jwks());
    nameless["issuers"][0]["algorithms"] = json!(algorithms);
    let of_pem = |alg: &str| {
        let mut config = nameless.clone();
        config["issuers"][0]["keys"] = json!({"pem": made["pems"][alg]});
        config["issuers"][0]["algorithms"] = json!([alg]);
        config
    };
    let settings = algorithms
        .iter()
        .fold(Settings::new("jose-nameless", nameless.clone()), |settings, alg| settings.also(alg, of_pem(alg)));
    let sidecar = Sidecar::start(settings).await.unwrap();
    for alg in algorithms {
        let token = made["tokens"][alg].as_str().unwrap();
        for to in [sidecar.app(), sidecar.listener(alg)] {
            let answer = client::send(to, Http::One, &Request::get(orders::ORDER_PATH).bearer(token)).await.unwrap();
            assert_allowed(&sidecar, &answer);
            let forged = Request::get(orders::ORDER_PATH).bearer(&tamper::flip_signature_bit(token));
            let answer = client::send(to, Http::One, &forged).await.unwrap();
            assert_refused(&sidecar, &answer, "signature_invalid");
        }
        let other = if alg == "ES256" { "ES384" } else { "ES256" };
        let request = Request::get(orders::ORDER_PATH).bearer(token);
        let answer = client::send(sidecar.listener(other), Http::One, &request).await.unwrap();
        assert_refused(&sidecar, &answer, "algorithm_refused");
    }
}

/// Runs `taskfence` in this folder; what it printed.
fn taskfence(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(artefacts::command().unwrap()).current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn folder() -> PathBuf {
    let folder = artefacts::target().join("tests").join(mint::unique("jose"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn jose_takes_the_tokens_and_signals_of_the_command_line() {
    if !oauth::is_there("jose_takes_the_tokens_and_signals_of_the_command_line") {
        return;
    }
    let folder = folder();
    for alg in ["ES256", "RS256", "EdDSA"] {
        taskfence(&folder, &["keys", "new", "--alg", alg, "--out", alg]);
        let key = format!("{alg}.private.jwk");
        let jwks: Value = serde_json::from_slice(&fs::read(folder.join(format!("{alg}.jwks.json"))).unwrap()).unwrap();
        let verify = |token: &str, typ: &str, issuer: &str, audience: &str| {
            let input = json!({"token": token, "jwks": jwks, "typ": typ, "issuer": issuer, "audience": audience});
            jose("verify", &input)
        };

        let detail = r#"{"type":"order","actions":["read"],"identifier":"1881"}"#;
        let mut mint = vec!["token", "mint", "--key", &key, "--issuer", orders::ISSUER, "--audience", orders::AUDIENCE];
        mint.extend(["--subject", "alice", "--client", "agent-a7", "--task", "task-42", "--detail", detail]);
        let token = taskfence(&folder, &mint);
        let read = verify(token.trim(), "at+jwt", orders::ISSUER, orders::AUDIENCE).unwrap();
        assert_eq!((&read["payload"]["txn"], &read["protectedHeader"]["alg"]), (&json!("task-42"), &json!(alg)));
        assert_eq!(read["payload"]["authorization_details"][0]["identifier"], "1881");
        let forged = tamper::change_claim(token.trim(), "sub", "mallory");
        let refused = verify(&forged, "at+jwt", orders::ISSUER, orders::AUDIENCE).unwrap_err().to_string();
        assert!(refused.contains("signature verification failed"), "{refused}");

        let mut complete = vec!["signal", "complete", "--task", "task-42", "--key", &key, "--print"];
        complete.extend(["--issuer", orders::TRANSMITTER, "--audience", orders::SIGNALS_AUDIENCE]);
        let printed = taskfence(&folder, &complete);
        let set = printed.lines().next().unwrap();
        let read = verify(set, "secevent+jwt", orders::TRANSMITTER, orders::SIGNALS_AUDIENCE).unwrap();
        assert!(read["payload"]["events"][mint::TASK_COMPLETED].is_object(), "{read}");
    }
}
