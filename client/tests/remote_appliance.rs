//! The remote side as an appliance, with the real daemon, and with a wire in between that is cut.

use raspbox::engine::{Engine, Options, Scope};
use raspbox::local::Workspace;
use raspbox::remote::appliance::Appliance;
use raspbox::remote::connection::{Connection, Endpoint, Tls};
use raspbox::remote::{
    Digest256, Events, Look, Progress, Pushed, Remote, RemoteError, RemoteTree, Sink, pairing,
};
use raspbox::report::Summary;
use raspbox_beneath::File;
use raspbox_core::guard::Displaced;
use raspbox_protocol::commit::{Expect, Op, Outcome, Refusal};
use raspbox_protocol::info::Info;
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, Entry, File as FileEntry, Mtime, RelPath, Version};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// A running daemon with one user; ends when it is dropped.
struct Daemon {
    child: Child,
    port: u16,
    fingerprint: Digest256,
    password: String,
    dir: TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It is ours; that it may have ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start() -> Daemon {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("drive")).expect("made");
        let mut child = Command::new(program())
            .args(["serve", "--listen", "127.0.0.1:0", "--folder"])
            .arg(dir.path().join("drive"))
            .arg("--state")
            .arg(dir.path().join("state"))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("raspboxd starts");
        let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut port, mut fingerprint, mut password) = (None, None, None);
        while port.is_none() || fingerprint.is_none() || password.is_none() {
            let line = said.next().expect("it says where").expect("readable");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["listening", "on", address] => {
                    port = address
                        .rsplit(':')
                        .next()
                        .and_then(|port| port.parse().ok());
                }
                ["fingerprint", text] => fingerprint = text.parse().ok(),
                ["user", "raspbox", "password", text] => password = Some(text.to_owned()),
                _ => {}
            }
        }
        Daemon {
            child,
            port: port.expect("said"),
            fingerprint: fingerprint.expect("said"),
            password: password.expect("said"),
            dir,
        }
    }

    fn endpoint(&self, tls: Tls) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "raspbox".into(),
            secret: self.password.clone(),
            tls,
        }
    }

    /// Pairs a new device and connects as it.
    fn device(&self) -> (Endpoint, Appliance) {
        let endpoint = self.endpoint(Tls::FirstUse);
        let own = pairing::pair(&endpoint, "test")
            .expect("pairs")
            .endpoint(&endpoint);
        (own.clone(), Appliance::new(own))
    }

    /// A paired folder, always the same one, and an engine for it.
    fn engine(&self, remote: impl Remote + 'static) -> (PathBuf, Engine) {
        let folder = self.dir.path().join("folder");
        if !folder.exists() {
            Workspace::mark(&folder, "pair").expect("marked");
        }
        let database = self.dir.path().join("sync.db");
        let engine = Engine::open(&folder, "pair", "laptop", &database, Box::new(remote));
        (folder, engine.expect("an engine"))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join("drive").join(name)).expect(name)
    }
}

/// The daemon's program: the one that was built beside this test, unless `RASPBOXD_BIN` says.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("RASPBOXD_BIN") {
        return program.into();
    }
    let test = std::env::current_exe().expect("a program");
    let beside = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/debug/deps");
    let program = beside.join("raspboxd");
    assert!(
        program.exists(),
        "{} isn't there: `cargo build -p raspboxd` first, or set RASPBOXD_BIN",
        program.display()
    );
    program
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn put(name: &str, content: &[u8], expect: Expect) -> Op {
    let file = FileEntry {
        digest: Digest::of(content),
        size: content.len() as u64,
        mtime: Mtime(1_600_000_000_123_456_789),
        executable: true,
    };
    let path = path(name);
    Op::Put { path, expect, file }
}

