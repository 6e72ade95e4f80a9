//! Scenarios from seeds.
//!
//! Each seed first chooses which kinds of trouble there are at all (swarm testing: Groce et al.,
//! 2012): runs in which everything happens at once find less than many that differ.

use crate::scenario::{
    Call, Disk, Edit, Fault, How, Look, Net, Scenario, Step, Sync, Unsynced, Who,
};
use fastrand::Rng;

/// Few names, so that they meet: in another case, composed and decomposed, forbidden on FAT, in
/// each other's way as file and folder.
const NAMES: [&str; 14] = [
    "a", "b", "c.txt", "d.tar.gz", "x/a", "x/b", "x/y/a", "x/y/z", "w/a", "w/c.txt", "notes",
    "notes/a", "x", "w",
];
const ODD_NAMES: [&str; 7] = ["A", "X/a", "\u{e9}", "e\u{301}", "w/a:b", "w/aux", "Notes"];

/// Which kinds of trouble a seed has.
struct Mood {
    rng: Rng,
    stations: usize,
    odd_names: bool,
    ftp: bool,
    by_hand: bool,
    net: bool,
    disk: bool,
    drive: bool,
    power: bool,
    databases: bool,
    drives: bool,
    denied: bool,
    clocks: bool,
    meanwhile: bool,
    /// Many changes by everybody, in few places.
    busy: bool,
    next_content: u32,
}

/// What goes wrong in a round.
#[derive(Clone, Copy)]
enum Kind {
    Net,
    Disk,
    Drive,
    Meanwhile,
}

/// The scenario of a seed.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let mut scenario = of(seed, |_| {});
    // Drawn by themselves: what a seed was before these were thought of, it still is.
    let mut rng = Rng::with_seed(seed ^ 0x6b65_7074);
    let restores = rng.u8(..10) < 4;
    let rots = rng.u8(..10) < 5 && rot_is_told_from_edits(&scenario);
    let mut insert = |step: &dyn Fn(&mut Rng) -> Step, most: usize| {
        for _ in 0..rng.usize(1..=most) {
            let step = step(&mut rng);
            // Something has happened before.
            let count = scenario.steps.len();
            let at = rng.usize(count / 3..=count);
            scenario.steps.insert(at, step);
        }
    };
    if restores {
        insert(&|rng| Step::Restore(rng.u32(..), rng.u32(..4)), 6);
    }
    if rots {
        insert(&|rng| Step::Rot(rng.u32(..)), 3);
    }
    if restores || rots {
        insert(&|_| Step::Idle, 2);
    }
    scenario
}

/// Whether nothing happens in which nobody could tell what rotted from what somebody wrote: not by hand on
/// the drive, not with another journal, and where times say when a file was written.
fn rot_is_told_from_edits(scenario: &Scenario) -> bool {
    let touches = |edit: &Call| matches!(edit, Call::Edit(Who::Drive, _));
    let harmless = |fault: &Fault| match fault {
        Fault::Net(_, Net::Edit(who, _)) => *who != Who::Drive,
        Fault::Disk(_, call) => !touches(call),
        Fault::Drive(..) => false,
        Fault::Net(..) => true,
    };
    scenario.drive == Disk::Ext4
        && scenario.steps.iter().all(|step| match step {
            Step::Edit(who, _) => *who != Who::Drive,
            Step::Sync(sync) => sync.faults.iter().all(harmless),
            Step::Wait(_)
            | Step::Restart(_)
            | Step::PowerCut(..)
            | Step::ApplianceRestart
            | Step::LoseState(_)
            | Step::SaveState(_)
            | Step::RollBackState(_)
            | Step::Deny(..)
            | Step::SaveJournal
            | Step::Restore(..)
            | Step::Rot(_)
            | Step::Idle
            | Step::Settle => true,
            Step::AppliancePowerCut(_)
            | Step::Unplug
            | Step::Plug
            | Step::Swap
            | Step::Backup
            | Step::RestoreBackup
            | Step::LoseJournal
            | Step::RollBackJournal
            | Step::Clock(..) => false,
        })
}

/// The scenario of a seed in which nothing goes wrong, and all kinds of people are at work.
#[must_use]
pub fn peaceful(seed: u64) -> Scenario {
    of(seed, |mood| {
        (mood.ftp, mood.by_hand, mood.busy) = (true, true, true);
        (mood.net, mood.disk, mood.drive, mood.meanwhile) = (false, false, false, false);
        (mood.power, mood.drives, mood.denied, mood.clocks) = (false, false, false, false);
    })
}

