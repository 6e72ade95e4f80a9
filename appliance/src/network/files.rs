//! What is wanted → the files that NetworkManager reads: nm-settings-keyfile(5), NetworkManager.conf(5).
//!
//! No owner may be locked out by what they wrote, or by who else took the address. So each kind of link
//! has up to three profiles, and NetworkManager goes to the next where one fails:
//!
//! 1. *fixed*: the fixed address, and beside it one from DHCP and one that it gives itself. An address
//!    in the wrong network makes no conflict that could be noticed; the other two are the way in then.
//!    Before it is used, others are asked whether they have it (ACD, RFC 5227), and the profile fails if so.
//! 2. *dhcp*: an address from the router alone.
//! 3. *alone*: one that it gives itself (RFC 3927), and DHCP is asked on and on: the router may only
//!    be slower to start than we are.
//!
//! No profile names an interface: the same cable is eth0, end0 or usb0 on different boards.

use super::wanted::{Key, Ssid, Wanted, Wifi};
use std::fmt::Write;

/// Where NetworkManager looks for files that don't outlive a boot.
const FOLDER: &str = "/run/NetworkManager";

/// Where it looks for profiles in there.
pub(crate) const PROFILES: &str = "/run/NetworkManager/system-connections";

/// How long others are asked whether they have our address; the first tries of the kernel's own ARP
/// take as long.
const CONFLICT_WAIT_MS: u32 = 3000;

/// How long a router is waited for before it goes on alone: NetworkManager's own default.
const DHCP_WAIT_S: u32 = 45;

/// NetworkManager's word for ever (`G_MAXINT32`).
const EVER: u32 = i32::MAX.cast_unsigned();

/// A file to be written, for root alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Its absolute path.
    pub(crate) path: String,
    /// The whole of it.
    pub(crate) content: String,
}

/// A way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The address that is wanted, beside whatever else can be had.
    Fixed,
    /// The router's choice.
    Dhcp,
    /// Its own.
    Alone,
}

/// A kind of link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Ethernet,
    Wifi,
}

/// The files for what is wanted; there is always a way in.
///
/// `host` is told to the router, which shows it to its owner.
pub(crate) fn create_files(wanted: &Wanted, host: &str) -> Vec<File> {
    let mut files = vec![File {
        path: format!("{FOLDER}/conf.d/50-raspbox.conf"),
        content: "# Made by 'raspboxd boot' at each start.\n\
                  [main]\n\
                  # Else a \"Wired connection 1\" takes the cable before our profiles do.\n\
                  no-auto-default=*\n\
                  # The name is the owner's choice, not the router's.\n\
                  hostname-mode=none\n"
            .into(),
    }];
    let wifi = wanted.wifi.as_ref().map(|wifi| (Link::Wifi, Some(wifi)));
    for (link, wifi) in [(Link::Ethernet, None)].into_iter().chain(wifi) {
        for way in [Way::Fixed, Way::Dhcp, Way::Alone] {
            if way != Way::Fixed || wanted.fixed.is_some() {
                files.push(profile(link, way, wanted, wifi, host));
            }
        }
    }
    files
}

/// Which of our ways a profile is, by its UUID.
pub(crate) fn way(uuid: &str) -> Option<Way> {
    [Link::Ethernet, Link::Wifi]
        .into_iter()
        .flat_map(|link| [Way::Fixed, Way::Dhcp, Way::Alone].map(|way| (link, way)))
        .find_map(|(link, way)| (self::uuid(link, way) == uuid).then_some(way))
}

/// Random once, and then always the same, so that NetworkManager takes each for the one that it knows.
fn uuid(link: Link, way: Way) -> String {
    let link = match link {
        Link::Ethernet => 'a',
        Link::Wifi => 'b',
    };
    format!("6f1c0d5e-8b0e-4c3a-9d57-2e61b4a7f0{link}{}", way as u8)
}

