//! Whether the tokens of an entry can be told from those of another entry, and from the issuer's other kinds of JWT.

use crate::config::problem::{Problem, Problems};
use crate::token::issuer::Issuer;

/// Reports an `issuer`, whose entry is at `path`, that nothing tells from one of the `earlier` ones, or whose access
/// tokens nothing tells from other kinds of JWT, such as ID tokens.
pub(crate) fn check(earlier: &[Issuer], issuer: &Issuer, path: &str, problems: &mut Problems) {
    let same = |other: &&Issuer| other.name == issuer.name && other.is_in_subject == issuer.is_in_subject;
    if let Some(other) = earlier.iter().filter(same).find(|other| !are_apart(other, issuer)) {
        let message = format!(
            "`{}` is configured twice, and nothing tells its tokens from those of issuers[{}]",
            issuer.name, other.entry
        );
        let problem = Problem::at(format!("{path}.issuer"), message);
        problems.errors.push(problem.help("give each entry `types`, `audiences` or a `where` that the other has not"));
    }
    if is_like_an_id_token(issuer) {
        let message = "accept tokens that nothing tells from other JWTs of this issuer, such as ID tokens";
        let problem = Problem::at(format!("{path}.types"), message);
        problems.warnings.push(problem.help(
            "write in `where` a claim that only access tokens have, or give this service an audience that is a URI",
        ));
    }
}

/// Whether no token can belong to both, unless it has an audience of each.
fn are_apart(one: &Issuer, other: &Issuer) -> bool {
    let alike = |typ: &String| other.types.iter().any(|known| known.eq_ignore_ascii_case(typ));
    let by_type = !(one.accepts_untyped && other.accepts_untyped || one.types.iter().any(alike));
    let both_have_audiences = !one.claims.audience.is_none() && one.claims.audience == other.claims.audience;
    let by_audience = both_have_audiences && !one.audiences.iter().any(|audience| other.audiences.contains(audience));
    let by_claim = one.required.iter().any(|(path, values)| {
        let others = other.required.iter().find(|(known, _)| known == path);
        others.is_some_and(|(_, others)| !values.iter().any(|value| others.contains(value)))
    });
    by_type || by_audience || by_claim
}

/// Whether an ID token of the issuer could pass: it has no type of its own, its audience is a client, and its claims are
/// `sub`, `azp` and the like.
fn is_like_an_id_token(issuer: &Issuer) -> bool {
    const IN_ID_TOKENS: [&str; 4] = ["azp", "sub", "aud", "iss"];
    let untyped = issuer.accepts_untyped || issuer.types.iter().any(|typ| typ.eq_ignore_ascii_case("JWT"));
    let has_audience_of_its_own =
        issuer.claims.audience.paths().iter().any(|path| !path.is_nested() && path.root() == "aud")
            && issuer.audiences.iter().all(|audience| audience.contains(':'));
    let mut client = issuer.claims.client.paths().iter();
    let has_claim_of_its_own =
        !issuer.claims.client.is_none() && client.all(|path| !IN_ID_TOKENS.contains(&path.root()));
    untyped && !has_audience_of_its_own && !has_claim_of_its_own && issuer.required.is_empty()
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::testing::fixture;
    use serde_json::{Value, json};

    fn load_with(issuers: Value) -> Result<Vec<String>, Vec<String>> {
        let mut config = json!({
            "issuers": issuers,
            "rules": [{"name": "r", "match": {}, "require": {}}],
            "signals": {"transmitters": [{"issuer": "i", "audience": "us", "keys": {"inline": fixture::jwks()}}]}
        });
        for issuer in config["issuers"].as_array_mut().unwrap() {
            let defaults = json!({"issuer": "i", "audiences": ["https://a"], "keys": {"inline": fixture::jwks()}});
            for (name, value) in defaults.as_object().unwrap() {
                issuer.as_object_mut().unwrap().entry(name).or_insert(value.clone());
            }
        }
        match load(config.to_string().as_bytes()) {
            Ok(loaded) => Ok(loaded.warnings.iter().map(ToString::to_string).collect()),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn entries_of_one_issuer_are_told_apart() {
        for other in [
            json!({"types": ["txntoken+jwt"], "token": {"header": "txn-token"}}),
            json!({"types": ["absent"], "where": {"use": "a"}}),
            json!({"audiences": ["https://b"]}),
            json!({"issuer": "j"}),
        ] {
            assert_eq!(load_with(json!([{}, other])), Ok(Vec::new()), "{other}");
        }
        let by_claim = json!([{"where": {"kind": "a"}}, {"where": {"kind": ["b", "c"]}}]);
        assert_eq!(load_with(by_claim), Ok(Vec::new()));
        for (one, other) in [
            (json!({}), json!({})),
            (json!({"types": ["at+jwt", "absent"]}), json!({"types": ["JWT", "absent"], "where": {"use": "a"}})),
            (json!({"where": {"kind": ["a", "b"]}}), json!({"where": {"kind": ["b", "c"]}})),
            (json!({"where": {"kind": "a"}}), json!({"where": {"other": "a"}})),
            (json!({"audiences": ["https://a", "https://b"]}), json!({"audiences": ["https://b"]})),
        ] {
            let errors = load_with(json!([one, other])).unwrap_err();
            let message =
                "issuers[1].issuer: `i` is configured twice, and nothing tells its tokens from those of issuers[0]";
            assert!(errors.iter().any(|error| error.starts_with(message)), "{one} {other}: {errors:?}");
        }
    }

    #[test]
    fn tokens_like_id_tokens_are_worth_a_warning() {
        let warned = |issuer: Value| !load_with(json!([issuer])).unwrap().is_empty();
        let like = json!({"types": ["JWT"], "audiences": ["orders-api"], "claims": {"client": "azp"}});
        assert!(warned(like.clone()));
        for (key, value) in [
            ("types", json!(["at+jwt"])),
            ("audiences", json!(["https://orders.mesh"])),
            ("claims", json!({"client": "cid"})),
            ("where", json!({"typ": "Bearer"})),
        ] {
            let mut apart = like.clone();
            apart[key] = value;
            assert!(!warned(apart), "{key}");
        }
        let by_client = json!({"types": ["absent"], "audience_from": "client_id", "claims": {"client": "none"}});
        assert!(warned(by_client));
    }
}
