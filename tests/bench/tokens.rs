//! Files of tokens, made before anything is measured.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
};

use serde_json::Value;

use crate::{Error, Result, service};
use taskfence_tests::{
    artefacts,
    mint::{Alg, Jwt},
};

/// More than two times what the cache of a worker holds by default (16 MiB, and a token counts for about 6 KiB), so
/// that a token is long forgotten when it comes again.
pub const MANY: usize = 8_000;

/// Where files of this run go.
pub fn folder() -> Result<PathBuf> {
    let folder = artefacts::target().join("bench").join("work");
    fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
    Ok(folder)
}

/// `count` tokens like [`service::token`], and the file they stand in.
pub fn many(name: &str, alg: Alg, count: usize) -> Result<(PathBuf, usize)> {
    write(name, (0..count).map(|number| service::token(alg).claim("jti", format!("{name}-{number:06}"))))
}

/// One token, and the file it stands in.
pub fn one(name: &str, token: &Jwt) -> Result<(PathBuf, usize)> {
    write(name, std::iter::once(token.clone()))
}

fn write(name: &str, tokens: impl Iterator<Item = Jwt>) -> Result<(PathBuf, usize)> {
    let path = folder()?.join(format!("{name}.tokens"));
    let file = File::create(&path).map_err(Error::doing(path.display()))?;
    let mut file = BufWriter::new(file);
    let mut count = 0;
    for token in tokens {
        writeln!(file, "{}", token.sign()).map_err(Error::doing(path.display()))?;
        count += 1;
    }
    file.flush().map_err(Error::doing(path.display()))?;
    Ok((path, count))
}

/// A token of exactly so many bytes in compact form, or a few more where base64url has no such length.
pub fn sized(bytes: usize) -> Jwt {
    let base = match bytes {
        // What a usual token carries takes more than that.
        0..600 => service::token(Alg::Es256)
            .user("a7")
            .task("t7")
            .without("sid")
            .without("auth_time")
            .without("device_id")
            .claim("client_id", "a7")
            .claim("jti", "t"),
        _ => service::token(Alg::Es256),
    };
    let length = |token: &Jwt| token.sign().len();
    let padded = |pad: usize| base.clone().claim("pad", Value::from("p".repeat(pad)));
    let missing = bytes.saturating_sub(length(&padded(0)));
    // Base64url makes four of three.
    let mut pad = missing * 3 / 4;
    while length(&padded(pad)) < bytes {
        pad += 1;
    }
    while pad > 0 && length(&padded(pad)) > bytes {
        pad -= 1;
    }
    if missing == 0 { base } else { padded(pad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_met() {
        for bytes in [512, 4096, 16_384] {
            let length = sized(bytes).sign().len();
            assert!(length <= bytes && length + 2 > bytes, "{length} for {bytes}");
        }
    }
}
