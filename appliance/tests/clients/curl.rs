//! curl: one session per call, URLs, and raw commands by `--quote`.

use crate::bench::{
    Bench, Channel, ODD_NAMES, Said, THEN, THEN_SECS, check, mtime, noise, run, tree, write_many,
};
use std::process::Command;

fn base(bench: &Bench) -> Command {
    let mut command = bench.command("curl");
    let port = bench.daemon.address.port();
    command
        .args(["--disable", "--silent", "--show-error", "--globoff"])
        .args(["--user", &format!("raspbox:{}", bench.daemon.password)])
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
    match bench.channel {
        Channel::Plain => &mut command,
        Channel::Tls12 => command.args(["--tlsv1.2", "--tls-max", "1.2"]),
        Channel::Tls13 => command.args(["--tlsv1.3", "--tls-max", "1.3"]),
    };
    if bench.channel != Channel::Plain {
        command.args(["--ssl-reqd", "--cacert"]);
        command.arg(bench.certificate());
    }
    command
}

fn curl(bench: &Bench, args: &[&str]) -> Said {
    let mut command = base(bench);
    command.args(args);
    run(command)
}

/// Raw commands, before anything else; then the top is listed by name.
fn quote(bench: &Bench, commands: &[&str]) -> Said {
    let mut command = base(bench);
    for line in commands {
        command.args(["--quote", line]);
    }
    command.args(["--list-only", &url(bench, "")]);
    run(command)
}

/// The URL of a path, which may hold anything.
fn url(bench: &Bench, path: &str) -> String {
    let mut url = format!("ftp://localhost:{}/", bench.daemon.address.port());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'/' {
            url.push(byte.into());
        } else {
            url += &format!("%{byte:02X}");
        }
    }
    url
}

#[test]
fn curl_uploads_and_downloads_bytes_as_they_are() {
    check("curl", |bench| {
        for (name, len) in [("empty", 0), ("small", 5), ("20 MB", 20_000_000)] {
            let content = noise(1, len);
            bench.write(name, &content);
            curl(bench, &["--upload-file", name, &url(bench, name)]).ok();
            assert!(bench.served(name) == content, "{name} as stored");
            let back = curl(bench, &[&url(bench, name)]).ok();
            assert!(back.out == content, "{name} as retrieved");
        }
    });
}

#[test]
fn curl_reaches_any_name_in_every_way_of_walking() {
    check("curl", |bench| {
        let methods = ["multicwd", "nocwd", "singlecwd"];
        let mut up = base(bench);
        up.arg("--ftp-create-dirs");
        let mut downs = methods.map(|method| (method, base(bench)));
        for name in ODD_NAMES {
            let path = format!("{name}/{name}");
            bench.write(&path, name.as_bytes());
            up.arg("-T").arg(bench.path(&path)).arg(url(bench, &path));
            for (method, down) in &mut downs {
                down.args(["--ftp-method", method, "--create-dirs", "-o"]);
                down.arg(bench.path(&format!("{method}/{path}")));
                down.arg(url(bench, &path));
            }
        }
        run(up).ok();
        for (method, down) in downs {
            run(down).ok();
            assert_eq!(tree(&bench.path(method)), bench.drive(), "{method}");
        }
        for name in ODD_NAMES {
            let path = format!("{name}/{name}");
            assert_eq!(bench.served(&path), name.as_bytes());
        }
        let mut names = ODD_NAMES.map(str::to_owned).to_vec();
        names.sort();
        let listed = curl(bench, &["--list-only", &url(bench, "")]).ok();
        assert_eq!(listed.lines(), names);
    });
}

