//! A proxy between this machine and dStor.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::front::{Authority, Holds};
use super::{behind, last_error};
use crate::world::{Agent, World};

/// The proxy's password, which nobody is ever told.
const CANARY: &str = "canary-of-the-proxy";
/// The same as it travels: `me:` and the password, in base64.
const TRAVELS: &str = "bWU6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==";

/// What it says to whoever wants to be led somewhere.
#[derive(Clone, Copy)]
enum Says {
    /// Leads every host to this port here.
    LeadsTo(u16),
    Status(u16),
    HangsUp,
}

struct Proxy {
    port: u16,
    says: Arc<Mutex<Says>>,
    heard: Arc<Mutex<String>>,
    listening: JoinHandle<()>,
}

impl Proxy {
    async fn that(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (says, heard) = (Arc::new(Mutex::new(says)), Arc::<Mutex<String>>::default());
        let (said, hears) = (Arc::clone(&says), Arc::clone(&heard));
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let says = *said.lock().unwrap_or_else(PoisonError::into_inner);
                tokio::spawn(answer(stream, says, Arc::clone(&hears)));
            }
        });
        Self { port, says, heard, listening }
    }

    fn now(&self, says: Says) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn answer(mut stream: TcpStream, says: Says, heard: Arc<Mutex<String>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    heard.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&head));
    let port = match says {
        Says::LeadsTo(port) => port,
        Says::Status(status) => {
            let _ = stream.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
            return;
        }
        Says::HangsUp => return,
    };
    if let Ok(mut there) = TcpStream::connect(("127.0.0.1", port)).await {
        let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await;
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
    }
}

/// The agent, as talkative as can be, with a proxy in its environment.
fn start_behind(world: &World, proxy: u16, more: &[(&str, &str)]) -> Agent {
    let mut command = world.command(&["run", "-vv"]);
    command.env("HTTPS_PROXY", format!("http://me:{CANARY}@127.0.0.1:{proxy}")).envs(more.iter().copied());
    world.start_command(command)
}

fn the_password_is_safe(world: &World, agent: &Agent) {
    let mut seen = vec![agent.log()];
    for command in [&["status"][..], &["status", "--json"], &["ls", "--json"]] {
        let said = world.run(command);
        seen.extend([said.stdout, said.stderr]);
    }
    for entry in fs::read_dir(world.state_dir()).expect("read").flatten() {
        // A file of SQLite's may be gone again.
        seen.push(String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default()).into_owned());
    }
    for text in seen {
        assert!(!text.contains(CANARY) && !text.contains(TRAVELS), "the proxy's password is in: {text}");
    }
}

// E4, P6, G1: no name is looked up here: it is the proxy that knows the way.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_refuses_is_told_apart_from_dstor_and_gives_no_file_up() {
    const HOST: &str = "dstor.example";
    let cases = [
        (Says::Status(407), "wants a login; give it in HTTPS_PROXY"),
        (Says::Status(403), "refuses to connect to dstor.example"),
        (Says::Status(502), "refuses to connect to dstor.example"),
        (Says::HangsUp, "broke off"),
    ];
    let mut all = JoinSet::new();
    for (says, words) in cases {
        all.spawn(async move {
            let own = Authority::new("our own");
            let (world, front) = behind(HOST, &own, own.signs(HOST, Holds::Now)).await;
            let proxy = Proxy::that(says).await;
            world.write("a", "a");
            let agent = start_behind(&world, proxy.port, &[]);
            let words = format!("the proxy 127.0.0.1:{} {words}", proxy.port);
            world.until(&words, || last_error(&world).contains(&words)).await;
            assert_eq!((world.status()["dstor"]["reachable"].as_bool(), world.count("failed")), (Some(false), 0));
            the_password_is_safe(&world, &agent);

            proxy.now(Says::LeadsTo(front.port));
            world.until_mirrored().await;
            let heard = proxy.heard();
            assert!(heard.starts_with(&format!("CONNECT {HOST}:{} HTTP/1.1\r\n", front.port)), "{heard}");
            assert!(heard.contains(&format!("Basic {TRAVELS}")), "{heard}");
            the_password_is_safe(&world, &agent);
            assert_eq!(agent.stop(), 0);
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("as it should");
    }
}

// E4
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_not_there_is_told_of_and_none_is_asked_where_no_proxy_is_wanted() {
    // Not a loopback address, and yet it leads to this machine.
    const HERE: &str = "0.0.0.0";
    let own = Authority::new("our own");
    let (world, _front) = behind(HERE, &own, own.signs(HERE, Holds::Now)).await;
    world.write("a", "a");
    // Nobody listens there, and as long as it is kept, nobody else will.
    let kept = TcpSocket::new_v4().expect("a socket");
    kept.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let nobody = kept.local_addr().expect("its port").port();
    let agent = start_behind(&world, nobody, &[]);
    let words = format!("no connection to the proxy 127.0.0.1:{nobody}");
    world.until(&words, || last_error(&world).contains(&words)).await;
    the_password_is_safe(&world, &agent);
    assert_eq!((agent.stop(), world.count("failed")), (0, 0));

    let agent = start_behind(&world, nobody, &[("NO_PROXY", HERE)]);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);

    // What is on this machine is never asked for elsewhere.
    let here = "127.0.0.1";
    let (world, _front) = behind(here, &own, own.signs(here, Holds::Now)).await;
    let proxy = Proxy::that(Says::Status(403)).await;
    world.write("a", "a");
    let agent = start_behind(&world, proxy.port, &[]);
    world.until_mirrored().await;
    assert_eq!((agent.stop(), proxy.heard()), (0, String::new()));
}
