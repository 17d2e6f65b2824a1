use super::*;
use crate::config::model::LimitsConfig;
use crate::config::role::Role;
use serde_json::{Value, json};
use taskfence_core::state::coverage::FeedId;

/// A P-256 public key (RFC 7517, appendix A.1).
fn keys() -> Value {
    json!({"inline": {"keys": [{
        "kty": "EC", "crv": "P-256", "kid": "1",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
    }]}})
}

fn feed(name: &str) -> Value {
    json!({
        "name": name,
        "issuers": [{"issuer": "https://jit.example", "audiences": ["orders"], "keys": keys()}],
        "signals": {"transmitters": [
            {"issuer": "https://jit.example", "audience": "hub", "keys": keys()},
            {"issuer": "https://idp.example", "audience": "hub", "subjects": ["https://jit.example"],
             "keys": {"cluster": "idp", "path": "/jwks.json"}}
        ]}
    })
}

fn config() -> Value {
    json!({
        "data": "/var/lib/taskfence",
        "listen": {"address": "0.0.0.0:8500", "tls": {"certificate": "/c.pem", "key": "/k.pem", "client_ca": "/ca.pem"}},
        "access": [{"spiffe": "spiffe://mesh.example/", "role": "sidecar", "feeds": ["main"]}],
        "clusters": {"idp": "https://idp.example"},
        "feeds": [feed("main"), feed("other")]
    })
}

fn compiled(change: impl FnOnce(&mut Value)) -> Result<Hub, Vec<String>> {
    let mut config = config();
    change(&mut config);
    compile(config.to_string().as_bytes()).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
    compiled(change).expect_err("a configuration with errors")
}

#[test]
fn a_configuration_becomes_a_hub() {
    let hub = compiled(|_| {}).unwrap();
    assert_eq!((hub.name.as_str(), hub.skew), ("taskfence-hub", Span(120)));
    let names: Vec<_> =
        hub.feeds.iter().map(|feed| (feed.name.clone(), feed.policy().signals().path().to_owned())).collect();
    let path = |name: &str| (name.to_owned(), format!("/v1/feeds/{name}/signals"));
    assert_eq!(names, [path("main"), path("other")]);
    assert_ne!(hub.feeds[0].id, hub.feeds[1].id);
    let [access] = hub.access.as_slice() else { panic!("one") };
    assert_eq!((access.role, access.feeds.as_slice()), (Role::Sidecar, &["main".to_owned()][..]));
    assert!(access.peers.matches("spiffe://mesh.example/ns/a") && !access.peers.matches("spiffe://mesh.example.org/a"));
    let plain = compiled(|config| config["listen"] = json!({})).expect_err("access needs certificates");
    assert_eq!(plain.len(), 1);
    let small = compiled(|config| {
        config.as_object_mut().unwrap().remove("listen");
        config.as_object_mut().unwrap().remove("access");
    });
    assert_eq!(small.unwrap().listen.address.to_string(), "127.0.0.1:8500");
}

#[test]
fn every_error_is_reported_at_once_with_path_and_remedy() {
    let found = problems(|config| {
        config["name"] = json!("a hub");
        config["data"] = json!("data");
        config["skew"] = json!("1s");
        config["listen"] = json!({"address": "0.0.0.0:80"});
        config["access"] = json!([{"spiffe": "mesh.example", "role": "sidcar", "feeds": ["mian"]}]);
        config["clusters"] = json!({"idb": "http://idp.example"});
        config["feeds"][0]["signals"]["transmitters"][0]["keys"] = json!({});
        config["feeds"][1]["name"] = json!("main");
        config["feeds"][1]["signals"]["effects"] = json!({"acount-disabled": "ignore"});
        config["feeds"].as_array_mut().unwrap().push(feed("Third"));
    });
    let expected = [
        "name: cannot be the `iss` of statements (write printable ASCII characters without spaces, such as `taskfence-hub`)",
        "data: `data` is not an absolute path: it would depend on where the hub is started (write a directory such as `/var/lib/taskfence`)",
        "skew: must be between 1m and 1h",
        "listen.address: `0.0.0.0:80` can be reached from other machines, and there is no `tls`: tokens and signals would be readable (add `listen.tls` with `certificate` and `key`, or listen on `127.0.0.1`)",
        "access[0].spiffe: `mesh.example` is not a SPIFFE id (write an id such as `spiffe://mesh.example/ns/prod/sa/web`, or `spiffe://mesh.example/` for all ids below it)",
        "access[0].role: unknown role `sidcar` (did you mean `sidecar`?)",
        "access[0].feeds[0]: `mian` is not one of `feeds` (did you mean `main`?)",
        "access: needs client certificates, and the hub asks for none (add `listen.tls.client_ca`, or remove `access` and give callers bearer tokens)",
        "clusters.idb: `http://idp.example` fetches keys without TLS: whoever is between could replace them (write `https://`; `http://` is allowed to a loopback address only)",
        "feeds[0].signals.transmitters[0].keys: has none of `inline`, `pem` and `cluster` (write a JWK Set in `inline`, or a public key in `pem`, or write in `cluster` and `path` where to fetch a JWK Set)",
        "feeds[1].name: `main` is the name of an earlier feed (give each feed a name of its own)",
        "feeds[1].signals.effects.acount-disabled: unknown key `acount-disabled` (did you mean `account-disabled`?)",
        "feeds[2].name: `Third` cannot be the name of a feed (use 1 to 63 lower-case letters, digits and `-`, such as `main`)",
        "feeds[2].signals.transmitters[1].keys.cluster: `idp` is not one of `clusters` (did you mean `idb`?)",
    ];
    assert_eq!(found, expected);
}

