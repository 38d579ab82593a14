//! What programs read is what the shipped JSON Schemas say: no property is missing, of another kind, or not described.
//!
//! A validator of all that JSON Schema can say would be some fifty crates for a few words; those that the schemas use are
//! checked here, and a schema with another word is refused.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::world::World;

/// Adds what is wrong with `value`, which is at `at`.
fn check(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    for (word, said) in schema.as_object().expect("a schema") {
        let mut complain = |what: String| wrong.push(format!("{at}: {what}"));
        match word.as_str() {
            "$schema" | "title" | "description" => {}
            "type" => {
                let kinds: Vec<&Value> = said.as_array().map_or_else(|| vec![said], |all| all.iter().collect());
                if !kinds.iter().any(|kind| is_of(value, kind.as_str().expect("a kind"))) {
                    complain(format!("{value} is not of the kind {said}"));
                }
            }
            "const" if value != said => complain(format!("{value} is not {said}")),
            "enum" if !said.as_array().expect("values").contains(value) => {
                complain(format!("{value} is none of {said}"))
            }
            "const" | "enum" => {}
            "minimum" if value.as_f64().is_some_and(|value| value < said.as_f64().expect("a number")) => {
                complain(format!("{value} is less than {said}"));
            }
            "minimum" => {}
            "format" => {
                assert_eq!(said, "date-time");
                if value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err() || !text.ends_with('Z')) {
                    complain(format!("{value} is no time in UTC"));
                }
            }
            "pattern" => {
                assert_eq!(said, "^[0-9a-f]{64}$");
                let is_digest = |text: &str| {
                    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                };
                if value.as_str().is_some_and(|text| !is_digest(text)) {
                    complain(format!("{value} is no digest"));
                }
            }
            "required" => {
                for name in said.as_array().expect("names").iter().filter_map(Value::as_str) {
                    // Where something else is allowed as well, only of an object.
                    if value.as_object().is_some_and(|object| !object.contains_key(name)) {
                        complain(format!("`{name}` is missing"));
                    }
                }
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    match said.get(name) {
                        Some(schema) => check(schema, inner, &format!("{at}.{name}"), wrong),
                        // A program may meet more than this; this version says no more than is described.
                        None => wrong.push(format!("{at}: `{name}` is not described")),
                    }
                }
            }
            "items" => {
                for (number, inner) in value.as_array().into_iter().flatten().enumerate() {
                    check(said, inner, &format!("{at}[{number}]"), wrong);
                }
            }
            "anyOf" => {
                let complaints = said.as_array().expect("schemas").iter().map(|schema| wrong_with(schema, value));
                if let Some(fewest) = complaints.min_by_key(Vec::len).filter(|fewest| !fewest.is_empty()) {
                    complain(format!("it is none of the kinds; {fewest:?}"));
                }
            }
            other => panic!("`{other}` is a word that is not checked"),
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("`{other}` is no kind"),
    }
}

fn wrong_with(schema: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    check(schema, value, "it", &mut wrong);
    wrong
}

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("packaging/schemas/{name}.json"));
    serde_json::from_slice(&fs::read(path).expect("it is shipped")).expect("JSON")
}

/// That each of these lines is as the schema says; returns how many there were.
#[track_caller]
pub(crate) fn assert_as_described(name: &str, values: &[Value]) {
    assert!(!values.is_empty(), "{name} said nothing");
    let schema = schema(name);
    for value in values {
        assert_eq!(wrong_with(&schema, value), [""; 0], "{name}: {value:#}");
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_read_is_what_the_schemas_describe() {
    // Each by itself: with the two that cannot be sent there are enough for a session, which the rule says nothing of.
    let world = World::with("", "sessions = \"never\"").await;
    world.misbehave("upload 400 name=bad");
    for name in ["good", "bad", "d/e"] {
        world.write(name, name);
    }
    fs::write(world.mirror().join(OsStr::from_bytes(b"odd\xff")), "odd").expect("written");
    std::os::unix::fs::symlink("good", world.path("link")).expect("linked");
    let said = world.run(&["sync"]);
    assert_eq!(said.code, 1, "{said:?}");
    fs::write(world.state_dir().join("ledger.db.broken-20260131T120000Z"), "x").expect("written");
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    let whole =
        |arguments: &[&str]| -> Vec<Value> { vec![serde_json::from_str(&world.run(arguments).stdout).expect("JSON")] };
    assert_as_described("status", &whole(&["status", "--json"]));
    assert_as_described("doctor", &whole(&["doctor", "--json"]));
    world.misbehave("upload 503 retry-after=3000");
    world.write("waits", "waits");
    world.until("it waits", || !world.status()["next_attempt_at"].is_null()).await;
    // What is written of it comes a moment later.
    let is_told = |told: &str| ["\"away\"", "\"retried\""].iter().all(|event| told.contains(event));
    world.until("it is told", || is_told(&world.run(&["log", "--json"]).stdout)).await;
    agent.kill();
    let status = whole(&["status", "--json"]);
    assert!(status[0]["problems"].as_array().is_some_and(|all| !all.is_empty()), "{status:?}");
    assert_as_described("status", &status);
    assert_as_described("doctor", &whole(&["doctor", "--json", "--offline"]));
    let listed = lines(&world.run(&["ls", "--json"]).stdout);
    assert!(listed.iter().any(|line| line["path_bytes"].is_string()), "{listed:?}");
    assert_as_described("ls", &listed);
    assert_as_described("export", &lines(&world.run(&["export", "--json"]).stdout));
    assert_as_described("verify", &lines(&world.run(&["verify", "--json", "--read"]).stdout));
    let log = lines(&world.run(&["log", "--json"]).stdout);
    for event in ["started", "stored", "failed", "retried", "skipped", "away"] {
        assert!(log.iter().any(|line| line["event"] == event), "{event}: {log:?}");
    }
    assert_as_described("log", &log);
    world.sandbox().behave();
    world.misbehave("read 404 name=good");
    let dest = world.base().join("restored");
    let restored = lines(&world.run(&["restore".as_ref(), "--json".as_ref(), dest.as_os_str()]).stdout);
    for result in ["restored", "missing", "not_stored"] {
        assert!(restored.iter().any(|line| line["result"] == result), "{result}: {restored:?}");
    }
    assert_as_described("restore", &restored);

    // The check is one.
    let mut line = listed.into_iter().find(|line| line["state"] == "stored").expect("a stored file");
    let ls = schema("ls");
    for (name, value) in [
        ("state", json!("lost")),
        ("size", json!("3")),
        ("size", json!(-3)),
        ("stored_at", json!("yesterday")),
        ("blake3", json!("AB")),
        ("new", json!(1)),
    ] {
        let before = line.get(name).cloned();
        line[name] = value;
        assert_eq!(wrong_with(&ls, &line).len(), 1, "{line}");
        match before {
            Some(before) => line[name] = before,
            None => drop(line.as_object_mut().expect("an object").remove(name)),
        }
    }
    line.as_object_mut().expect("an object").remove("hash");
    assert_eq!(wrong_with(&ls, &line), ["it: `hash` is missing"]);
}
