//! The sandbox over real HTTP: the world that tests share.

mod api;
mod misdeeds;

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::dstor::wire::{self, Framing};
use crate::mirror::CidBuilder;

const HELLO: &str = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";

/// A sandbox, a client and a token.
struct World {
    sandbox: Sandbox,
    store: TempDir,
    client: Client,
    token: String,
}

fn client() -> Client {
    let builder = || Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    // Where a machine has no certificates at all, none are needed: nothing here is TLS.
    builder().build().or_else(|_| builder().tls_certs_only([]).build()).expect("a client")
}

async fn world() -> World {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut Options)) -> World {
    let store = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(store.path());
    change(&mut options);
    let sandbox = Sandbox::start(options).await.expect("it starts");
    let mut world = World { sandbox, store, client: client(), token: String::new() };
    world.token = world.fetch_token().await;
    world
}

impl World {
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    async fn fetch_token(&self) -> String {
        let answer = self.client.get(self.at(wire::TEMP_TOKEN)).header("api-key", self.sandbox.api_key()).send().await;
        json(answer.expect("an answer")).await["access_token"].as_str().expect("a token").to_owned()
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.at(path)).bearer_auth(&self.token)
    }

    fn upload(&self, name: &str, content: &[u8]) -> RequestBuilder {
        let (content_type, body) = framed(&[(name, content)]);
        self.post(wire::UPLOAD).header("content-type", content_type).body(body)
    }

    async fn read(&self, hash: &str) -> Response {
        self.client.get(self.at(&format!("/ipfs/{hash}"))).send().await.expect("an answer")
    }

    fn names(&self) -> Vec<String> {
        let path = |file: StoredFile| format!("{}/{}", file.directory, file.name);
        self.sandbox.files().expect("files").into_iter().map(path).collect()
    }

    fn left_incoming(&self) -> usize {
        std::fs::read_dir(self.store.path().join("incoming")).expect("a directory").count()
    }

    async fn open_session(&self, wish: Value) -> Response {
        self.post(wire::GET_UPLOAD_TOKEN).json(&wish).send().await.expect("an answer")
    }

    async fn status(&self, session: &str) -> Value {
        let request = self.client.get(self.at(wire::GET_UPLOAD_STATUS)).bearer_auth(&self.token);
        json(request.header(wire::UPLOAD_TOKEN, session).send().await.expect("an answer")).await
    }
}

fn framed(files: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, content) in files {
        body.extend_from_slice(&Framing::new([*name], "BoUnDaRy").heads[0]);
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--BoUnDaRy--\r\n");
    ("multipart/form-data; boundary=BoUnDaRy".to_owned(), body)
}

/// The head of an upload written by hand, for bodies that no proper client sends. The boundary is `B`.
fn raw_head(token: &str, length: usize) -> String {
    format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\
         Content-Type: multipart/form-data; boundary=B\r\n\r\n",
        wire::UPLOAD
    )
}

async fn json(response: Response) -> Value {
    let bytes = response.bytes().await.expect("a body");
    serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("no JSON: {bytes:?}"))
}

async fn status_of(request: RequestBuilder) -> u16 {
    request.send().await.expect("an answer").status().as_u16()
}

fn rule(text: &str) -> Misbehaviour {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