#[test]
fn unknown_keys_have_a_near_one() {
    assert_eq!(problems(|config| config["fedes"] = json!([])), ["fedes: unknown key `fedes` (did you mean `feeds`?)"]);
    let inner = problems(|config| config["listen"]["tls"]["cert"] = json!("/c"));
    assert_eq!(inner, ["listen.tls.cert: unknown key `cert` (known: `certificate`, `key`, `client_ca`)"]);
    let below = problems(|config| config["feeds"][0]["signals"]["transmitters"][1]["audiences"] = json!("hub"));
    assert_eq!(
        below,
        ["feeds[0].signals.transmitters[1].audiences: unknown key `audiences` (did you mean `audience`?)"]
    );
    let near = [
        ("/", "skeww", "skew"),
        ("/", "reserve_mb", "reserve_mib"),
        ("/listen/", "adress", "address"),
        ("/listen/tls/", "client_cas", "client_ca"),
        ("/access/0/", "role_", "role"),
        ("/feeds/0/", "issuer", "issuers"),
    ];
    for (object, typed, near) in near {
        let found = problems(|config| config.pointer_mut(object.trim_end_matches('/')).unwrap()[typed] = json!(1));
        let path = object.replace("/0", "[0]").trim_start_matches('/').replace('/', ".");
        assert_eq!(found, [format!("{path}{typed}: unknown key `{typed}` (did you mean `{near}`?)")]);
    }
}

#[test]
fn a_feed_may_have_operators_alone() {
    for signals in [Value::Null, json!({}), json!({"transmitters": []})] {
        let hub = compiled(|config| config["feeds"][1]["signals"] = signals.clone()).unwrap();
        let policy = hub.feeds[1].policy();
        assert!(policy.signals().transmitters().is_empty(), "{signals}");
        assert_eq!(policy.signals().path(), "/v1/feeds/other/signals");
        assert_eq!(hub.feeds[1].id, FeedId::new("taskfence-hub", "other"));
    }
    let without = compiled(|config| {
        config["feeds"][1].as_object_mut().unwrap().remove("signals");
    });
    assert!(without.is_ok());
}

#[test]
fn the_schema_takes_what_the_hub_takes() {
    let schema = crate::config::schema::schema();
    let validator = jsonschema::draft202012::new(schema.as_value()).unwrap();
    let fits = |change: &dyn Fn(&mut Value)| {
        let mut config = config();
        change(&mut config);
        validator.is_valid(&config)
    };
    assert!(fits(&|_| {}), "{:?}", validator.iter_errors(&config()).map(|error| error.to_string()).collect::<Vec<_>>());
    assert!(fits(&|config| drop(config["feeds"][1].as_object_mut().unwrap().remove("signals"))));
    assert!(fits(&|config| config["feeds"][0]["signals"]["effects"] = json!({"account-disabled": "ignore"})));
    let unfit: [(&str, Value); 9] = [
        ("/surprise", json!(1)),
        ("/skew", json!("soon")),
        ("/reserve_mib", json!("256")),
        ("/listen/tls/surprise", json!(1)),
        ("/access/0/role", json!("sidcar")),
        ("/feeds/0/surprise", json!(1)),
        ("/feeds/0/issuers/0/surprise", json!(1)),
        ("/feeds/0/signals/stale", json!({"after": "30s"})),
        ("/feeds/0/signals/transmitters/0/surprise", json!(1)),
    ];
    for (pointer, value) in unfit {
        let put = |config: &mut Value| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = value.clone();
        };
        assert!(!fits(&put), "the schema takes {pointer}");
        assert!(compiled(put).is_err(), "the hub takes {pointer}");
    }
    for (object, key) in [("", "data"), ("", "feeds"), ("/feeds/0", "name"), ("/access/0", "spiffe")] {
        let remove =
            |config: &mut Value| drop(config.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(key));
        assert!(!fits(&remove) && compiled(remove).is_err(), "{object}/{key}");
    }
}

