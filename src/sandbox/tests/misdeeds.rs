//! Misbehaviour on order.

use super::*;

/// What a client sees of an upload.
#[derive(Debug, PartialEq)]
enum Seen {
    Status(u16),
    Json(Value),
    Text(String),
    Broken,
}

#[tokio::test]
async fn every_misdeed_shows_once_and_then_the_upload_succeeds() {
    let hash = |hash: &str| Seen::Json(json!({ "Name": "a", "Hash": hash, "Size": "12" }));
    let half = json!({ "Name": "a", "Hash": HELLO, "Size": "12" }).to_string();
    // The rule, what is seen, and whether the file was stored nevertheless.
    for (text, expected, stored) in [
        ("upload 503 retry-after=7", Seen::Status(503), false),
        ("upload 413", Seen::Status(413), false),
        ("upload redirect=http://127.0.0.1:1/", Seen::Status(307), false),
        (
            "upload html",
            Seen::Text("<!doctype html><title>Welcome</title><p>Sign in to the hotel's network".into()),
            false,
        ),
        ("upload no-hash", Seen::Json(json!({ "Name": "a", "Size": "12" })), true),
        ("upload empty-hash", hash(""), true),
        ("upload foreign-hash", hash("QmVjXB8W3B1aEBwTRLiu2MqHmiV6mUzDfrUuYEM5G5LWHn"), true),
        ("upload bad-hash", hash("../../etc/passwd\u{1b}[31m?x=1"), true),
        ("upload truncated-json", Seen::Text(half[..half.len() / 2].to_owned()), true),
        ("upload reset", Seen::Broken, false),
        ("upload reset-in-body", Seen::Broken, false),
        ("upload reset-after-store", Seen::Broken, true),
    ] {
        let world = world().await;
        world.sandbox.misbehave(rule(&format!("{text} x1")));
        let seen = match world.upload("a", b"hello world\n").send().await {
            Err(_) => Seen::Broken,
            Ok(response) if response.status() != 200 => {
                if text.contains("retry-after") {
                    assert_eq!(response.headers()["retry-after"], "7");
                }
                Seen::Status(response.status().as_u16())
            }
            Ok(response) => {
                let text = response.text().await.expect("a body");
                serde_json::from_str(&text).map_or(Seen::Text(text), Seen::Json)
            }
        };
        assert_eq!(seen, expected, "{text}");
        assert_eq!(world.names().len(), usize::from(stored), "{text}");
        assert_eq!(world.left_incoming(), 0, "{text}");
        assert_eq!(status_of(world.upload("b", b"x")).await, 200, "after {text}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_no_proper_end() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload reset-in-body x1"));
    let mut connection = TcpStream::connect(world.sandbox.address).await.expect("a connection");
    let head = Framing::new(["a"], "B").heads.remove(0);
    let rest = vec![7; 65_536 - head.len()];
    connection
        .write_all(&[raw_head(&world.token, 1_000_000).as_bytes(), &head, &rest].concat())
        .await
        .expect("written");
    let mut byte = [0; 1];
    let end = tokio::time::timeout(Duration::from_secs(3), connection.read(&mut byte)).await.expect("it ends");
    assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_rule_with_a_name_spares_other_files_and_finds_its_own_within_a_request() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload 413 name=big"));
    world.sandbox.misbehave(rule("chunk 422 name=bad"));
    assert_eq!(status_of(world.upload("small", b"x")).await, 200);
    assert_eq!(status_of(world.upload("a big one", b"x")).await, 413);
    let session = json(world.open_session(json!({ "chunks_number": 1 })).await).await["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let chunk = |files: &[(&str, &[u8])]| {
        let (kind, body) = framed(files);
        world.post(wire::UPLOAD).header("content-type", kind).header(wire::UPLOAD_TOKEN, &session).body(body)
    };
    assert_eq!(status_of(chunk(&[("good", b"1"), ("bad", b"2")])).await, 422);
    world.sandbox.behave();
    assert_eq!(
        status_of(chunk(&[("good", b"1"), ("bad", b"2")])).await,
        200,
        "the refused request left its place free"
    );
}

#[tokio::test]
async fn a_stalled_upload_never_answers_and_does_not_hold_up_the_end() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload stall"));
    let upload = tokio::spawn(world.upload("a", &vec![0; 20_000_000]).send());
    eventually("the request has arrived", async || world.sandbox.requests(Phase::Upload) == 1).await;
    assert!(world.sandbox.bytes_received() < 10_000_000, "it reads nothing more");
    assert!(!upload.is_finished());
    let address = world.sandbox.address;
    tokio::time::timeout(Duration::from_secs(3), world.sandbox.stop()).await.expect("it stops");
    assert!(upload.await.expect("no panic").is_err());
    std::net::TcpListener::bind(address).expect("the port is free");
}

