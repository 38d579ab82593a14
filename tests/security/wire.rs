//! Who gets to see credentials and files, and whose word counts.

use super::server::{Server, json, token};
use crate::world::{World, said};

/// An answer that sends the client to `place`.
fn redirect(status: &str, place: &str) -> String {
    format!("HTTP/1.1 {status}\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A pass against a server that gives this answer in this phase: it asks nobody else, and stores nothing.
async fn sent_elsewhere(phase: &'static str, answer: String) {
    let server = Server::start(
        move |request| {
            if request.asks_for_a_token() == (phase == "token") { answer.clone() } else { token() }
        },
    )
    .await;
    let mut world = World::new().await;
    world.point_to(&server.url());
    world.write("a", "the file's bytes");
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 5, "{phase}: {pass:?}");
    assert_eq!(world.count("stored"), 0);
    let asked = server.requests();
    assert!(!asked.is_empty() && asked.iter().all(|head| !head.contains("/elsewhere")), "{asked:?}");
}

// E27: another port, another host name, another scheme in both directions, and the same server.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_whom_a_redirect_names_is_ever_asked() {
    let elsewhere = Server::start(|_| token()).await;
    let port = elsewhere.address.port();
    let mut passes = Vec::new();
    for (place, status) in [
        (format!("http://127.0.0.1:{port}/v1/upload/"), "307 Temporary Redirect"),
        (format!("https://127.0.0.1:{port}/v1/upload/"), "308 Permanent Redirect"),
        (format!("http://localhost:{port}/v1/upload/"), "302 Found"),
        (format!("//127.0.0.1:{port}/v1/upload/"), "301 Moved Permanently"),
        ("/elsewhere".to_owned(), "303 See Other"),
    ] {
        for phase in ["token", "upload"] {
            passes.push(tokio::spawn(sent_elsewhere(phase, redirect(status, &place))));
        }
    }
    for pass in passes {
        pass.await.expect("as it should be");
    }
    assert_eq!(elsewhere.connections(), 0, "{:?}", elsewhere.requests());
}

// G4
#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_another_machine_is_refused_before_anything_is_sent() {
    let mut world = World::new().await;
    let good = world.config().to_owned();
    let url = world.sandbox().url();
    world.write("a", "a");
    for far in
        ["http://dstor.example.org", "http://192.0.2.1:80", "http://127.0.0.1.example.org", "http://[2001:db8::1]"]
    {
        world.set_config(good.replace(&url, far));
        for command in [&["run"][..], &["sync"], &["config", "check"]] {
            let said = world.run(command);
            assert_eq!(said.code, 78, "{far}: {said:?}");
            assert!(said.stderr.contains("plain http") && said.stderr.contains("hint: "), "{said:?}");
        }
        let mut by_variable = world.command(&["sync"]);
        by_variable.env("DSTOR_URL", far);
        world.set_config(good.clone());
        assert_eq!(tokio::task::block_in_place(|| said(by_variable)).code, 78);
    }
    assert!(!world.state_dir().exists());
}

// G9, B17: what is no hash is no proof, no link and no text on a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_that_is_none_stores_nothing_and_is_repeated_nowhere() {
    let hashes = [
        "../../etc/passwd",
        "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o/../x",
        "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o?token=evil-mark",
        "\\u001b]0;evil-mark\\u0007",
        "evil-mark",
        "",
    ];
    for pass in hashes.map(|hash| tokio::spawn(answered_with(hash))) {
        pass.await.expect("as it should be");
    }
}

async fn answered_with(hash: &'static str) {
    let server = Server::start(move |request| {
        if request.asks_for_a_token() { token() } else { json("200 OK", &format!(r#"{{"Hash":"{hash}"}}"#)) }
    })
    .await;
    let mut world = World::new().await;
    world.point_to(&server.url());
    world.write("a", "a");
    let pass = world.run(&["sync", "-vv"]);
    assert_ne!(pass.code, 0, "{hash}: {pass:?}");
    let listed = world.run(&["ls", "--json"]);
    let told = format!("{}{}{}{}", pass.stdout, pass.stderr, listed.stdout, world.run(&["status"]).stdout);
    assert!(!told.contains("evil-mark") && !told.contains("etc/passwd"), "{hash}: {told}");
    assert_eq!((world.count("stored"), world.ls()["a"]["hash"].is_null()), (0, true));
}

// E26, E17: an answer that does not end costs neither memory nor patience.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_megabytes_is_not_taken_in() {
    let server = Server::start(|request| {
        let huge = format!(r#"{{"message":"{}"}}"#, "m".repeat(8 * 1024 * 1024));
        if request.asks_for_a_token() { token() } else { json("400 Bad Request", &huge) }
    })
    .await;
    let mut world = World::new().await;
    world.point_to(&server.url());
    world.write("a", "a");
    let pass = world.run(&["sync"]);
    assert_eq!(world.count("stored"), 0, "{pass:?}");
    assert!(!pass.stderr.contains("mmmm"), "{pass:?}");
    assert_eq!(world.count("pending") + world.count("failed"), 1);
}