fn of(seed: u64, change: impl FnOnce(&mut Mood)) -> Scenario {
    let mut rng = Rng::with_seed(seed);
    let stations = [1, 2, 2, 2, 3, 3, 4][rng.usize(..7)];
    let plain = rng.u8(..4) > 0;
    let disk = |rng: &mut Rng, kinds: &[Disk]| {
        if plain || rng.bool() {
            Disk::Ext4
        } else {
            kinds[rng.usize(..kinds.len())]
        }
    };
    let drive = disk(&mut rng, &[Disk::Coarse, Disk::Fat]);
    let disks = (0..stations).map(|_| disk(&mut rng, &[Disk::Coarse, Disk::Fat, Disk::Mac]));
    let disks = disks.collect();
    let mut often = |of: u8| rng.u8(..10) < of;
    let mut mood = Mood {
        stations,
        odd_names: often(3),
        ftp: often(4),
        by_hand: often(3),
        net: often(5),
        disk: often(4),
        drive: often(4),
        power: often(4),
        databases: often(2),
        drives: often(2),
        denied: often(2),
        clocks: often(2),
        meanwhile: often(4),
        busy: false,
        next_content: 0,
        rng,
    };
    change(&mut mood);
    let count = mood.rng.usize(if mood.busy { 30..60 } else { 5..40 });
    let mut steps = Vec::new();
    // All have something in common before trouble begins, more often than not.
    if mood.rng.u8(..4) > 0 {
        for _ in 0..mood.rng.usize(1..8) {
            let station = mood.rng.usize(..stations);
            let edit = mood.edit(true);
            steps.push(Step::Edit(Who::Station(station), edit));
        }
        steps.push(Step::Settle);
    }
    // Something to go back to.
    if mood.databases {
        steps.extend((0..stations).map(Step::SaveState));
        steps.push(Step::SaveJournal);
    }
    if mood.drives {
        steps.push(Step::Backup);
    }
    while steps.len() < count {
        let step = mood.step();
        steps.push(step);
    }
    Scenario {
        seed,
        drive,
        stations: disks,
        steps,
    }
}

impl Mood {
    fn step(&mut self) -> Step {
        let edits = if self.busy { 60 } else { 35 };
        match self.rng.u8(..100) {
            at if at < edits => {
                let who = self.who();
                Step::Edit(who, self.edit(false))
            }
            ..75 => Step::Sync(self.sync()),
            75..83 => Step::Wait([1, 20, 90, 150, 1_000, 2_500, 60_000][self.rng.usize(..7)]),
            83..86 => Step::Settle,
            _ => self.trouble(),
        }
    }

    fn trouble(&mut self) -> Step {
        let station = self.rng.usize(..self.stations);
        match self.rng.u8(..7) {
            0 if self.power => match self.rng.u8(..4) {
                0 => Step::Restart(station),
                1 => Step::ApplianceRestart,
                2 => Step::PowerCut(station, self.unsynced()),
                _ => Step::AppliancePowerCut(self.unsynced()),
            },
            1 if self.databases => match self.rng.u8(..6) {
                0 => Step::LoseState(station),
                1 => Step::SaveState(station),
                2 => Step::RollBackState(station),
                3 => Step::LoseJournal,
                4 => Step::SaveJournal,
                _ => Step::RollBackJournal,
            },
            2 if self.drives => match self.rng.u8(..5) {
                0 => Step::Unplug,
                1 => Step::Plug,
                2 => Step::Swap,
                3 => Step::Backup,
                _ => Step::RestoreBackup,
            },
            3 if self.denied => Step::Deny(station, self.name(), self.rng.u8(..3) > 0),
            4 if self.clocks => {
                let jump = [3_600, -3_600, -1_700_000_000, 86_400][self.rng.usize(..4)];
                Step::Clock(self.rng.usize(..=self.stations), jump)
            }
            _ => Step::Sync(self.sync()),
        }
    }

    fn who(&mut self) -> Who {
        match self.rng.u8(..10) {
            4..7 if self.busy => Who::Ftp,
            0 | 1 if self.ftp => Who::Ftp,
            2 if self.by_hand => Who::Drive,
            _ => Who::Station(self.rng.usize(..self.stations)),
        }
    }

