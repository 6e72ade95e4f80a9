//! Something in between that pretends to be the appliance, while a computer is paired.

use crate::common::{Home, home, stands};
use crate::refused::{address, fails, pair};
use raspbox::remote::connection::{Connection, Endpoint, Tls};
use raspbox::remote::control::Control;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A server with a certificate of its own, and all that it was told.
struct Impostor {
    address: String,
    told: Arc<Mutex<String>>,
}

impl Impostor {
    /// `answer` answers to SITE commands; a login as anybody succeeds.
    fn start(answer: impl FnMut(&str) -> String + Send + 'static) -> Impostor {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let told = Arc::default();
        let kept = Arc::clone(&told);
        thread::spawn(move || {
            let mut answer = answer;
            for client in listener.incoming() {
                // A client that has had enough closes.
                drop(talk(client.expect("a client"), &kept, &mut answer));
            }
        });
        Impostor { address, told }
    }

    fn told(&self) -> String {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn talk(
    client: TcpStream,
    told: &Mutex<String>,
    answer: &mut dyn FnMut(&str) -> String,
) -> io::Result<()> {
    let mut plain = BufReader::new(client);
    plain.get_mut().write_all(b"220 raspbox\r\n")?;
    let mut line = String::new();
    plain.read_line(&mut line)?;
    told.lock().expect("nobody panics").push_str(&line);
    plain.get_mut().write_all(b"234 go on\r\n")?;
    let tls = ServerConnection::new(certificate()).expect("a configuration");
    let mut lines = BufReader::new(StreamOwned::new(tls, plain.into_inner()));
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        told.lock().expect("nobody panics").push_str(&line);
        let reply = match line.split_whitespace().next() {
            Some("USER") => "331 and".to_owned(),
            Some("PASS") => "230 in".to_owned(),
            Some("SITE") => answer(line.trim_end()),
            Some(_) | None => "200 yes".to_owned(),
        };
        lines
            .get_mut()
            .write_all(format!("{reply}\r\n").as_bytes())?;
    }
}

fn certificate() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["raspbox.local".into()]).expect("made");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has suites")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("they belong together");
    Arc::new(config)
}

/// Passes each command on to the appliance, as somebody who wants to pair, and its replies back.
fn relay(home: &Home) -> impl FnMut(&str) -> String + Send + use<> {
    let at = Endpoint {
        host: "127.0.0.1".into(),
        port: home.appliance.port,
        user: raspbox_protocol::pairing::LOGIN.into(),
        secret: "anything".into(),
        tls: Tls::FirstUse,
    };
    let mut appliance = Connection::open(&at).expect("it is there");
    move |line| {
        let reply = appliance.command(line).expect("it answers");
        format!("{} {}", reply.code, reply.text)
    }
}

#[test]
fn whoever_is_in_between_gets_neither_password_nor_login() {
    let (home, []) = home([]);
    let laptop = home.unpaired("laptop");
    let impostor = Impostor::start(relay(&home));
    let refused = pair(&laptop, &impostor.address, &home.appliance.password);
    fails(
        &refused,
        4,
        &[&impostor.address, "in between", "wasn't sent"],
    );
    assert!(!stands(&laptop.folder, ".raspbox"), "nothing was paired");
    let told = impostor.told();
    let login = told
        .lines()
        .filter(|line| line.starts_with("USER") || line.starts_with("PASS"));
    assert_eq!(login.collect::<Vec<_>>(), ["USER pair:", "PASS pair:"]);
    assert!(told.contains("SITE RBX PAIR"), "it had its guess: {told}");
    assert!(!told.contains(&home.appliance.password), "{told}");
    // The same wire without anybody in it.
    let paired = pair(&laptop, &address(&home), &home.appliance.password);
    assert!(paired.status.success(), "{paired:?}");
}

#[test]
fn whoever_agrees_to_everything_is_not_believed() {
    let (home, []) = home([]);
    let laptop = home.unpaired("laptop");
    let mut relay = relay(&home);
    let impostor = Impostor::start(move |line| {
        if line.contains("INVITE") {
            return relay(line);
        }
        // A login that looks right, with a proof that isn't.
        format!("200 0123abcd {} {}", "ab".repeat(32), "cd".repeat(32))
    });
    let refused = pair(&laptop, &impostor.address, &home.appliance.password);
    fails(&refused, 4, &[&impostor.address, "in between"]);
    assert!(!stands(&laptop.folder, ".raspbox"));
}

#[test]
fn a_hash_that_would_stop_the_computer_is_not_made() {
    let (home, []) = home([]);
    let laptop = home.unpaired("laptop");
    for cost in [
        "m=4194304,t=2,p=1",
        "m=19456,t=4000000000,p=1",
        "m=19456,t=2,p=16777215",
        "m=0,t=0,p=0",
    ] {
        let mut relay = relay(&home);
        let impostor = Impostor::start(move |line| relay(line).replace("m=19456,t=2,p=1", cost));
        let refused = pair(&laptop, &impostor.address, &home.appliance.password);
        fails(&refused, 4, &[&impostor.address, "hashed in a way"]);
        assert!(!impostor.told().contains("SITE RBX PAIR"), "{cost}");
    }
}

#[test]
fn an_ordinary_server_is_told_from_an_appliance() {
    let (home, []) = home([]);
    let laptop = home.unpaired("laptop");
    let impostor = Impostor::start(|_| "502 what?".to_owned());
    let refused = pair(&laptop, &impostor.address, &home.appliance.password);
    fails(&refused, 4, &[&impostor.address, "what?"]);
    assert!(!impostor.told().contains(&home.appliance.password));
}