#[test]
fn curl_resumes_downloads_and_uploads() {
    check("curl", |bench| {
        let content = noise(2, 3_000_000);
        let part = &content[..1_234_567];
        bench.serve("a", &content);
        bench.write("a", part);
        curl(bench, &["-C", "-", "-o", "a", &url(bench, "a")]).ok();
        assert!(bench.read("a") == content, "the download");
        bench.serve("b", part);
        curl(bench, &["-C", "-", "-T", "a", &url(bench, "b")]).ok();
        assert!(bench.served("b") == content, "the upload");
        bench.write("more", b"and more");
        curl(bench, &["--append", "-T", "more", &url(bench, "b")]).ok();
        assert!(bench.served("b") == [&content[..], b"and more"].concat());
        // curl cuts the data connection after the last byte that it wants.
        let range = curl(bench, &["-r", "1000000-1000009", &url(bench, "a")]).ok();
        assert_eq!(range.out, content[1_000_000..1_000_010]);
        let end = curl(bench, &["-r", "-7", &url(bench, "a")]).ok();
        assert_eq!(end.out, content[content.len() - 7..]);
    });
}

#[test]
fn curl_goes_on_in_a_session_after_it_cut_a_transfer() {
    check("curl", |bench| {
        bench.serve("large", &noise(3, 8_000_000));
        bench.serve("small", b"small");
        let mut command = base(bench);
        command
            .args(["-r", "0-9", "-o", "first", &url(bench, "large"), "--next"])
            .args(["--user", &format!("raspbox:{}", bench.daemon.password)])
            .args([
                "--resolve",
                &format!("localhost:{}:127.0.0.1", bench.daemon.address.port()),
            ]);
        if bench.channel != Channel::Plain {
            command.args(["--ssl-reqd", "--cacert"]);
            command.arg(bench.certificate());
        }
        command.args(["-sS", "-o", "second", &url(bench, "small")]);
        run(command).ok();
        assert_eq!(bench.read("first"), noise(3, 10));
        assert_eq!(bench.read("second"), b"small");
    });
}

#[test]
fn curl_renames_deletes_and_makes_folders() {
    check("curl", |bench| {
        bench.serve("a b", b"content");
        quote(bench, &["MKD d", "RNFR a b", "RNTO d/c", "MKD /d/empty"]).ok();
        assert_eq!(bench.served("d/c"), b"content");
        assert!(bench.is_folder("d/empty") && bench.daemon.content("a b").is_none());
        quote(bench, &["RNFR d", "RNTO e", "RMD e/empty"]).ok();
        assert_eq!(bench.served("e/c"), b"content");
        let refused = quote(bench, &["RMD e"]).failed();
        assert!(refused.contains("550"), "{refused}");
        quote(bench, &["DELE e/c", "RMD e"]).ok();
        assert!(bench.drive().is_empty() && !bench.is_folder("e"));
    });
}

#[test]
fn curl_lists_in_three_ways() {
    check("curl", |bench| {
        bench.serve("d/a b", b"hello");
        let top = url(bench, "");
        let list = curl(bench, &[&top]).ok().text();
        assert!(
            list.starts_with("drwxr-xr-x") && list.trim_end().ends_with(" d"),
            "{list}"
        );
        let below = url(bench, "d/");
        let list = curl(bench, &[&below]).ok().text();
        assert!(
            list.starts_with("-rw-r--r--") && list.contains(" 5  Sep 09 2001 a b"),
            "{list}"
        );
        let names = curl(bench, &["--list-only", &below]).ok();
        assert_eq!(names.lines(), ["a b"]);
        let facts = curl(bench, &["--request", "MLSD", &below]).ok().text();
        assert!(facts.contains("size=5;modify=20010909014640"), "{facts}");
        assert!(facts.trim_end().ends_with("; a b"), "{facts}");
    });
}

#[test]
fn curl_shows_what_clients_and_appliance_say() {
    check("curl", |bench| {
        let info = curl(bench, &[&url(bench, ".raspbox/info")]).ok().text();
        assert!(info.starts_with("protocol 1\n"), "{info}");
        curl(bench, &[&url(bench, ".raspbox/tree")]).ok();
    });
}

