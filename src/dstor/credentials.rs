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

impl Credentials {
    /// Whether these are the same credentials: what dStor refused once need not be sent again until they change.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
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
        assert!(key.same_as(&Credentials::ApiKey("k".into())));
        assert!(!key.same_as(&Credentials::ApiKey("l".into())));
        assert!(!key.same_as(&login("k", "k")) && !login("k", "k").same_as(&key));
        assert!(login("a@b", "p").same_as(&login("a@b", "p")));
        assert!(!login("a@b", "p").same_as(&login("a@b", "q")));
        assert!(!login("a@b", "p").same_as(&login("c@b", "p")));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", Credentials::ApiKey("hunter2".into()), login("a@b", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
