//! The agent's own files are no mirror's.

use std::fs;

use crate::world::{Mount, World, private};

// G12: found by who they are, under whatever path a mirror shows them.
#[tokio::test(flavor = "multi_thread")]
async fn its_state_and_its_secrets_are_never_uploaded_wherever_a_mirror_shows_them() {
    let mut world = World::new().await;
    fs::create_dir(world.path("secrets")).expect("made");
    fs::copy(world.base().join("key"), world.path("secrets/key")).expect("copied");
    private(&world.path("secrets/key"));
    let key = world.base().join("key").display().to_string();
    world.set_config(world.config().replace(&key, &world.path("secrets/key").display().to_string()));
    // The same file by another name.
    fs::hard_link(world.base().join("config.toml"), world.path("linked")).expect("linked");
    world.write("a", "a");
    fs::create_dir(world.state_dir()).expect("made");
    fs::create_dir_all(world.path("way/in")).expect("made");
    let mount = Mount { at: world.path("way/in") };
    // Only root may mount.
    let is_mounted = mount.bind(&world.state_dir());

    let agent = world.start();
    world.until_mirrored_save(&["secrets/key", "linked", "way/in/"]).await;
    // Saved anew, as editors do: another file takes its place.
    private(&world.put("secrets/key", world.sandbox().api_key()));
    world.write("b", "b");
    world.until_mirrored_save(&["secrets/key", "linked", "way/in/"]).await;
    let skipped = if is_mounted { 3 } else { 2 };
    world.until("they are skipped, and told of", || world.count("skipped") == skipped).await;
    let why = world.run(&["why".as_ref(), world.path("linked").as_os_str()]);
    assert!(why.stdout.contains("dstor-sync's own"), "{why:?}");
    let names: Vec<String> = world.sandbox().versions().expect("versions").into_iter().map(|file| file.name).collect();
    assert!(names.iter().all(|name| name == "a" || name == "b"), "{names:?}");
    assert_eq!(agent.stop(), 0);
}
