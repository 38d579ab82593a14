//! As much of S3 as rclone asks of it for a first copy: Debian's rclone serves none itself.
//!
//! It writes objects to a directory without syncing them, takes rclone's word for their MD5, and computes nothing, so that
//! it stands in rclone's way less than any real one. Names are not decoded: the benches' are plain.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use base64::Engine as _;
use futures_util::StreamExt as _;

use crate::shared::receiver;

/// A running server, with a directory that goes with it.
pub(crate) struct S3 {
    _runtime: tokio::runtime::Runtime,
    address: std::net::SocketAddr,
    shelf: Arc<Shelf>,
    _dir: tempfile::TempDir,
}

struct Shelf {
    dir: PathBuf,
    delay: Duration,
    next: AtomicU64,
    objects: Mutex<HashMap<String, Object>>,
    /// Parts that came in for each upload in many.
    parts: Mutex<HashMap<String, Object>>,
}

/// What is kept of an object beside its bytes.
#[derive(Clone, Default)]
struct Object {
    size: u64,
    headers: HeaderMap,
}

impl S3 {
    /// Starts one that keeps every answer back for `delay`.
    pub(crate) fn start(delay: Duration) -> Self {
        let dir = receiver::directory();
        let shelf = Arc::new(Shelf {
            dir: dir.path().to_owned(),
            delay,
            next: AtomicU64::new(0),
            objects: Mutex::default(),
            parts: Mutex::default(),
        });
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shelf));
        // As the sandbox does.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { _runtime: runtime, address, shelf, _dir: dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Files and bytes that it has.
    pub(crate) fn stored(&self) -> (u64, u64) {
        let objects = self.shelf.objects.lock().unwrap_or_else(PoisonError::into_inner);
        (objects.len() as u64, objects.values().map(|object| object.size).sum())
    }
}

async fn answer(State(shelf): State<Arc<Shelf>>, request: Request) -> Response {
    tokio::time::sleep(shelf.delay).await;
    let (parts, body) = request.into_parts();
    let key = parts.uri.path().trim_start_matches('/').to_owned();
    let query = parts.uri.query().unwrap_or_default();
    let argument = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    match (parts.method, key.contains('/'), argument("uploadId")) {
        // Before a first copy there is nothing in any directory.
        (Method::GET, false, _) => xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
        (Method::PUT, true, Some(id)) => match shelf.take(body).await {
            Ok(size) => {
                let mut uploads = lock(&shelf.parts);
                uploads.entry(id.to_owned()).or_default().size += size;
                tagged(&parts.headers).into_response()
            }
            Err(error) => failed(&error),
        },
        (Method::PUT, true, None) => match shelf.take(body).await {
            Ok(size) => {
                let mut headers = kept(&parts.headers);
                headers.extend(tagged(&parts.headers));
                lock(&shelf.objects).insert(key, Object { size, headers });
                tagged(&parts.headers).into_response()
            }
            Err(error) => failed(&error),
        },
        (Method::POST, true, None) => {
            let id = shelf.next.fetch_add(1, Ordering::Relaxed).to_string();
            let object = Object { size: 0, headers: kept(&parts.headers) };
            lock(&shelf.parts).insert(id.clone(), object);
            xml(&format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        (Method::POST, true, Some(id)) => match lock(&shelf.parts).remove(id) {
            Some(mut object) => {
                // What it is made of is not hashed again: rclone knows it by the MD5 among its headers.
                object.headers.insert(header::ETAG, HeaderValue::from_static("\"-\""));
                lock(&shelf.objects).insert(key, object);
                xml("<CompleteMultipartUploadResult><ETag>\"-\"</ETag></CompleteMultipartUploadResult>")
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
        (Method::HEAD, true, _) => match lock(&shelf.objects).get(&key).cloned() {
            Some(object) => {
                let mut headers = object.headers;
                headers.insert(header::CONTENT_LENGTH, object.size.into());
                headers.insert(header::LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
                (headers, Body::empty()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::NOT_IMPLEMENTED.into_response(),
    }
}

impl Shelf {
    /// Writes a body to a file of its own. Returns its bytes.
    async fn take(&self, body: Body) -> std::io::Result<u64> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join((at / 1000).to_string());
        let mut file = match std::fs::File::create(dir.join(at.to_string())) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&dir)?;
                std::fs::File::create(dir.join(at.to_string()))?
            }
            file => file?,
        };
        let mut pieces = body.into_data_stream();
        let mut size = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(std::io::Error::other)?;
            file.write_all(&piece)?;
            size += piece.len() as u64;
        }
        Ok(size)
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn xml(text: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/xml")], text.to_owned()).into_response()
}

fn failed(error: &std::io::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

/// What S3 keeps of a request's headers.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let is_kept = |name: &HeaderName| name.as_str().starts_with("x-amz-meta-") || *name == header::CONTENT_TYPE;
    headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The tag of a body whose MD5 was sent along.
fn tagged(headers: &HeaderMap) -> HeaderMap {
    let md5 = headers.get("content-md5").and_then(|md5| base64::engine::general_purpose::STANDARD.decode(md5).ok());
    let hex = md5.map(|md5| md5.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let tag = HeaderValue::from_str(&format!("\"{}\"", hex.as_deref().unwrap_or("-")));
    tag.map(|tag| HeaderMap::from_iter([(header::ETAG, tag)])).unwrap_or_default()
}
