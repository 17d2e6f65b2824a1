//! Taskfence beside what else guards a service in Envoy, on the same requests.

use serde_json::json;
use taskfence_tests::{mint::Alg, orders};

use crate::{
    Result,
    cases::{self, Answer, Case, OK, Progress},
    load::Traffic,
    machine::Cores,
    options::Options,
    proxy::{self, Plan},
    report::{Load, Row, Yardsticks},
    service, tokens,
};

/// Name, and what it is, in the order of the table.
const CASES: [(&str, &str); 17] = [
    ("passthrough", "No filter."),
    ("no-op", "A wasm filter that does nothing, written with the SDK."),
    (
        "floor",
        "A wasm filter that makes the calls of the host that warm makes, and decides nothing; called back as seldom.",
    ),
    ("warm", "Taskfence: a token that it knows, a rule with scope, detail, device and risk, the state loaded."),
    ("warm with when", "The same with a `when` of six conditions."),
    ("cold RS256", "Taskfence: each token for the first time."),
    ("cold ES256", "Taskfence: each token for the first time."),
    ("cold EdDSA", "Taskfence: each token for the first time; its signature is checked inside the VM."),
    ("denied", "Taskfence refuses for want of a scope, and logs it as it does by default."),
    ("shadow", "The same in shadow mode: the request passes, and what would have been is logged."),
    ("jwt_authn cached RS256", "Envoy's jwt_authn with its cache, and RBAC for path, method and scope."),
    ("jwt_authn cached ES256", "Envoy's jwt_authn with its cache, and RBAC for path, method and scope."),
    ("jwt_authn RS256", "The same without the cache."),
    ("jwt_authn ES256", "The same without the cache."),
    ("ext_authz", "Asks a server that allows everything, in another Envoy on the same core; both are counted."),
    ("lua", "Envoy's Lua filter, reading one header."),
    ("warm RS256", "As warm, with an RS256 token, which is longer."),
];

/// Measures them, and says what the other sections are compared with.
pub async fn measure(options: &Options, cores: &Cores, progress: &mut Progress) -> Result<(Vec<Row>, Yardsticks)> {
    progress.begin("peers: making tokens");
    let many = |name: &str, alg| {
        Ok::<_, crate::Error>(Traffic::new(orders::ORDER_PATH, tokens::many(name, alg, tokens::MANY)?))
    };
    let one = |name: &str, alg| {
        Ok::<_, crate::Error>(Traffic::new(orders::ORDER_PATH, tokens::one(name, &service::token(alg))?))
    };
    let (rs, es, ed) = (many("rs", Alg::Rs256)?, many("es", Alg::Es256)?, many("ed", Alg::EdDsa)?);
    let (one_rs, one_es) = (one("one-rs", Alg::Rs256)?, one("one-es", Alg::Es256)?);
    let narrow = service::token(Alg::Es256).claim("scope", "orders.list");
    let narrow = Traffic::new(orders::ORDER_PATH, tokens::one("narrow", &narrow)?);

    progress.begin("peers: starting Envoy");
    let config = service::config(json!([service::rule()]));
    let taskfence = |config| proxy::taskfence(service::VM, "filter", config);
    let mut shadow = config.clone();
    shadow["mode"] = json!("shadow");
    let server = Plan::new("authorization").listener("allow", Vec::new()).start(&cores.proxy).await?;
    let main = Plan::new("peers")
        .listener("passthrough", Vec::new())
        .listener("noop", vec![proxy::noop()?])
        .listener("floor", vec![proxy::floor()?])
        .listener("taskfence", vec![taskfence(&config)?])
        .listener("when", vec![taskfence(&service::config(json!([service::rule_with_when()])))?])
        .listener("cold", vec![taskfence(&config)?])
        .listener("shadow", vec![taskfence(&shadow)?])
        .listener("signals", vec![proxy::taskfence(service::VM, "receiver", &config)?])
        .listener("cached", service::jwt_authn_and_rbac(true))
        .listener("uncached", service::jwt_authn_and_rbac(false))
        .listener("ext_authz", vec![service::ext_authz()])
        .listener("lua", vec![service::lua()])
        .cluster("authorization", server.address("allow")?, false)
        .start(&cores.proxy)
        .await?;
    for signal in service::context() {
        main.push("signals", &signal).await?;
    }

    let cached = |cached| Answer { cached: Some(cached), ..OK };
    let denied = Answer { status: 403, reason: Some("scope_insufficient"), cached: None };
    let case = |name, listener, traffic| Case::new(name, &main, listener, traffic);
    let listed = vec![
        case("passthrough", "passthrough", &one_es),
        case("no-op", "noop", &one_es),
        case("floor", "floor", &one_es),
        case("warm", "taskfence", &one_es),
        case("warm with when", "when", &one_es),
        case("cold RS256", "cold", &rs),
        case("cold ES256", "cold", &es),
        case("cold EdDSA", "cold", &ed),
        case("denied", "taskfence", &narrow).answered(denied),
        case("shadow", "shadow", &narrow),
        case("jwt_authn cached RS256", "cached", &one_rs).answered(cached(true)),
        case("jwt_authn cached ES256", "cached", &one_es).answered(cached(true)),
        case("jwt_authn RS256", "uncached", &rs).answered(cached(false)),
        case("jwt_authn ES256", "uncached", &es).answered(cached(false)),
        case("ext_authz", "ext_authz", &one_es).with(&server),
        case("lua", "lua", &one_es),
        case("warm RS256", "taskfence", &one_rs),
    ];
    progress.begin(&format!("peers: {} cases", listed.len()));
    let loads = cases::measure("peers", listed, options, progress).await?;
    Ok(rows(&loads))
}