fn holding(content: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

fn look(remote: &mut Appliance, since: Option<&Look>) -> Look {
    let since = since.map(|look| look.cursor);
    let looked = remote.look(since, &RemoteTree::default(), &|_| None);
    looked.expect("it answers")
}

fn round(engine: &mut Engine) -> Summary {
    let summary = engine.round(&Scope::All, Options::default(), &mut |_| {});
    summary.expect("a round")
}

fn versions(look: &Look) -> BTreeMap<String, Version> {
    let version =
        |(path, _, version): &(RelPath, Option<Entry>, Version)| (path.to_string(), *version);
    look.changes.iter().map(version).collect()
}

/// Collects contents.
#[derive(Default)]
struct Basket {
    pieces: BTreeMap<usize, Vec<u8>>,
    done: Vec<usize>,
    refused: Vec<(usize, Refusal)>,
}

impl Sink for Basket {
    fn begin(&mut self, index: usize, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        self.pieces.insert(index, Vec::new());
        Ok(())
    }

    fn data(&mut self, index: usize, piece: &[u8]) -> io::Result<()> {
        self.pieces.get_mut(&index).expect("begun").extend(piece);
        Ok(())
    }

    fn done(&mut self, index: usize) {
        self.done.push(index);
    }

    fn refused(&mut self, index: usize, refusal: Refusal) {
        self.refused.push((index, refusal));
    }
}

#[test]
fn a_device_pairs_works_and_unpairs() {
    let daemon = Daemon::start();
    let shown = Connection::fingerprint_at(&daemon.endpoint(Tls::FirstUse)).expect("shown");
    assert_eq!(shown, daemon.fingerprint);
    let kind = pairing::probe(&daemon.endpoint(Tls::FirstUse)).expect("it answers");
    assert_eq!(kind, pairing::Kind::Appliance);
    let endpoint = daemon.endpoint(Tls::Pinned(shown));
    let paired = pairing::pair(&endpoint, "my laptop").expect("pairs");
    assert_eq!(paired.fingerprint, Some(shown));
    assert!(!format!("{paired:?}").contains(&paired.token));
    let own = paired.endpoint(&endpoint);
    assert_eq!(
        Appliance::new(own.clone())
            .info()
            .expect("it answers")
            .drive,
        paired.info.drive
    );
    pairing::unpair(&own).expect("it answers");
    let error = Appliance::new(own).info().expect_err("revoked");
    assert!(
        matches!(error, RemoteError::LoginRefused { .. }),
        "{error:?}"
    );
}

#[test]
fn a_stranger_without_tls_hears_neither_name_nor_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = Endpoint {
        host: "127.0.0.1".into(),
        port: listener.local_addr().expect("its address").port(),
        user: "a-device".into(),
        secret: "hunter2".into(),
        tls: Tls::Pinned(Digest256([1; 32])),
    };
    let stranger = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client
            .write_all(b"220 welcome to the hotel\r\n")
            .expect("sent");
        let mut heard = Vec::new();
        let mut lines = BufReader::new(client.try_clone().expect("a socket"));
        loop {
            let before = heard.len();
            match lines.read_until(b'\n', &mut heard) {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&heard).into_owned(),
                Ok(_) if heard.len() > before => drop(client.write_all(b"500 what?\r\n")),
                Ok(_) => {}
            }
        }
    });
    assert!(Appliance::new(endpoint).info().is_err());
    let heard = stranger.join().expect("what it heard");
    assert!(heard.starts_with("AUTH TLS"), "{heard}");
    for word in ["USER", "PASS", "a-device", "hunter2"] {
        assert!(!heard.contains(word), "{word} in {heard}");
    }
}

#[test]
fn wrong_passwords_and_certificates_are_refused() {
    let daemon = Daemon::start();
    let mut endpoint = daemon.endpoint(Tls::FirstUse);
    endpoint.secret = "hunter2".into();
    let error = pairing::pair(&endpoint, "x").expect_err("a wrong password");
    assert!(matches!(error, RemoteError::NotProven { .. }), "{error:?}");
    assert!(!error.to_string().contains("hunter2"));
    let error = pairing::pair(&daemon.endpoint(Tls::Pinned(Digest256([1; 32]))), "x");
    let error = error.expect_err("another certificate");
    assert!(
        matches!(error, RemoteError::OtherCertificate { .. }),
        "{error:?}"
    );
    // TLS is required: without it there is no login at all.
    let error = pairing::pair(&daemon.endpoint(Tls::Off), "x").expect_err("no TLS");
    assert!(
        matches!(error, RemoteError::LoginRefused { .. }),
        "{error:?}"
    );
}

