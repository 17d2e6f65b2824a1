//! What is lost where the tokens of an issuer lack a claim.

use taskfence_core::policy::policy::Policy;

/// A line for each claim that the first issuer of `policy` declares absent.
pub fn losses(policy: &Policy) -> Vec<String> {
    let Some(issuer) = policy.issuers().first() else { return Vec::new() };
    let names = &issuer.claims;
    let absent = [
        (
            names.task.is_none(),
            "no task: no signal can complete the task of a token, and nothing tells two tasks of a user apart",
        ),
        (
            names.token.is_none(),
            "no token id: a digest of the token stands for it, so no signal can end one token by its `jti`",
        ),
        (names.client.is_none(), "no client: no signal and no rule can be about the client"),
        (names.session.is_none(), "no session: no signal can end one session, only all of a user"),
        (names.scope.is_none(), "no scope: rules cannot ask for one, and no signal can narrow it"),
        (names.audience.is_none(), "no audience: a token for another service is taken from its presenter"),
    ];
    absent.into_iter().filter(|(is_absent, _)| *is_absent).map(|(_, loss)| loss.to_owned()).collect()
}