#[test]
fn curl_looks_through_the_versions() {
    check("curl", |bench| {
        let content = noise(3, 300_000);
        bench.write("old", &content);
        for file in ["old", "old", "new"] {
            bench.write("new", b"new");
            curl(
                bench,
                &["-T", file, "--ftp-create-dirs", &url(bench, "d d/a b.txt")],
            )
            .ok();
        }
        let folder = ".raspbox/versions/d d/a b.txt/";
        let names = curl(bench, &["--list-only", &url(bench, folder)])
            .ok()
            .lines();
        assert_eq!(names.len(), 2, "{names:?}");
        for method in ["multicwd", "nocwd", "singlecwd"] {
            let file = url(bench, &format!("{folder}{}", names[1]));
            let back = curl(bench, &["--ftp-method", method, &file]).ok();
            assert!(back.out == content, "{method}");
        }
        let list = curl(bench, &[&url(bench, ".raspbox/versions/")])
            .ok()
            .text();
        assert!(
            list.starts_with('d') && list.trim_end().ends_with(" d d"),
            "{list}"
        );
        let file = url(bench, &format!("{folder}{}", names[0]));
        curl(bench, &["-T", "new", &file]).failed();
    });
}

#[test]
fn curl_reads_and_sets_times_modes_and_sizes() {
    check("curl", |bench| {
        bench.serve("a b", b"hello");
        let head = curl(bench, &["--head", &url(bench, "a b")]).ok().text();
        assert!(
            head.contains("Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT"),
            "{head}"
        );
        assert!(head.contains("Content-Length: 5"), "{head}");
        curl(bench, &["--remote-time", "-o", "copy", &url(bench, "a b")]).ok();
        assert_eq!(mtime(&bench.path("copy")), THEN_SECS);
        let later = "SITE UTIME 20010909014650 a b";
        quote(bench, &[later, "SITE CHMOD 755 a b"]).ok();
        assert_eq!(bench.mtime("a b"), THEN_SECS + 10);
        assert!(bench.is_executable("a b"));
        let three = format!("SITE UTIME a b {THEN} {THEN} {THEN} UTC");
        quote(bench, &[&three, "SITE CHMOD 644 a b"]).ok();
        assert_eq!(bench.mtime("a b"), THEN_SECS);
        assert!(!bench.is_executable("a b"));
        let newer = curl(bench, &["-z", "Sep 10 2001", &url(bench, "a b")]).ok();
        assert_eq!(newer.text(), "", "curl compares times by MDTM");
    });
}

#[test]
fn curl_uses_pasv_where_epsv_is_off() {
    check("curl", |bench| {
        bench.serve("a", b"hello");
        let back = curl(bench, &["--disable-epsv", &url(bench, "a")]).ok();
        assert_eq!(back.text(), "hello");
    });
}

#[test]
fn curl_moves_many_files_over_four_connections() {
    check("curl", |bench| {
        write_many(bench, "many");
        let files = tree(&bench.path("many"));
        let mut up = base(bench);
        let mut down = base(bench);
        for command in [&mut up, &mut down] {
            command.args([
                "--parallel",
                "--parallel-max",
                "4",
                "--ftp-create-dirs",
                "--create-dirs",
            ]);
        }
        for (name, _) in &files {
            let name = name.to_str().unwrap();
            up.args(["-T", &format!("many/{name}"), &url(bench, name)]);
            down.args(["-o", &format!("back/{name}"), &url(bench, name)]);
        }
        run(up).ok();
        assert!(bench.drive() == files, "as stored");
        run(down).ok();
        assert!(tree(&bench.path("back")) == files, "as retrieved");
    });
}

#[test]
fn curl_is_told_what_it_may_not_and_what_is_not_there() {
    check("curl", |bench| {
        let gone = curl(bench, &[&url(bench, "gone")]).failed();
        assert!(gone.contains("(78)"), "no such file: {gone}");
        let user = ["--user", "raspbox:wrong"];
        let denied = curl(bench, &[user[0], user[1], &url(bench, "")]).failed();
        assert!(denied.contains("(67)"), "access denied: {denied}");
        if bench.channel != Channel::Plain {
            let mut plain = bench.command("curl");
            plain.args([
                "-sS",
                "--user",
                &format!("raspbox:{}", bench.daemon.password),
            ]);
            plain.arg(format!("ftp://{}/", bench.daemon.address));
            let denied = run(plain).failed();
            assert!(denied.contains("(67)"), "TLS is required: {denied}");
            let mut plain_data = base(bench);
            plain_data.args(["--quote", "PROT C", &url(bench, "")]);
            run(plain_data).failed();
        }
    });
}