#[test]
fn a_commit_is_pushed_looked_at_and_pulled() {
    let daemon = Daemon::start();
    let (_, mut remote) = daemon.device();
    let empty = look(&mut remote, None);
    assert!(empty.whole && empty.changes.is_empty());
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let ops = [
        Op::MakeFolder { path: path("d") },
        put("d/large", &large, Expect::Absent),
        put("empty", b"", Expect::Absent),
    ];
    let mut open = |index: usize| holding(if index == 1 { &large } else { b"" });
    let mut sent = 0;
    let outcomes = remote
        .push(&ops, &mut open, &mut |progress| match progress {
            Progress::Sent(more) => sent += more,
            Progress::Spared(bytes) => assert_eq!(bytes, 0, "nothing had come before"),
        })
        .expect("it answers")
        .outcomes;
    assert!(
        outcomes.iter().all(|o| matches!(o, Outcome::Done(_))),
        "{outcomes:?}"
    );
    assert_eq!(sent, large.len() as u64);
    assert_eq!(daemon.read("d/large"), large);

    let changes = look(&mut remote, Some(&empty));
    assert!(!changes.whole);
    assert_eq!(versions(&changes), versions(&look(&mut remote, None)));
    let version = versions(&changes)["d/large"];
    assert_eq!(outcomes[1], Outcome::Done(version));
    let want = |name: &str, version, offset| Want {
        path: path(name),
        version,
        offset,
    };
    let wants = [
        want("d/large", version, 0),
        want("gone", version, 0),
        want("d/large", version, 2_999_999),
        want("empty", versions(&changes)["empty"], 0),
    ];
    let mut basket = Basket::default();
    remote.pull(&wants, &mut basket).expect("it answers");
    assert_eq!(basket.done, [0, 2, 3]);
    assert_eq!(basket.pieces[&0], large);
    assert_eq!(basket.pieces[&2], large[2_999_999..]);
    assert_eq!(basket.refused.len(), 1);
}

#[test]
fn each_operation_is_refused_alone() {
    let daemon = Daemon::start();
    let (_, mut remote) = daemon.device();
    let ops = [
        put("a", b"first", Expect::Absent),
        put("a", b"second", Expect::Absent),
        put("no/b", b"x", Expect::Absent),
        put("damaged", b"stated", Expect::Absent),
        put("vanished", b"x", Expect::Absent),
        put("shrunk", b"long", Expect::Absent),
        put("z", b"last", Expect::Absent),
    ];
    let contents: [&[u8]; 7] = [b"first", b"second", b"x", b"sent!!", b"", b"l", b"last"];
    let mut open = |index: usize| match index {
        4 => Err(io::Error::from(io::ErrorKind::NotFound)),
        _ => holding(contents[index]),
    };
    let outcomes = remote
        .push(&ops, &mut open, &mut |_| {})
        .expect("it answers")
        .outcomes;
    assert!(matches!(outcomes[0], Outcome::Done(_)));
    assert_eq!(outcomes[1], Outcome::Refused(Refusal::Changed));
    assert_eq!(outcomes[2], Outcome::Refused(Refusal::NoParent));
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::BadContent));
    assert!(
        matches!(outcomes[4], Outcome::Refused(Refusal::Failed(_))),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[5], Outcome::Refused(Refusal::Failed(_))),
        "{outcomes:?}"
    );
    assert!(matches!(outcomes[6], Outcome::Done(_)));
    assert_eq!(daemon.read("a"), b"first");
    assert_eq!(
        versions(&look(&mut remote, None))
            .keys()
            .collect::<Vec<_>>(),
        ["a", "z"]
    );
}

#[test]
fn events_tell_of_what_another_device_did() {
    let daemon = Daemon::start();
    let (_, mut one) = daemon.device();
    let (_, mut other) = daemon.device();
    let before = look(&mut one, None);
    let mut events = one
        .events(before.cursor)
        .expect("it answers")
        .expect("an appliance has them");
    let op = put("a", b"x", Expect::Absent);
    other
        .push(&[op], &mut |_| holding(b"x"), &mut |_| {})
        .expect("it answers");
    let until = look(&mut other, None).cursor;
    while events.next().expect("it lives") != until {}
    assert_eq!(versions(&look(&mut one, Some(&before))).len(), 1);
}