#[test]
fn what_belongs_to_filters_is_refused_with_the_place_for_it() {
    let found = problems(|config| {
        config["feeds"][0]["signals"]["stale"] = json!({"after": "30s"});
        config["feeds"][0]["signals"]["path"] = json!("/signals");
        config["feeds"][1]["signals"]["transmiters"] = json!([]);
    });
    assert_eq!(
        found,
        [
            "feeds[0].signals.path: unknown key `path` (remove it: SETs are pushed to `/v1/feeds/NAME/signals`)",
            "feeds[0].signals.stale: unknown key `stale` (it belongs in the configuration of the filters that follow the feed)",
            "feeds[1].signals.transmiters: unknown key `transmiters` (did you mean `transmitters`?)",
        ]
    );
}

#[test]
fn feeds_are_bounded_and_operators_keep_their_name() {
    let found = problems(|config| {
        let one = |at: usize| json!({"issuer": format!("https://{at}.example"), "audience": "hub", "subjects": ["https://jit.example"], "keys": keys()});
        config["feeds"][0]["signals"]["transmitters"] = (0..31).map(one).collect();
        for (at, name) in [(0, "operator"), (1, "issuer/https://jit.example")] {
            config["feeds"][1]["signals"]["transmitters"][at] =
                json!({"issuer": name, "audience": "hub", "subjects": ["https://jit.example"], "keys": keys()});
        }
    });
    assert_eq!(
        found,
        [
            "feeds[0].signals.transmitters: has 31 entries, and a feed may have 30 (divide it into several feeds)",
            "feeds[1].signals.transmitters[0].issuer: is a name that the hub gives to callers of its API (configure the `iss` of a transmitter)",
            "feeds[1].signals.transmitters[1].issuer: is a name that the hub gives to callers of its API (configure the `iss` of a transmitter)",
        ]
    );
    assert_eq!(
        problems(|config| config["feeds"] = json!([])).last().unwrap(),
        "feeds: must have at least one entry (add a feed with `name`, `issuers` and `signals`)"
    );
}

/// A statement names each issuer, and followers take no statement with more.
#[test]
fn a_feed_has_no_more_issuers_by_captures() {
    let with = |count: usize| {
        compiled(|config| {
            let tenants: Vec<String> = (0..count).map(|at| format!("t-{at}")).collect();
            let issuer = &mut config["feeds"][0]["issuers"][0];
            issuer["issuer"] = json!("https://jit.example/{tenant}");
            issuer["captures"] = json!({ "tenant": tenants });
            config["feeds"][0]["signals"]["transmitters"] = json!([
                {"issuer": "https://idp.example", "audience": "hub", "subjects": ["https://jit.example/t-0"], "keys": keys()}
            ]);
        })
    };
    assert_eq!(with(30).unwrap().feeds[0].policy().issuers().len(), 30);
    let message = "feeds[0].issuers: stands for 31 issuers, and a feed may have 30 (divide it into several feeds)";
    assert_eq!(with(31).err(), Some(vec![message.to_owned()]));
}

