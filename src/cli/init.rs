//! `init`: the first minute, from nothing to a configuration.

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::config::{self, Begun, Config, Draft, Dstor, Environment, Mirror, Overrides, Secret, Source, Store};
use crate::ledger::AgentLock;
use crate::local::{RuleBook, Survey, most_watches};
use crate::mirror::shell_word;
use crate::wording::{bytes, counted, shown};

use super::args::{Global, Init};
use super::ask::Asker;
use super::credentials::{self, Given};
use super::exit::{Exit, Failure};
use super::output::{Output, Tone};
use super::places::overrides;

/// How often a person may give credentials that dStor refuses.
const TRIES: u32 = 3;

pub(super) fn run(global: &Global, command: &Init, output: &Output) -> Result<Exit, Failure> {
    let (overrides, environment) = (overrides(global, None), Environment::of_process());
    let file = config::config_path(&overrides, &environment)?;
    let asker = Asker::new(output, !command.yes)?;
    let first = First { file, overrides, environment, command, asker: &asker, output };
    let Some(replaces) = first.may_write()? else { return Ok(first.nothing_written()) };
    first.greet();
    let (mirror, path) = first.mirror()?;
    let url = first.url()?;
    let draft = |given: &Given| first.draft(given, &url, &mirror, &path);
    let given = first.credentials(&url, draft)?;
    let text = draft(&given).text()?;
    first.show_plan(&Config::of_text(&text, &first.overrides, &first.environment)?, &mirror, &url)?;
    if !asker.yes("Write it?", true)? {
        return Ok(first.nothing_written());
    }
    let secret = match &given {
        Given::Found(..) | Given::InFile(..) => Secret::None,
        Given::Key(key) => Secret::ApiKey(key),
        Given::Login { password, .. } => Secret::Password(password),
    };
    let begun = Config::begin(&first.overrides, &first.environment, &text, secret, replaces)?;
    first.say_done(&begun, &given, global);
    Ok(Exit::Fine)
}

/// What the answers depend on.
struct First<'a> {
    /// Where the config will be.
    file: PathBuf,
    overrides: Overrides,
    environment: Environment,
    command: &'a Init,
    asker: &'a Asker<'a>,
    output: &'a Output,
}

