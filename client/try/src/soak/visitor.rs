//! A client that comes, does something, mostly badly, and goes, again and again; and remembers what it was
//! promised.

use crate::chance::Chance;
use crate::session::{Door, Reply, Session};
use crate::shown;
use crate::tally::Tally;
use anyhow::ensure;
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::info::Info;
use raspbox_protocol::special::{CommitSummary, Receipt, RequestId};
use raspbox_protocol::wire::{DATA_MAX_BYTES, to_bytes};
use raspbox_protocol::{Digest, File, Mtime, RelPath};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The folder of all visitors.
pub(crate) const FOLDER: &str = "visitors";

/// A file for everybody to read slowly: more than the buffers of its connection take.
pub(crate) const BIG: &str = "visitors/big";

/// How large it is.
pub(crate) const BIG_BYTES: usize = 16 << 20;

/// How many files a visitor writes again and again; those whose state it can't know are left alone, and others
/// take their place.
const FILES: usize = 6;

/// The most things that are done in one session.
const ACTIONS_MAX: u64 = 24;

/// A client.
pub(crate) struct Visitor {
    number: u16,
    from: Ipv4Addr,
    door: Arc<Door>,
    chance: Chance,
    named: u32,
    /// Written again and again.
    files: Vec<Written>,
    /// Not written any more.
    left: Vec<Written>,
}

/// A file, and what may stand there: nothing is `None`.
#[derive(Debug, Clone)]
struct Written {
    path: String,
    may: Vec<Option<Digest>>,
}

/// How a session ends that isn't ended by the appliance.
enum Ends {
    Quits,
    Vanishes,
    Resets,
}

impl Visitor {
    pub(crate) fn new(number: u16, seed: u64, door: Arc<Door>) -> Visitor {
        let [high, low] = number.to_be_bytes();
        Visitor {
            number,
            from: Ipv4Addr::new(127, 2, high, low + u8::from(low == 0)),
            door,
            chance: Chance::new(seed, u64::from(number)),
            named: 0,
            files: Vec::new(),
            left: Vec::new(),
        }
    }

    /// The folder of its own, beneath the drive.
    pub(crate) fn folder(&self) -> String {
        format!("{FOLDER}/{}", self.number)
    }

