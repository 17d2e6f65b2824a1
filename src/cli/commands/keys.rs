//! `taskfence keys`: signing keys for demos, tests and a first transmitter.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::failure::Failure;
use crate::input::file::{self, Access, Existing};
use crate::signing::key::{Algorithm, SigningKey};
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Make signing keys
#[derive(Debug, Subcommand)]
pub enum Keys {
    New(New),
}

impl Keys {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::New(new) => new.run(console),
        }
    }
}

/// Make a signing key: the private JWK to sign with and the public key set to verify with
///
/// PREFIX.private.jwk is the secret (mode 0600). PREFIX.jwks.json is the public key set: put its content under
/// `keys: { inline: ... }` of an issuer or a transmitter in the configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence keys new --alg ES256 --out demo
  taskfence keys new --alg RS256 --kid 2026-09 --out keys/issuer")]
pub struct New {
    /// The signature algorithm of the key
    #[arg(long, value_name = "ALG", ignore_case = true)]
    alg: Algorithm,

    /// The key's name in the `kid` of what it signs [default: its RFC 7638 thumbprint]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    kid: Option<String>,

    /// The path that the names of the two files begin with
    #[arg(long, value_name = "PREFIX")]
    out: PathBuf,

    /// Replace files that are there already
    #[arg(long)]
    force: bool,
}

impl New {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        let private = with_suffix(&self.out, ".private.jwk");
        let public = with_suffix(&self.out, ".jwks.json");
        // Both are looked at before either is written: half a key pair helps nobody.
        file::check_free(&private, existing)?;
        file::check_free(&public, existing)?;

        let key = SigningKey::generate(self.alg, self.kid.clone())?;
        let key_set = serde_json::to_string_pretty(&json!({"keys": [key.public_jwk()?]}))?;
        file::write(&private, &(key.private_jwk() + "\n"), Access::Owner, existing)?;
        file::write(&public, &(key_set + "\n"), Access::Everyone, existing)?;

        writeln!(console.out, "wrote {}: the private key, keep it secret", private.display())?;
        writeln!(console.out, "wrote {}: the public key set, kid {}", public.display(), key.kid())?;
        Ok(Exit::Done)
    }
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::console::Capture;
    use serde_json::Value;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_goes_through_its_files_and_back() {
        for algorithm in ["ES256", "EdDSA"] {
            let folder = tempfile::tempdir().unwrap();
            let prefix = folder.path().join("demo.key");
            let mut capture = Capture::default();
            let exit =
                capture.run(&["keys", "new", "--alg", algorithm, "--kid", "k1", "--out", prefix.to_str().unwrap()]);
            assert_eq!(exit, Exit::Done, "{}", capture.err());

            let private = folder.path().join("demo.key.private.jwk");
            let mode = fs::metadata(&private).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            let key = SigningKey::read(&private).unwrap();
            assert_eq!(key.kid(), "k1");

            let key_set = fs::read(folder.path().join("demo.key.jwks.json")).unwrap();
            let key_set: Value = serde_json::from_slice(&key_set).unwrap();
            assert_eq!(key_set, json!({"keys": [key.public_jwk().unwrap()]}));
            let public = &key_set["keys"][0];
            assert_eq!(
                (&public["kid"], &public["alg"], &public["use"]),
                (&json!("k1"), &json!(algorithm), &json!("sig"))
            );
            assert!(public.get("d").is_none(), "the public key set holds no secret");
            assert!(capture.out().contains("demo.key.private.jwk") && capture.out().contains("demo.key.jwks.json"));
        }
    }

    #[test]
    fn keys_are_not_replaced_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let public = folder.path().join("k.jwks.json");
        fs::write(&public, "mine").unwrap();
        let prefix = folder.path().join("k");
        let args = ["keys", "new", "--alg", "ES256", "--out", prefix.to_str().unwrap(), "--force"];

        let mut capture = Capture::default();
        assert_eq!(capture.run(&args[..6]), Exit::Failed);
        assert!(capture.err().contains("k.jwks.json` is there already"), "{}", capture.err());
        assert_eq!(fs::read_to_string(&public).unwrap(), "mine");
        assert!(!folder.path().join("k.private.jwk").exists(), "no half pair is left");

        assert_eq!(capture.run(&args), Exit::Done, "{}", capture.err());
        assert_ne!(fs::read_to_string(&public).unwrap(), "mine");
    }
}
