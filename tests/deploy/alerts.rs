//! Each alert is seen to fire by promtool; that for Envoy Gateway when a module is dead in one of two workers, and for nothing
//! else.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use taskfence_tests::{artefacts, mint::unique, prometheus};

use crate::schemas::{documents, text};

/// What a pod counts: its name, and so many requests, decisions and answers 5xx in each 15 s, after five minutes of
/// 150 requests that were all decided.
fn pod(name: &str, (requests, decisions, errors): (u32, u32, u32)) -> Vec<Value> {
    let labels = format!(r#"namespace="ingress", pod="{name}""#);
    let manager = r#"envoy_http_conn_manager_prefix="http-10080""#;
    let series = |series: String, before: u32, after: u32| json!({"series": series, "values": format!("0+{before}x20 {}+{after}x40", 20 * before + after)});
    vec![
        series(format!("envoy_http_downstream_rq_total{{{labels}, {manager}}}"), 150, requests),
        series(format!("taskfence_allowed{{{labels}}}"), 100, 2 * decisions / 3),
        series(format!("taskfence_denied{{{labels}, taskfence_reason=\"token_missing\"}}"), 50, decisions / 3),
        series(
            format!("envoy_http_downstream_rq_xx{{{labels}, {manager}, envoy_response_code_class=\"5\"}}"),
            0,
            errors,
        ),
    ]
}

#[test]
fn the_alert_for_envoy_gateway_fires_when_a_module_is_dead() {
    let Some(promtool) = prometheus::program("promtool", "the_alert_for_envoy_gateway_fires_when_a_module_is_dead")
    else {
        return;
    };
    let folder = artefacts::target().join("tests").join(unique("alerts"));
    fs::create_dir_all(&folder).unwrap();
    let shipped = artefacts::in_repository("envoy/gateway/alerts.yaml");
    let rules = documents(&fs::read_to_string(shipped).unwrap()).remove(0)["spec"].clone();
    fs::write(folder.join("rules.yaml"), rules.to_string()).unwrap();
    // One of two workers answers 503 by itself; a service fails behind the filter; the filter answers many without a
    // decision, such as probes; nobody calls; all are decided.
    let pods = [
        pod("dead", (150, 75, 75)),
        pod("failing-service", (150, 150, 75)),
        pod("probed", (150, 105, 0)),
        pod("quiet", (0, 0, 0)),
        pod("well", (150, 150, 0)),
    ];
    let fired = |at: &str, pods: &[&str]| {
        let alerts = pods.iter().map(|pod| {
            json!({"exp_labels": {"severity": "critical", "namespace": "ingress", "pod": pod}, "exp_annotations": {
                "summary": format!("Requests in {pod} are answered 5xx without a decision of Taskfence"),
                "description": rules["groups"][0]["rules"][0]["annotations"]["description"],
            }})
        });
        json!({"eval_time": at, "alertname": "TaskfenceModuleDead", "exp_alerts": alerts.collect::<Vec<_>>()})
    };
    let test = json!({
        "rule_files": ["rules.yaml"], "evaluation_interval": "15s",
        "tests": [{
            "interval": "15s", "input_series": pods.concat(),
            "alert_rule_test": [fired("5m", &[]), fired("12m", &["dead"])]
        }]
    });
    let file = folder.join("test.yaml");
    fs::write(&file, test.to_string()).unwrap();
    let said = prometheus::promtool(&promtool, &["test", "rules", &file.display().to_string()]).unwrap();
    assert!(said.contains("SUCCESS"), "{said}");
}

/// `promtool test rules` runs the cases; here is that none is left out.
#[test]
fn each_alert_has_a_case_in_which_it_fires() {
    let file = |name: &str| {
        let file = artefacts::in_repository(format!("envoy/prometheus/{name}"));
        documents(&fs::read_to_string(file).unwrap()).remove(0)
    };
    let all = |value: &Value, list: &str| value[list].as_array().unwrap().clone();
    let rules = all(&file("taskfence.rules.yaml"), "groups").into_iter().flat_map(|group| all(&group, "rules"));
    let alerts: BTreeSet<String> = rules.map(|rule| text(&rule["alert"])).collect();
    let cases = all(&file("taskfence.test.yaml"), "tests").into_iter().flat_map(|test| all(&test, "alert_rule_test"));
    let fires = cases.filter(|case| !all(case, "exp_alerts").is_empty());
    assert_eq!(fires.map(|case| text(&case["alertname"])).collect::<BTreeSet<String>>(), alerts);
}