    /// Comes and goes until it is told to stop.
    pub(crate) fn come_and_go(&mut self, stop: &AtomicBool, tally: &Tally) {
        while !stop.load(Ordering::Relaxed) {
            let visit = match self.chance.below(100) {
                0..3 => self.guess(tally),
                3..6 => self.say_nothing(tally),
                6..8 => self.shake_half_a_hand(tally),
                8..10 => self.never_end_a_line(tally),
                _ => self.work(stop, tally),
            };
            // What it has cut itself, and what was cut because of that.
            if let Err(error) = visit {
                tally.count(match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timed out",
                    _ => "sessions that broke off",
                });
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) {
                    tally.wrong(format!("visitor {} waited in vain", self.number));
                }
            }
            thread::sleep(Duration::from_millis(self.chance.below(200)));
        }
    }

    /// A wrong password, from an address that will be banned for it.
    fn guess(&mut self, tally: &Tally) -> io::Result<()> {
        let [_, _, high, low] = self.from.octets();
        let from = Ipv4Addr::new(127, 3, high, low);
        let user = ["raspbox", "nobody"][self.chance.len_below(2)];
        let (session, reply) = self.door.enter(from, (user, "a guess"))?;
        tally.count("wrong passwords");
        if reply.code == 230 {
            tally.wrong(format!("{user} came in with a guess"));
        }
        session.vanish(self.chance.percent(50));
        Ok(())
    }

    fn say_nothing(&mut self, tally: &Tally) -> io::Result<()> {
        let (session, _) = self.door.connect(self.from)?;
        tally.count("connections that say nothing");
        thread::sleep(Duration::from_millis(self.chance.below(2000)));
        session.vanish(self.chance.percent(50));
        Ok(())
    }

    fn shake_half_a_hand(&mut self, tally: &Tally) -> io::Result<()> {
        let (mut session, _) = self.door.connect(self.from)?;
        session.command("AUTH TLS")?;
        tally.count("handshakes cut in the middle");
        session.raw(&[0x16, 0x03, 0x01, 0x3f, 0xff, 0x01])?;
        thread::sleep(Duration::from_millis(self.chance.below(2000)));
        session.vanish(self.chance.percent(50));
        Ok(())
    }

    fn never_end_a_line(&mut self, tally: &Tally) -> io::Result<()> {
        let (mut session, _) = self.door.connect(self.from)?;
        tally.count("lines without end");
        for _ in 0..64 {
            if session.raw(&[b'a'; 16 << 10]).is_err() {
                return Ok(());
            }
        }
        // The socket takes some more than the appliance reads.
        while session.reply().is_ok() {}
        Ok(())
    }

    /// A session of somebody who may be here.
    fn work(&mut self, stop: &AtomicBool, tally: &Tally) -> io::Result<()> {
        // With the password rarely: a Pi has to work for it.
        let login = match self.chance.below(20) {
            0 => 0,
            _ => 1 + self.chance.len_below(self.door.logins.len() - 1),
        };
        let door = Arc::clone(&self.door);
        let (user, secret) = &door.logins[login];
        let (mut session, reply) = door.enter(self.from, (user, secret))?;
        if reply.code != 230 {
            tally.count("sessions that found no room");
            return Ok(());
        }
        tally.count("sessions");
        for _ in 0..self.chance.below(ACTIONS_MAX) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match self.chance.below(100) {
                0..24 => self.put(&mut session, tally)?,
                24..38 => self.get(&mut session, tally)?,
                38..46 => self.list(&mut session, tally)?,
                46..56 => self.commit(&mut session, tally)?,
                56..66 => self.put_half(&mut session, tally)?,
                66..72 => self.commit_half(&mut session, tally)?,
                72..77 => return self.put_and_vanish(session, tally),
                77..81 => return self.read_slowly(session, tally),
                81..87 => return self.follow_and_vanish(session, tally),
                87..92 => self.leave_ports(&mut session, tally)?,
                92..95 => return self.talk_nonsense(session, tally),
                _ => return self.interrupt(session, tally),
            }
        }
        match self.ends() {
            Ends::Quits => drop(session.command("QUIT")?),
            Ends::Vanishes => session.vanish(false),
            Ends::Resets => session.vanish(true),
        }
        Ok(())
    }

    fn ends(&mut self) -> Ends {
        match self.chance.below(3) {
            0 => Ends::Quits,
            1 => Ends::Vanishes,
            _ => Ends::Resets,
        }
    }

    /// One of its files, by its place in the list.
    fn pick(&mut self) -> usize {
        if self.files.len() < FILES {
            let path = self.name();
            self.files.push(Written {
                path,
                may: vec![None],
            });
            return self.files.len() - 1;
        }
        self.chance.len_below(FILES)
    }

    /// A name that it hasn't used.
    fn name(&mut self) -> String {
        self.named += 1;
        format!("{}/{}", self.folder(), self.named)
    }

    fn put(&mut self, session: &mut Session, tally: &Tally) -> io::Result<()> {
        let (at, content) = (self.pick(), self.chance.content());
        let digest = Digest::of(&content);
        match session.store(&format!("/{}", self.files[at].path), &content) {
            Ok(reply) if reply.code == 226 => {
                tally.count("files acknowledged");
                self.files[at].may = vec![Some(digest)];
                Ok(())
            }
            Ok(reply) => {
                self.refused("an upload", &reply, tally);
                Ok(())
            }
            Err(error) => {
                self.leave(at, digest);
                Err(error)
            }
        }
    }

    /// Nothing was asked for that may be refused; but for what another fault of its own has left.
    fn refused(&self, what: &str, reply: &Reply, tally: &Tally) {
        tally.wrong(format!(
            "visitor {}: {what} was refused: {}",
            self.number,
            reply.text.trim_end()
        ));
    }

    /// From now on nobody knows whether that was stored, or will be in a moment.
    fn leave(&mut self, at: usize, digest: Digest) {
        let mut file = self.files.swap_remove(at);
        file.may.push(Some(digest));
        self.left.push(file);
    }

    fn get(&mut self, session: &mut Session, tally: &Tally) -> io::Result<()> {
        let at = self.pick();
        let Written { path, may } = &self.files[at];
        let found = session.take(&format!("RETR /{path}"))?;
        let found = found.ok().map(|content| Digest::of(&content));
        tally.count("files read");
        if !may.contains(&found) {
            tally.wrong(format!("{path} is {found:?} and not {may:?}"));
        }
        Ok(())
    }

    fn list(&mut self, session: &mut Session, tally: &Tally) -> io::Result<()> {
        let verb = ["MLSD", "LIST", "NLST"][self.chance.len_below(3)];
        let listed = session.take(&format!("{verb} /{}", self.folder()))?;
        tally.count("folders listed");
        if let Err(reply) = listed {
            self.refused(verb, &reply, tally);
        }
        Ok(())
    }

    /// Two files at once.
    fn commit(&mut self, session: &mut Session, tally: &Tally) -> io::Result<()> {
        let (id, files, bytes) = self.batch();
        match session.store(&format!("/.raspbox/commit/{id}"), &bytes) {
            Ok(reply) if reply.code == 226 => {
                let result = session.command(&format!("SITE RBX RESULT {id}"))?;
                let receipt = result.text.get(4..).map(|text| text.trim_end().parse());
                if let Some(Ok(Receipt {
                    summary: CommitSummary::All { ops: 2, .. },
                    ..
                })) = receipt
                {
                    tally.count("commits acknowledged");
                } else {
                    self.refused("a commit", &result, tally);
                }
                let files = files.into_iter().map(|(path, digest)| Written {
                    path,
                    may: vec![Some(digest)],
                });
                self.left.extend(files);
                Ok(())
            }
            Ok(reply) => {
                self.refused("a commit", &reply, tally);
                Ok(())
            }
            Err(error) => {
                self.left
                    .extend(files.into_iter().map(|(path, digest)| Written {
                        path,
                        may: vec![None, Some(digest)],
                    }));
                Err(error)
            }
        }
    }

    /// A commit of two new files: its id, the files and its bytes.
    fn batch(&mut self) -> (RequestId, [(String, Digest); 2], Vec<u8>) {
        let mut id = [0; 16];
        let (high, low) = id.split_at_mut(8);
        high.copy_from_slice(&self.chance.next().to_le_bytes());
        low.copy_from_slice(&self.chance.next().to_le_bytes());
        let mut frames = Vec::new();
        let files = [(); 2].map(|()| {
            let (path, content) = (self.name(), self.chance.content());
            let digest = Digest::of(&content);
            frames.push(CommitFrame::Op(Op::Put {
                path: RelPath::parse(&path).expect("its own names are good"),
                expect: Expect::Absent,
                file: File {
                    digest,
                    size: content.len() as u64,
                    mtime: Mtime(0),
                    executable: false,
                },
            }));
            let pieces = content.chunks(DATA_MAX_BYTES);
            frames.extend(pieces.map(|piece| CommitFrame::Data(piece.to_vec())));
            (path, digest)
        });
        frames.push(CommitFrame::End { ops: 2 });
        (RequestId(id), files, to_bytes(&frames))
    }

    /// An upload that is cut in its middle must leave everything as it was.
    fn put_half(&mut self, session: &mut Session, tally: &Tally) -> io::Result<()> {
        let (at, content) = (self.pick(), self.chance.content());
        let command = format!("STOR /{}", self.files[at].path);
        tally.count("uploads cut in the middle");
        self.send_half(session, &command, &content, tally)
    }

    fn commit_half(&mut self, session: &mut Session, tally: &Tally) -> io::Result<()> {
        let (id, files, bytes) = self.batch();
        tally.count("commits cut in the middle");
        self.left.extend(files.into_iter().map(|(path, _)| Written {
            path,
            may: vec![None],
        }));
        self.send_half(
            session,
            &format!("STOR /.raspbox/commit/{id}"),
            &bytes,
            tally,
        )
    }

    fn send_half(
        &mut self,
        session: &mut Session,
        command: &str,
        content: &[u8],
        tally: &Tally,
    ) -> io::Result<()> {
        let mut data = match session.begin(command)? {
            Ok(data) => data,
            Err(reply) => {
                self.refused(command, &reply, tally);
                return Ok(());
            }
        };
        // All of it but no end to it is no more than half.
        let half = self.chance.len_below(content.len() + 1);
        let _ = data.write_all(&content[..half]).and_then(|()| data.flush());
        data.vanish(self.chance.percent(50));
        drop(data);
        let reply = session.reply()?;
        if reply.is_done() {
            tally.wrong(format!("half of {command} was acknowledged"));
        }
        Ok(())
    }

    /// An upload that is whole, and nobody waits for what comes of it.
    fn put_and_vanish(&mut self, mut session: Session, tally: &Tally) -> io::Result<()> {
        let (at, content) = (self.pick(), self.chance.content());
        let begun = session.begin(&format!("STOR /{}", self.files[at].path));
        self.leave(at, Digest::of(&content));
        if let Ok(mut data) = begun? {
            data.write_all(&content)?;
            data.flush()?;
            data.end();
        }
        tally.count("killed after an upload");
        session.vanish(self.chance.percent(50));
        Ok(())
    }

    fn read_slowly(&mut self, mut session: Session, tally: &Tally) -> io::Result<()> {
        let Ok(mut data) = session.begin(&format!("RETR /{BIG}"))? else {
            return Ok(());
        };
        tally.count("slow readers");
        for _ in 0..self.chance.below(60) {
            data.read_exact(&mut [0])?;
            thread::sleep(Duration::from_millis(50));
        }
        data.vanish(self.chance.percent(50));
        session.vanish(self.chance.percent(50));
        Ok(())
    }

    /// Asks to be told of everything, doesn't listen, and is gone.
    fn follow_and_vanish(&mut self, mut session: Session, tally: &Tally) -> io::Result<()> {
        let Ok(info) = session.take("RETR /.raspbox/info")? else {
            return Ok(());
        };
        let info = String::from_utf8_lossy(&info).parse::<Info>();
        let cursor = info.map_err(io::Error::other)?.cursor;
        let Ok(mut data) = session.begin(&format!("RETR /.raspbox/events/{cursor}"))? else {
            return Ok(());
        };
        tally.count("live streams left alone");
        data.read_exact(&mut [0])?;
        thread::sleep(Duration::from_millis(self.chance.below(3000)));
        data.vanish(self.chance.percent(50));
        session.vanish(self.chance.percent(50));
        Ok(())
    }

    /// Asks for ports and connects to none of them.
    fn leave_ports(&mut self, session: &mut Session, tally: &Tally) -> io::Result<()> {
        for _ in 0..=self.chance.below(3) {
            session.port()?;
            tally.count("ports left alone");
        }
        Ok(())
    }

    /// Nonsense where a handshake should be: what libunftp ends with a panic of its task.
    fn talk_nonsense(&mut self, mut session: Session, tally: &Tally) -> io::Result<()> {
        let mut data = session.open_plain()?;
        session.send("LIST")?;
        tally.count("nonsense on data connections");
        let _ = data.write_all(&[0x55; 512]);
        thread::sleep(Duration::from_millis(self.chance.below(1000)));
        session.vanish(self.chance.percent(50));
        Ok(())
    }

    /// Commands in the middle of a transfer.
    fn interrupt(&mut self, mut session: Session, tally: &Tally) -> io::Result<()> {
        let Ok(mut data) = session.begin(&format!("RETR /{BIG}"))? else {
            return Ok(());
        };
        tally.count("commands in the middle of a transfer");
        data.read_exact(&mut [0; 100])?;
        for command in ["ABOR", "CWD /", "SITE HASH /visitors/big", "EPSV", "PWD"] {
            if self.chance.percent(50) {
                session.send(command)?;
            }
        }
        data.vanish(self.chance.percent(50));
        session.vanish(self.chance.percent(50));
        Ok(())
    }
}

/// Looks at everything that was promised or refused; returns how many files that were.
pub(crate) fn check(visitors: &[Visitor], drive: &Path) -> anyhow::Result<usize> {
    let mut whole = 0;
    let mut wrong = Vec::new();
    for file in visitors.iter().flat_map(|v| v.files.iter().chain(&v.left)) {
        let at = drive.join(&file.path);
        let found = match std::fs::read(&at) {
            Ok(content) => Some(Digest::of(&content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if !file.may.contains(&found) {
            wrong.push(format!("{} is {found:?}, not {:?}", shown(&at), file.may));
        }
        whole += usize::from(found.is_some());
    }
    ensure!(
        wrong.is_empty(),
        "{} files aren't what they must be: {}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    Ok(whole)
}
