//! The desktop's keyring, by the Secret Service's protocol: one entry for each dStor.
//!
//! Nobody is ever asked to unlock it: whoever asks here may be a service that nobody looks at. A locked one is an error.

use std::collections::HashMap;

use secrecy::{ExposeSecret as _, SecretString};
use zbus::Connection;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

use super::Bus;

const SECRETS: &str = "org.freedesktop.secrets";
const SERVICE_PATH: &str = "/org/freedesktop/secrets";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const COLLECTION: &str = "org.freedesktop.Secret.Collection";
const ITEM: &str = "org.freedesktop.Secret.Item";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// What stands for no object: no prompt is needed, there is no such collection.
const NONE: &str = "/";

/// A secret on the bus: the session, parameters of its cipher (none), the bytes, and what they are.
type OnTheBus = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// Where the credentials for one dStor are kept by the desktop, if it does that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyring {
    bus: Bus,
    url: String,
}

/// Why the keyring gives or takes nothing.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no session, or nobody keeps secrets in it.
    #[error("there is no desktop keyring here")]
    Absent,
    /// It is there, and it is locked.
    #[error("the desktop's keyring is locked")]
    Locked,
    /// Whatever else, in the keyring's own words.
    #[error("the desktop's keyring does not work: {0}")]
    Failed(String),
}

impl From<zbus::Error> for KeyringError {
    fn from(error: zbus::Error) -> Self {
        let name = match &error {
            zbus::Error::MethodError(name, ..) => name.as_str(),
            // Nobody listens, or whoever does speaks no D-Bus.
            zbus::Error::Connection(..) | zbus::Error::Handshake(_) | zbus::Error::Address(_) => return Self::Absent,
            _ => "",
        };
        match name {
            "org.freedesktop.Secret.Error.IsLocked" => Self::Locked,
            "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner" => Self::Absent,
            // Nothing could start one.
            _ if name.starts_with("org.freedesktop.DBus.Error.Spawn.") => Self::Absent,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What a question came to: the bus's errors are one kind, what the keyring's state forbids another.
type Asked<T> = zbus::Result<Result<T, KeyringError>>;

impl Keyring {
    /// The entry for the dStor at `url`, on the session's `bus`.
    #[must_use]
    pub fn new(bus: Bus, url: impl Into<String>) -> Self {
        Self { bus, url: url.into() }
    }

    /// Blocking: whether there is a keyring, locked or not.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let asked = self.bus.ask_blocking(async |connection| open(connection).await.map(|_| ()));
        !matches!(asked.map_err(KeyringError::from), Err(KeyringError::Absent))
    }

    /// Blocking: what is kept; `None`: nothing is.
    ///
    /// # Errors
    /// [`KeyringError`]; `Locked` only if there is an entry.
    pub fn load(&self) -> Result<Option<SecretString>, KeyringError> {
        self.ask(async |connection| {
            let session = open(connection).await?;
            let (unlocked, locked) = self.search(connection).await?;
            let Some(item) = unlocked.first() else {
                return Ok(if locked.is_empty() { Ok(None) } else { Err(KeyringError::Locked) });
            };
            let reply = connection.call_method(Some(SECRETS), item, Some(ITEM), "GetSecret", &session).await?;
            let (_, _, bytes, _) = reply.body().deserialize::<OnTheBus>()?;
            let text = String::from_utf8(bytes).map_err(|_| KeyringError::Failed("its entry is no text".into()));
            Ok(text.map(|text| Some(SecretString::from(text))))
        })
    }

    /// Blocking: keeps `secret`, in place of what is kept.
    ///
    /// # Errors
    /// [`KeyringError`]; nothing is kept then.
    pub fn keep(&self, secret: &SecretString) -> Result<(), KeyringError> {
        self.ask(async |connection| {
            let session = open(connection).await?;
            let reply = call(connection, "ReadAlias", &"default").await?;
            let collection: OwnedObjectPath = reply.body().deserialize()?;
            if collection.as_str() == NONE {
                let hint = "it has no default keyring; make one in the desktop's settings";
                return Ok(Err(KeyringError::Failed(hint.into())));
            }
            let is_locked = connection
                .call_method(Some(SECRETS), &collection, Some(PROPERTIES), "Get", &(COLLECTION, "Locked"))
                .await?;
            if bool::try_from(is_locked.body().deserialize::<OwnedValue>()?)? {
                return Ok(Err(KeyringError::Locked));
            }
            let label = format!("dstor-sync: {}", self.url);
            let properties = HashMap::from([
                ("org.freedesktop.Secret.Item.Label", Value::from(label)),
                ("org.freedesktop.Secret.Item.Attributes", Value::from(self.attributes())),
            ]);
            let sent = (ObjectPath::from(session), Vec::<u8>::new(), secret.expose_secret().as_bytes(), "text/plain");
            let made = connection
                .call_method(Some(SECRETS), &collection, Some(COLLECTION), "CreateItem", &(properties, sent, true))
                .await?;
            let (item, _prompt): (OwnedObjectPath, OwnedObjectPath) = made.body().deserialize()?;
            Ok(if item.as_str() == NONE { Err(KeyringError::Locked) } else { Ok(()) })
        })
    }

    /// Blocking: forgets what is kept. Returns whether anything was.
    ///
    /// # Errors
    /// [`KeyringError`]; `Locked` only if there is an entry.
    pub fn forget(&self) -> Result<bool, KeyringError> {
        self.ask(async |connection| {
            let (unlocked, locked) = self.search(connection).await?;
            for item in &unlocked {
                let reply = connection.call_method(Some(SECRETS), item, Some(ITEM), "Delete", &()).await?;
                let prompt: OwnedObjectPath = reply.body().deserialize()?;
                if prompt.as_str() != NONE {
                    return Ok(Err(KeyringError::Locked));
                }
            }
            Ok(if locked.is_empty() { Ok(!unlocked.is_empty()) } else { Err(KeyringError::Locked) })
        })
    }

    fn ask<T: Send>(&self, question: impl AsyncFnOnce(&Connection) -> Asked<T> + Send) -> Result<T, KeyringError> {
        self.bus.ask_blocking(question).map_err(KeyringError::from)?
    }

    /// By what the entry is found. The keyring shows these to everyone, locked or not.
    fn attributes(&self) -> HashMap<&str, &str> {
        HashMap::from([("application", "dstor-sync"), ("url", self.url.trim_end_matches('/'))])
    }

    /// The entries that can be read, and those that cannot.
    async fn search(&self, connection: &Connection) -> zbus::Result<(Vec<OwnedObjectPath>, Vec<OwnedObjectPath>)> {
        call(connection, "SearchItems", &self.attributes()).await?.body().deserialize()
    }
}

/// A session of the Secret Service. It ends with the connection. Secrets cross the bus as they are: it is a socket of this
/// user alone, and whoever could listen in on it could ask the keyring themselves.
async fn open(connection: &Connection) -> zbus::Result<OwnedObjectPath> {
    let reply = call(connection, "OpenSession", &("plain", Value::from(""))).await?;
    let (_, session): (OwnedValue, OwnedObjectPath) = reply.body().deserialize()?;
    Ok(session)
}

async fn call<B>(connection: &Connection, method: &str, body: &B) -> zbus::Result<zbus::Message>
where
    B: serde::Serialize + zbus::zvariant::DynamicType,
{
    connection.call_method(Some(SECRETS), SERVICE_PATH, Some(SERVICE), method, body).await
}
