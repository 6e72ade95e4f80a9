//! rclone: whole folders, over a pool of connections.

use crate::bench::{
    Bench, Channel, ODD_NAMES, Said, THEN_SECS, check, mtime, noise, run, tree, write_many,
};
use std::fs;

/// The remote that the environment of each command describes.
const DRIVE: &str = "drive:";

fn rclone(bench: &Bench, args: &[&str]) -> Said {
    let mut obscure = bench.command("rclone");
    obscure.args(["obscure", &bench.daemon.password]);
    let password = run(obscure).ok().text();
    let mut command = bench.command("rclone");
    command
        .args(["--config", "", "--retries", "1", "--low-level-retries", "1"])
        .args(args)
        .env("RCLONE_CONFIG_DRIVE_TYPE", "ftp")
        .env("RCLONE_CONFIG_DRIVE_HOST", "localhost")
        .env(
            "RCLONE_CONFIG_DRIVE_PORT",
            bench.daemon.address.port().to_string(),
        )
        .env("RCLONE_CONFIG_DRIVE_USER", "raspbox")
        .env("RCLONE_CONFIG_DRIVE_PASS", password.trim());
    if bench.channel != Channel::Plain {
        command
            .env("RCLONE_CONFIG_DRIVE_EXPLICIT_TLS", "true")
            .env("SSL_CERT_FILE", bench.certificate());
    }
    if bench.channel == Channel::Tls12 {
        command.env("RCLONE_CONFIG_DRIVE_DISABLE_TLS13", "true");
    }
    run(command)
}

/// A path on the drive.
fn at(path: &str) -> String {
    format!("{DRIVE}{path}")
}

#[test]
fn rclone_copies_bytes_as_they_are() {
    check("rclone", |bench| {
        for (name, len) in [("empty", 0), ("small", 5), ("large", 20_000_000)] {
            let content = noise(7, len);
            bench.write(name, &content);
            rclone(bench, &["copyto", name, &at(name)]).ok();
            assert!(bench.served(name) == content, "{name} as stored");
            rclone(bench, &["copyto", &at(name), "back"]).ok();
            assert!(bench.read("back") == content, "{name} as retrieved");
            fs::remove_file(bench.path("back")).unwrap();
        }
        let middle = ["cat", "--offset", "1000000", "--count", "10", &at("large")];
        let middle = rclone(bench, &middle).ok();
        assert_eq!(middle.out, noise(7, 20_000_000)[1_000_000..1_000_010]);
    });
}

#[test]
fn rclone_reaches_any_name() {
    check("rclone", |bench| {
        for name in ODD_NAMES {
            bench.write(&format!("odd/{name}/{name}"), name.as_bytes());
        }
        rclone(bench, &["copy", "odd", DRIVE]).ok();
        let files = tree(&bench.path("odd"));
        assert_eq!(bench.drive(), files);
        rclone(bench, &["check", "--download", "odd", DRIVE]).ok();
        rclone(bench, &["copy", DRIVE, "back"]).ok();
        assert_eq!(tree(&bench.path("back")), files);
    });
}

#[test]
fn rclone_copies_many_files_and_syncs_them_back() {
    check("rclone", |bench| {
        write_many(bench, "many");
        let files = tree(&bench.path("many"));
        let four = ["--transfers", "4", "--checkers", "4"];
        let run = |args: &[&str]| rclone(bench, &[args, &four].concat()).ok();
        run(&["copy", "many", &at("there")]);
        assert!(tree(&bench.daemon.folder().join("there")) == files, "up");
        bench.write("back/not there.txt", b"to be deleted");
        run(&["sync", &at("there"), "back"]);
        assert!(tree(&bench.path("back")) == files, "back");
        run(&["check", "--download", "many", &at("there")]);
        fs::remove_dir_all(bench.path("many/d3")).unwrap();
        bench.write("many/d2/new.txt", b"new");
        run(&["sync", "many", &at("there")]);
        let left = tree(&bench.path("many"));
        assert!(
            tree(&bench.daemon.folder().join("there")) == left,
            "with a deletion"
        );
    });
}

#[test]
fn rclone_moves_deletes_and_makes_folders() {
    check("rclone", |bench| {
        bench.serve("a b", b"content");
        rclone(bench, &["mkdir", &at("d/e")]).ok();
        assert!(bench.is_folder("d/e"));
        rclone(bench, &["moveto", &at("a b"), &at("d/c")]).ok();
        assert_eq!(bench.served("d/c"), b"content");
        assert_eq!(bench.daemon.content("a b"), None);
        rclone(bench, &["moveto", &at("d"), &at("g")]).ok();
        assert_eq!(bench.served("g/c"), b"content");
        rclone(bench, &["rmdir", &at("g")]).failed();
        rclone(bench, &["rmdir", &at("g/e")]).ok();
        rclone(bench, &["deletefile", &at("g/c")]).ok();
        rclone(bench, &["rmdir", &at("g")]).ok();
        assert!(!bench.is_folder("d") && !bench.is_folder("g"));
        bench.serve("tree/x", b"x");
        rclone(bench, &["purge", &at("tree")]).ok();
        assert!(!bench.is_folder("tree"));
    });
}

#[test]
fn rclone_reads_times_and_sizes() {
    check("rclone", |bench| {
        bench.serve("d/a b", b"hello");
        for (flag, time) in [("false", "2001-09-09 01:46:40"), ("true", "2001-09-09")] {
            // Without MLSD it reads LIST, which has no seconds.
            let disable = format!("--ftp-disable-mlsd={flag}");
            let format = ["lsf", "-R", "--format", "pst", "--files-only", &disable];
            let list = rclone(bench, &[&format[..], &[DRIVE]].concat()).ok().text();
            assert!(list.starts_with(&format!("d/a b;5;{time}")), "{list}");
        }
        rclone(bench, &["copy", &at("d"), "back"]).ok();
        assert_eq!(mtime(&bench.path("back/a b")), THEN_SECS);
    });
}

#[test]
fn rclone_deletes_nothing_for_a_source_that_is_not_there() {
    check("rclone", |bench| {
        bench.write("here/a", b"kept");
        rclone(bench, &["sync", &at("gone"), "here"]).failed();
        rclone(bench, &["sync", &at("gone/too"), "here"]).failed();
        assert_eq!(bench.read("here/a"), b"kept");
    });
}
