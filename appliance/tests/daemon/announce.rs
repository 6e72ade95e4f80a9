//! How it is found. On loopback only: a test sends nothing into the network.

use crate::harness::{DEADLINE, Daemon};
use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent};
use std::time::Instant;

#[test]
fn it_is_found_by_mdns() {
    let daemon = Daemon::with("announce = 'loopback'");
    let browser = ServiceDaemon::new().unwrap();
    browser.disable_interface(IfKind::All).unwrap();
    browser.enable_interface(IfKind::LoopbackV4).unwrap();
    let events = browser.browse("_raspbox._tcp.local.").unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let event = events.recv_deadline(deadline).expect("it is announced");
        let ServiceEvent::ServiceResolved(found) = event else {
            continue;
        };
        let property = |key| {
            found
                .txt_properties
                .get_property_val_str(key)
                .map(str::to_owned)
        };
        // Other tests may be announced at the same time.
        if found.port != daemon.address.port() {
            continue;
        }
        assert_eq!(
            property("fingerprint").as_deref(),
            Some(daemon.fingerprint.as_str())
        );
        assert_eq!(property("drive").map(|drive| drive.len()), Some(32));
        break;
    }
    browser.shutdown().unwrap();
}
