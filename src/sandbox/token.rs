//! Credentials for access tokens, and who may upload.

use axum::Json;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::answer::Refusal;
use super::front::App;
use super::intake::Intake;
use crate::dstor::wire;

/// Longest login, in bytes.
const LONGEST_LOGIN: usize = 64 * 1024;

/// `GET` with an API key or `POST` with a login.
pub(super) async fn issue(app: &App, parts: &Parts, intake: &mut Intake) -> Result<Response, Refusal> {
    let now = now();
    let known = if parts.method == Method::POST {
        let login: wire::Login = serde_json::from_slice(&intake.all(LONGEST_LOGIN).await?)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "this is no login"))?;
        app.keys.is_login(&login.email, &login.password)
    } else {
        let (key, other) = (parts.headers.get(wire::API_KEY), parts.headers.get(wire::X_API_KEY));
        if key.zip(other).is_some_and(|(key, other)| key != other) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "api-key and x-api-key differ"));
        }
        key.or(other).is_some_and(|key| app.keys.is_api_key(key.as_bytes()))
    };
    if !known {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "the API key or the login is wrong or missing"));
    }
    let wished_end = match parts.headers.get(wire::EXPIRATION) {
        None => None,
        Some(value) => match value.to_str().ok().and_then(|value| value.parse().ok()) {
            Some(end) if end > now => Some(end),
            _ => return Err(Refusal::new(StatusCode::BAD_REQUEST, "x-expiration is no time to come")),
        },
    };
    let access_token = app.keys.issue(now, wished_end, app.longest_token);
    Ok(Json(wire::TempToken { access_token }).into_response())
}

/// Lets only those pass who bring a token that holds.
pub(super) fn authorize(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if token.is_some_and(|token| app.keys.accepts(token, now())) {
        Ok(())
    } else {
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "the access token is missing, expired or revoked"))
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
