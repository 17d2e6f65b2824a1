//! The pages under `docs/issuers`: each configuration is good, and takes the token of its page when another library has
//! signed it. Other tokens of that issuer it refuses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};
use taskfence_tests::artefacts;
use taskfence_tests::mint::{Alg, Keyring, Signer, now, proof, unique};
use taskfence_tests::tamper;

/// A page, taken apart.
struct Page {
    name: String,
    folder: PathBuf,
    header: Value,
    claims: Value,
    /// The arguments of `taskfence explain`.
    command: Vec<String>,
    /// What the issuer is called in the configuration, if the token does not say it.
    issuer: String,
    signer: Signer,
    client: Signer,
}

impl Page {
    fn read(path: &Path) -> Page {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let folder = artefacts::target().join("tests").join(unique("issuer-page"));
        fs::create_dir_all(&folder).unwrap();
        let config = block(&text, "```yaml\n");
        fs::write(folder.join("taskfence.yaml"), config).unwrap();
        let token: Value =
            serde_json::from_str(block(&text, "```json\n")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let command = block(&text, "```\ntaskfence ").split_whitespace().map(str::to_owned).collect();
        let (header, mut claims) = (token["header"].clone(), token["claims"].clone());
        let later = now() - claims["iat"].as_i64().expect("iat");
        for time in ["iat", "exp", "nbf", "auth_time"] {
            if let Some(at) = claims[time].as_i64() {
                claims[time] = json!(at + later);
            }
        }
        let client = Signer::new(Alg::Es256);
        if claims.get("cnf").is_some() {
            claims["cnf"] = json!({"jwk": client.public()});
        }
        let alg = Alg::ALL.into_iter().find(|alg| header["alg"] == alg.name()).expect("an algorithm that we sign with");
        // A new RSA key takes its time.
        static SIGNERS: LazyLock<Keyring> = LazyLock::new(|| Keyring::generate("issuer"));
        let mut signer = SIGNERS.signer(alg).clone();
        signer.kid = header["kid"].as_str().expect("kid").to_owned();
        fs::write(folder.join("keys.json"), json!({"keys": [signer.public()]}).to_string()).unwrap();
        let named = config.lines().find_map(|line| line.trim().strip_prefix("issuer: ")).expect("an issuer");
        let issuer = claims["iss"].as_str().unwrap_or(named).to_owned();
        Page { name, folder, header, claims, command, issuer, signer, client }
    }

    fn token(&self, claims: &Value) -> String {
        self.signer.sign_text(self.header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// What the command of the page says of this token.
    fn explain(&self, token: &str, url: Option<&str>) -> Value {
        fs::write(self.folder.join("token.jwt"), token).unwrap();
        let mut arguments = self.command.clone();
        let at = arguments.iter().position(|argument| argument == "--url").expect("a URL") + 1;
        if let Some(url) = url {
            arguments[at] = url.to_owned();
        }
        let proof = proof(&self.client, "GET", &arguments[at], token).sign();
        fs::write(self.folder.join("proof.jwt"), proof).unwrap();
        let output = Command::new(artefacts::command().unwrap())
            .current_dir(&self.folder)
            .args(&arguments)
            .args(["--output", "json", "--jwks", &format!("{}=keys.json", self.issuer)])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr)))
    }

    /// Why it would be refused: the pages begin with shadow mode, in which everything passes.
    fn reason(&self, token: &str, url: Option<&str>) -> Option<String> {
        let explained = self.explain(token, url);
        explained["reason"].as_str().map(str::to_owned)
    }
}

/// What stands between `begin` and the end of the block.
fn block<'t>(text: &'t str, begin: &str) -> &'t str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?} in {text}"));
    rest.split("```").next().unwrap()
}

fn pages() -> Vec<Page> {
    let entries = fs::read_dir(artefacts::in_repository("docs/issuers")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name != "README.md"));
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

#[test]
fn each_page_takes_its_token_and_no_other() {
    for page in pages() {
        let name = &page.name;
        let token = page.token(&page.claims);
        assert_eq!(page.reason(&token, None), None, "{name}: {}", page.explain(&token, None));
        assert_eq!(page.explain(&token, None)["token"]["status"], "verified", "{name}");
        let forged = tamper::flip_signature_bit(&token);
        assert_eq!(page.reason(&forged, None).as_deref(), Some("signature_invalid"), "{name}");
        assert_eq!(
            page.reason(&token, Some("https://orders.mesh/v1/other")).as_deref(),
            Some("rule_missing"),
            "{name}"
        );
        let audience = if page.claims.get("aud").is_some() { "aud" } else { "client_id" };
        if page.claims.get(audience).is_some() {
            let mut claims = page.claims.clone();
            claims[audience] = json!("https://other.example");
            assert_eq!(page.reason(&page.token(&claims), None).as_deref(), Some("audience_mismatch"), "{name}");
        }
        let mut claims = page.claims.clone();
        claims["exp"] = json!(now() - 3600);
        claims["iat"] = json!(now() - 3700);
        assert_eq!(page.reason(&page.token(&claims), None).as_deref(), Some("token_expired"), "{name}");
    }
}

#[test]
fn each_configuration_is_checked() {
    for page in pages() {
        let output = Command::new(artefacts::command().unwrap())
            .current_dir(&page.folder)
            .args(["check", "taskfence.yaml"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", page.name);
        // Two warnings are meant: shadow mode, and that nothing signals yet.
        let warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert!(
            warnings.iter().all(|line| line.contains("shadow") || line.contains("signals")),
            "{}: {said}",
            page.name
        );
    }
}

#[test]
fn every_profile_has_a_page() {
    let output = Command::new(artefacts::command().unwrap()).arg("schema").output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let variants =
        schema.pointer("/$defs/Profile/oneOf").and_then(Value::as_array).expect("the profiles of the schema");
    let profiles: BTreeSet<String> =
        variants.iter().filter_map(|one| one["const"].as_str()).map(str::to_owned).collect();
    let named: BTreeSet<String> = pages().into_iter().map(|page| page.name).collect();
    assert_eq!(named, profiles);
    let index = fs::read_to_string(artefacts::in_repository("docs/issuers/README.md")).unwrap();
    for profile in profiles {
        assert!(index.contains(&format!("({profile}.md) | `{profile}` |")), "{profile}");
    }
}
