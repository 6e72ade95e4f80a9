//! Everything else on the command line.

use crate::harness::{Daemon, eventually};
use std::process::{Command, Output};

fn raspboxd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raspboxd"))
        .args(arguments)
        .env_remove("STATE_DIRECTORY")
        .output()
        .unwrap()
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_config_is_checked() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("raspbox.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "folder = '/srv'\n").unwrap();
    assert!(raspboxd(&["config", "check", path]).status.success());
    std::fs::write(&file, "folder = '/srv'\nfoldr = 1\n").unwrap();
    let said = error(&raspboxd(&["config", "check", path]));
    assert!(
        said.contains("raspbox.toml line 2: unknown field `foldr`"),
        "{said}"
    );
    let said = error(&raspboxd(&["serve", "--config", path]));
    assert!(said.contains("line 2"), "{said}");
    // An owner's file, which says no folder; all of its problems.
    std::fs::write(
        &file,
        "\u{feff}name = 'attic'\r\naddress = '192.168.1.50/24'\r\n",
    )
    .unwrap();
    let output = raspboxd(&["config", "check", path]);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(
        &file,
        "nam = 'attic'\naddress = '192.168.1.0/24'\nport = x\n",
    )
    .unwrap();
    let said = error(&raspboxd(&["config", "check", path]));
    for expect in [
        "raspbox.toml line 1: there is no setting \"nam\" here; did you mean name?\n",
        "raspbox.toml line 2: 192.168.1.0 is the network's own address",
        "raspbox.toml line 3: put the value in quotation marks",
    ] {
        assert!(said.contains(expect), "{said}");
    }
    let said = error(&raspboxd(&["config", "check", "/no/such.toml"]));
    assert!(said.contains("cannot read /no/such.toml"), "{said}");
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let daemon = Daemon::start();
    let (folder, state) = (daemon.folder(), daemon.state());
    let (folder, state) = (folder.to_str().unwrap(), state.to_str().unwrap());
    let serve = |folder: &str, state: &str, listen: &str| {
        error(&raspboxd(&[
            "serve", "--folder", folder, "--state", state, "--listen", listen,
        ]))
    };
    let temp = tempfile::tempdir().unwrap();
    let other = temp.path().join("state");
    let other = other.to_str().unwrap();
    let said = serve(folder, other, "127.0.0.1:0");
    assert!(said.contains("in use by another raspboxd"), "{said}");
    let said = serve("/no/such/folder", other, "127.0.0.1:0");
    assert!(said.contains("/no/such/folder"), "{said}");
    let said = serve(
        temp.path().to_str().unwrap(),
        other,
        &daemon.address.to_string(),
    );
    assert!(said.contains("cannot listen on 127.0.0.1"), "{said}");
    let said = serve(temp.path().to_str().unwrap(), "/proc/state", "127.0.0.1:0");
    assert!(said.contains("/proc/state"), "{said}");
    let _ = state;
}

#[test]
fn the_status_is_told() {
    let mut daemon = Daemon::start();
    let _client = daemon.client();
    eventually("it shows who is online", || {
        let output = daemon.control(&["status"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.starts_with("OK: ")
            && text.contains("online raspbox\n")
            && text.contains(&daemon.fingerprint)
    });
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    daemon.wait();
    let output = daemon.control(&["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("isn't running")
    );
    let output = raspboxd(&["status", "--state", "/no/such/dir"]);
    assert!(error(&output).contains("/no/such/dir"));
}

#[test]
fn help_and_usage() {
    let help = raspboxd(&["--help"]);
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("serve"));
    assert_eq!(raspboxd(&["dance"]).status.code(), Some(2));
}
