//! Everything the API and the page do when nothing goes wrong on order.

use super::*;

#[tokio::test]
async fn what_is_uploaded_can_be_read_back_whole_and_in_part() {
    let world = world().await;
    let upload = world.upload("a.txt", b"hello world\n").header(wire::FOLDER_PATH, "/Docs//old/");
    let answer = json(upload.header(wire::COMMENT, "gr%C3%BC%C3%9Fe").send().await.expect("an answer")).await;
    assert_eq!(answer, json!({ "Name": "a.txt", "Hash": HELLO, "Size": "12" }));
    let stored = world.sandbox.files().expect("files").remove(0);
    assert_eq!((stored.directory.as_str(), stored.directory_id, stored.size), ("Docs/old", 2, 12));
    assert_eq!(stored.comment.as_deref(), Some("grüße"));

    let whole = world.read(HELLO).await;
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-length", "12"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("etag", &format!("\"{HELLO}\"")),
    ] {
        assert_eq!(whole.headers()[name], value, "{name}");
    }
    assert_eq!(whole.bytes().await.expect("a body"), "hello world\n");

    let url = world.at(&format!("/ipfs/{HELLO}"));
    let part = world.client.get(&url).header("range", "bytes=6-10").send().await.expect("an answer");
    assert_eq!(
        (part.status(), part.headers()["content-range"].as_bytes()),
        (StatusCode::PARTIAL_CONTENT, &b"bytes 6-10/12"[..])
    );
    assert_eq!(part.bytes().await.expect("a body"), "world");
    let beyond = world.client.get(&url).header("range", "bytes=12-").send().await.expect("an answer");
    assert_eq!((beyond.status().as_u16(), beyond.headers()["content-range"].as_bytes()), (416, &b"bytes */12"[..]));
    let head = world.client.head(&url).send().await.expect("an answer");
    assert_eq!((head.status(), head.headers()["content-length"].as_bytes()), (StatusCode::OK, &b"12"[..]));
}