    fn name(&mut self) -> String {
        if self.odd_names && self.rng.u8(..4) == 0 {
            return ODD_NAMES[self.rng.usize(..ODD_NAMES.len())].into();
        }
        let count = if self.busy { 7 } else { NAMES.len() };
        NAMES[self.rng.usize(..count)].into()
    }

    fn edit(&mut self, only_writes: bool) -> Edit {
        let path = self.name();
        let kind = if only_writes { 0 } else { self.rng.u8(..20) };
        match kind {
            0..10 => {
                self.next_content += 1;
                // Now and then the same content again, under another name or the same.
                let again = self.rng.u8(..8) == 0;
                let content = if again {
                    self.rng.u32(1..=self.next_content)
                } else {
                    self.next_content
                };
                // Mostly of one length: that is what hides a change.
                let size = [12, 12, 12, 12, 40, 5_000, 70_000, 0][self.rng.usize(..8)];
                let how = [
                    How::InPlace,
                    How::Rename,
                    How::Rename,
                    How::Append,
                    How::KeepTime,
                ][self.rng.usize(..5)];
                Edit::Write {
                    path,
                    content,
                    size,
                    how,
                }
            }
            10..13 => Edit::Remove(path),
            13..16 => Edit::Rename(path, self.name()),
            16 => Edit::MakeFolder(path),
            17 => Edit::Age(path, self.rng.i64(1..100_000)),
            18 => Edit::Executable(path, self.rng.bool()),
            _ => Edit::Symlink(path, self.name()),
        }
    }

    fn sync(&mut self) -> Sync {
        let station = self.rng.usize(..self.stations);
        let mut faults = Vec::new();
        let kinds = self.kinds_of_faults();
        while !kinds.is_empty() && self.rng.u8(..5) < 3 && faults.len() < 3 {
            let kind = kinds[self.rng.usize(..kinds.len())];
            let fault = self.fault(kind, station);
            faults.push(fault);
        }
        let look = [Look::Everywhere, Look::Watched, Look::Lost][self.rng.usize(..3)];
        Sync {
            station,
            look,
            confirmed: self.rng.u8(..3) == 0,
            faults,
        }
    }

    fn kinds_of_faults(&self) -> Vec<Kind> {
        let all = [
            (self.net, Kind::Net),
            (self.disk, Kind::Disk),
            (self.drive, Kind::Drive),
            (self.meanwhile, Kind::Meanwhile),
        ];
        let there = all.into_iter().filter(|(there, _)| *there);
        there.map(|(_, kind)| kind).collect()
    }

    fn fault(&mut self, kind: Kind, station: usize) -> Fault {
        match kind {
            Kind::Net => Fault::Net(self.rng.u32(..12), self.net_trouble()),
            Kind::Disk => Fault::Disk(self.step_number(), self.call()),
            Kind::Drive => Fault::Drive(self.step_number(), self.call()),
            Kind::Meanwhile => match self.rng.u8(..3) {
                0 => {
                    let edit = Call::Edit(Who::Station(station), self.edit(false));
                    Fault::Disk(self.step_number(), edit)
                }
                1 => {
                    let who = if self.by_hand { Who::Drive } else { Who::Ftp };
                    Fault::Net(self.rng.u32(..12), Net::Edit(who, self.edit(false)))
                }
                _ => {
                    let other = self.rng.usize(..self.stations);
                    Fault::Net(self.rng.u32(..12), Net::Sync(other))
                }
            },
        }
    }

    fn net_trouble(&mut self) -> Net {
        match self.rng.u8(..8) {
            0..4 => Net::Cut(self.rng.u8(..)),
            4 => Net::LoseReply,
            5 => Net::Late,
            6 => Net::Double,
            _ => Net::Busy,
        }
    }

    /// Small numbers as often as large ones.
    fn step_number(&mut self) -> u32 {
        let bits = self.rng.u32(..9);
        self.rng.u32(..=1 << bits)
    }

    fn call(&mut self) -> Call {
        match self.rng.u8(..8) {
            0..4 => Call::Die(self.unsynced()),
            4 => Call::Full,
            5 => Call::Fail,
            6 => Call::TooMany,
            _ => Call::Deny,
        }
    }

    fn unsynced(&mut self) -> Unsynced {
        [Unsynced::Dropped, Unsynced::Kept, Unsynced::Some][self.rng.usize(..3)]
    }
}