#[test]
fn what_is_not_one_object_is_refused() {
    let message = |json: &str| compile(json.as_bytes()).unwrap_err().to_string();
    assert_eq!(message("[]"), "the configuration is not a JSON object");
    assert!(message("{\"data\": }").starts_with("not JSON"));
    assert!(message(r#"{"data": "/d", "data": "/e", "feeds": []}"#).starts_with("data: not usable as JSON"));
}

#[test]
fn limits_have_defaults_and_none_is_nothing() {
    let hub = compiled(|config| config["limits"] = json!({"full_states": 4})).unwrap();
    assert_eq!(hub.limits, LimitsConfig { full_states: 4, ..LimitsConfig::default() });
    assert!(hub.limits.followers_per_principal >= 10_000, "a mesh may use one identity for all of its proxies");
    let found = problems(|config| config["limits"] = json!({"followers": 0, "sidecar_requests": 0}));
    assert_eq!(found, ["limits.followers: must be at least 1", "limits.sidecar_requests: must be at least 1"]);
    assert_eq!(problems(|config| config["audit"] = json!({"days": 0})), ["audit.days: must be at least 1"]);
    let evidence = compiled(|config| config["evidence"] = json!({"days": 0, "period": "2s"})).unwrap().evidence;
    assert_eq!((evidence.days, evidence.mib, evidence.period), (0, 4_096, Span(2)));
    let found = problems(|config| config["evidence"] = json!({"days": 4_000, "mib": 0, "period": "1h"}));
    let expected = [
        "evidence.days: must be at most 3660",
        "evidence.mib: must be at least 1 (write `days: 0` to keep no evidence)",
        "evidence.period: must be between 1s and 10m",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_provider_of_logout_tokens_knows_users_by_a_name_that_tokens_have() {
    let warnings = |change: &dyn Fn(&mut Value)| -> Vec<String> {
        let hub = compiled(|config| {
            let entry = &mut config["feeds"][0]["signals"]["transmitters"][1];
            entry["logout_audience"] = json!("web");
            entry.as_object_mut().unwrap().remove("audience");
            change(config);
        });
        hub.unwrap().warnings.iter().map(ToString::to_string).collect()
    };
    let [warning] = warnings(&|_| {}).try_into().unwrap();
    assert_eq!(
        warning,
        "feeds[0].signals.transmitters[1].logout_audience: names users that no token of its `subjects` has: logout tokens \
         with `sub` alone are refused (write `subject_issuers: {https://idp.example: ISSUER}` if `sub` of that issuer has \
         the same values, or `claims.subjects.iss_sub` of the issuer)"
    );
    let idp = "https://idp.example";
    let none: Vec<String> = Vec::new();
    assert_eq!(
        warnings(&|config| {
            let entry = &mut config["feeds"][0]["signals"]["transmitters"][1];
            entry["subject_issuers"] = json!({ idp: "https://jit.example" });
        }),
        none
    );
    assert_eq!(
        warnings(&|config| {
            config["feeds"][0]["issuers"][0]["claims"] = json!({"subjects": {"iss_sub": {idp: "idp_sub"}}});
        }),
        none
    );
    let errors = problems(|config| {
        let entry = &mut config["feeds"][0]["signals"]["transmitters"][1];
        entry["subject_issuers"] = json!({idp: "https://else.example", "https://jit.example": "https://jit.example"});
        entry["profile"] = json!("octa");
    });
    assert!(errors.iter().any(|error| error.contains("octa")), "{errors:?}");
    let errors = problems(|config| {
        let entry = &mut config["feeds"][0]["signals"]["transmitters"][1];
        entry["subject_issuers"] = json!({idp: "https://else.example", "https://jit.example": "https://jit.example"});
        entry["logout_audience"] = json!([""]);
    });
    let place = "feeds[0].signals.transmitters[1]";
    assert_eq!(
        errors,
        [
            format!("{place}.audience: must not be empty"),
            format!(
                "{place}.subject_issuers.{idp}: `https://else.example` is not one of the `subjects` of this transmitter (known: `https://jit.example`)"
            ),
            format!("{place}.subject_issuers.https://jit.example: is itself one of the `subjects` of this transmitter"),
        ]
    );
}

#[test]
fn streams_need_an_address_and_feeds_that_send_on_need_streams() {
    let hub = compiled(|config| {
        config["streams"] = json!({"issuer": "https://hub.example/", "allow": ["10.0.0.0/8"]});
        config["feeds"][0]["receivers"] = json!({"relay_from": ["https://idp.example"]});
    });
    let hub = hub.unwrap();
    let streams = hub.streams.unwrap();
    assert_eq!((streams.issuer.as_str(), streams.per_principal), ("https://hub.example", 8));
    assert_eq!(hub.feeds[0].relay_from, ["https://idp.example"]);
    let found = problems(|config| {
        config["streams"] = json!({"issuer": "http://hub.example", "allow": ["everything"], "per_principal": 0,
            "inactivity_timeout": "1m", "min_verification_interval": "0s"});
    });
    let starts = [
        "streams.issuer",
        "streams.allow[0]",
        "streams.inactivity_timeout",
        "streams.min_verification_interval",
        "streams.per_principal",
    ];
    assert!(found.iter().zip(starts).all(|(problem, start)| problem.starts_with(start)), "{found:?}");
    assert_eq!(found.len(), starts.len(), "{found:?}");
    let path = problems(|config| config["streams"] = json!({"issuer": "https://hub.example/tenant"}));
    assert_eq!(path.len(), 1);
    let found = problems(|config| config["feeds"][0]["receivers"] = json!({"relay_from": ["https://idp.exampel"]}));
    assert!(
        found[0].contains("needs `streams`") && found[1].contains("did you mean `https://idp.example`"),
        "{found:?}"
    );
}

/// A relay of `https://hub.example`, after `change`.
fn relay(change: impl FnOnce(&mut Value)) -> Result<Hub, Vec<String>> {
    let mut config = json!({
        "data": "/var/lib/taskfence",
        "follow": {"url": "https://hub.example", "keys": keys(), "token_file": "/etc/taskfence/token"},
        "feeds": [{"name": "main"}, {"name": "other"}]
    });
    change(&mut config);
    compile(config.to_string().as_bytes()).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

#[test]
fn a_relay_has_names_of_feeds_and_the_hub_that_it_follows() {
    let hub = relay(|_| {}).unwrap();
    let follow = hub.follow.as_ref().unwrap();
    assert_eq!((hub.feeds.len(), hub.feed_names()), (0, vec!["main", "other"]));
    assert_eq!(follow.at.url("/v1/feeds/main").unwrap().as_str(), "https://hub.example/v1/feeds/main");
    assert_eq!(follow.token_file.as_deref(), Some(std::path::Path::new("/etc/taskfence/token")));
    let schema = crate::config::schema::schema();
    let validator = jsonschema::draft202012::new(schema.as_value()).unwrap();
    let follow = json!({"url": "https://hub.example", "keys": keys(), "token_file": "/t"});
    assert!(validator.is_valid(&json!({"data": "/d", "follow": follow, "feeds": [{"name": "main"}]})));
}

#[test]
fn each_message_about_a_relay() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 12] = [
        (
            |c| c["follow"]["url"] = json!("http://hub.example"),
            "follow.url: `http://hub.example` fetches keys without TLS: whoever is between could replace them (write `https://`; `http://` is allowed to a loopback address only)",
        ),
        (
            |c| c["follow"]["surprise"] = json!(1),
            "follow.surprise: unknown key `surprise` (known: `url`, `keys`, `token_file`, `certificate`, `key`, `ca`)",
        ),
        (
            |c| c["follow"]["keys"] = json!({"inline": {"keys": []}}),
            "follow.keys.inline.keys: must have at least one key (write what `taskfence hub keys` prints on the host of the hub)",
        ),
        (
            |c| drop(c["follow"].as_object_mut().unwrap().remove("token_file")),
            "follow: has no credentials, and the hub serves nobody that it does not know (add `token_file` with a token of the role `relay`, or `certificate` and `key`)",
        ),
        (
            |c| c["follow"]["certificate"] = json!("/c.pem"),
            "follow.key: is missing beside `certificate` (name the file of its key)",
        ),
        (
            |c| c["follow"]["key"] = json!("/k.pem"),
            "follow.certificate: is missing beside `key` (name the file of its chain)",
        ),
        (
            |c| {
                c["follow"]["certificate"] = json!("/c.pem");
                c["follow"]["key"] = json!("/k.pem");
            },
            "follow.token_file: stands beside `certificate` (keep one: the hub would look at the token only)",
        ),
        (
            |c| c["feeds"][1]["issuers"] = json!([]),
            "feeds[1].issuers: stands in a relay, which takes nothing in (remove it here: it belongs to the hub that `follow.url` leads to)",
        ),
        (
            |c| c["feeds"][0]["signals"] = json!({}),
            "feeds[0].signals: stands in a relay, which takes nothing in (remove it here: it belongs to the hub that `follow.url` leads to)",
        ),
        (
            |c| c["feeds"][1]["name"] = json!("main"),
            "feeds[1].name: `main` is the name of an earlier feed (give each feed a name of its own)",
        ),
        (
            |c| c["evidence"] = json!({}),
            "evidence: stands in a relay, which keeps none (remove it: the hub that `follow.url` leads to keeps the evidence of \
             the proxies behind the relay)",
        ),
        (
            |c| c["clusters"] = json!({"idp": "https://idp.example"}),
            "clusters: stands in a relay, which fetches no keys (remove it)",
        ),
        (
            |c| c["follow"]["url"] = json!("http://127.0.0.1:8500"),
            "follow.url: is where this relay listens itself (write the address of the hub)",
        ),
    ];
    for (change, message) in cases {
        let problems = relay(change).expect_err(message);
        assert!(problems.iter().any(|problem| problem == message), "{problems:?} and not {message}");
    }
    // Without `follow` a feed must have issuers.
    let problems = problems(|config| drop(config["feeds"][0].as_object_mut().unwrap().remove("issuers")));
    let message = "feeds[0].issuers: is missing (list the issuers that it covers, as in the configuration of a filter)";
    assert_eq!(problems, [message]);
}
