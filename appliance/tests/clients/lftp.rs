//! lftp: one script per session.

use crate::bench::{
    Bench, Channel, ODD_NAMES, Said, THEN, THEN_SECS, check, mtime, noise, run, tree, write_many,
};

fn lftp(bench: &Bench, script: &str) -> Said {
    let mut command = bench.command("lftp");
    let versions = match bench.channel {
        Channel::Plain => "set ftp:ssl-allow false".into(),
        Channel::Tls12 | Channel::Tls13 => format!(
            "set ftp:ssl-force true\nset ssl:ca-file {}\n\
             set ssl:priority NORMAL:-VERS-ALL:+VERS-TLS{}",
            bench.certificate().display(),
            if bench.channel == Channel::Tls12 {
                "1.2"
            } else {
                "1.3"
            }
        ),
    };
    let script = format!(
        "set cmd:fail-exit true\nset net:max-retries 1\nset net:timeout 120\n\
         set net:persist-retries 0\nset dns:order inet\n{versions}\n\
         open -u raspbox,{} -p {} localhost\n{script}\n",
        bench.daemon.password,
        bench.daemon.address.port()
    );
    command.args(["--norc", "-c", &script]);
    run(command)
}

/// A name as lftp's scripts take it.
fn quoted(name: &str) -> String {
    let mut quoted = String::from("\"");
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

#[test]
fn lftp_uploads_and_downloads_bytes_as_they_are() {
    check("lftp", |bench| {
        for (name, len) in [("empty", 0), ("small", 5), ("large", 20_000_000)] {
            let content = noise(4, len);
            bench.write(name, &content);
            lftp(bench, &format!("put {name}\nget {name} -o back")).ok();
            assert!(bench.served(name) == content, "{name} as stored");
            assert!(bench.read("back") == content, "{name} as retrieved");
            std::fs::remove_file(bench.path("back")).unwrap();
        }
    });
}

#[test]
fn lftp_keeps_times_both_ways() {
    check("lftp", |bench| {
        bench.write("a b", b"hello");
        lftp(bench, "mkdir d\ncd d\nput \"a b\"\nget \"a b\" -o back").ok();
        assert_eq!(bench.mtime("d/a b"), THEN_SECS, "by SITE UTIME");
        assert_eq!(mtime(&bench.path("back")), THEN_SECS, "by MDTM");
    });
}

#[test]
fn lftp_reaches_any_name() {
    check("lftp", |bench| {
        let mut script = String::new();
        for name in ODD_NAMES {
            bench.write(name, name.as_bytes());
            let here = quoted(&format!("./{name}"));
            script += &format!(
                "mkdir {here}\ncd {here}\nput {here}\nls\nget {here} -o {here}.back\n\
                 mv {here} renamed\nmv renamed {here}\ncd /\n"
            );
        }
        let listed = lftp(bench, &script).ok().text();
        for name in ODD_NAMES {
            assert!(listed.contains(&format!(" {name}\n")), "{listed}");
            assert_eq!(bench.served(&format!("{name}/{name}")), name.as_bytes());
            assert_eq!(bench.read(&format!("{name}.back")), name.as_bytes());
        }
    });
}

#[test]
fn lftp_resumes_downloads_and_uploads() {
    check("lftp", |bench| {
        let content = noise(5, 3_000_000);
        bench.serve("a", &content);
        bench.write("a", &content[..1_234_567]);
        lftp(bench, "get -c a").ok();
        assert!(bench.read("a") == content, "the download, by REST");
        bench.serve("b", &content[..2_000_000]);
        bench.serve("c", &content[..2_000_000]);
        lftp(bench, "put -c a -o b").ok();
        assert!(bench.served("b") == content, "the upload, by REST");
        lftp(bench, "set ftp:rest-stor false\nput -c a -o c").ok();
        assert!(bench.served("c") == content, "the upload, by APPE");
    });
}

#[test]
fn lftp_downloads_one_file_over_four_connections() {
    check("lftp", |bench| {
        let content = noise(6, 8_000_001);
        bench.serve("a", &content);
        lftp(bench, "pget -n 4 a").ok();
        assert!(bench.read("a") == content);
    });
}

#[test]
fn lftp_renames_deletes_and_makes_folders() {
    check("lftp", |bench| {
        bench.serve("a b", b"content");
        lftp(bench, "mkdir -p d/e/f\nmv \"a b\" d/c\nrmdir d/e/f").ok();
        assert_eq!(bench.served("d/c"), b"content");
        assert!(bench.is_folder("d/e") && !bench.is_folder("d/e/f"));
        assert!(lftp(bench, "rmdir d").failed().contains("550"));
        assert_eq!(bench.served("d/c"), b"content");
        lftp(bench, "mv d g\nrm g/c\nrmdir g/e g").ok();
        assert!(!bench.is_folder("d") && !bench.is_folder("g"));
        bench.serve("tree/x", b"x");
        lftp(bench, "mkdir -p tree/deep/er\nrm -r tree").ok();
        assert!(!bench.is_folder("tree"));
    });
}

#[test]
fn lftp_lists_in_three_ways() {
    check("lftp", |bench| {
        bench.serve("d/a b", b"hello");
        for mlsd in ["on", "off"] {
            let list = lftp(
                bench,
                &format!("set ftp:use-mlsd {mlsd}\ncls -l --time-style=%s d/"),
            );
            let list = list.ok().text();
            assert!(
                list.contains(" 5 ") && list.contains("d/a b"),
                "{mlsd}: {list}"
            );
            if mlsd == "on" {
                assert!(list.contains(&THEN_SECS.to_string()), "{list}");
            }
        }
        let list = lftp(bench, "ls d").ok().text();
        assert!(
            list.starts_with("-rw-r--r--") && list.ends_with(" a b\n"),
            "{list}"
        );
        assert_eq!(lftp(bench, "nlist d").ok().text(), "a b\n");
        assert_eq!(lftp(bench, "cat \"d/a b\"").ok().text(), "hello");
    });
}

#[test]
fn lftp_sets_times_and_modes() {
    check("lftp", |bench| {
        bench.serve("d/a b", b"hello");
        lftp(
            bench,
            "cd d\nchmod 755 \"a b\"\nquote SITE UTIME 20010909014650 a b",
        )
        .ok();
        assert!(bench.is_executable("d/a b"));
        assert_eq!(bench.mtime("d/a b"), THEN_SECS + 10);
        lftp(bench, "chmod 644 \"d/a b\"").ok();
        lftp(
            bench,
            &format!("quote SITE UTIME d/a b {THEN} {THEN} {THEN} UTC"),
        )
        .ok();
        assert!(!bench.is_executable("d/a b"));
        assert_eq!(bench.mtime("d/a b"), THEN_SECS);
        let replies = lftp(bench, "quote SIZE d/a b\nquote MDTM d/a b")
            .ok()
            .text();
        assert_eq!(replies, format!("213 5\n213 {THEN}\n"));
    });
}

#[test]
fn lftp_names_are_relative_to_where_it_went() {
    check("lftp", |bench| {
        bench.serve("d/a", b"below");
        bench.serve("a", b"above");
        lftp(bench, "cd d\ncd ..\nquote SITE CHMOD 755 a").ok();
        assert!(
            bench.is_executable("a") && !bench.is_executable("d/a"),
            "after cd .."
        );
    });
}

#[test]
fn lftp_mirrors_many_files_over_four_connections() {
    check("lftp", |bench| {
        write_many(bench, "many");
        let files = tree(&bench.path("many"));
        lftp(bench, "mirror -R --parallel=4 many there").ok();
        assert!(tree(&bench.daemon.folder().join("there")) == files, "up");
        assert_eq!(bench.mtime("there/d3/file 3.txt"), THEN_SECS);
        lftp(bench, "mirror --parallel=4 there back").ok();
        assert!(tree(&bench.path("back")) == files, "down");
        // Nothing has changed, so nothing is to be done.
        let again = lftp(bench, "mirror -R --verbose many there").ok().text();
        assert_eq!(again, "");
        std::fs::remove_dir_all(bench.path("many/d3")).unwrap();
        lftp(bench, "mirror -R --delete --parallel=4 many there").ok();
        let left = tree(&bench.path("many"));
        assert!(
            tree(&bench.daemon.folder().join("there")) == left,
            "with deletions"
        );
        assert!(!bench.is_folder("there/d3"));
    });
}

#[test]
fn lftp_deletes_nothing_for_a_source_that_is_not_there() {
    check("lftp", |bench| {
        bench.write("here/a", b"kept");
        lftp(bench, "mirror --delete gone here").failed();
        assert_eq!(bench.read("here/a"), b"kept");
    });
}

#[test]
fn lftp_looks_through_the_versions() {
    check("lftp", |bench| {
        let content = noise(5, 300_000);
        bench.write("a.txt", &content);
        bench.write("new", b"new");
        lftp(
            bench,
            "mkdir d\ncd d\nput a.txt\nput new -o a.txt\nrm a.txt",
        )
        .ok();
        let said = lftp(bench, "cd /.raspbox/versions/d/a.txt\ncls -1").ok();
        let names = said.lines();
        assert_eq!(names.len(), 2, "{names:?}");
        let get = |name: &str| {
            format!(
                "cd /.raspbox/versions/d/a.txt\nget {} -o back",
                quoted(name)
            )
        };
        lftp(bench, &get(&names[0])).ok();
        assert!(bench.read("back") == content);
        // All at once, as a person without our client would.
        lftp(bench, "mirror /.raspbox/versions/d all").ok();
        assert_eq!(tree(&bench.path("all")).len(), 2);
        lftp(
            bench,
            &format!("rm /.raspbox/versions/d/a.txt/{}", quoted(&names[0])),
        )
        .failed();
    });
}
