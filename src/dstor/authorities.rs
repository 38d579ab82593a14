//! Certificate authorities that count beside those of the system: many services stand behind a private one.

use reqwest::Certificate;

/// Whom to trust beside the system's own. By default nobody.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<Certificate>);

/// A text that holds no certificates that could be trusted; why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoAuthorities {
    /// There is none in it.
    #[error("no certificate is in it")]
    Empty,
    /// Something in it is none.
    #[error("a certificate in it cannot be read")]
    Unreadable,
}

impl Authorities {
    /// Reads certificates in PEM, one after the other: `-----BEGIN CERTIFICATE-----` and so on.
    ///
    /// # Errors
    /// [`NoAuthorities`]; nothing of the text is in it.
    pub fn from_pem(text: &str) -> Result<Self, NoAuthorities> {
        let found = Certificate::from_pem_bundle(text.as_bytes()).map_err(|_| NoAuthorities::Unreadable)?;
        if found.is_empty() {
            return Err(NoAuthorities::Empty);
        }
        // What is between the lines is looked at here only.
        let tried = reqwest::Client::builder().tls_certs_only(found.clone()).build();
        tried.map(|_| Self(found)).map_err(|_| NoAuthorities::Unreadable)
    }

    /// They.
    pub(super) fn certificates(&self) -> impl Iterator<Item = Certificate> {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // E3
    #[test]
    fn what_holds_no_whole_certificate_names_nobody_to_trust() {
        let of = |text: &str| Authorities::from_pem(text).map(|_| ()).expect_err("nobody");
        assert_eq!(of(""), NoAuthorities::Empty);
        assert_eq!(of("-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n"), NoAuthorities::Empty);
        let cut = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert_eq!(of(cut), NoAuthorities::Unreadable);
    }
}
