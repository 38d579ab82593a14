//! Files and names that are allowed, and yet not what one thinks of.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use dstor_sync::sandbox::Phase;
use rustix::fs::{Mode, OFlags};

use crate::world::World;

// B19: `"` travels as `%22`, and a name that has `%22` in it travels as it is.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_names_that_become_one_the_stored_one_is_kept_and_the_other_reported() {
    for names in [["a\"b", "a%22b"], ["a%22b", "a\"b"], ["a\nb", "a%0Ab"]] {
        let [first, second] = names;
        let world = World::new().await;
        world.write(first, "first");
        world.write("d/other", "x");
        let agent = world.start();
        world.until("the first is stored", || world.count("stored") == 2).await;
        world.write(second, "second");
        world
            .until("the second is reported", || world.states().get(second).is_some_and(|state| state == "skipped"))
            .await;
        let story = world.ls();
        assert!(story[second]["error"].as_str().is_some_and(|error| error.contains("same name on dStor")), "{story:?}");
        // Neither a scan nor an event changes anything: dStor keeps the first.
        let requests = world.sandbox().requests(Phase::Upload);
        world.write(second, "second, once more");
        world.put("mark", "x");
        world.until("the mark is stored", || world.count("stored") == 3).await;
        assert_eq!(agent.stop(), 0);
        assert!(world.run(&["sync"]).stdout.starts_with("0 files stored"));
        assert_eq!(world.run(&["wait"]).code, 0);
        assert_eq!(world.run(&["wait", &format!("mirror/{second}")]).code, 1);
        assert_eq!(world.sandbox().requests(Phase::Upload), requests + 1);
        let kept: Vec<_> = world.remote().into_iter().filter(|(_, bytes)| bytes == b"first").collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        // Once the first is gone its name is free.
        fs::remove_file(world.path(first)).expect("removed");
        let pass = world.run(&["sync"]);
        assert!(pass.stdout.contains("1 file stored"), "{pass:?}");
        assert_eq!(world.states()[second], "stored");
    }
}

// B19: the first is on its way while the second, which would come before it, is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_on_its_way_is_not_given_to_another_file() {
    let world = World::new().await;
    world.misbehave("upload late=3000 x1");
    let agent = world.start();
    world.put("a%22b", "first");
    world.until("the first is on its way", || world.sandbox().requests(Phase::Upload) == 1).await;
    world.write("a\"b", "second");
    world
        .until("the first is stored, the second not", || (world.count("stored"), world.count("skipped")) == (1, 1))
        .await;
    assert_eq!(world.states()["a%22b"], "stored");
    assert_eq!(world.sent(), 1);
    assert_eq!(agent.stop(), 0);
}

// B19: both at once, before either is stored.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_new_names_that_become_one_exactly_one_is_stored() {
    let world = World::new().await;
    for name in ["a\"b", "a%22b", "\"\"", "%22\"", "\"%22"] {
        world.write(name, name);
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!((world.count("stored"), world.count("skipped")), (2, 3));
    for (path, line) in world.ls() {
        if line["state"] == "stored" {
            let content = world.sandbox().content(line["hash"].as_str().expect("a hash")).expect("its content");
            assert_eq!(content, path.as_bytes());
            assert!(world.remote().values().any(|bytes| *bytes == content), "{path} was replaced");
        }
    }
}

// B19, B20: other bytes are other names, whatever they look like.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_differ_in_case_or_normal_form_alone_are_all_stored() {
    let world = World::new().await;
    for name in
        ["a", "A", "é", "e\u{301}", "K", "\u{212a}", "ß", "ẞ", "d/é/f", "d/%C3%A9/f", "d/%c3%a9/f", "d/%25C3%25A9/f"]
    {
        world.write(name, name);
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(world.remote(), world.local());
    assert_eq!((world.count("stored"), world.count("skipped")), (12, 0));
}

// B7, B8: a file of holes is as long as it says, and an empty one is a file.
#[tokio::test(flavor = "multi_thread")]
async fn empty_files_and_files_of_holes_are_stored_and_the_largest_are_not() {
    let world = World::with("max_file_size = \"8 MiB\"", "").await;
    world.write("empty", "");
    for (name, size) in [("holes", 8 << 20), ("larger", (8 << 20) + 1), ("huge", 1_u64 << 40)] {
        fs::File::create(world.path(name)).and_then(|file| file.set_len(size)).expect("made");
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    let states = world.states();
    let expected = [("empty", "stored"), ("holes", "stored"), ("huge", "skipped"), ("larger", "skipped")];
    assert_eq!(states.iter().map(|(path, state)| (path.as_str(), state.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(world.remote()[b"holes".as_slice()].len(), 8 << 20);
    assert_eq!(world.remote()[b"empty".as_slice()].len(), 0);
}

// B14
#[tokio::test(flavor = "multi_thread")]
async fn both_names_of_a_file_are_stored_and_a_change_through_one_reaches_both() {
    let world = World::new().await;
    world.write("one", "1");
    fs::hard_link(world.path("one"), world.path("two")).expect("linked");
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(world.remote(), world.local());
    world.write("one", "22");
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(world.remote()[b"two".as_slice()], b"22");
}

// B5
#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_time_are_stored() {
    let world = World::new().await;
    for (name, seconds) in [("before", -300_000_000), ("after", 13_569_465_600), ("zero", 0)] {
        let file = fs::File::create(world.path(name)).expect("made");
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
        rustix::fs::futimens(&file, &rustix::fs::Timestamps { last_access: time, last_modification: time })
            .expect("set");
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    let told = world.ls();
    assert_eq!(told["before"]["modified_at"], "1960-06-29T18:40:00Z");
    assert_eq!(told["after"]["modified_at"], "2400-01-01T00:00:00Z");
    assert_eq!(world.run(&["sync"]).stdout, "0 files stored (0 B), 0 waiting, 0 failed.\n");
}

// B18: deeper than any one call reaches.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_below_4096_bytes_of_directories_is_stored() {
    let world = World::new().await;
    let part = "d".repeat(250);
    let mut here = rustix::fs::open(world.mirror(), OFlags::RDONLY, Mode::empty()).expect("opened");
    for _ in 0..20 {
        rustix::fs::mkdirat(&here, &part, Mode::RWXU).expect("made");
        here = rustix::fs::openat(&here, &part, OFlags::RDONLY, Mode::empty()).expect("opened");
    }
    let file = rustix::fs::openat(&here, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).expect("made");
    rustix::io::write(&file, b"deep").expect("written");
    drop(file);
    let agent = world.start();
    world.until("it is stored", || world.count("stored") == 1).await;
    let deep = std::iter::repeat_n(part.as_str(), 20).chain(["f"]).collect::<Vec<_>>().join("/");
    assert_eq!(world.remote().get(deep.as_bytes()).map(Vec::as_slice), Some(b"deep".as_slice()));
    let path = world.path(&deep);
    assert!(path.as_os_str().as_bytes().len() > 5000);
    assert_eq!(world.run(&["wait"]).code, 0);
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.run(&["sync"]).stdout, "0 files stored (0 B), 0 waiting, 0 failed.\n");
}
