//! `raspboxd boot` as a process, on a folder that stands for the system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A system on which nothing has been started yet.
struct System(TempDir);

impl System {
    fn with(owners: &str) -> System {
        let system = System(TempDir::new().unwrap());
        system.put("/usr/share/zoneinfo/Europe/Berlin", "");
        system.put("/usr/share/zoneinfo/UTC", "");
        system.put("/boot/firmware/raspbox.toml", owners);
        system
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, content: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Starts it, and returns what the running system would have been told.
    fn boot(&self) -> Vec<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_raspboxd"))
            .args(["boot", "--root"])
            .arg(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "it never fails: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().map(str::to_owned).collect()
    }

    fn problems(&self) -> Vec<String> {
        let told: serde_json::Value =
            serde_json::from_str(&self.text("/run/raspbox/boot.json")).unwrap();
        let problems = told["problems"].as_array().unwrap();
        problems
            .iter()
            .map(|problem| problem.as_str().unwrap().to_owned())
            .collect()
    }

    /// All files below a folder, with what is in them.
    fn files(&self, folder: &str) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let Ok(entries) = fs::read_dir(self.at(folder)) else {
            return files;
        };
        for entry in entries {
            let path = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
            match self.at(&path).is_dir() {
                true => files.extend(self.files(&path)),
                false => _ = files.insert(path.clone(), self.text(&path)),
            }
        }
        files
    }