impl First<'_> {
    /// Whether a config that is there is replaced; `None`: it is not to be touched.
    fn may_write(&self) -> Result<Option<bool>, Failure> {
        if self.file.symlink_metadata().is_err() || self.command.force {
            return Ok(Some(self.command.force));
        }
        if !self.asker.is_anyone_there() {
            let what = format!("there is a configuration already: `{}`", shown(&self.file));
            return Err(Failure::new(Exit::Usage, what)
                .with_hint("`--force` replaces it, and keeps it beside the new one with `.old` at its end"));
        }
        self.output.note(format_args!("There is a configuration already:\n  {}", shown(&self.file)));
        Ok(self.asker.yes("Replace it, and keep it with `.old` at its end?", false)?.then_some(true))
    }

    fn nothing_written(&self) -> Exit {
        self.output.note("nothing was written");
        Exit::Attention
    }

    fn greet(&self) {
        if self.asker.is_anyone_there() {
            self.output.note("A few questions, then this is written; nothing is uploaded yet:");
            self.output.note(format_args!("  {}", shown(&self.file)));
            self.output.note("Enter takes what is in brackets. Ctrl-C ends it with nothing written.\n");
        }
    }

    /// The mirror, and its directory as the config names it.
    fn mirror(&self) -> Result<(Mirror, PathBuf), Failure> {
        let (mut mirror, path) = match &self.command.dir {
            Some(dir) => self.directory(dir).map_err(Failure::of_usage)?,
            None => self.ask_for_directory()?,
        };
        if self.command.remote.is_none() {
            let usual = mirror.policy.placement.to_string();
            mirror.policy.placement = self.until_right("Directory on dStor", &usual, "--remote", config::remote)?;
        }
        Ok((mirror, path))
    }

    fn directory(&self, dir: &Path) -> Result<(Mirror, PathBuf), Failure> {
        Ok(Mirror::first(dir, self.command.remote.as_deref(), &self.overrides, &self.environment)?)
    }

    fn ask_for_directory(&self) -> Result<(Mirror, PathBuf), Failure> {
        let usual = config::typed_path("~/Documents", &self.environment).ok().filter(|path| path.is_dir());
        // Taken unasked, it would be a guess.
        let usual = usual.as_deref().and_then(Path::to_str).filter(|_| self.asker.is_anyone_there());
        loop {
            let answer = self.asker.line("Directory to mirror", usual)?.ok_or_else(|| {
                Failure::new(Exit::Usage, "no directory to mirror was given")
                    .with_hint("name it: `dstor-sync init DIR`")
            })?;
            let typed = config::typed_path(&answer, &self.environment).map_err(Failure::from);
            match typed.and_then(|dir| self.directory(&dir)) {
                Ok(mirror) => return Ok(mirror),
                Err(failure) => self.output.failure(&failure),
            }
        }
    }

    fn url(&self) -> Result<Url, Failure> {
        if let Some(url) = &self.command.url {
            return Dstor::address("`--url`", url).map_err(|error| Failure::from(error).of_usage());
        }
        let usual = Dstor::usual_address(&self.environment)?;
        self.until_right("dStor's address", usual.as_str().trim_end_matches('/'), "--url", Dstor::address)
    }

    /// Asks until the answer makes sense; where nobody is there, the usual one has to.
    fn until_right<T>(
        &self,
        question: &str,
        usual: &str,
        flag: &str,
        read: impl Fn(&str, &str) -> Result<T, config::ConfigError>,
    ) -> Result<T, Failure> {
        loop {
            let answer = self.asker.line(question, Some(usual))?.ok_or_else(|| {
                Failure::new(Exit::Usage, format!("the input ended before `{question}` was answered"))
                    .with_hint(format!("answer it with `{flag}`"))
            })?;
            match read("it", &answer) {
                Ok(value) => return Ok(value),
                Err(error) if self.asker.is_anyone_there() => self.output.failure(&error.into()),
                Err(error) => return Err(Failure::from(error).of_usage()),
            }
        }
    }

    fn draft(&self, given: &Given, url: &Url, mirror: &Mirror, path: &Path) -> Draft {
        let store = Store::beside(&self.file);
        Draft {
            url: (*url != Dstor::default().url).then(|| url.clone()),
            credentials: credentials::files_of(given, store.api_key(), store.password()),
            path: path.to_owned(),
            remote: mirror.policy.placement.clone(),
        }
    }

    /// Credentials that dStor takes. Whatever is wrong with the config that they make is said before anything is sent.
    fn credentials(&self, url: &Url, draft: impl Fn(&Given) -> Draft) -> Result<Given, Failure> {
        let of_flags = credentials::of_flags(&self.command.account, self.asker)?;
        let may_try_again = of_flags.is_none() && self.asker.is_anyone_there();
        let choose = || credentials::choose(&Store::beside(&self.file), &self.environment, self.asker, self.output);
        let mut given = of_flags.map_or_else(choose, Ok)?;
        let mut tries = 1;
        loop {
            let config = Config::of_text(&draft(&given).text()?, &self.overrides, &self.environment)?;
            if self.command.account.no_check {
                credentials::say_untested(self.output);
                return Ok(given);
            }
            match credentials::test(url, &config.dstor, &given.credentials(), self.output) {
                Ok(until) => {
                    credentials::say_taken(until, &given.credentials(), self.output);
                    return Ok(given);
                }
                Err(failure) if failure.exit == Exit::Credentials && may_try_again && tries < TRIES => {
                    self.output.failure(&failure);
                    tries += 1;
                    given = choose()?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// What would be mirrored, before the first byte is.
    fn show_plan(&self, config: &Config, mirror: &Mirror, url: &Url) -> Result<(), Failure> {
        let own = config.own_paths(&self.environment);
        let rules = RuleBook::new(&mirror.exclude, mirror.hidden);
        let survey = Survey::of(&mirror.path, &own, &rules, &mirror.policy).map_err(|error| {
            Failure::new(Exit::Attention, format!("cannot look through `{}`: {error}", shown(&mirror.path)))
        })?;
        let out = self.output;
        let Survey { directories, files: count, bytes: size, excluded, skipped, unreadable } = survey;
        out.line("");
        out.line(format_args!("mirror       {}", shown(&mirror.path)));
        out.line(format_args!("             → {} on {}", mirror.policy.placement, url.as_str().trim_end_matches('/')));
        out.line(format_args!(
            "files        {count} ({}) in {}",
            bytes(size),
            counted(directories, "directory", "directories")
        ));
        out.line(format_args!(
            "left out     {excluded} by rules; {skipped} never sent: links, pipes, too large and the like"
        ));
        let unread = if unreadable > 0 {
            out.paint(&format!("{unreadable}: they wait until they can be read"), Tone::Bad)
        } else {
            "none".to_owned()
        };
        out.line(format_args!("unreadable   {unread}"));
        if let Some(most) = most_watches() {
            out.line(format_args!("watches      {directories}, of {most} that this system allows you"));
            if directories > most {
                let more = directories.saturating_mul(2);
                out.note("warning: the others are found by scans only, once an hour");
                out.note(format_args!("hint: sudo sysctl fs.inotify.max_user_watches={more}"));
            }
        }
        for warning in config.warnings() {
            out.note(format_args!("warning: {warning}"));
        }
        out.line("");
        out.line("Whoever has a file's hash can read the file: content on dStor is public to");
        out.line("those who know its hash. For files to be encrypted before they are sent, make");
        out.line("a key with `dstor-sync key generate FILE`, and name it under [encrypt].");
        out.line("");
        Ok(())
    }

    fn say_done(&self, begun: &Begun, given: &Given, global: &Global) {
        let out = self.output;
        out.line(format_args!("wrote        {}", shown(&self.file)));
        if let Some(secret) = &begun.secret {
            out.line(format_args!("             {}", shown(secret)));
        }
        if let Some(older) = &begun.older {
            out.line(format_args!("kept         {}", shown(older)));
        }
        if let Given::Found(_, source @ (Source::ApiKeyVariable | Source::LoginVariables)) = given {
            out.note(format_args!("note: dstor-sync needs {source} wherever it runs;"));
            out.note("      `dstor-sync login` stores credentials instead");
        }
        if config::state_dir(&self.overrides, &self.environment).is_ok_and(|dir| AgentLock::is_held(&dir)) {
            out.note("note: an agent is running, with the configuration that it was started with");
        }
        let mut flags = String::new();
        for (flag, path) in [("--config", &global.config), ("--state-dir", &global.state_dir)] {
            if let Some(path) = path {
                flags.push_str(&format!(" {flag} {}", shell_word(path)));
            }
        }
        out.line("");
        out.line("Next, mirror it until Ctrl-C:");
        out.line(format_args!("  dstor-sync{flags} run"));
        out.line("and see how far it is, from another terminal:");
        out.line(format_args!("  dstor-sync{flags} status"));
    }
}
