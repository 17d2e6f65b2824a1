//! What this binary makes, the judge takes: every kind of token and signal goes through the code of the data plane.

use serde_json::json;
use taskfence_core::config::compile::Loaded;
use taskfence_core::config::load;
use taskfence_core::jose::signature::PureRust;
use taskfence_core::signal::set;
use taskfence_core::time::Timestamp;
use taskfence_core::token::verify;
use tempfile::TempDir;

use crate::signing::key::SigningKey;
use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;

const ALGORITHMS: [&str; 3] = ["ES256", "RS256", "EdDSA"];

/// Two keys in files, and a configuration that trusts the one as an issuer and the other as a transmitter.
struct World {
    folder: TempDir,
    loaded: Loaded,
}

impl World {
    fn new(algorithm: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let public = |name: &str| {
            let prefix = folder.path().join(name);
            run_command(&["keys", "new", "--alg", algorithm, "--out", prefix.to_str().unwrap()]);
            let key = SigningKey::read(&folder.path().join(format!("{name}.private.jwk"))).unwrap();
            json!({"inline": {"keys": [key.public_jwk().unwrap()]}})
        };
        let config = json!({
            "issuers": [{
                "issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "algorithms": ALGORITHMS,
                "claims": {"device": "device_id"},
                "keys": public("issuer"),
            }],
            "rules": [{"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}],
            "signals": {"transmitters": [{
                "issuer": "https://idp.example", "audience": "https://orders.mesh/signals", "algorithms": ALGORITHMS,
                "keys": public("transmitter"), "subjects": ["https://jit.example"],
            }]},
        });
        let loaded = load::load(config.to_string().as_bytes()).unwrap();
        Self { folder, loaded }
    }

    fn key(&self, name: &str) -> String {
        self.folder.path().join(format!("{name}.private.jwk")).to_str().unwrap().to_owned()
    }

    fn mint(&self) -> String {
        run_command(
            &[
                &["token", "mint", "--key", &self.key("issuer"), "--issuer", "https://jit.example"][..],
                &["--audience", "https://orders.mesh", "--subject", "alice", "--client", "agent-a7", "--jti", "tok-1"],
                &["--task", "task-42", "--session", "sess-9", "--scope", "orders.read", "--auth-time", "-1m"],
                &["--claim", r#"device_id="d7""#],
                &["--detail", r#"{"type":"order","actions":["read"],"identifier":"1881"}"#],
            ]
            .concat(),
        )
    }

    fn signal(&self, args: &[&str]) -> String {
        run_command(
            &[
                &["signal"],
                args,
                &["--key", &self.key("transmitter"), "--issuer", "https://idp.example", "--print"],
                &["--audience", "https://orders.mesh/signals", "--subject-issuer", "https://jit.example"],
            ]
            .concat(),
        )
    }
}

/// What the command prints, without the end of its last line.
fn run_command(args: &[&str]) -> String {
    let mut capture = Capture::default();
    assert_eq!(capture.run(args), Exit::Done, "{}", capture.err());
    capture.out().trim_end().to_owned()
}

#[test]
fn a_signal_meets_the_token_it_is_about() {
    let now = Timestamp(Capture::NOW);
    for algorithm in ALGORITHMS {
        let world = World::new(algorithm);
        let policy = &world.loaded.policy;
        let token = verify::verify(world.mint().as_bytes(), policy.issuers(), &mut PureRust, now).unwrap();
        let commands: [&[&str]; 14] = [
            &["revoke", "--token", "tok-1"],
            &["revoke", "--session", "sess-9"],
            &["revoke", "--user", "alice"],
            &["complete", "--task", "task-42"],
            &["complete", "--task", "task-42", "--outcome", "failure", "--reason", "gave up", "--at", "-10s"],
            &["device", "--device", "d7", "--status", "not-compliant"],
            &["risk", "--user", "alice", "--level", "HIGH", "--reason", "impossible travel"],
            &["risk", "--session", "sess-9", "--level", "MEDIUM"],
            &["risk", "--device", "d7", "--level", "LOW"],
            &["narrow", "--task", "task-42", "--scope", "orders.read", "--details", "[]"],
            &["claims", "--session", "sess-9", "--set", "trusted_network=false"],
            &["claims", "--token", "tok-1", "--set", "scope=orders.read"],
            &["assurance", "--user", "alice", "--level", "x", "--direction", "decrease"],
            &["assurance", "--session", "sess-9", "--level", "x", "--direction", "increase"],
        ];
        for command in commands {
            let set = world.signal(command);
            let transmitters = policy.signals().transmitters();
            let signal = set::read(set.as_bytes(), None, transmitters, policy.issuers(), &mut PureRust, now)
                .unwrap_or_else(|error| panic!("{command:?}: {error:?}"));
            let keys = token.grant().state_keys();
            assert!(!signal.entries().is_empty(), "{command:?}");
            assert!(signal.entries().iter().all(|entry| keys.contains(&entry.key)), "{command:?}");
        }
    }
}