fn profile(link: Link, way: Way, wanted: &Wanted, wifi: Option<&Wifi>, host: &str) -> File {
    let name = name(link, way);
    let kind = match link {
        Link::Ethernet => "ethernet",
        Link::Wifi => "wifi",
    };
    let mut text = format!(
        "# Made by 'raspboxd boot' at each start.\n[connection]\nid={name}\nuuid={}\ntype={kind}\n",
        uuid(link, way)
    );
    let priority = match way {
        Way::Fixed => 30,
        Way::Dhcp => 20,
        Way::Alone => 10,
    };
    let mut put = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    put("autoconnect=true");
    put(&format!("autoconnect-priority={priority}"));
    match (way, link) {
        // Once, and then the next way.
        (Way::Fixed | Way::Dhcp, Link::Ethernet) => put("autoconnect-retries=1"),
        // Over the air a try fails for other reasons, too.
        (Way::Fixed | Way::Dhcp, Link::Wifi) => put("autoconnect-retries=3"),
        // For ever.
        (Way::Alone, Link::Ethernet | Link::Wifi) => put("autoconnect-retries=0"),
    }
    match way {
        // An address is one machine's, on one of its links.
        Way::Fixed => {}
        Way::Dhcp | Way::Alone => put("multi-connect=3"),
    }
    if let Some(wifi) = wifi {
        put("");
        put("[wifi]");
        put("mode=infrastructure");
        put(&format!("ssid={}", bytes(&wifi.ssid)));
        if wifi.hidden {
            put("hidden=true");
        }
        // Saving power costs some 100 ms whenever it was quiet.
        put("powersave=2");
        match &wifi.key {
            Key::Open => {}
            Key::Password(password) => {
                put("");
                put("[wifi-security]");
                put("key-mgmt=wpa-psk");
                put(&format!("psk={}", escape(password.reveal())));
            }
        }
    }
    put("");
    put("[ipv4]");
    put("method=auto");
    put(&format!("dhcp-hostname={host}"));
    match (way, &wanted.fixed) {
        (Way::Fixed, Some(fixed)) => {
            put(&format!("address1={}/{}", fixed.address, fixed.prefix));
            if let Some(gateway) = fixed.gateway {
                put(&format!("gateway={gateway}"));
            }
            put(&format!("dad-timeout={CONFLICT_WAIT_MS}"));
            put(&format!("dhcp-timeout={EVER}"));
            put("link-local=3");
            put("may-fail=false");
        }
        (Way::Fixed | Way::Dhcp, _) => {
            put(&format!("dhcp-timeout={DHCP_WAIT_S}"));
            put("may-fail=false");
        }
        (Way::Alone, _) => {
            put(&format!("dhcp-timeout={EVER}"));
            put("link-local=3");
        }
    }
    if !wanted.dns.is_empty() {
        let mut servers = String::new();
        for server in &wanted.dns {
            let _ = write!(servers, "{server};");
        }
        put(&format!("dns={servers}"));
        put("ignore-auto-dns=true");
    }
    put("");
    put("[ipv6]");
    put("method=auto");
    File {
        path: format!("{PROFILES}/{name}.nmconnection"),
        content: text,
    }
}

fn name(link: Link, way: Way) -> String {
    let link = match link {
        Link::Ethernet => "cable",
        Link::Wifi => "wifi",
    };
    let way = match way {
        Way::Fixed => "fixed",
        Way::Dhcp => "dhcp",
        Way::Alone => "alone",
    };
    format!("raspbox-{link}-{way}")
}

/// A list of bytes: as a string, a name such as "1;2;" would be taken for one.
fn bytes(ssid: &Ssid) -> String {
    ssid.as_str().bytes().fold(String::new(), |mut list, byte| {
        let _ = write!(list, "{byte};");
        list
    })
}

/// As GKeyFile escapes: blanks at the ends would be lost.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(' ', "\\s")
}

#[cfg(test)]
mod tests {
    use super::{Link, Way, create_files, uuid, way};
    use crate::network::address::Fixed;
    use crate::network::wanted::{Key, Passphrase, Ssid, Wanted, Wifi};

    fn wifi(ssid: &str, password: &str) -> Wanted {
        Wanted {
            wifi: Some(Wifi {
                ssid: Ssid::parse(ssid).unwrap(),
                key: Key::Password(Passphrase::parse(password).unwrap()),
                country: None,
                hidden: false,
            }),
            ..Wanted::default()
        }
    }

    #[test]
    fn there_is_always_a_way_in() {
        let fixed = Fixed::parse("192.168.1.50/24").unwrap();
        for fixed in [None, Some(fixed)] {
            for mut wanted in [Wanted::default(), wifi("x", "12345678")] {
                wanted.fixed = fixed;
                let files = create_files(&wanted, "raspbox");
                let last = files
                    .iter()
                    .filter(|file| file.path.ends_with("-alone.nmconnection"));
                for file in last.clone() {
                    assert!(
                        file.content.contains("\nlink-local=3\n"),
                        "{}",
                        file.content
                    );
                    assert!(file.content.contains("\nautoconnect-retries=0\n"));
                    assert!(!file.content.contains("may-fail"), "{}", file.content);
                }
                assert_eq!(last.count(), 1 + usize::from(wanted.wifi.is_some()));
            }
        }
    }

    #[test]
    fn a_name_or_a_password_says_nothing_else() {
        let check = |ssid: &str, password: &str, expect: &str| {
            let files = create_files(&wifi(ssid, password), "raspbox");
            let file = &files.last().unwrap().content;
            assert!(file.contains(expect), "{file}");
            assert_eq!(file.matches("\n[").count(), 5, "{file}");
        };
        check(
            "a\n[ipv4]\nb",
            "12345678",
            "ssid=97;10;91;105;112;118;52;93;10;98;\n",
        );
        check("1;2;", "12345678", "ssid=49;59;50;59;\n");
        check("x", " a\\n;#=' ", "psk=\\sa\\\\n;#='\\s\n");
    }

    #[test]
    fn profiles_are_known_by_their_uuids() {
        for link in [Link::Ethernet, Link::Wifi] {
            for each in [Way::Fixed, Way::Dhcp, Way::Alone] {
                assert_eq!(way(&uuid(link, each)), Some(each));
                assert_eq!(uuid(link, each).len(), 36);
            }
        }
        assert_ne!(uuid(Link::Ethernet, Way::Dhcp), uuid(Link::Wifi, Way::Dhcp));
        assert_eq!(way("6f1c0d5e-8b0e-4c3a-9d57-2e61b4a7f0c9"), None);
    }
}
