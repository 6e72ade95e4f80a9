//! Python's ftplib: several commands in one session, and replies looked at.

use crate::bench::{Bench, ODD_NAMES, Said, THEN_SECS, check, noise, run, tree, write_many};

/// Runs a script after `session.py`.
fn python(bench: &Bench, script: &str) -> Said {
    let mut command = bench.command("python3");
    let script = format!("{}\n{script}\nftp.quit()\n", include_str!("session.py"));
    command
        .args(["-c", &script, "localhost"])
        .arg(bench.daemon.address.port().to_string())
        .arg(&bench.daemon.password)
        .arg(format!("{:?}", bench.channel))
        .arg(bench.certificate());
    run(command)
}

#[test]
fn ftplib_uploads_and_downloads_bytes_as_they_are() {
    check("python3", |bench| {
        for (name, len) in [("empty", 0), ("small", 5), ("20 MB", 20_000_000)] {
            bench.write(name, &noise(8, len));
            let script = "
content = read(NAME)
put(ftp, NAME, content)
assert ftp.size(NAME) == len(content)
assert get(ftp, NAME) == content
assert get(ftp, NAME) == content, 'and again'";
            python(bench, &script.replace("NAME", &format!("{name:?}"))).ok();
            assert!(bench.served(name) == noise(8, len), "{name}");
        }
    });
}

#[test]
fn ftplib_resumes_downloads_and_uploads() {
    check("python3", |bench| {
        bench.write("content", &noise(9, 3_000_000));
        python(
            bench,
            "
content = read('content')
put(ftp, 'a', content[:1234567])
put(ftp, 'a', content[1234567:], rest=1234567)
assert get(ftp, 'a') == content, 'uploaded with REST'
assert get(ftp, 'a', rest=2999990) == content[2999990:]
put(ftp, 'b', content[:10])
ftp.storbinary('APPE b', io.BytesIO(content[10:]))
assert get(ftp, 'b') == content, 'uploaded with APPE'
put(ftp, 'a', b'short')
assert get(ftp, 'a') == b'short', 'replaced'",
        )
        .ok();
        assert!(bench.served("b") == noise(9, 3_000_000));
    });
}

#[test]
fn ftplib_reaches_any_name_and_lists_it_in_three_ways() {
    check("python3", |bench| {
        let names = format!("names = {ODD_NAMES:?}");
        let script = "
for name in names:
    ftp.mkd(name)
    ftp.cwd(name)
    put(ftp, name, name.encode())
    assert get(ftp, name) == name.encode()
    assert ftp.nlst() == [name]
    assert list(ftp.mlsd()) == [(name, dict(ftp.mlsd())[name])]
    assert dict(ftp.mlsd())[name]['size'] == str(len(name.encode()))
    lines = []
    ftp.retrlines('LIST', lines.append)
    assert len(lines) == 1 and lines[0].endswith(' ' + name), lines
    if chr(34) not in name:  # libunftp (0.24) doesn't double the quotes in its answer to PWD.
        assert ftp.pwd() == '/' + name, ftp.pwd()
    ftp.cwd('/')
assert sorted(ftp.nlst()) == sorted(names)
assert all(facts['type'] == 'dir' for name, facts in ftp.mlsd())";
        // Rust writes strings as Python does, but for emoji and umlauts, which neither escapes.
        python(bench, &format!("{names}\n{script}")).ok();
        for name in ODD_NAMES {
            assert_eq!(bench.served(&format!("{name}/{name}")), name.as_bytes());
        }
    });
}

#[test]
fn ftplib_renames_deletes_and_makes_folders() {
    check("python3", |bench| {
        python(
            bench,
            "
put(ftp, 'a', b'content')
ftp.mkd('d')
refused('550', ftp.mkd, 'd')
ftp.rename('a', 'd/b c')
refused('550', ftp.size, 'a')
refused('550', ftp.rmd, 'd')
ftp.rename('d', 'e')
put(ftp, 'other', b'other')
ftp.rename('other', 'e/b c')
assert get(ftp, 'e/b c') == b'other', 'a rename replaces'
refused('550', ftp.delete, 'e')
ftp.delete('e/b c')
refused('550', ftp.delete, 'e/b c')
ftp.rmd('e')
assert ftp.nlst() == []",
        )
        .ok();
    });
}

#[test]
fn ftplib_sets_and_reads_times_and_modes() {
    check("python3", |bench| {
        python(
            bench,
            "
ftp.mkd('d')
ftp.cwd('d')
put(ftp, 'a b', b'content')
ftp.sendcmd('SITE UTIME 20010909014640 a b')
assert ftp.sendcmd('MDTM a b') == '213 20010909014640'
assert dict(ftp.mlsd())['a b']['modify'].startswith('20010909014640')
ftp.sendcmd('SITE UTIME a b 20200101000000 20010909014650 20200101000000 UTC')
assert ftp.sendcmd('MDTM /d/a b') == '213 20010909014650'
ftp.sendcmd('SITE CHMOD 755 a b')
refused('501', ftp.sendcmd, 'SITE CHMOD x a b')
refused('550', ftp.sendcmd, 'SITE UTIME 20010909014640 gone')",
        )
        .ok();
        assert_eq!(bench.mtime("d/a b"), THEN_SECS + 10);
        assert!(bench.is_executable("d/a b"));
    });
}

#[test]
fn ftplib_names_are_relative_to_where_it_went() {
    check("python3", |bench| {
        python(
            bench,
            "
put(ftp, 'a', b'above')
ftp.mkd('d')
ftp.cwd('d')
put(ftp, 'a', b'below')
ftp.cwd('..')
assert ftp.pwd() == '/'
ftp.sendcmd('SITE UTIME 20010909014640 a')
ftp.sendcmd('SITE CHMOD 755 a')
assert 'size=5' in ftp.sendcmd('MLST a')
assert get(ftp, 'a') == b'above'",
        )
        .ok();
        assert_eq!(bench.mtime("a"), THEN_SECS);
        assert!(bench.is_executable("a") && !bench.is_executable("d/a"));
    });
}

#[test]
fn ftplib_stops_in_the_middle_and_goes_on() {
    check("python3", |bench| {
        bench.serve("large", &noise(10, 8_000_000));
        python(
            bench,
            "
data = ftp.transfercmd('RETR large')
assert data.recv(1000)
# libunftp (0.24) comes to ABOR only after the transfer, so that has to be cut first. Not abort(): in
# plain it sends urgent data, whose last byte tokio doesn't read before another comes after it.
data.close()
ftp.putcmd('ABOR')
replies = [ftp.getmultiline(), ftp.getmultiline()]
# One of the transfer and one of ABOR (RFC 959, section 4.1.3).
assert sorted(reply[0] for reply in replies) == ['2', '4'], replies
assert ftp.voidcmd('NOOP').startswith('200')
put(ftp, 'after', b'content')
assert get(ftp, 'after') == b'content'",
        )
        .ok();
    });
}

#[test]
fn ftplib_works_in_four_sessions_at_once() {
    check("python3", |bench| {
        write_many(bench, "many");
        python(
            bench,
            "
import os
from concurrent.futures import ThreadPoolExecutor

files = [os.path.join(top, name)[5:] for top, _, names in os.walk('many') for name in names]
assert len(files) == 200
for folder in sorted({os.path.dirname(name) for name in files}):
    ftp.mkd(folder)


def work(part):
    with connect() as ftp:
        for name in files[part::4]:
            content = read('many/' + name)
            put(ftp, name, content)
            assert get(ftp, name) == content, name


with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(4)))",
        )
        .ok();
        assert!(bench.drive() == tree(&bench.path("many")));
    });
}