/// What somebody else pushes after a look and before the next push.
struct Meddled {
    inner: Appliance,
    /// How many changes each look has told.
    told: Arc<Mutex<Vec<usize>>>,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

impl Remote for Meddled {
    fn info(&mut self) -> Result<Info, RemoteError> {
        self.inner.info()
    }

    fn knows(&mut self, cursor: Cursor) -> Result<bool, RemoteError> {
        self.inner.knows(cursor)
    }

    fn look(
        &mut self,
        since: Option<Cursor>,
        known: &RemoteTree,
        local_file: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let look = self.inner.look(since, known, local_file)?;
        self.told.lock().expect("whole").push(look.changes.len());
        Ok(look)
    }

    fn push(
        &mut self,
        ops: &[Op],
        open: &mut dyn FnMut(usize) -> io::Result<File>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pushed, RemoteError> {
        if let Some(meanwhile) = self.meanwhile.lock().expect("whole").take() {
            meanwhile();
        }
        self.inner.push(ops, open, progress)
    }

    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError> {
        self.inner.pull(wants, sink)
    }

    fn knows_hashes(&self) -> bool {
        self.inner.knows_hashes()
    }

    fn displaced(&self) -> Displaced {
        self.inner.displaced()
    }

    fn events(&self, since: Cursor) -> Result<Option<Box<dyn Events>>, RemoteError> {
        self.inner.events(since)
    }
}

#[test]
fn what_one_did_oneself_is_not_told_again_and_what_others_did_is() {
    let daemon = Daemon::start();
    let (_, inner) = daemon.device();
    let (_, mut other) = daemon.device();
    let (told, meanwhile) = (Arc::default(), Arc::default());
    let remote = Meddled {
        inner,
        told: Arc::clone(&told),
        meanwhile: Arc::clone(&meanwhile),
    };
    let (folder, mut engine) = daemon.engine(remote);
    let mut round = move || {
        let summary = round(&mut engine);
        let told: Vec<usize> = std::mem::take(&mut *told.lock().expect("whole"));
        (summary, told.iter().sum::<usize>())
    };
    let save = |name: &str, content: &str| {
        std::fs::create_dir_all(folder.join(name).parent().expect("in a folder")).expect("made");
        std::fs::write(folder.join(name), content).expect("written");
    };

    save("d/a", "mine");
    save("ignored/x", "stays here");
    save(".raspboxignore", "ignored\n");
    // What others made before is told once.
    let theirs = [Op::MakeFolder { path: path("e") }];
    let mut nothing = |_| holding(b"");
    other
        .push(&theirs, &mut nothing, &mut |_| {})
        .expect("done");
    assert_eq!(round().1, 1);
    let (summary, heard) = round();
    assert_eq!((summary.pushed, heard), (0, 0), "its own were told");

    // Of a folder that moves, and one of whose entries is deleted, nothing is told either.
    save("d/b", "mine too");
    assert_eq!(round().1, 0);
    std::fs::rename(folder.join("d"), folder.join("e/d")).expect("moved");
    std::fs::remove_file(folder.join("e/d/b")).expect("removed");
    assert_eq!(round().1, 0);
    assert_eq!(round().1, 0, "its own were told");
    assert_eq!(daemon.read("e/d/a"), b"mine");

    // But where somebody else comes in between, all is told from there on: theirs, and its own.
    *meanwhile.lock().expect("whole") = Some(Box::new(move || {
        let op = put("theirs", b"theirs", Expect::Absent);
        let done = other.push(&[op], &mut |_| holding(b"theirs"), &mut |_| {});
        done.expect("done");
    }));
    save("e/c", "mine as well");
    assert_eq!(round().0.pushed, 1);
    let (summary, heard) = round();
    assert_eq!((summary.pulled, heard), (1, 2));
    assert_eq!(
        std::fs::read(folder.join("theirs")).expect("it came"),
        b"theirs"
    );
    assert_eq!(round().1, 0);
}

/// The folder is the same one still, so it moves; and this side has nothing any more where that file was deleted.
#[test]
fn what_another_deletes_from_a_folder_just_before_it_moves_is_deleted_where_it_went() {
    let daemon = Daemon::start();
    let (_, inner) = daemon.device();
    let (_, mut other) = daemon.device();
    let meanwhile = Arc::<Mutex<Option<Meanwhile>>>::default();
    let remote = Meddled {
        inner,
        told: Arc::default(),
        meanwhile: Arc::clone(&meanwhile),
    };
    let (folder, mut engine) = daemon.engine(remote);
    std::fs::create_dir_all(folder.join("d/e")).expect("made");
    for name in ["d/a", "d/e/b", "d/e/c"] {
        std::fs::write(folder.join(name), name).expect("written");
    }
    assert_eq!(round(&mut engine).pushed, 5);

    *meanwhile.lock().expect("whole") = Some(Box::new(move || {
        let known = versions(&look(&mut other, None));
        let gone = ["d/e/b", "d/e/c", "d/e"].map(|name| Op::Delete {
            path: path(name),
            expect: known[name],
        });
        let edited = put("d/a", b"theirs", Expect::Version(known["d/a"]));
        let ops = [&gone[..], &[edited]].concat();
        let done = other.push(&ops, &mut |_| holding(b"theirs"), &mut |_| {});
        let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Done(_));
        assert!(done.expect("it answers").outcomes.iter().all(is_done));
    }));
    std::fs::rename(folder.join("d"), folder.join("moved")).expect("moved");
    assert_eq!(round(&mut engine).moved, 1);
    // Also where the computer was switched off in between.
    drop(engine);
    let (_, inner) = daemon.device();
    let (_, mut engine) = daemon.engine(inner);
    assert_eq!(round(&mut engine).deleted, 3);
    assert!(!folder.join("moved/e").exists());
    let a = std::fs::read(folder.join("moved/a")).expect("there");
    assert_eq!(a, b"theirs");
    assert!(!round(&mut engine).changed_anything());
}

/// Passes bytes between clients and the daemon's control port, until it has passed so many from the
/// client; then it cuts that connection once.
struct Wire {
    port: u16,
    cuts: Arc<AtomicU64>,
}

impl Wire {
    fn new(to: u16, bytes: u64) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = cuts.clone();
        thread::spawn(move || {
            let mut budget = Some(bytes);
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", to)).expect("the daemon listens");
                let (client_in, server_out) = (
                    client.try_clone().expect("a handle"),
                    server.try_clone().expect("a handle"),
                );
                // Ends when either side does; its result is of no interest then.
                thread::spawn(move || io::copy(&mut &server, &mut &client));
                let counted = counted.clone();
                let budget = budget.take();
                thread::spawn(move || pass(&client_in, &server_out, budget, &counted));
            }
        });
        Wire { port, cuts }
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, mut budget: Option<u64>, cuts: &AtomicU64) {
    let mut piece = [0; 64];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        if let Some(left) = &mut budget {
            *left = left.saturating_sub(len as u64);
            if *left == 0 {
                cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        if to.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_cut_control_connection_anywhere_costs_nothing() {
    let daemon = Daemon::start();
    let (own, mut direct) = daemon.device();
    let mut cut = 0;
    for (index, bytes) in (300..1_000).step_by(20).enumerate() {
        let wire = Wire::new(daemon.port, bytes);
        let mut endpoint = own.clone();
        endpoint.port = wire.port;
        let mut remote = Appliance::new(endpoint);
        let content = format!("content {index}").into_bytes();
        let name = format!("file {index}");
        let op = put(&name, &content, Expect::Absent);
        let pushed = remote.push(&[op], &mut |_| holding(&content), &mut |_| {});
        let pushed = pushed.unwrap_or_else(|error| panic!("cut after {bytes}: {error}"));
        // Never "changed" by itself: the same commit isn't applied twice.
        let [Outcome::Done(version)] = pushed.outcomes[..] else {
            panic!("cut after {bytes}: {pushed:?}");
        };
        let wants = [Want {
            path: path(&name),
            version,
            offset: 0,
        }];
        let mut basket = Basket::default();
        let pulled = remote.pull(&wants, &mut basket);
        pulled.unwrap_or_else(|error| panic!("cut after {bytes}: {error}"));
        assert_eq!(
            (basket.done.as_slice(), &basket.pieces[&0]),
            (&[0][..], &content)
        );
        assert_eq!(versions(&look(&mut direct, None))[&name], version);
        cut += wire.cuts.load(Ordering::SeqCst);
    }
    assert!(cut >= 20, "only {cut} connections were cut");
}
