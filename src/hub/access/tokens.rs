//! The bearer tokens in the store: made, rotated, revoked, and listed. The command line calls this on the host of the
//! hub too, while the hub runs.

use crate::access::bearer::{self, NoRandomness};
use crate::config::role::Role;
use crate::store::Store;
use crate::store::model::{PrincipalRecord, StoreError};

/// A principal has at most so many tokens: the old one stays valid until the new one is everywhere.
const AT_ONCE: usize = 2;

const MAX_NAME: usize = 200;

/// Why a token is not made, rotated or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The name has characters that it may not have.
    #[error("`{0}` is not a name for a token: use 1 to {MAX_NAME} letters, digits and the characters `-._:/@`")]
    Name(String),
    /// There is a token of this name.
    #[error("there is a token named `{0}`: rotate it, revoke it, or choose another name")]
    Exists(String),
    /// There is no token of this name.
    #[error("there is no token named `{0}`: see the list of tokens")]
    Unknown(String),
    /// A feed that the hub does not have.
    #[error("there is no feed `{0}`")]
    Feed(String),
    /// The system gives no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known about the tokens of one principal. The tokens themselves are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// The name.
    pub name: String,
    /// The role, as it is stored.
    pub role: String,
    /// The feeds that it may use; empty: all.
    pub feeds: Vec<String>,
    /// When each token was made and when it was last used, in milliseconds since 1970; 0: never.
    pub tokens: Vec<(u64, u64)>,
}

/// Makes the first token of the principal `name` and returns it. It is not shown again.
///
/// With the role `issuer` the name is that of the issuer, as the feeds name it.
pub fn create(store: &dyn Store, name: &str, role: Role, feeds: &[String], now: u64) -> Result<String, TokenError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:/@".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        return Err(TokenError::Name(name.to_owned()));
    }
    if find(store, name)?.is_some() {
        return Err(TokenError::Exists(name.to_owned()));
    }
    let token = bearer::generate()?;
    store.put_principal(&PrincipalRecord {
        name: name.to_owned(),
        role: role.as_str().to_owned(),
        feeds: feeds.to_vec(),
        tokens: vec![(bearer::hash(&token), now, 0)],
    })?;
    Ok(token)
}

/// Makes another token of `name` and returns it. The one before stays valid; one older than that does not.
pub fn rotate(store: &dyn Store, name: &str, now: u64) -> Result<String, TokenError> {
    let mut record = find(store, name)?.ok_or_else(|| TokenError::Unknown(name.to_owned()))?;
    let token = bearer::generate()?;
    record.tokens.push((bearer::hash(&token), now, 0));
    keep_newest(&mut record, AT_ONCE);
    store.put_principal(&record)?;
    Ok(token)
}

/// Revokes all tokens of `name`, or all but the newest.
pub fn revoke(store: &dyn Store, name: &str, but_the_newest: bool) -> Result<(), TokenError> {
    let unknown = || TokenError::Unknown(name.to_owned());
    if but_the_newest {
        let mut record = find(store, name)?.ok_or_else(unknown)?;
        keep_newest(&mut record, 1);
        return Ok(store.put_principal(&record)?);
    }
    if store.remove_principal(name)? { Ok(()) } else { Err(unknown()) }
}

/// All principals with tokens, by name.
pub fn list(store: &dyn Store) -> Result<Vec<TokenInfo>, StoreError> {
    let mut all = Vec::new();
    for record in store.principals()? {
        let mut tokens = Vec::new();
        for (hash, made, used) in &record.tokens {
            tokens.push((*made, last_use(store, hash)?.max(*used)));
        }
        all.push(TokenInfo { name: record.name, role: record.role, feeds: record.feeds, tokens });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// Notes when the token with the hash was last used. It is kept apart from the principal, so that a note can never bring
/// back a token that was revoked meanwhile.
pub fn note_use(store: &dyn Store, hash: &[u8], at: u64) -> Result<(), StoreError> {
    store.set(&use_name(hash), &at.to_string())
}

fn last_use(store: &dyn Store, hash: &[u8]) -> Result<u64, StoreError> {
    Ok(store.get(&use_name(hash))?.and_then(|text| text.parse().ok()).unwrap_or_default())
}

fn use_name(hash: &[u8]) -> String {
    hash.iter().take(16).fold("token-used/".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

fn find(store: &dyn Store, name: &str) -> Result<Option<PrincipalRecord>, StoreError> {
    Ok(store.principals()?.into_iter().find(|record| record.name == name))
}

fn keep_newest(record: &mut PrincipalRecord, most: usize) {
    let spare = record.tokens.len().saturating_sub(most);
    record.tokens.drain(..spare);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn hashes(store: &dyn Store) -> Vec<Vec<u8>> {
        let principals = store.principals().unwrap();
        principals.into_iter().flat_map(|record| record.tokens).map(|(hash, ..)| hash).collect()
    }

    #[test]
    fn two_tokens_are_valid_at_once_and_never_three() {
        let (_folder, store) = testing::store();
        let one = create(&*store, "ops", Role::Operator, &[], 1).unwrap();
        assert_eq!(create(&*store, "ops", Role::Auditor, &[], 2), Err(TokenError::Exists("ops".into())));
        let two = rotate(&*store, "ops", 2).unwrap();
        assert_eq!(hashes(&*store), [bearer::hash(&one), bearer::hash(&two)]);
        let three = rotate(&*store, "ops", 3).unwrap();
        assert_eq!(hashes(&*store), [bearer::hash(&two), bearer::hash(&three)]);
        revoke(&*store, "ops", true).unwrap();
        assert_eq!(hashes(&*store), [bearer::hash(&three)]);
        revoke(&*store, "ops", false).unwrap();
        assert_eq!(hashes(&*store), Vec::<Vec<u8>>::new());
        assert_eq!(revoke(&*store, "ops", false), Err(TokenError::Unknown("ops".into())));
        assert_eq!(rotate(&*store, "ops", 4), Err(TokenError::Unknown("ops".into())));
    }

    #[test]
    fn a_use_is_shown_and_brings_nothing_back() {
        let (_folder, store) = testing::store();
        let token = create(&*store, "ops", Role::Operator, &["main".into()], 1).unwrap();
        note_use(&*store, &bearer::hash(&token), 5).unwrap();
        let listed = list(&*store).unwrap();
        assert_eq!((listed[0].role.as_str(), listed[0].tokens.as_slice()), ("operator", &[(1, 5)][..]));
        revoke(&*store, "ops", false).unwrap();
        note_use(&*store, &bearer::hash(&token), 6).unwrap();
        assert_eq!(list(&*store), Ok(Vec::new()));
    }

    #[test]
    fn names_are_plain() {
        let (_folder, store) = testing::store();
        for bad in ["", "a b", "a\n", "é", "a\u{1b}[31m"] {
            assert_eq!(create(&*store, bad, Role::Auditor, &[], 1), Err(TokenError::Name(bad.into())));
        }
        assert!(create(&*store, "https://jit.example", Role::Issuer, &[], 1).is_ok());
    }
}
