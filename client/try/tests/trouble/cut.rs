//! A connection that is cut.

use crate::common::{names, noise, program, put, round, stands, synced, temp_dir, users_names};
use raspbox_try::bed::{Appliance, Workstation};
use raspbox_try::tree;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Stands between client and appliance, for control and data connections alike, and cuts when a
/// number of bytes has passed.
struct Proxy {
    address: SocketAddr,
    control: Arc<Valve>,
    data: Arc<Valve>,
}

/// Lets so many bytes through; then every connection is cut, until it is opened.
struct Valve {
    left: AtomicI64,
    cuts: AtomicU64,
    /// What is left again after a cut.
    then: AtomicI64,
}

const OPEN: i64 = i64::MAX / 2;

impl Valve {
    fn open() -> Arc<Valve> {
        Arc::new(Valve {
            left: OPEN.into(),
            cuts: 0.into(),
            then: OPEN.into(),
        })
    }

    /// Cuts once after so many bytes.
    fn cut_once(&self, after: i64) {
        self.then.store(OPEN, Ordering::SeqCst);
        self.left.store(after, Ordering::SeqCst);
    }

    /// Cuts each time after so many bytes.
    fn cut_always(&self, after: i64) {
        self.then.store(after, Ordering::SeqCst);
        self.left.store(after, Ordering::SeqCst);
    }

    /// How many of these bytes may pass; fewer than all mean a cut.
    fn pass(&self, len: usize) -> usize {
        let len_bytes = i64::try_from(len).expect("a piece");
        let before = self.left.fetch_sub(len_bytes, Ordering::SeqCst);
        if before >= len_bytes {
            return len;
        }
        self.cuts.fetch_add(1, Ordering::SeqCst);
        self.left
            .store(self.then.load(Ordering::SeqCst), Ordering::SeqCst);
        usize::try_from(before.max(0)).expect("not negative")
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Proxy {
    /// On this address, 127.x.y.z, and for these data connections, that no other test uses.
    fn start(own: &str, data_ports: Range<u16>, appliance: &Appliance) -> Proxy {
        let proxy = |port: u16, to: u16, valve: &Arc<Valve>| {
            let listener = TcpListener::bind((own, port)).expect("a port of the proxy");
            let (address, valve) = (listener.local_addr().expect("its address"), valve.clone());
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)) {
                        join(client, server, &valve);
                    }
                }
            });
            address
        };
        let (control, data) = (Valve::open(), Valve::open());
        let address = proxy(0, appliance.port, &control);
        for port in data_ports {
            proxy(port, port, &data);
        }
        Proxy {
            address,
            control,
            data,
        }
    }
}

fn join(client: TcpStream, server: TcpStream, valve: &Arc<Valve>) {
    for (mut from, mut to) in [
        (
            client.try_clone().expect("a socket"),
            server.try_clone().expect("a socket"),
        ),
        (server, client),
    ] {
        let valve = valve.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 16 << 10];
            while let Ok(len @ 1..) = from.read(&mut piece) {
                let passed = valve.pass(len);
                if to.write_all(&piece[..passed]).is_err() || passed < len {
                    // Cut in both directions, as when somebody pulls the plug.
                    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
                    return;
                }
            }
            drop(to.shutdown(Shutdown::Write));
        });
    }
}

/// A home whose laptop and desktop are behind a proxy.
fn behind_proxy(
    own: &str,
    data_ports: Range<u16>,
) -> (tempfile::TempDir, Appliance, Proxy, [Workstation; 2]) {
    let dir = temp_dir();
    let config = dir.path().join("config.toml");
    let (first, last) = (data_ports.start, data_ports.end - 1);
    fs::write(&config, format!("passive_ports = \"{first}-{last}\"\n")).expect("a config");
    let extra = ["--config", config.to_str().expect("UTF-8")];
    let appliance = Appliance::start_with(program(), dir.path(), &extra).expect("an appliance");
    let proxy = Proxy::start(own, data_ports, &appliance);
    let stations = ["laptop", "desktop"].map(|name| {
        let station = Workstation::new(program(), dir.path(), name);
        let extra = ["--fingerprint", &appliance.fingerprint];
        station
            .pair_with(&proxy.address.to_string(), &appliance.password, &extra)
            .expect("paired");
        station
    });
    (dir, appliance, proxy, stations)
}

/// Syncs until it goes, and nothing else than a lost connection may be in the way.
#[track_caller]
fn sync_through(station: &Workstation) {
    for _ in 0..4 {
        let round = round(station);
        match round.code {
            0 => return,
            3 => round.says(&["127."]),
            code => panic!("exit code {code}: {round:#?}"),
        }
    }
    panic!("{} never came through", station.name);
}

#[test]
fn a_connection_cut_anywhere_is_taken_up_again() {
    let (_dir, appliance, proxy, [laptop, desktop]) = behind_proxy("127.61.0.1", 62_400..62_440);
    let mut number = 0;
    // A whole session's control connection is some 3 KB, its data connections more than a MB.
    let control: &[i64] = &[0, 1, 40, 300, 700, 1_200, 1_600, 2_000];
    let data: &[i64] = &[0, 1, 700, 3_000, 5_000, 20_000, 700_000, 1_000_000];
    for (what, valve, afters) in [
        ("control", &proxy.control, control),
        ("data", &proxy.data, data),
    ] {
        for &after in afters {
            number += 1;
            put(&laptop.folder, "large", noise(number, 1 << 20));
            for n in 0..20 {
                put(
                    &laptop.folder,
                    &format!("{number}/{n}"),
                    format!("{number} {n}"),
                );
            }
            // Once on the way up, once on the way down.
            for station in [&laptop, &desktop] {
                valve.cut_once(after);
                sync_through(station);
                valve.cut_once(OPEN);
            }
            if let Err(differences) = tree::compare(&laptop.folder, &desktop.folder) {
                panic!("{what} cut after {after}: {differences}");
            }
            let expected = number + 1;
            assert_eq!(
                users_names(&desktop.folder).len() as u64,
                expected,
                "{what} {after}"
            );
        }
        assert!(valve.cuts() >= 8, "{what}: only {} cuts", valve.cuts());
    }
    assert_eq!(
        users_names(&appliance.drive()),
        users_names(&desktop.folder)
    );
    assert_eq!(names(&desktop.folder.join(".raspbox/staging")), [""; 0]);
}

#[test]
fn a_connection_that_is_always_cut_is_said_and_finished_later() {
    let (_dir, appliance, proxy, [laptop, desktop]) = behind_proxy("127.61.0.2", 62_440..62_480);
    put(&laptop.folder, "large", noise(1, 2 << 20));
    put(&laptop.folder, "small", "small");
    for (up, station) in [(true, &laptop), (false, &desktop)] {
        proxy.data.cut_always(500_000);
        let cut = round(station);
        assert_eq!(cut.code, 3, "{cut:#?}");
        cut.says(&[&proxy.address.to_string()]);
        assert!(
            !stands(&appliance.drive(), "large") || !up,
            "it isn't visible half"
        );
        assert!(!stands(&desktop.folder, "large"));
        proxy.data.cut_always(OPEN);
        synced(station);
    }
    tree::compare(&laptop.folder, &desktop.folder).expect("the same");
}
