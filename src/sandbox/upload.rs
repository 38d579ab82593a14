//! Files on their way in: one by itself here, those of a session in `session`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::sync::watch;

use super::answer::Refusal;
use super::front::App;
use super::intake::Intake;
use super::misbehave::{Misdeed, Phase};
use super::multipart::{Event, Splitter};
use super::store::{NewFile, Place, Received, Receiving};
use super::token::authorize;
use crate::dstor::wire;
use crate::mirror::{MirrorPath, RemoteDir};

/// How many files a request may bring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// One, with a plain name.
    One,
    /// Any number, with relative paths for names.
    Many,
}

/// Stores the one file of a direct upload.
pub(super) async fn direct(app: &Arc<App>, parts: &Parts, intake: &mut Intake) -> Result<Response, Refusal> {
    authorize(app, &parts.headers)?;
    let place = place(app, &parts.headers)?;
    let comment = text_header(&parts.headers, wire::COMMENT)?;
    let Some((name, received)) = receive(app, &parts.headers, intake, Files::One).await?.pop() else {
        return Err(bad("there is no file in it"));
    };
    let answer = json!({ "Name": name, "Hash": received.cid.as_str(), "Size": received.size.to_string() });
    let new = vec![NewFile { place, name, comment, received }];
    if let Some(Misdeed::Straggle(wait)) = intake.deed {
        // It outlives its connection, as what waits in buffers does.
        tokio::spawn(store_late(Arc::clone(app), new, Duration::from_millis(wait), app.rules.forgotten()));
        return Err(Refusal::Misdeed(Misdeed::Reset));
    }
    app.store.add(&new)?;
    app.store.name(new)?;
    Ok(Json(answer).into_response())
}

async fn store_late(app: Arc<App>, new: Vec<NewFile>, wait: Duration, forgotten: watch::Receiver<u64>) {
    app.straggle(wait, forgotten).await;
    if let Err(error) = app.store.add(&new).and_then(|()| app.store.name(new)) {
        tracing::debug!(%error, "an upload that came late is not stored");
    }
}

/// Receives the files in a body, to its very end: one that breaks off stores nothing.
pub(super) async fn receive(
    app: &App,
    headers: &HeaderMap,
    intake: &mut Intake,
    files: Files,
) -> Result<Vec<(String, Received)>, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut splitter = Splitter::for_content_type(content_type)?;
    let mut received = Vec::new();
    let mut open: Option<(String, Receiving)> = None;
    loop {
        match splitter.next()? {
            Event::Hungry => match intake.next().await? {
                Some(piece) => splitter.feed(piece),
                None => return Err(bad("the body ends early")),
            },
            Event::Part(head) => {
                received.extend(open.take().map(|(name, file)| (name, file.finish())));
                // Other fields of a form are passed over.
                let Some(name) = head.filename else { continue };
                check_name(&name, files)?;
                if files == Files::One && !received.is_empty() {
                    return Err(bad("there is more than one file in it"));
                }
                misbehave(app, &name, intake, files)?;
                open = Some((name, app.store.receive()?));
            }
            Event::Data(bytes) => {
                if let Some((_, file)) = &mut open {
                    file.take(&bytes)?;
                }
            }
            Event::Ended => break,
        }
    }
    received.extend(open.take().map(|(name, file)| (name, file.finish())));
    while intake.next().await?.is_some() {}
    Ok(received)
}

/// Applies the rules that wait for a file of this name.
fn misbehave(app: &App, name: &str, intake: &mut Intake, files: Files) -> Result<(), Refusal> {
    let phase = match files {
        Files::One => Phase::Upload,
        Files::Many => Phase::Chunk,
    };
    match app.rules.for_name(phase, name) {
        Some(deed) if deed.replaces_the_answer() => Err(Refusal::Misdeed(deed)),
        Some(deed) => {
            intake.deed = Some(deed);
            Ok(())
        }
        None => Ok(()),
    }
}

fn check_name(name: &str, files: Files) -> Result<(), Refusal> {
    let path = MirrorPath::from_bytes(name.as_bytes()).filter(|path| !path.is_top());
    match path {
        None => Err(bad("a file's name is empty or not a plain one")),
        Some(_) if files == Files::One && name.contains('/') => Err(bad("a file's name has a slash in it")),
        Some(_) => Ok(()),
    }
}

fn place(app: &App, headers: &HeaderMap) -> Result<Place, Refusal> {
    match (text_header(headers, wire::FOLDER_PATH)?, headers.get(wire::PARENT_ID)) {
        (Some(_), Some(_)) => Err(bad("x-dstor-folder-path and x-dstor-parent-id exclude each other")),
        (path, None) => Ok(Place::Path(directory(&path.unwrap_or_default())?)),
        (None, Some(id)) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| bad("x-dstor-parent-id is no number"))?;
            if app.store.has_directory(id) {
                Ok(Place::Id(id))
            } else {
                Err(Refusal::new(StatusCode::NOT_FOUND, "there is no directory with this number"))
            }
        }
    }
}

/// The directory at `path`.
pub(super) fn directory(path: &str) -> Result<RemoteDir, Refusal> {
    RemoteDir::parse(path).map_err(|error| bad(error.to_string()))
}

/// A header's text, decoded where it had to be percent-encoded.
pub(super) fn text_header(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| bad(format!("{name} is not UTF-8")))?;
    Ok(Some(wire::header_text(text)))
}

pub(super) fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_a_directory() {
        for bad in ["", ".", "..", "../a", "/a", "a//b", "a/..", "a\0"] {
            assert!(check_name(bad, Files::Many).is_err(), "{bad:?}");
        }
        assert!(check_name("a/b", Files::Many).is_ok() && check_name("a/b", Files::One).is_err());
        assert!(check_name("a\\..\\b", Files::One).is_ok(), "a backslash is a character like any other");
    }
}