#[tokio::test]
async fn a_slow_body_takes_its_time() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload slow=100000"));
    let begun = std::time::Instant::now();
    assert_eq!(status_of(world.upload("a", &[0; 30_000])).await, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn an_answer_can_stop_half_way_and_does_not_hold_up_the_end() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload stall-in-answer"));
    let mut answer = world.upload("a", b"hello world\n").send().await.expect("its head");
    let half = answer.chunk().await.expect("a piece").expect("the first half");
    assert!(half.starts_with(b"{") && serde_json::from_slice::<Value>(&half).is_err());
    let rest = tokio::spawn(async move { answer.chunk().await });
    tokio::time::timeout(Duration::from_secs(3), world.sandbox.stop()).await.expect("it stops");
    assert!(!matches!(rest.await.expect("no panic"), Ok(Some(_))), "there is no second half");
}

#[tokio::test]
async fn a_late_answer_comes_after_the_deed() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload late=300"));
    let begun = std::time::Instant::now();
    let upload = tokio::spawn(world.upload("a", b"hello world\n").send());
    eventually("it is stored", async || world.names().len() == 1).await;
    assert_eq!(upload.await.expect("no panic").expect("an answer").status(), 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_straggler_is_stored_after_its_connection_broke() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload straggle=3600000 x1"));
    assert!(world.upload("a", b"hello world\n").send().await.is_err());
    assert_eq!(status_of(world.upload("b", b"hello world\n")).await, 200);
    assert_eq!(world.names().len(), 1);
    world.sandbox.behave();
    eventually("it comes late", async || world.names().len() == 2).await;
}

#[tokio::test]
async fn an_endless_answer_goes_on_until_the_client_has_had_enough() {
    let world = world().await;
    world.sandbox.misbehave(rule("upload endless"));
    let mut answer = world.upload("a", b"x").send().await.expect("an answer");
    let mut read = 0;
    while read < 30_000_000 {
        read += answer.chunk().await.expect("it goes on").expect("it does not end").len();
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_small_and_says_what_it_inflates_to() {
    let world = world().await;
    world.sandbox.misbehave(rule("token gzip-bomb"));
    let answer = world.client.get(world.at(wire::TEMP_TOKEN)).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let body = answer.bytes().await.expect("a body");
    assert!(body.starts_with(&[0x1f, 0x8b]) && body.len() < 8_000_000);
    assert!(u32::from_le_bytes(body[body.len() - 4..].try_into().expect("four bytes")) > 1 << 30);
}

#[tokio::test]
async fn files_can_be_read_back_wrong() {
    let world = world().await;
    assert_eq!(status_of(world.upload("a", b"hello world\n")).await, 200);
    for (text, expected) in
        [("read flip-bit x1", "iello world\n"), ("read cut x1", "hello "), ("read behaves", "hello world\n")]
    {
        if let Ok(rule) = text.parse() {
            world.sandbox.misbehave(rule);
        }
        let body = world.read(HELLO).await.bytes().await.expect("a body");
        assert_eq!(body, expected, "{text}");
        let mut cid = CidBuilder::new();
        cid.update(&body);
        assert_eq!(cid.finish().as_str() == HELLO, text == "read behaves");
    }
}

#[tokio::test]
async fn a_dropped_sandbox_resets_its_connections_and_frees_its_directory() {
    let world = world().await;
    let mut connection = TcpStream::connect(world.sandbox.address).await.expect("a connection");
    let begun = [raw_head(&world.token, 1_000_000).as_bytes(), Framing::new(["a"], "B").heads[0].as_slice()].concat();
    connection.write_all(&begun).await.expect("written");
    eventually("it is received into a temporary file", async || world.left_incoming() == 1).await;
    // As a request that takes long to notice holds it.
    let _app = Arc::clone(&world.sandbox.app);
    drop(world.sandbox);
    let mut byte = [0; 1];
    let end = tokio::time::timeout(Duration::from_secs(3), connection.read(&mut byte)).await.expect("it ends");
    assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    Sandbox::start(Options::new(world.store.path())).await.expect("the directory is free");
}

#[tokio::test]
async fn an_upload_that_hangs_does_not_hold_up_the_end_and_nothing_of_it_stays() {
    let world = world().await;
    let mut connection = TcpStream::connect(world.sandbox.address).await.expect("a connection");
    let begun = [raw_head(&world.token, 1_000_000).as_bytes(), Framing::new(["a"], "B").heads[0].as_slice()].concat();
    connection.write_all(&begun).await.expect("written");
    eventually("it is received into a temporary file", async || world.left_incoming() == 1).await;
    let app = Arc::clone(&world.sandbox.app);
    tokio::time::timeout(Duration::from_secs(3), world.sandbox.stop()).await.expect("it stops");
    eventually("its connection is gone", async || Arc::strong_count(&app) == 1).await;
    assert_eq!(std::fs::read_dir(world.store.path().join("incoming")).expect("a directory").count(), 0);
}