    /// Whether the daemon takes what was made for it.
    fn daemon_is_content(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_raspboxd"))
            .args(["config", "check"])
            .arg(self.at("/run/raspbox/daemon.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn what_the_owner_says_goes_to_whom_it_concerns() {
    let owners = "\u{feff}# mine\r\nname = 'Attic'\r\npassword = 'correct horse' # new\r\n\
                  timezone = 'Europe/Berlin'\r\nport = 2121\r\n[wifi]\r\nssid = 'Our Wi-Fi'\r\n\
                  password = 'correct battery'\r\ncountry = 'de'\r\n[versions]\r\nall_days = 7\r\n";
    let system = System::with(owners);
    let told = system.boot();
    assert_eq!(system.problems(), [""; 0]);
    assert_eq!(
        told,
        [
            "name attic",
            "timezone Europe/Berlin",
            "port 2121",
            "country DE",
            "radio on"
        ]
    );
    let blanked = owners
        .replace("'correct horse'", "\"\"")
        .replace("'correct battery'", "\"\"");
    assert_eq!(system.text("/boot/firmware/raspbox.toml"), blanked);
    system.daemon_is_content();
    let daemon = system.text("/run/raspbox/daemon.toml");
    assert!(
        daemon.contains("listen = \"0.0.0.0:2121\"\n[versions]\nall_days = 7\n"),
        "{daemon}"
    );
    let socket = system.text("/run/systemd/system/raspbox.socket.d/port.conf");
    assert!(
        socket.ends_with("\nListenStream=\nListenStream=0.0.0.0:2121\n"),
        "{socket}"
    );
    let users = system.text("/var/lib/raspbox/users.toml");
    assert!(
        users.contains("$argon2id$") && !users.contains("correct"),
        "{users}"
    );
    let localtime = fs::read_link(system.at("/etc/localtime")).unwrap();
    assert_eq!(localtime, Path::new("/usr/share/zoneinfo/Europe/Berlin"));

    let network = system.files("/run/NetworkManager");
    let wifi = &network["/run/NetworkManager/system-connections/raspbox-wifi-dhcp.nmconnection"];
    assert!(wifi.contains("psk=correct\\sbattery\n"), "{wifi}");
    for path in network
        .keys()
        .map(String::as_str)
        .chain(["/var/lib/raspbox-boot/remembered.toml"])
    {
        let mode = fs::metadata(system.at(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    for path in ["/run/raspbox/boot.json", "/run/raspbox/daemon.toml"] {
        let mode = fs::metadata(system.at(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{path}");
    }
    let page = system.text("/boot/firmware/raspbox-status.txt");
    assert!(
        page.contains("No problems.") && page.contains("raspbox pair attic.local:2121"),
        "{page}"
    );
    for (path, text) in system
        .files("/run/raspbox")
        .into_iter()
        .chain([(String::new(), page)])
    {
        assert!(!text.contains("correct"), "a password in {path}: {text}");
    }

    // All the same at the next start, with what was taken in.
    system.boot();
    assert_eq!(system.problems(), [""; 0]);
    assert_eq!(system.files("/run/NetworkManager"), network);
    assert_eq!(system.text("/var/lib/raspbox/users.toml"), users);
    assert_eq!(system.text("/boot/firmware/raspbox.toml"), blanked);
}

#[test]
fn whatever_is_wrong_everything_else_comes_up() {
    let system = System::with(
        "name = “attic”\npassword = 'short'\naddress = '192.168.1.0/24'\nprot = 1\nkeep_free_mib = 9\n\
         [wifi]\nssid = 'Our Wi-Fi'\n",
    );
    system.boot();
    let problems = system.problems();
    let expect = [
        "raspbox.toml line 1: “ is a typographic quotation mark",
        "raspbox.toml line 2: the password has 8 to 128 characters",
        "raspbox.toml line 3: 192.168.1.0 is the network's own address",
        "raspbox.toml line 4: there is no setting \"prot\" here; did you mean port?",
        "raspbox.toml line 7: the password of the Wi-Fi \"Our Wi-Fi\" isn't known here",
    ];
    assert_eq!(problems.len(), expect.len(), "{problems:#?}");
    let page = system.text("/boot/firmware/raspbox-status.txt");
    for (problem, expect) in problems.iter().zip(expect) {
        assert!(problem.starts_with(expect), "{problem}");
        assert!(page.contains(problem.as_str()), "{page}");
    }
    system.daemon_is_content();
    assert!(
        system
            .text("/run/raspbox/daemon.toml")
            .contains("\nkeep_free_mib = 9\n")
    );
    let network = system.files("/run/NetworkManager/system-connections");
    assert_eq!(network.len(), 2, "by cable: from the router, and alone");
    assert!(
        system
            .text("/boot/firmware/raspbox.toml")
            .contains("'short'"),
        "the owner's to mend"
    );
}

#[test]
fn nothing_has_to_be_there() {
    // A machine that has no owner's file: its network and its name are left alone.
    let system = System(TempDir::new().unwrap());
    assert_eq!(system.boot(), [""; 0]);
    assert_eq!(system.problems(), [""; 0]);
    system.daemon_is_content();
    assert!(!system.at("/run/NetworkManager").exists());
    assert!(!system.at("/boot").exists());

    // A file that isn't one, and folders in the way.
    let system = System::with("\0\u{1}\u{2}");
    for path in [
        "/run/NetworkManager",
        "/var/lib/raspbox",
        "/etc/localtime/x",
    ] {
        system.put(path, "in the way");
    }
    fs::create_dir_all(system.at("/boot/firmware/raspbox-status.txt")).unwrap();
    system.put(
        "/boot/firmware/raspbox.toml.txt",
        "password = 'correct horse'\n",
    );
    system.boot();
    assert!(system.problems().len() >= 4, "{:#?}", system.problems());
    system.daemon_is_content();
    fs::write(
        system.at("/boot/firmware/raspbox.toml"),
        "password = 'correct horse'\n",
    )
    .unwrap();
    system.boot();
    let problems = system.problems();
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("the password can't be taken in: ")),
        "{problems:#?}"
    );
    assert!(
        system
            .text("/boot/firmware/raspbox.toml")
            .contains("correct horse"),
        "kept nowhere else"
    );
}

#[test]
fn windows_hides_endings() {
    let system = System::with("");
    fs::rename(
        system.at("/boot/firmware/raspbox.toml"),
        system.at("/boot/firmware/raspbox.toml.txt"),
    )
    .unwrap();
    system.put(
        "/boot/firmware/raspbox.toml.txt",
        "name = 'attic'\nport = 1\n",
    );
    assert_eq!(system.boot()[0], "name attic");
    assert!(system.problems()[0].starts_with("raspbox.toml.txt line 2: port is 21"));
    system.put("/boot/firmware/raspbox.toml", "name = 'cellar'\n");
    assert_eq!(system.boot()[0], "name cellar");
    assert!(system.problems()[0].starts_with("raspbox.toml.txt lies beside raspbox.toml"));
}

#[test]
fn a_reset_forgets_people_and_devices_and_no_more() {
    let system =
        System::with("password = 'correct horse'\n[wifi]\nssid = 'x'\npassword = '12345678'\n");
    system.boot();
    for path in ["devices.toml", "key.pem"] {
        system.put(&format!("/var/lib/raspbox/{path}"), "");
    }
    system.put("/srv/raspbox/photo.jpg", "all that counts");
    system.put(
        "/boot/firmware/raspbox.toml",
        "name = 'attic'\nreset = true\n[wifi]\nssid = 'x'\n",
    );
    system.boot();
    let text = system.text("/boot/firmware/raspbox.toml");
    assert_eq!(text, "name = 'attic'\nreset = false\n[wifi]\nssid = 'x'\n");
    assert!(
        system.problems()[0]
            .starts_with("raspbox.toml line 4: the password of the Wi-Fi \"x\" isn't")
    );
    let left: Vec<String> = system.files("/var/lib/raspbox").into_keys().collect();
    assert_eq!(left, ["/var/lib/raspbox/key.pem", "/var/lib/raspbox/lock"]);
    assert_eq!(system.text("/srv/raspbox/photo.jpg"), "all that counts");
    assert!(
        system
            .text("/boot/firmware/raspbox-status.txt")
            .contains("none yet")
    );
}

#[test]
fn the_clock_is_at_least_what_was_seen_last() {
    let system = System::with("");
    // In fifteen years: by then this test has another.
    let later = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 15 * 365 * 86_400;
    system.put("/var/lib/raspbox/clock", &format!("{later}\n"));
    assert_eq!(system.boot()[0], format!("clock {later}"));
    system.put("/var/lib/raspbox/clock", "nonsense");
    assert_eq!(system.boot()[0], "name raspbox");
}

#[test]
fn what_came_of_the_network_is_told() {
    let system = System::with("address = '192.0.2.50/24'\n");
    system.boot();
    let page = "/boot/firmware/raspbox-status.txt";
    assert!(system.text(page).contains("not known yet"));
    // This machine has other addresses, or none; and nobody asks its NetworkManager here.
    let output = Command::new(env!("CARGO_BIN_EXE_raspboxd"))
        .args(["network", "report", "--root"])
        .arg(system.0.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&system.text("/run/raspbox/network.json")).unwrap();
    assert_eq!(report["line"], line.trim_end());
    assert_eq!(report["ok"], false);
    assert!(
        system
            .text(page)
            .contains(&format!("NETWORK\r\n\r\n  {}\r\n", line.trim_end()))
    );
    // It stands until there is more to say: each write is one to the card.
    system.boot();
    assert!(system.text(page).contains(line.trim_end()));
}

#[test]
fn what_was_said_last_counts_where_the_card_cannot_be_read() {
    let owners =
        "address = '192.168.1.50/24'\nreset = true\n[wifi]\nssid = 'x'\npassword = '12345678'\n";
    let system = System::with(owners);
    system.boot();
    let network = system.files("/run/NetworkManager");
    let again = |problem: &str| {
        fs::remove_dir_all(system.at("/run")).unwrap();
        system.put("/var/lib/raspbox/devices.toml", "");
        system.boot();
        assert!(
            system.problems()[0].starts_with(problem),
            "{:?}",
            system.problems()
        );
        assert_eq!(system.problems().len(), 1);
        assert!(
            system.at("/var/lib/raspbox/devices.toml").exists(),
            "it isn't reset again"
        );
        system.files("/run/NetworkManager")
    };
    // A file that can't be read: here, since it is none.
    fs::remove_file(system.at("/boot/firmware/raspbox.toml")).unwrap();
    fs::create_dir(system.at("/boot/firmware/raspbox.toml")).unwrap();
    fs::remove_dir_all(system.at("/run")).unwrap();
    system.boot();
    assert_eq!(system.files("/run/NetworkManager"), network);
    assert_eq!(system.problems().len(), 2, "why, and what counts");
    fs::remove_dir(system.at("/boot/firmware/raspbox.toml")).unwrap();
    // It was taken away.
    let left = again("there is no raspbox.toml, so the defaults count");
    assert_eq!(left.len(), 3, "by cable: from the router, and alone");
    assert!(
        system
            .text("/boot/firmware/raspbox-status.txt")
            .contains("there is no raspbox.toml")
    );
    // The card is not mounted.
    fs::remove_dir_all(system.at("/boot/firmware")).unwrap();
    fs::create_dir(system.at("/boot/firmware")).unwrap();
    assert_eq!(
        again("raspbox.toml can't be read, so what it said last counts"),
        network
    );
    assert_eq!(
        system.files("/boot").len(),
        0,
        "no page where the card is to be mounted"
    );
}

#[test]
fn what_is_not_wanted_any_more_goes() {
    let system = System::with("address = '192.168.1.50/24'\n[wifi]\nssid = 'x'\nopen = true\n");
    system.boot();
    system.put(
        "/run/NetworkManager/system-connections/mine.nmconnection",
        "",
    );
    assert_eq!(
        system.files("/run/NetworkManager/system-connections").len(),
        7
    );
    system.put("/boot/firmware/raspbox.toml", "");
    system.boot();
    assert_eq!(
        system.files("/run/NetworkManager/system-connections").len(),
        3
    );
}
