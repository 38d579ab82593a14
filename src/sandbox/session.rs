//! Upload sessions: many files in an announced number of requests, stored together once all have arrived.
//!
//! Sessions are kept in memory: after a restart nobody knows them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::front::App;
use super::intake::Intake;
use super::keys::random_text;
use super::store::{NewFile, Place};
use super::token::authorize;
use super::upload::{Files, bad, directory, receive, text_header};
use crate::dstor::wire;
use crate::mirror::RemoteDir;

/// Characters in an upload token.
const TOKEN_CHARACTERS: usize = 40;
/// Longest request for a session, in bytes.
const LONGEST_REQUEST: usize = 64 * 1024;
/// Names of stages as the service gives them (API notes, clients).
const WAITING: &str = "WAITING_FOR_FILES";
const ADDING: &str = "ADDING_TO_IPFS";
const SAVING: &str = "SAVING_DATA";

/// A file and its name as sent, which a relative path may be.
type Sent = (String, NewFile);

/// All sessions by their tokens.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Session>>);

struct Session {
    folder: RemoteDir,
    /// How many requests were announced.
    announced: u32,
    /// How many have arrived or are on their way.
    seats: u32,
    /// How many have arrived whole.
    arrived: u32,
    stage: Stage,
}

enum Stage {
    /// The files that have arrived.
    Waiting(Vec<Sent>),
    /// At work, under this name.
    Working(&'static str),
    /// `data` of the answer.
    Done(Vec<Value>),
    Failed {
        at: &'static str,
        explanation: String,
    },
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tokens(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn enter(&self, token: &str, stage: Stage) {
        if let Some(session) = self.lock().get_mut(token) {
            session.stage = stage;
        }
    }
}

/// One of the announced requests, given back if it breaks off.
struct Seat<'a> {
    sessions: &'a Sessions,
    token: &'a str,
    arrived: bool,
}

impl<'a> Seat<'a> {
    fn take(sessions: &'a Sessions, token: &'a str) -> Result<Self, Refusal> {
        let mut known = sessions.lock();
        let session = known.get_mut(token).ok_or_else(unknown)?;
        if session.seats == session.announced {
            return Err(Refusal::new(StatusCode::CONFLICT, "all announced requests have arrived or are on their way"));
        }
        session.seats += 1;
        Ok(Self { sessions, token, arrived: false })
    }

    /// The request has arrived whole. The last one gets all files, to store them.
    fn fill(
        mut self,
        new: impl FnOnce(&RemoteDir) -> Result<Vec<Sent>, Refusal>,
    ) -> Result<Option<Vec<Sent>>, Refusal> {
        let folder = self.sessions.lock().get(self.token).ok_or_else(unknown)?.folder.clone();
        let new = new(&folder)?;
        let mut known = self.sessions.lock();
        let session = known.get_mut(self.token).ok_or_else(unknown)?;
        self.arrived = true;
        session.arrived += 1;
        let Stage::Waiting(files) = &mut session.stage else { return Ok(None) };
        files.extend(new);
        if session.arrived < session.announced {
            return Ok(None);
        }
        let files = std::mem::take(files);
        session.stage = Stage::Working(ADDING);
        Ok(Some(files))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if !self.arrived
            && let Some(session) = self.sessions.lock().get_mut(self.token)
        {
            session.seats -= 1;
        }
    }
}

/// Opens a session.
pub(super) async fn open(app: &App, parts: &Parts, intake: &mut Intake) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Wish {
        chunks_number: u32,
        folder_path: Option<String>,
    }
    authorize(app, &parts.headers)?;
    let wish: Wish = serde_json::from_slice(&intake.all(LONGEST_REQUEST).await?)
        .map_err(|_| bad("this is not JSON with a chunks_number, and perhaps a folder_path"))?;
    if wish.chunks_number == 0 {
        return Err(bad("chunks_number is at least 1"));
    }
    let folder = directory(&wish.folder_path.unwrap_or_default())?;
    let token = random_text(TOKEN_CHARACTERS)?;
    let session =
        Session { folder, announced: wish.chunks_number, seats: 0, arrived: 0, stage: Stage::Waiting(Vec::new()) };
    app.sessions.lock().insert(token.clone(), session);
    Ok(Json(json!({ "message": "ok", "token": token })).into_response())
}

/// Takes the files of one of the announced requests; the last one has them all stored.
pub(super) async fn take_files(app: &Arc<App>, parts: &Parts, intake: &mut Intake) -> Result<Response, Refusal> {
    authorize(app, &parts.headers)?;
    let token = token(parts)?;
    if parts.headers.contains_key(wire::FOLDER_PATH) || parts.headers.contains_key(wire::PARENT_ID) {
        return Err(bad("the session says where files go, a request in it cannot"));
    }
    let comment = text_header(&parts.headers, wire::COMMENT)?;
    let seat = Seat::take(&app.sessions, token)?;
    let received = receive(app, &parts.headers, intake, Files::Many).await?;
    if received.is_empty() {
        return Err(bad("there is no file in it"));
    }
    let complete = seat.fill(|folder| {
        let place = |(path, received): (String, _)| {
            let (below, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let place = Place::Path(directory(&format!("{}/{below}", folder.as_str()))?);
            let file = NewFile { place, name: name.to_owned(), comment: comment.clone(), received };
            Ok((path, file))
        };
        received.into_iter().map(place).collect()
    })?;
    if let Some(files) = complete {
        // It outlives the request, as the service's does. It ends by itself, or with a store that is closed.
        tokio::spawn(store(Arc::clone(app), token.to_owned(), files));
    }
    Ok(Json(json!({ "message": "ok", "upload_token": token })).into_response())
}

/// Stores a session's files, each stage as slow as an answer.
async fn store(app: Arc<App>, token: String, sent: Vec<Sent>) {
    let data = sent.iter().map(|(name, file)| json!({ "Name": name, "Hash": file.received.cid.as_str() })).collect();
    let files: Vec<NewFile> = sent.into_iter().map(|(_, file)| file).collect();
    let failed = |at, error: std::io::Error| Stage::Failed { at, explanation: error.to_string() };
    app.delay().await;
    if let Err(error) = app.store.add(&files) {
        app.sessions.enter(&token, failed(ADDING, error));
        return;
    }
    app.sessions.enter(&token, Stage::Working(SAVING));
    app.delay().await;
    let end = match app.store.name(files) {
        Ok(()) => Stage::Done(data),
        Err(error) => failed(SAVING, error),
    };
    app.sessions.enter(&token, end);
}

/// Tells how far a session is.
pub(super) fn status(app: &App, parts: &Parts) -> Result<Response, Refusal> {
    authorize(app, &parts.headers)?;
    let known = app.sessions.lock();
    let answer = match &known.get(token(parts)?).ok_or_else(unknown)?.stage {
        Stage::Waiting(_) => json!({ "status": WAITING }),
        Stage::Working(stage) => json!({ "status": stage }),
        Stage::Done(data) => json!({ "status": "DONE", "data": data }),
        Stage::Failed { at, explanation } => {
            json!({ "status": "ERROR", "errorExplanation": explanation, "errorAtStage": at })
        }
    };
    Ok(Json(answer).into_response())
}

fn token(parts: &Parts) -> Result<&str, Refusal> {
    parts.headers.get(wire::UPLOAD_TOKEN).and_then(|token| token.to_str().ok()).ok_or_else(unknown)
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such upload session")
}
