//! `taskfence token proof`: DPoP proofs (RFC 9449) to try a filter with.

use crate::signing::dpop_proof::Contents;
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use uuid::Uuid;

use crate::failure::Failure;
use crate::input::secret::Secret;
use crate::signing::key::SigningKey;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::time::Moment;

/// Sign a DPoP proof for one request and print it
///
/// The proof shows that the sender of the request holds the key that the access token is bound to. Each proof is accepted
/// once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence token mint --bind-key client.jwks.json ... >token.jwt
  taskfence token proof --key client.private.jwk --token @token.jwt \\
      --url https://orders.mesh/v1/orders/1881 >proof.jwt
  curl -H \"Authorization: DPoP $(cat token.jwt)\" -H \"DPoP: $(cat proof.jwt)\" \\
      https://orders.mesh/v1/orders/1881")]
pub struct Proof {
    /// The client's private key, as `taskfence keys new` writes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// The access token that it goes with, or `@FILE` to read it from a file
    #[arg(long)]
    token: Secret,

    /// The method of the request (`htm`)
    #[arg(long, default_value = "GET", value_parser = NonEmpty::new())]
    method: String,

    /// The URL of the request, as the client calls it (`htu`); query and fragment are left out
    #[arg(long, value_parser = NonEmpty::new())]
    url: String,

    /// The nonce that the service gave out in `dpop-nonce`
    #[arg(long, value_parser = NonEmpty::new())]
    nonce: Option<String>,

    /// When it was made (`iat`): RFC 3339, unix seconds, or an offset from now like -10m
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    issued_at: Moment,

    /// The id of this one proof (`jti`) [default: a new UUID]
    #[arg(long, value_parser = NonEmpty::new())]
    jti: Option<String>,
}

impl Proof {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let id = self.jti.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let contents = Contents {
            id: &id,
            method: &self.method,
            url: &self.url,
            token: &self.token.read()?,
            nonce: self.nonce.as_deref(),
            issued_at: self.issued_at.resolve(console.now)?,
        };
        writeln!(console.out, "{}", contents.sign(&SigningKey::read(&self.key)?)?)?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::key::tests::{claims_of, header_of};
    use crate::terminal::console::Capture;
    use serde_json::json;
    use taskfence_core::encoding::digest::{digest_text, sha256};
    use taskfence_core::jose::algorithm::Algorithm;
    use taskfence_core::jose::signature::PureRust;
    use taskfence_core::jose::thumbprint::thumbprint;
    use taskfence_core::time::Timestamp;
    use taskfence_core::token::dpop;

    #[test]
    fn a_proof_that_the_filter_takes() {
        let folder = tempfile::tempdir().unwrap();
        for alg in ["ES256", "EdDSA", "RS256"] {
            let prefix = folder.path().join(alg).to_str().unwrap().to_owned();
            let mut capture = Capture::default();
            assert_eq!(capture.run(&["keys", "new", "--alg", alg, "--out", &prefix]), Exit::Done);
            let key = format!("{prefix}.private.jwk");
            let mut capture = Capture::default();
            let args = ["token", "proof", "--key", &key, "--token", "a.b.c", "--nonce", "n", "--jti", "p"];
            let exit = capture.run(&[&args[..], &["--method", "POST", "--url", "https://orders.mesh/v1?q#f"]].concat());
            assert_eq!(exit, Exit::Done, "{}", capture.err());
            let proof = capture.out().trim();
            let header = header_of(proof);
            assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!(alg)));
            assert!(header["jwk"].get("d").is_none() && header.get("kid").is_none(), "{header}");
            let ath = digest_text(&sha256(b"a.b.c"));
            assert_eq!(
                claims_of(proof),
                json!({"jti": "p", "htm": "POST", "htu": "https://orders.mesh/v1", "iat": Capture::NOW, "ath": ath, "nonce": "n"})
            );
            let thumbprint = thumbprint(&header["jwk"]).unwrap();
            let expected = dpop::Expected {
                method: b"POST",
                scheme: b"https",
                authority: b"orders.mesh",
                path: b"/v1",
                token: b"a.b.c",
                key: &thumbprint,
            };
            let settings = dpop::Settings { algorithms: Algorithm::ALL.to_vec(), ..dpop::Settings::default() };
            let now = Timestamp(Capture::NOW);
            let verified = dpop::verify(proof.as_bytes(), expected, &settings, None, &mut PureRust, now);
            assert!(verified.is_ok(), "{alg}: {verified:?}");
        }
    }
}
