//! Finding appliances, on the loopback interface alone.

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use raspbox::remote::discover::{Found, SERVICE_TYPE, Where, browse, resolve};
use std::time::{Duration, Instant};

/// How long an announcement may take to be found, on a machine that is busy with other tests.
const FOUND_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn an_announced_appliance_is_found() {
    let daemon = ServiceDaemon::new().expect("multicast DNS");
    daemon.disable_interface(IfKind::All).expect("told");
    daemon.enable_interface(IfKind::LoopbackV4).expect("told");
    let (fingerprint, drive) = ("ab".repeat(32), "cd".repeat(16));
    let name = format!("raspbox test {}", std::process::id());
    let properties = [("fingerprint", fingerprint.as_str()), ("drive", &drive)];
    let host = "raspbox-test.local.";
    let address = "127.0.0.1";
    let service = ServiceInfo::new(SERVICE_TYPE, &name, host, address, 2121, &properties[..]);
    daemon.register(service.expect("a service")).expect("told");
    let until = Instant::now() + FOUND_WITHIN;
    let found = loop {
        let found = browse(Where::Loopback, Duration::from_secs(1)).expect("multicast DNS");
        if let Some(found) = found.into_iter().find(|found| found.name == name) {
            break found;
        }
        assert!(Instant::now() < until, "not found within {FOUND_WITHIN:?}");
    };
    let expected = Found {
        name,
        addresses: vec![address.into()],
        port: 2121,
        fingerprint: Some(fingerprint.parse().expect("a fingerprint")),
        drive: Some(drive.parse().expect("a drive")),
    };
    assert_eq!(found, expected);

    // Its name alone will do as well, without a resolver of the system's.
    let until = Instant::now() + FOUND_WITHIN;
    loop {
        let second = Duration::from_secs(1);
        let found = resolve(Where::Loopback, "raspbox-test.local", 2121, second);
        let found = found.expect("multicast DNS");
        if !found.is_empty() {
            assert_eq!(found, ["127.0.0.1:2121".parse().expect("an address")]);
            break;
        }
        assert!(Instant::now() < until, "no answer within {FOUND_WITHIN:?}");
    }
    let nobody = Duration::from_millis(100);
    let found = resolve(Where::Loopback, "raspbox-nobody.local", 2121, nobody);
    assert_eq!(found.expect("multicast DNS"), []);
    resolve(Where::Loopback, "raspbox-nobody.example", 2121, nobody)
        .expect_err("no name of the local network");
}
