//! What proves to dStor who we are.

use secrecy::{ExposeSecret as _, SecretString};

/// An API key, or e-mail and password: either is swapped for a short-lived token.
///
/// There is no `Display`, and `Debug` hides the secrets.
#[derive(Debug)]
pub enum Credentials {
    /// The account's API key.
    ApiKey(SecretString),
    /// The account's login.
    Login {
        /// Its e-mail address.
        email: String,
        /// Its password.
        password: SecretString,
    },
}

/// What dStor refused once need not be sent again until it changes: is it the same?
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ApiKey(ours), Self::ApiKey(theirs)) => ours.expose_secret() == theirs.expose_secret(),
            (Self::Login { email, password }, Self::Login { email: their_email, password: their_password }) => {
                email == their_email && password.expose_secret() == their_password.expose_secret()
            }
            (Self::ApiKey(_), Self::Login { .. }) | (Self::Login { .. }, Self::ApiKey(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(email: &str, password: &str) -> Credentials {
        Credentials::Login { email: email.into(), password: password.into() }
    }

    #[test]
    fn credentials_are_the_same_only_if_every_part_is() {
        let key = Credentials::ApiKey("k".into());
        assert_eq!(key, Credentials::ApiKey("k".into()));
        assert_ne!(key, Credentials::ApiKey("l".into()));
        assert!(key != login("k", "k") && login("k", "k") != key);
        assert_eq!(login("a@b", "p"), login("a@b", "p"));
        assert_ne!(login("a@b", "p"), login("a@b", "q"));
        assert_ne!(login("a@b", "p"), login("c@b", "p"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", Credentials::ApiKey("hunter2".into()), login("a@b", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
