//! TLS and proxies, for real: a front with certificates good and bad, and a proxy on the way to it.

mod front;
mod proxy;
mod refused;

use std::fs;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::world::{World, private};
use front::{Authority, Front, Holds, Shows};

/// A world whose dStor stands behind a front that shows this, under `host`, and whose config trusts the authority.
async fn behind(host: &str, authority: &Authority, shows: Shows) -> (World, Front) {
    let mut world = World::new().await;
    let url = world.sandbox().url();
    let dstor = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let front = Front::before(dstor, shows).await;
    let ca = world.base().join("ca.pem");
    fs::write(&ca, authority.pem()).expect("written");
    private(&ca);
    let lines = format!("url = \"https://{host}:{}\"\nca_file = \"{}\"", front.port, ca.display());
    world.set_config(world.config().replace(&format!("url = \"{url}\""), &lines));
    (world, front)
}

/// What status says of dStor's last failure.
fn last_error(world: &World) -> String {
    world.status()["dstor"]["last_error"].as_str().unwrap_or_default().to_owned()
}

// E3, G5
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_past_a_bad_certificate_and_all_of_it_once_that_is_mended() {
    type Bad = fn(&Authority) -> Shows;
    let cases: [(Bad, &str); 5] = [
        (|own| own.signs("127.0.0.1", Holds::NoMore), "the certificate of 127.0.0.1 expired on 2001-01-02"),
        (|own| own.signs("127.0.0.1", Holds::NotYet), "the certificate of 127.0.0.1 holds from 2400-01-03 on"),
        (|own| own.signs("other.example", Holds::Now), "the certificate of 127.0.0.1 is for another host"),
        (
            |_| Authority::new("somebody").signs("127.0.0.1", Holds::Now),
            "the certificate of 127.0.0.1 is not trusted: this machine knows nobody who signed it; name its CA with `ca_file`",
        ),
        (|_| Shows::PlainHttp, "127.0.0.1 does not speak TLS on this port"),
    ];
    let mut all = JoinSet::new();
    for (bad, words) in cases {
        all.spawn(async move {
            let own = Authority::new("our own");
            let (world, front) = behind("127.0.0.1", &own, bad(&own)).await;
            world.write("a", "a");
            let agent = world.start();
            world.until(words, || last_error(&world).contains(words)).await;
            let status = world.status();
            assert_eq!((&status["dstor"]["reachable"], world.count("failed")), (&Value::Bool(false), 0), "{status:#}");
            assert_eq!(world.sandbox().bytes_received(), 0, "{words}: something came through");
            let once = world.run(&["sync", "--state-dir", world.base().join("once").to_str().expect("text")]);
            assert!(once.code == 5 && once.stderr.contains(words), "{once:?}");

            front.show(own.signs("127.0.0.1", Holds::Now));
            world.until_mirrored().await;
            world.until("it is well again", || world.status()["dstor"]["reachable"] == true).await;
            assert_eq!(agent.stop(), 0, "{words}");
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("as it should");
    }
}

// E3
#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_http_2_files_are_stored_by_themselves_and_together_and_read_back() {
    let own = Authority::new("our own");
    let (mut world, front) = behind("127.0.0.1", &own, own.signs("127.0.0.1", Holds::Now)).await;
    for at in 0..50 {
        world.write(&format!("d/f{at}"), at.to_string());
    }
    world.write("large", vec![7; 3_000_000]);
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 0, "{pass:?}");
    world.until_mirrored().await;
    assert!(front.by_http2() > 0, "HTTP/2 was never agreed on");
    let verified = world.run(&["verify", "--read"]);
    assert_eq!(verified.code, 0, "{verified:?}");

    // The authority may be the system's as well, as far as the environment says so.
    let line = world.config().lines().find(|line| line.starts_with("ca_file")).expect("a line").to_owned();
    world.set_config(world.config().replace(&line, ""));
    world.write("more", "more");
    assert_eq!(world.run(&["sync"]).code, 5, "nobody is trusted any more");
    let mut command = world.command(&["sync"]);
    command.env("SSL_CERT_FILE", world.base().join("ca.pem"));
    let pass = tokio::task::block_in_place(|| crate::world::said(command));
    assert_eq!(pass.code, 0, "{pass:?}");
    world.until_mirrored().await;
}
