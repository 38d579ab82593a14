//! Who may upload: the API key, the login and the access tokens, kept beside the files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::SandboxError;

/// Characters in an API key (product's tutorial).
const KEY_CHARACTERS: usize = 64;
/// The login's e-mail address.
pub(super) const EMAIL: &str = "me@sandbox.test";
/// `aud` and `iss` of the example token in the API notes.
const ISSUER: &str = "dstor.cloud";

/// The sandbox's credentials.
pub(super) struct Keys {
    store: PathBuf,
    /// The key that held at the start.
    pub(super) first_api_key: String,
    pub(super) password: String,
    api_key: RwLock<String>,
    /// Signs tokens; another one takes its place when they are revoked.
    secret: RwLock<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
    aud: String,
    iss: String,
    sub: String,
}

impl Keys {
    /// Blocking: reads the credentials below `store`, and makes those that are not there yet.
    pub(super) fn open(store: &Path) -> Result<Self, SandboxError> {
        let kept = |name: &str| {
            let path = store.join(name);
            read_or_make(&path, KEY_CHARACTERS).map_err(|source| SandboxError::Store { path, source })
        };
        let api_key = kept("api-key")?;
        let secret = secret_from(&kept("token-secret")?);
        Ok(Self {
            store: store.to_owned(),
            first_api_key: api_key.clone(),
            password: kept("password")?,
            api_key: RwLock::new(api_key),
            secret: RwLock::new(secret),
        })
    }

    pub(super) fn is_api_key(&self, key: &[u8]) -> bool {
        same(key, self.api_key.read().unwrap_or_else(PoisonError::into_inner).as_bytes())
    }

    pub(super) fn is_login(&self, email: &str, password: &str) -> bool {
        same(email.as_bytes(), EMAIL.as_bytes()) & same(password.as_bytes(), self.password.as_bytes())
    }

    /// Blocking: from now on only `key` is taken, here and after a restart.
    pub(super) fn replace_api_key(&self, key: &str) -> io::Result<()> {
        key.clone_into(&mut self.api_key.write().unwrap_or_else(PoisonError::into_inner));
        fs::write(self.store.join("api-key"), key)
    }

    /// Blocking: refuses every token issued so far, here and after a restart.
    pub(super) fn revoke_tokens(&self) -> io::Result<()> {
        let mut secret = self.secret.write().unwrap_or_else(PoisonError::into_inner);
        // From the old one, which nobody knows: nothing here can fail before the old tokens are void.
        let seed = blake3::keyed_hash(&secret, b"next").to_hex();
        *secret = secret_from(&seed);
        fs::write(self.store.join("token-secret"), seed.as_str())
    }

    /// A token from `now` (seconds since 1970) that lives as long as is wished, but no longer than `longest`.
    pub(super) fn issue(&self, now: i64, wished_end: Option<i64>, longest: Duration) -> String {
        let last_end = now.saturating_add_unsigned(longest.as_secs());
        let exp = wished_end.unwrap_or(last_end).min(last_end);
        let claims =
            Claims { iat: now, exp, aud: ISSUER.to_owned(), iss: ISSUER.to_owned(), sub: subject(&self.first_api_key) };
        let payload = serde_json::to_vec(&claims).expect("numbers and text are JSON");
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"BLAKE3","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = URL_SAFE_NO_PAD.encode(self.sign(&signed).as_bytes());
        format!("{signed}.{signature}")
    }

    /// Whether this token was issued here, was not revoked and has not expired at `now` (seconds since 1970).
    pub(super) fn accepts(&self, token: &str, now: i64) -> bool {
        let claims = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let signature: [u8; 32] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
            if self.sign(signed) != signature {
                return None;
            }
            let payload = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
            serde_json::from_slice::<Claims>(&payload).ok()
        };
        claims().is_some_and(|claims| now < claims.exp)
    }

    fn sign(&self, text: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.secret.read().unwrap_or_else(PoisonError::into_inner), text.as_bytes())
    }
}

fn secret_from(seed: &str) -> [u8; 32] {
    blake3::derive_key("dstor-sync sandbox 2026 token secret", seed.as_bytes())
}

/// Compares secrets in a time that tells nothing about where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    blake3::hash(a) == blake3::hash(b)
}

/// The account's UUID, always the same for the same store.
fn subject(key: &str) -> String {
    let hex = blake3::hash(key.as_bytes()).to_hex();
    // Version 8: made by a rule of one's own (RFC 9562).
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Blocking: letters and digits from the system's randomness.
pub(super) fn random_text(characters: usize) -> io::Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789AZ";
    let mut bytes = vec![0; characters];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.into_iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect())
}

fn read_or_make(path: &Path, characters: usize) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        // Empty: the sandbox was killed between making it and writing it.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = random_text(characters)?;
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dstor::wire;

    fn keys() -> (tempfile::TempDir, Keys) {
        let store = tempfile::tempdir().expect("a directory");
        let keys = Keys::open(store.path()).expect("keys");
        (store, keys)
    }

    #[test]
    fn a_token_is_accepted_until_it_expires_and_only_unchanged() {
        let (_store, keys) = keys();
        let day = Duration::from_secs(86_400);
        let token = keys.issue(1000, Some(1060), day);
        assert!(keys.accepts(&token, 1059) && !keys.accepts(&token, 1060));
        assert_eq!(wire::Claims::of(&token), Some(wire::Claims { iat: Some(1000), exp: 1060 }));
        assert_eq!(wire::Claims::of(&keys.issue(0, Some(i64::MAX), day)).map(|claims| claims.exp), Some(86_400));
        for changed in [format!("{token}A"), token.replacen('.', ".e", 1), String::new(), "a.b.c".to_owned()] {
            assert!(!keys.accepts(&changed, 1001), "{changed}");
        }
    }

    #[test]
    fn revoked_tokens_stay_refused_after_a_restart_and_new_ones_are_taken() {
        let (store, keys) = keys();
        let old = keys.issue(0, None, Duration::from_secs(9));
        keys.revoke_tokens().expect("revoked");
        let new = keys.issue(0, None, Duration::from_secs(9));
        let again = Keys::open(store.path()).expect("keys");
        for keys in [&keys, &again] {
            assert!(!keys.accepts(&old, 1) && keys.accepts(&new, 1));
        }
    }

    #[test]
    fn credentials_are_kept_where_only_their_owner_reads() {
        use std::os::unix::fs::PermissionsExt as _;
        let (store, keys) = keys();
        assert_eq!(keys.first_api_key.len(), 64);
        for name in ["api-key", "password", "token-secret"] {
            let mode = fs::metadata(store.path().join(name)).expect("kept").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
