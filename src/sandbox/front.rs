//! Every request's way in: it is counted, kept waiting, led astray if a rule says so, and handed to who answers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use tokio::sync::watch;

use super::answer::{self, Refusal};
use super::connection::Connection;
use super::intake::{Intake, Stopping};
use super::keys::Keys;
use super::misbehave::{Misdeed, Phase, Rules};
use super::session::Sessions;
use super::store::Store;
use super::{page, read, session, token, upload};
use crate::dstor::wire;

/// What all requests share.
pub(super) struct App {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) rules: Rules,
    pub(super) sessions: Sessions,
    pub(super) longest_token: Duration,
    pub(super) stopping: Stopping,
    /// In nanoseconds.
    delay: AtomicU64,
    requests: [AtomicU64; Phase::ALL.len()],
    unauthorized: AtomicU64,
}

impl App {
    pub(super) fn new(store: Store, keys: Keys, rules: Rules, longest_token: Duration, stopping: Stopping) -> Self {
        Self {
            store,
            keys,
            rules,
            sessions: Sessions::default(),
            longest_token,
            stopping,
            delay: AtomicU64::new(0),
            requests: Default::default(),
            unauthorized: AtomicU64::new(0),
        }
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns after the delay, or when the sandbox stops.
    pub(super) async fn delay(&self) {
        let delay = Duration::from_nanos(self.delay.load(Ordering::Relaxed));
        if !delay.is_zero() {
            self.wait(delay).await;
        }
    }

    /// Returns after that time, with the next word of `forgotten`, or when the sandbox stops.
    pub(super) async fn straggle(&self, time: Duration, mut forgotten: watch::Receiver<u64>) {
        tokio::select! {
            // An error means that the sandbox is gone.
            _ = forgotten.changed() => {}
            () = self.wait(time) => {}
        }
    }

    /// Returns after that time, or when the sandbox stops.
    async fn wait(&self, time: Duration) {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.wait() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    pub(super) fn requests(&self, phase: Phase) -> u64 {
        self.requests[phase as usize].load(Ordering::Relaxed)
    }

    pub(super) fn unauthorized(&self) -> u64 {
        self.unauthorized.load(Ordering::Relaxed)
    }
}

/// Answers a request, or does what a rule of misbehaviour says.
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let phase = phase_of(&parts);
    if let Some(phase) = phase {
        app.requests[phase as usize].fetch_add(1, Ordering::Relaxed);
    }
    app.delay().await;

    let mut intake = Intake::new(body, connection.clone(), app.stopping.clone());
    intake.deed = phase.and_then(|phase| app.rules.for_request(phase));
    let answered = match intake.deed.take_if(|deed| deed.replaces_the_answer()) {
        Some(deed) => Err(Refusal::Misdeed(deed)),
        None => carry_out(&app, &parts, &mut intake).await,
    };
    let deed = intake.deed.take();
    let response = match answered {
        Ok(response) => match deed {
            Some(Misdeed::ResetAfterStore) => {
                connection.tear();
                response
            }
            Some(Misdeed::StallInAnswer) => answer::stall_in(response, app.stopping.clone()).await,
            Some(Misdeed::Late(wait)) => {
                app.wait(Duration::from_millis(wait)).await;
                response
            }
            Some(deed) => answer::spoil(response, &deed).await,
            None => response,
        },
        Err(Refusal::Because(status, why)) => {
            linger(intake, &parts);
            answer::message(status, &why)
        }
        Err(Refusal::Misdeed(deed)) => misbehave(&app, &deed, intake, &parts, &connection).await,
    };
    let status = response.status().as_u16();
    if response.status() == StatusCode::UNAUTHORIZED {
        app.unauthorized.fetch_add(1, Ordering::Relaxed);
    }
    tracing::debug!(method = %parts.method, path = parts.uri.path(), status, "answered");
    response
}

fn phase_of(parts: &Parts) -> Option<Phase> {
    match parts.uri.path() {
        wire::TEMP_TOKEN => Some(Phase::Token),
        wire::GET_UPLOAD_TOKEN => Some(Phase::GetToken),
        wire::GET_UPLOAD_STATUS => Some(Phase::Status),
        wire::UPLOAD if parts.headers.contains_key(wire::UPLOAD_TOKEN) => Some(Phase::Chunk),
        wire::UPLOAD => Some(Phase::Upload),
        path => path.starts_with(wire::IPFS).then_some(Phase::Read),
    }
}

async fn carry_out(app: &Arc<App>, parts: &Parts, intake: &mut Intake) -> Result<Response, Refusal> {
    let (method, path) = (&parts.method, parts.uri.path());
    let reads = *method == Method::GET || *method == Method::HEAD;
    match phase_of(parts) {
        Some(Phase::Token) if *method == Method::GET || *method == Method::POST => {
            token::issue(app, parts, intake).await
        }
        Some(Phase::GetToken) if *method == Method::POST => session::open(app, parts, intake).await,
        Some(Phase::Upload) if *method == Method::POST => upload::direct(app, parts, intake).await,
        Some(Phase::Chunk) if *method == Method::POST => session::take_files(app, parts, intake).await,
        Some(Phase::Status) if *method == Method::GET => session::status(app, parts),
        Some(Phase::Read) if reads => read::serve(app, parts, &path[wire::IPFS.len()..], &mut intake.deed),
        None if reads && path == "/" => page::show(app, parts),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "there is nothing here")),
    }
}

async fn misbehave(app: &App, deed: &Misdeed, intake: Intake, parts: &Parts, connection: &Connection) -> Response {
    tracing::debug!(%deed, path = parts.uri.path(), "misbehaves as told");
    if let Some(response) = answer::instead(deed, app.stopping.clone()) {
        linger(intake, parts);
        return response;
    }
    if *deed == Misdeed::Stall {
        // `intake` is held and not read: the client's writing comes to a halt as well.
        app.stopping.clone().wait().await;
    }
    connection.tear();
    answer::message(StatusCode::SERVICE_UNAVAILABLE, "nobody hears this")
}

fn linger(intake: Intake, parts: &Parts) {
    // Who asks before it sends has its answer, and reading on would invite the body.
    if !parts.headers.contains_key(header::EXPECT) {
        intake.linger();
    }
}
