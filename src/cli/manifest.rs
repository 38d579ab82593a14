//! `manifest`: the list of a mirror's files, on dStor.

use crate::ledger::{ManifestRow, MirrorRow};
use crate::manifest::{FetchError, Fetched, PublishError, Published, Publisher, fetch_root};
use crate::mirror::{Cid, Fault, shell_word};
use crate::plan::LEDGER;
use crate::upload::{Clock, Gate};
use crate::wording::{bytes, counted, files, shown, time};

use super::args::{Global, Publish, Show};
use super::exit::{Exit, Failure, told};
use super::output::Output;
use super::reach::{Reach, With};
use super::{key, logs, places, setup};
use crate::seal::{Identities, Recipient, Recipients};

pub(super) fn publish(global: &Global, command: &Publish, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, None, output);
    let state_dir = places::state_dir(global, &command.which)?;
    let ledger = places::open_for_a_word(&state_dir)?;
    let mirrors = ledger.active_mirrors()?;
    let mirror = the_mirror(&mirrors, command)?;
    let last = ledger.manifest(mirror.id)?;
    // The agent may have begun with another configuration than the one that is there now: it is encrypted if either says so.
    let by_agent = Recipients::new(ledger.sealing()?.iter().filter_map(|name| Recipient::parse(name).ok()));
    let now = Clock.now();
    let runtime = setup::runtime()?;
    let published = runtime.block_on(async {
        let reach = Reach::of(global, &mirror.settings.service, &state_dir, With::Credentials).await?;
        let gate = Gate::new(reach.upload.workers);
        let publisher = Publisher {
            client: &reach.client,
            gate: &gate,
            recipients: reach.recipients.clone().or(by_agent),
            sessions: reach.upload.sessions,
            ledger: state_dir.join(LEDGER),
        };
        let published = publisher.publish(mirror, last.as_ref(), &time(now)).await;
        reach.leave().await;
        published.map_err(Failure::from)
    });
    runtime.shutdown_background();
    let Published { hash, digest, sealed, files: count, bytes: size, parts, sent, sent_bytes, is_proved, left_out } =
        published?;
    let opens = if sealed.is_some() { " --identity FILE" } else { "" };
    let row = ManifestRow { hash: hash.clone(), digest, files: count, bytes: size, published_at: now, sealed };
    ledger.at_once(|ledger| ledger.set_manifest(mirror.id, &row))?;
    output.line(&hash);
    output.note(format_args!(
        "{} ({}) in {}, {sent} of them sent now ({}).",
        files(count),
        bytes(size),
        counted(parts, "part", "parts"),
        bytes(sent_bytes)
    ));
    output.note_as_is(format_args!(
        "hint: with this hash alone, `dstor-sync restore --from {hash} DEST{opens}` brings them back; write it down"
    ));
    if !is_proved {
        output.note("dStor names files by other rules than the usual ones: restoring from this needs `--unproved`.");
    }
    if left_out > 0 {
        output.note(format_args!("{} not in it: dStor holds nothing of them.", files(left_out)));
        return Ok(Exit::Attention);
    }
    Ok(Exit::Fine)
}

fn the_mirror<'a>(mirrors: &'a [MirrorRow], command: &Publish) -> Result<&'a MirrorRow, Failure> {
    match (mirrors, &command.dir) {
        (_, Some(dir)) => match places::find(mirrors, dir)? {
            (mirror, below) if below.is_top() => Ok(mirror),
            (mirror, _) => {
                let what = format!("`{}` is not a mirror but lies in one", shown(dir));
                Err(Failure::new(Exit::Usage, what)
                    .with_hint(format!("name the mirror: `{}`", shown(&mirror.settings.path))))
            }
        },
        ([only], None) => Ok(only),
        ([], None) => {
            Err(Failure::new(Exit::Attention, "there is no mirror yet").with_hint("`dstor-sync run DIR` begins one"))
        }
        ([first, ..], None) => {
            let several = format!("there are {} mirrors, and each has a list of its own", mirrors.len());
            let hint = format!("name one: `dstor-sync manifest publish {}`", shell_word(&first.settings.path));
            Err(Failure::new(Exit::Usage, several).with_hint(hint))
        }
    }
}

pub(super) fn show(global: &Global, command: &Show, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, None, output);
    let identities = key::given(&command.opens)?;
    let runtime = setup::runtime()?;
    let fetched = runtime.block_on(async {
        let reach = Reach::of_machine(global, command.sandbox).await?;
        let gate = Gate::new(reach.upload.workers);
        let fetched = root(&reach, &gate, &command.hash, identities.as_deref(), command.unproved).await;
        reach.leave().await;
        fetched
    });
    runtime.shutdown_background();
    let fetched = fetched?;
    let (head, parts) = (fetched.head()?, fetched.parts()?);
    output.line(format_args!("mirror   {}", shown(&head.mirror)));
    output.line(format_args!("made     {} by {}", shown(&head.made_at), shown(&head.made_by)));
    output.line(format_args!(
        "files    {} ({}) in {}",
        files(head.files),
        bytes(head.bytes),
        counted(parts.len() as u64, "part", "parts")
    ));
    let proof = if fetched.is_proved { "its hash is that of its bytes" } else { "none" };
    output.line(format_args!("proof    {proof}"));
    output.line(format_args!("form     {}", if fetched.is_sealed { "encrypted" } else { "open to who has its hash" }));
    for part in parts {
        output.line(format_args!("part     {}  {}, {} packed", part.hash, files(part.files), bytes(part.packed)));
    }
    Ok(Exit::Fine)
}

/// The root of a list, which has to be proved unless a person says otherwise.
pub(super) async fn root(
    reach: &Reach,
    gate: &Gate,
    hash: &Cid,
    identities: Option<&Identities>,
    unproved: bool,
) -> Result<Fetched, Failure> {
    let fetched = fetch_root(&reach.client, gate, hash, identities).await?;
    if fetched.is_proved || unproved {
        return Ok(fetched);
    }
    let what = format!(
        "what dStor gives under `{hash}` is not proved to be what was published: the hash is not that of its bytes"
    );
    Err(Failure::new(Exit::Attention, what).with_hint(
        "a service that names files by other rules cannot prove it; if yours does, and you trust it, say `--unproved`",
    ))
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let exit = if matches!(error, FetchError::Fault(_)) { Exit::Unreachable } else { Exit::Attention };
        let failure = Self::new(exit, told(&error));
        match error {
            FetchError::Missing(_) => failure.with_hint("look at the hash, and at the address of dStor: DSTOR_URL"),
            FetchError::Locked(..) => failure.with_hint("name the file with the private key: `--identity FILE`"),
            FetchError::Fault(_) => failure.with_hint("try again later"),
            FetchError::Form(..) => failure.with_hint("take another manifest: an older one, or one of this version"),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let said = told(&error);
        match error {
            PublishError::Ledger(error) => error.into(),
            PublishError::Fault(Fault::Credentials(_)) => Self::new(Exit::Credentials, said).with_hint(
                "`dstor-sync login` stores others; or set DSTOR_API_KEY, or `api_key_file` in the configuration",
            ),
            PublishError::Fault(_) => Self::new(Exit::Unreachable, said).with_hint("nothing is lost; try again later"),
            PublishError::Hidden => Self::new(Exit::Attention, said)
                .with_hint("name `recipients` under [encrypt] in the configuration again: the list goes to them alone"),
            PublishError::TooMany => Self::new(Exit::Attention, said)
                .with_hint("make several mirrors of it, one for each of the directories in it"),
            PublishError::Place(_) | PublishError::Broke => Self::new(Exit::Attention, said),
        }
    }
}