#[tokio::test]
async fn a_hash_never_becomes_a_path_unless_it_is_one() {
    let world = world().await;
    let unknown = HELLO.replace("5o", "5p");
    for hash in ["..%2F..%2Fapi-key", "x", "", "..%00", &unknown, &format!("{HELLO}/x")] {
        assert_eq!(world.read(hash).await.status(), 404, "{hash}");
    }
    assert_eq!(world.sandbox.content("../api-key").map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
    assert_eq!(world.sandbox.content(HELLO).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    assert_eq!(status_of(world.post("/v1/upload")).await, 404);
}

#[tokio::test]
async fn every_name_that_a_file_can_have_arrives() {
    let world = world().await;
    let long = "x".repeat(255);
    let names = ["q\"uote", "c\rr", "l\nf", "back\\", "e\u{1b}[31msc", "日本 é", "%41", " ", &long, "\u{7f}\u{202e}"];
    for name in names {
        assert_eq!(json(world.upload(name, b"x").send().await.expect("an answer")).await["Name"], name);
    }
    let mut expected: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    expected.sort();
    assert_eq!(world.names(), expected);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_store_nothing() {
    let world = world().await;
    let good = || world.upload("a", b"x");
    let raw = |kind: &'static str, body: &'static str| world.post(wire::UPLOAD).header("content-type", kind).body(body);
    let (kind, two) = framed(&[("a", b"1"), ("b", b"2")]);
    let form = "multipart/form-data; boundary=B";
    let field = "--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--B--";
    for (what, request, status) in [
        ("path and id", good().header(wire::FOLDER_PATH, "a").header(wire::PARENT_ID, "0"), 400),
        ("no number", good().header(wire::PARENT_ID, "root"), 400),
        ("unknown id", good().header(wire::PARENT_ID, "7"), 404),
        ("way out", good().header(wire::FOLDER_PATH, "a/../b"), 400),
        ("path for a name", world.upload("a/b", b"x"), 400),
        ("empty name", world.upload("", b"x"), 400),
        ("two files", world.post(wire::UPLOAD).header("content-type", kind).body(two), 400),
        ("no file name", raw(form, field), 400),
        ("no multipart", raw("text/plain", "x"), 400),
        ("no part", raw(form, "--B--"), 400),
        ("no end", raw(form, "--B\r\nContent-Disposition: form-data; filename=\"a\"\r\n\r\nx\r\n"), 400),
    ] {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{what}");
        assert!(json(response).await["message"].is_string(), "{what}");
    }
    assert_eq!((world.names().len(), world.left_incoming()), (0, 0));
    assert_eq!(status_of(good().header(wire::PARENT_ID, "0")).await, 200);
}

#[tokio::test]
async fn credentials_are_swapped_for_tokens_and_wrong_ones_are_not() {
    let world = world().await;
    let get = |key: &'static str, value: &str| world.client.get(world.at(wire::TEMP_TOKEN)).header(key, value);
    let key = world.sandbox.api_key();
    let soon = jiff::Timestamp::now().as_second() + 60;
    assert_eq!(status_of(get("x-api-key", key).header("api-key", key)).await, 200);
    assert_eq!(status_of(get("x-api-key", key).header("api-key", "other")).await, 400);
    assert_eq!(status_of(get("api-key", "wrong")).await, 401);
    assert_eq!(status_of(get("accept", "*/*")).await, 401);
    assert_eq!(status_of(get("api-key", key).header(wire::EXPIRATION, "soon")).await, 400);
    assert_eq!(status_of(get("api-key", key).header(wire::EXPIRATION, "1000")).await, 400);
    let token = json(get("api-key", key).header(wire::EXPIRATION, soon).send().await.expect("an answer")).await;
    let claims = wire::Claims::of(token["access_token"].as_str().expect("a token")).expect("a JWT");
    assert_eq!(claims.exp, soon);

    let (email, password) = world.sandbox.login();
    let login = |password: &str| {
        world.client.post(world.at(wire::TEMP_TOKEN)).json(&json!({ "email": email, "password": password }))
    };
    assert_eq!(status_of(login(password)).await, 200);
    assert_eq!(status_of(login("wrong")).await, 401);

    world.sandbox.replace_api_key("another");
    assert_eq!(status_of(get("api-key", key)).await, 401);
    assert_eq!(status_of(get("api-key", "another")).await, 200);
}

#[tokio::test]
async fn only_a_token_that_holds_lets_files_in() {
    let mut world = world_with(|options| options.longest_token = Duration::ZERO).await;
    assert_eq!(status_of(world.upload("a", b"x")).await, 401, "expired");
    world.token = "nonsense".to_owned();
    // Far more than the connection's buffers hold: the refusal does not wait for the body, and arrives all the same.
    assert_eq!(status_of(world.upload("a", &vec![0; 20_000_000])).await, 401);
    assert_eq!(status_of(world.client.post(world.at(wire::UPLOAD))).await, 401, "none");
    assert_eq!(world.open_session(json!({ "chunks_number": 1 })).await.status(), 401);
    assert_eq!((world.names().len(), world.left_incoming()), (0, 0));
}

#[tokio::test]
async fn revoked_tokens_are_refused_and_new_ones_are_taken() {
    let mut world = world().await;
    assert_eq!(status_of(world.upload("a", b"x")).await, 200);
    world.sandbox.revoke_tokens();
    assert_eq!(status_of(world.upload("a", b"x")).await, 401);
    world.token = world.fetch_token().await;
    assert_eq!(status_of(world.upload("a", b"x")).await, 200);
}

#[tokio::test]
async fn files_ids_and_credentials_survive_a_restart_and_a_torn_log() {
    let world = world().await;
    for (dir, name, content) in [("a/b", "x", "1"), ("a", "y", "2"), ("a/b", "x", "3"), ("", "z", "3")] {
        let upload = world.upload(name, content.as_bytes()).header(wire::FOLDER_PATH, dir);
        assert_eq!(status_of(upload).await, 200);
    }
    let (files, versions) = (world.sandbox.files().expect("files"), world.sandbox.versions().expect("versions"));
    let key = world.sandbox.api_key().to_owned();
    assert_eq!(world.names(), ["/z", "a/y", "a/b/x"].map(str::to_owned));
    assert_eq!(versions.iter().map(|file| file.directory_id).collect::<Vec<_>>(), [2, 1, 2, 0]);
    world.sandbox.stop().await;

    let log = world.store.path().join("entries.jsonl");
    let mut text = std::fs::read(&log).expect("a log");
    text.extend_from_slice(b"{\"kind\":\"fi");
    std::fs::write(&log, text).expect("written");
    std::fs::write(world.store.path().join("incoming/left"), "by a kill").expect("written");
    for _ in 0..2 {
        let again = Sandbox::start(Options::new(world.store.path())).await.expect("it starts again");
        assert_eq!(again.files().expect("files"), files);
        assert_eq!(again.versions().expect("versions"), versions);
        assert_eq!(again.api_key(), key);
        assert_eq!(again.content(&files[2].hash).expect("content"), b"3");
        again.stop().await;
    }
    assert_eq!(std::fs::read_dir(world.store.path().join("incoming")).expect("a directory").count(), 0);
}

#[tokio::test]
async fn two_sandboxes_never_share_a_directory_and_none_listens_to_other_machines() {
    let world = world().await;
    let second = Sandbox::start(Options::new(world.store.path())).await;
    assert!(matches!(second, Err(SandboxError::InUse { .. })));
    let mut options = Options::new(world.store.path());
    options.listen = "0.0.0.0:0".parse().expect("an address");
    assert!(matches!(Sandbox::start(options).await, Err(SandboxError::NotLoopback(_))));
}

#[tokio::test]
async fn an_upload_that_breaks_off_stores_nothing_and_leaves_nothing() {
    let world = world().await;
    let head = Framing::new(["torn.bin"], "B").heads.remove(0);
    let mut connection = TcpStream::connect(world.sandbox.address).await.expect("a connection");
    connection
        .write_all(&[raw_head(&world.token, 1_000_000).as_bytes(), &head, &[7; 100_000]].concat())
        .await
        .expect("written");
    eventually("it is received into a temporary file", async || world.left_incoming() == 1).await;
    drop(connection);
    eventually("the temporary file is gone", async || world.left_incoming() == 0).await;
    assert_eq!(world.sandbox.versions().expect("versions").len(), 0);
}

#[tokio::test]
async fn a_client_that_sends_everything_before_it_listens_sees_why_it_was_refused() {
    let world = world().await;
    let mut connection = TcpStream::connect(world.sandbox.address).await.expect("a connection");
    connection.write_all(raw_head("nonsense", 20_000_000).as_bytes()).await.expect("written");
    connection.write_all(&vec![0; 20_000_000]).await.expect("it is read to its end");
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_body_without_a_length_is_taken() {
    let world = world().await;
    let (kind, body) = framed(&[("a", b"hello world\n")]);
    let pieces: Vec<Result<Vec<u8>, io::Error>> = body.chunks(7).map(|piece| Ok(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(status_of(world.post(wire::UPLOAD).header("content-type", kind).body(body)).await, 200);
    assert_eq!(world.sandbox.content(HELLO).expect("content"), b"hello world\n");
}

#[tokio::test]
async fn a_session_stores_its_files_together_once_all_requests_have_arrived() {
    let world = world().await;
    let answer = json(world.open_session(json!({ "chunks_number": 3, "folder_path": "Über" })).await).await;
    let session = answer["token"].as_str().expect("a token");
    let chunk = |files: &[(&str, &[u8])]| {
        let (kind, body) = framed(files);
        world.post(wire::UPLOAD).header("content-type", kind).header(wire::UPLOAD_TOKEN, session).body(body)
    };
    assert_eq!(status_of(chunk(&[("a", b"1"), ("../b", b"2")])).await, 400);
    assert_eq!(status_of(chunk(&[("a", b"1")]).header(wire::FOLDER_PATH, "x")).await, 400);
    for files in [&[("a", &b"1"[..]), ("sub/b", b"2")][..], &[("c", b"3")]] {
        let answer = json(chunk(files).send().await.expect("an answer")).await;
        assert_eq!(answer, json!({ "message": "ok", "upload_token": session }));
    }
    assert_eq!(world.status(session).await, json!({ "status": "WAITING_FOR_FILES" }));
    assert_eq!((world.names().len(), world.left_incoming()), (0, 3));

    world.sandbox.set_delay(Duration::from_millis(150));
    assert_eq!(status_of(chunk(&[("d", b"hello world\n")])).await, 200);
    let mut seen = Vec::new();
    eventually("the session is done", async || {
        let status = world.status(session).await["status"].as_str().expect("a status").to_owned();
        seen.push(status.clone());
        status == "DONE"
    })
    .await;
    assert!(seen.iter().any(|status| status == "ADDING_TO_IPFS" || status == "SAVING_DATA"), "{seen:?}");
    world.sandbox.set_delay(Duration::ZERO);
    assert_eq!(world.names(), ["Über/a", "Über/c", "Über/d", "Über/sub/b"].map(str::to_owned));
    assert_eq!(world.left_incoming(), 0);
    let data = &world.status(session).await["data"];
    assert!(
        data.as_array().is_some_and(|data| data.len() == 4 && data.contains(&json!({ "Name": "d", "Hash": HELLO }))),
        "{data}"
    );
    assert!(data.to_string().contains("\"sub/b\""), "names are as they were sent");
    assert_eq!(status_of(chunk(&[("e", b"5")])).await, 409);
}

#[tokio::test]
async fn sessions_that_nobody_opened_are_unknown() {
    let world = world().await;
    assert_eq!(status_of(world.upload("a", b"x").header(wire::UPLOAD_TOKEN, "nobody's")).await, 404);
    let status = world.client.get(world.at(wire::GET_UPLOAD_STATUS)).bearer_auth(&world.token);
    assert_eq!(status_of(status.header(wire::UPLOAD_TOKEN, "nobody's")).await, 404);
    for wish in [json!({}), json!({ "chunks_number": 0 }), json!({ "chunks_number": 1, "folder_path": ".." })] {
        assert_eq!(world.open_session(wish.clone()).await.status(), 400, "{wish}");
    }
}

#[tokio::test]
async fn the_page_shows_what_is_stored_and_runs_nothing_of_it() {
    let world = world().await;
    for name in ["<script>alert(1)</script>.html".replace('/', "\\"), "a&\"'\u{202e}".to_owned()] {
        let upload = world.upload(&name, b"hello world\n").header(wire::FOLDER_PATH, "B%C3%BC/<i>");
        assert_eq!(status_of(upload).await, 200);
    }
    let page = async |path: &str| world.client.get(world.at(path)).send().await.expect("an answer");
    let root = page("/").await.text().await.expect("a page");
    assert!(
        root.contains("<a href=\"/?dir=B%C3%BC/%3Ci%3E\">&lt;i&gt;</a>") || root.contains("/?dir=B%C3%BC\">"),
        "{root}"
    );
    let dir = page("/?dir=B%C3%BC/%3Ci%3E").await;
    assert!(dir.headers()["content-security-policy"].to_str().expect("text").starts_with("default-src 'none'"));
    let dir = dir.text().await.expect("a page");
    assert!(
        dir.contains("&lt;script&gt;alert(1)&lt;\\script&gt;.html") && dir.contains("a&amp;&quot;&#39;\\u{202e}"),
        "{dir}"
    );
    assert!(dir.contains(&format!("/ipfs/{HELLO}")) && !dir.contains("<script"), "{dir}");
    assert_eq!(page("/?dir=nowhere").await.status(), 404);
}

#[tokio::test]
async fn the_page_lists_a_thousand_files_and_counts_the_rest() {
    let world = world().await;
    let session = json(world.open_session(json!({ "chunks_number": 1 })).await).await["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let names: Vec<String> = (0..1003).map(|number| format!("file-{number:04}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let (kind, body) = framed(&files);
    let chunk = world.post(wire::UPLOAD).header("content-type", kind).header(wire::UPLOAD_TOKEN, &session).body(body);
    assert_eq!(status_of(chunk).await, 200);
    eventually("they are stored", async || world.names().len() == 1003).await;
    let page = world.client.get(world.at("/")).send().await.expect("an answer").text().await.expect("a page");
    assert_eq!(page.matches("file-").count(), 1000);
    assert!(page.contains("and 3 more files"));
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let world = world().await;
    let before = world.sandbox.bytes_received();
    assert_eq!(status_of(world.upload("a", &[0; 100_000])).await, 200);
    let received = world.sandbox.bytes_received() - before;
    assert!((100_000..102_000).contains(&received), "{received}");
    world.read(HELLO).await;
    let counts = Phase::ALL.map(|phase| world.sandbox.requests(phase));
    assert_eq!(counts, [1, 0, 1, 0, 0, 1]);
}

#[tokio::test]
async fn answers_are_kept_back_for_the_delay() {
    let world = world().await;
    world.sandbox.set_delay(Duration::from_millis(200));
    let begun = std::time::Instant::now();
    world.read(HELLO).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
}