fn rows(loads: &[Load]) -> (Vec<Row>, Yardsticks) {
    let added = |name: &str| loads.iter().find(|load| load.name == name).and_then(Load::added);
    let yardsticks = Yardsticks {
        noop: added("no-op"),
        jwt_authn: added("jwt_authn cached ES256"),
        jwt_authn_uncached: added("jwt_authn ES256"),
    };
    let times = |factor: f64, of: Option<f64>| of.map(|of| factor * of);
    let rows = loads.iter().map(|load| {
        let about = CASES.iter().find(|(name, _)| *name == load.name).map_or("", |(_, about)| about);
        let same_token = match load.name.as_str() {
            "cold RS256" => added("jwt_authn RS256"),
            "cold ES256" => added("jwt_authn ES256"),
            // Nobody here to compare it with.
            "cold EdDSA" => None,
            name if name.ends_with("RS256") => added("jwt_authn cached RS256"),
            _ => yardsticks.jwt_authn,
        };
        let row = load.row(&format!("peers/{}", load.name), about, Yardsticks { jwt_authn: same_token, ..yardsticks });
        let own = load.added();
        match load.name.as_str() {
            "warm" => row
                .target("adds at most 1.5 times what the no-op filter adds", own, times(1.5, yardsticks.noop))
                .target("adds no more than jwt_authn with its cache and RBAC", own, same_token),
            "warm RS256" => row.target("adds no more than jwt_authn with its cache and RBAC", own, same_token),
            "warm with when" => {
                let above = own.zip(added("warm")).map(|(with, without)| with - without);
                row.target("six conditions take less than 6 us", above, Some(6.0))
            }
            "cold RS256" | "cold ES256" => row.target(
                "adds at most 1.3 times what jwt_authn without its cache and RBAC add",
                own,
                times(1.3, same_token),
            ),
            _ => row,
        }
    });
    (rows.collect(), yardsticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Expected, Spread};

    fn load(name: &str, added: f64) -> Load {
        let spread = Some(Spread::exactly(added));
        let expected = Expected { answer: "200".to_owned(), seen: 1 };
        Load {
            name: name.to_owned(),
            cpu: spread,
            added: spread,
            added_least: Some(added),
            counted: 1,
            p50: None,
            p99: None,
            answers: 1,
            expected,
            void: None,
        }
    }

    #[test]
    fn each_row_is_held_against_its_own_peer() {
        let loads = [
            load("no-op", 6.0),
            load("warm", 8.0),
            load("cold RS256", 72.0),
            load("jwt_authn RS256", 55.0),
            load("jwt_authn cached ES256", 8.0),
        ];
        let (rows, _) = rows(&loads);
        let met: Vec<_> = rows.iter().map(|row| row.met).collect();
        assert_eq!(met, [None, Some(true), Some(false), None, None]);
        assert_eq!(rows[2].ratio_to_jwt_authn, Some(72.0 / 55.0));
    }
}
