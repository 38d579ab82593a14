//! `sandbox`: a local dStor in the foreground.

use crate::config::{self, Environment};
use crate::sandbox::{Options, Sandbox};
use crate::upload::Stop;
use crate::wording::shown;

use super::args::{Global, Sandbox as Command};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places::{SANDBOX, overrides};
use super::{logs, setup, signals};

pub(super) fn run(global: &Global, command: Command, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, None, output);
    let (mut stop, _) = signals::listen()?;
    let store = match command.store {
        Some(store) => store,
        None => config::state_dir(&overrides(global, None), &Environment::of_process())?.join(SANDBOX).join("dstor"),
    };
    let mut options = Options::new(&store);
    options.listen = command.listen;
    options.delay = command.delay;
    options.misbehaviours = command.misbehave;
    let runtime = setup::runtime()?;
    runtime.block_on(async {
        let sandbox = Sandbox::start(options).await?;
        output.line(format_args!("dStor    {} (a sandbox: only this machine reaches it)", sandbox.url()));
        output.line(format_args!("files    {}", shown(&store)));
        output.line(format_args!("API key  in {}", shown(store.join("api-key"))));
        output.line(format_args!(
            "try it   DSTOR_URL={} DSTOR_API_KEY=$(cat {}) dstor-sync run DIR",
            sandbox.url(),
            shown(store.join("api-key"))
        ));
        output.line("stop     Ctrl-C");
        Stop::wait(&mut stop).await;
        sandbox.stop().await;
        Ok(Exit::Fine)
    })
}
