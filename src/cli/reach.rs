//! Which dStor a command asks, and the sandbox in its place where one is asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use crate::config::{Config, CredentialSources, Environment, Upload};
use crate::dstor::{Authorities, Client, ClientOptions, CredentialSource, Credentials};
use crate::ledger::AgentLock;
use crate::plan::AssembleError;
use crate::sandbox::Sandbox;
use crate::seal::Recipients;
use crate::wording::shown;

use super::args::Global;
use super::exit::{Exit, Failure};
use super::{places, setup};

/// A dStor that can be asked, and how.
pub(super) struct Reach {
    pub(super) client: Arc<Client>,
    /// What the configuration says of uploads, or the defaults.
    pub(super) upload: Upload,
    /// To whom the configuration has things encrypted.
    pub(super) recipients: Option<Recipients>,
    sandbox: Option<Sandbox>,
}

/// Whether it may be asked to store something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// Reading needs no credentials.
    Nothing,
    /// Those that are found where the configuration says.
    Credentials,
}

impl Reach {
    /// The dStor of `service`, as the ledger in `state_dir` has it; the sandbox is started if no agent runs one.
    pub(super) async fn of(global: &Global, service: &str, state_dir: &Path, with: With) -> Result<Self, Failure> {
        let (overrides, environment) = (places::overrides(global, None), Environment::of_process());
        // All that reading needs of the configuration; mirrors have no part in it.
        let loaded = Config::load(&overrides, &environment);
        let upload = loaded.as_ref().map(|config| config.upload.clone()).unwrap_or_default();
        let recipients = loaded.as_ref().ok().and_then(|config| config.encrypt.recipients.clone());
        let authorities =
            loaded.as_ref().map(|config| config.dstor.authorities()).unwrap_or_else(|_| Ok(Authorities::default()))?;
        let mut credentials: CredentialSource = Arc::new(|| Ok(None));
        let (mut sandbox, mut url) = (None, service.to_owned());
        if service == places::SANDBOX {
            let key = if AgentLock::is_held(state_dir) {
                url = places::open(state_dir)?.agent()?.map(|agent| agent.url).unwrap_or_default();
                let file = state_dir.join("dstor").join("api-key");
                let read = std::fs::read_to_string(&file).map_err(|error| {
                    let what = format!("cannot read the sandbox's API key in `{}`: {error}", shown(&file));
                    Failure::new(Exit::Attention, what).with_hint("run this as the user that the agent runs as")
                });
                read?.trim().to_owned()
            } else {
                let started = setup::start_sandbox(state_dir).await?;
                url = started.url();
                let key = started.api_key().to_owned();
                sandbox = Some(started);
                key
            };
            let key = SecretString::from(key);
            credentials = Arc::new(move || Ok(Some(Credentials::ApiKey(key.clone()))));
        } else if with == With::Credentials {
            let sources = CredentialSources::new(&loaded?, &environment);
            sources.check()?;
            credentials = Arc::new(move || {
                let found = sources.load().map_err(|error| error.to_string())?;
                Ok(found.map(|(credentials, _)| credentials))
            });
        }
        let url = Url::parse(&url)
            .map_err(|_| Failure::new(Exit::Attention, "the mirror does not say which dStor it goes to"))?;
        let options = ClientOptions {
            url,
            token_lifetime: Duration::from_secs(3600),
            credentials,
            stall_timeout: upload.stall_timeout,
            authorities,
        };
        let client = Client::new(options).map_err(AssembleError::Client)?;
        Ok(Self { client: Arc::new(client), upload, recipients, sandbox })
    }

    /// The one that a machine without a ledger asks: that of the configuration, of `DSTOR_URL`, or the usual one.
    pub(super) async fn of_machine(global: &Global, is_sandbox: bool) -> Result<Self, Failure> {
        let (overrides, environment) = (places::overrides(global, None), Environment::of_process());
        if is_sandbox {
            let state_dir = crate::config::state_dir(&overrides, &environment)?.join(places::SANDBOX);
            return Self::of(global, places::SANDBOX, &state_dir, With::Nothing).await;
        }
        let url = Config::service(&overrides, &environment)?;
        Self::of(global, url.as_str(), Path::new(""), With::Nothing).await
    }

    pub(super) async fn leave(self) {
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
        }
    }
}
