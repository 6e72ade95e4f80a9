//! SQLite's files on a simulated disk.
//!
//! What SQLite calls here does what `os_unix.c` does with a real file: the same errors, the same
//! syncs of the folder. Only main files, journals and logs are on the disk; what SQLite keeps without
//! a name is in memory and no step.
//!
//! The random numbers that SQLite makes for itself (a log's salt) come from one generator for the
//! whole process, so they differ from run to run; nothing but the bytes of the log depends on them.

#![allow(
    unsafe_code,
    reason = "SQLite takes a table of C functions and gives pointers to them"
)]

use super::data::Data;
use super::handle::{File, Folder, SECTOR};
use super::locks::{Level, Memory, SLOTS};
use super::mounts;
use rusqlite::ffi;
use rustix::io::Errno;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

/// The name that connections ask for.
const NAME: &CStr = c"raspbox-sim";

/// As `os_unix.c`.
const PATH_MAX_BYTES: c_int = 512;

/// Julian day 0 to 1970, in milliseconds: `unixEpoch` in `os_unix.c`.
const UNIX_EPOCH_MS: i64 = 24_405_875 * 8_640_000;

/// As `os_unix.c`, `SQLITE_DEFAULT_FILE_PERMISSIONS`.
const MODE: u32 = 0o644;

/// A file as SQLite has it: it allocates `szOsFile` bytes and leaves them to us.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    /// From `Box::into_raw`, or null.
    open: *mut Open,
}

struct Open {
    file: Place,
    /// The folder to sync with the file the first time: its name in it is new.
    folder: Option<Folder>,
    /// The folder and name to remove when it is closed.
    temporary: Option<(Folder, std::ffi::OsString)>,
    memory: Option<Arc<Memory>>,
}

enum Place {
    Disk(File),
    Nowhere(Data),
}

/// The name by which SQLite knows these files.
pub(crate) fn registered() -> &'static str {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let vfs = ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: c_int::try_from(size_of::<Handle>()).expect("a few bytes"),
            mxPathname: PATH_MAX_BYTES,
            pNext: std::ptr::null_mut(),
            zName: NAME.as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: Some(current_time_ms),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        };
        let vfs = Box::leak(Box::new(vfs));
        // SAFETY: the table and what it points to live for as long as the process.
        let done = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        assert_eq!(done, ffi::SQLITE_OK, "SQLite takes another VFS");
    });
    NAME.to_str().expect("it is ASCII")
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// The folder that a path is in, and its name there.
fn split(path: &Path) -> io::Result<(Folder, &OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let (disk, below) = mounts::find(parent).ok_or(Errno::NOENT)?;
    Ok((Folder::beneath(&disk, &below)?, name))
}

impl Open {
    fn by_path(path: &Path, flags: c_int) -> io::Result<Open> {
        let has = |flag| flags & flag != 0;
        let (folder, name) = split(path)?;
        let file = match (
            has(ffi::SQLITE_OPEN_READWRITE),
            has(ffi::SQLITE_OPEN_CREATE),
        ) {
            (false, _) => folder.open_file(name)?,
            (true, false) => folder.open_to_write(name)?,
            (true, true) if has(ffi::SQLITE_OPEN_EXCLUSIVE) => folder.create_file(name, MODE)?,
            (true, true) => folder.open_or_create_file(name, MODE)?,
        };
        let log =
            ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
        let dirsync = has(ffi::SQLITE_OPEN_CREATE) && has(log);
        let temporary = has(ffi::SQLITE_OPEN_DELETEONCLOSE);
        let (folder, temporary) = match (dirsync, temporary) {
            (_, true) => (None, Some((folder, name.to_owned()))),
            (true, false) => (Some(folder), None),
            (false, false) => (None, None),
        };
        Ok(Open {
            file: Place::Disk(file),
            folder,
            temporary,
            memory: None,
        })
    }
}

/// # Safety
/// SQLite calls it with a path or null, and with `szOsFile` bytes to fill.
unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: `file` has room for a `Handle`. No methods: SQLite must not close what isn't open.
    unsafe {
        (*handle).base.pMethods = std::ptr::null();
        (*handle).open = std::ptr::null_mut();
    }
    let opened = if name.is_null() {
        Ok(Open {
            file: Place::Nowhere(Data::default()),
            folder: None,
            temporary: None,
            memory: None,
        })
    } else {
        // SAFETY: SQLite gives a string that ends with 0.
        let path = unsafe { path_of(name) };
        Open::by_path(path, flags)
    };
    match opened {
        Ok(opened) => {
            const { assert!(align_of::<Handle>() <= 8, "SQLite aligns to 8 bytes") };
            // SAFETY: as above; `METHODS` lives for as long as the process; `out` may be null.
            unsafe {
                (*handle).open = Box::into_raw(Box::new(opened));
                (*handle).base.pMethods = &raw const METHODS;
                if !out.is_null() {
                    *out = flags;
                }
            }
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_CANTOPEN,
    }
}

/// # Safety
/// `name` is a string that ends with 0 and lives for the call.
unsafe fn path_of<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: as the caller says.
    let name = unsafe { CStr::from_ptr(name) };
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

/// # Safety
/// `file` was opened by [`open`] and isn't closed, and nobody else uses it now.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Open {
    // SAFETY: as the caller says; SQLite uses a connection in one thread at a time.
    unsafe { &mut *(*file.cast::<Handle>()).open }
}

/// # Safety
/// As for [`opened`].
unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once; the pointer is from `Box::into_raw`.
    let mut open = unsafe {
        let handle = file.cast::<Handle>();
        let open = Box::from_raw((*handle).open);
        (*handle).open = std::ptr::null_mut();
        open
    };
    open.leave_memory();
    if let Place::Disk(file) = &open.file {
        let (node, who) = file.ids();
        file.beside(|state| {
            if let Some(locks) = state.locks.get_mut(&node) {
                locks.unlock(who, Level::None);
                if locks.is_unused() {
                    state.locks.remove(&node);
                }
            }
        });
    }
    if let Some((folder, name)) = open.temporary.take() {
        // It has been SQLite's own; what can't be removed is found by nobody.
        let _ = folder.remove_file(&name);
    }
    ffi::SQLITE_OK
}

/// # Safety
/// As for [`opened`]; `buffer` has room for `len` bytes.
unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    len: c_int,
    at: i64,
) -> c_int {
    let len = usize::try_from(len).unwrap_or(0);
    // SAFETY: as SQLite promises. The buffer may be uninitialised, so it is filled first.
    let (open, buffer) = unsafe {
        std::ptr::write_bytes(buffer.cast::<u8>(), 0, len);
        let buffer = std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len);
        (opened(file), buffer)
    };
    let read = match &open.file {
        Place::Disk(file) => file.read_at(at.cast_unsigned(), buffer),
        Place::Nowhere(data) => Ok(data.read_at(usize::try_from(at).unwrap_or(0), buffer)),
    };
    match read {
        Ok(got) if got == len => ffi::SQLITE_OK,
        Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
            ffi::SQLITE_IOERR_CORRUPTFS
        }
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

/// # Safety
/// As for [`opened`]; `bytes` has `len` bytes.
unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    at: i64,
) -> c_int {
    let len = usize::try_from(len).unwrap_or(0);
    // SAFETY: as SQLite promises.
    let (open, mut bytes) = unsafe {
        (
            opened(file),
            std::slice::from_raw_parts(bytes.cast::<u8>(), len),
        )
    };
    let mut at = at.cast_unsigned();
    while !bytes.is_empty() {
        let wrote = match &mut open.file {
            Place::Disk(file) => file.write_at(at, bytes),
            Place::Nowhere(data) => {
                data.write_at(usize::try_from(at).unwrap_or(0), bytes);
                Ok(bytes.len())
            }
        };
        match wrote {
            Ok(len) => {
                bytes = &bytes[len..];
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return ffi::SQLITE_FULL,
            Err(_) => return ffi::SQLITE_IOERR_WRITE,
        }
    }
    ffi::SQLITE_OK
}

/// # Safety
/// As for [`opened`].
unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: as SQLite promises.
    let open = unsafe { opened(file) };
    let done = match &mut open.file {
        Place::Disk(file) => file.set_len(len.cast_unsigned()),
        Place::Nowhere(data) => {
            data.set_len(usize::try_from(len).unwrap_or(0));
            Ok(())
        }
    };
    or_error(&done, ffi::SQLITE_IOERR_TRUNCATE)
}

/// # Safety
/// As for [`opened`].
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    let open = unsafe { opened(file) };
    let Place::Disk(file) = &open.file else {
        return ffi::SQLITE_OK;
    };
    if file.sync_all().is_err() {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    match open.folder.take() {
        Some(folder) => or_error(&folder.sync(), ffi::SQLITE_IOERR_DIR_FSYNC),
        None => ffi::SQLITE_OK,
    }
}

/// # Safety
/// As for [`opened`]; `len` is to be written to.
unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, len: *mut i64) -> c_int {
    // SAFETY: as SQLite promises.
    let open = unsafe { opened(file) };
    let size = match &open.file {
        Place::Disk(file) => file.len(),
        Place::Nowhere(data) => Ok(data.len() as u64),
    };
    match size {
        Ok(size) => {
            // SAFETY: as SQLite promises.
            unsafe { *len = size.cast_signed() };
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_FSTAT,
    }
}

/// # Safety
/// As for [`opened`].
unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    let Place::Disk(file) = &(unsafe { opened(file) }).file else {
        return ffi::SQLITE_OK;
    };
    let (node, who) = file.ids();
    let locked = file.beside(|state| {
        state
            .locks
            .entry(node)
            .or_default()
            .lock(who, to_level(level))
    });
    match locked {
        Some(true) => ffi::SQLITE_OK,
        Some(false) => ffi::SQLITE_BUSY,
        None => ffi::SQLITE_IOERR_LOCK,
    }
}

/// # Safety
/// As for [`opened`].
unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    if let Place::Disk(file) = &(unsafe { opened(file) }).file {
        let (node, who) = file.ids();
        file.beside(|state| {
            state
                .locks
                .entry(node)
                .or_default()
                .unlock(who, to_level(level));
        });
    }
    ffi::SQLITE_OK
}

/// # Safety
/// As for [`opened`]; `out` is to be written to.
unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: as SQLite promises.
    let open = unsafe { opened(file) };
    let reserved = match &open.file {
        Place::Disk(file) => {
            let (node, _) = file.ids();
            file.beside(|state| {
                state
                    .locks
                    .get(&node)
                    .is_some_and(super::Locks::is_reserved)
            })
        }
        Place::Nowhere(_) => Some(false),
    };
    // SAFETY: as SQLite promises.
    unsafe { *out = c_int::from(reserved.unwrap_or(false)) };
    ffi::SQLITE_OK
}

/// # Safety
/// As for [`opened`]; `argument` is what the operation says.
unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as SQLite promises.
    let open = unsafe { opened(file) };
    match (operation, &open.file) {
        (ffi::SQLITE_FCNTL_HAS_MOVED, Place::Disk(file)) => {
            let (node, _) = file.ids();
            let moved = file.beside(|state| state.tree.node(node).parent.is_none());
            // SAFETY: with this operation it is a pointer to an int.
            unsafe { *argument.cast::<c_int>() = c_int::from(moved.unwrap_or(true)) };
            ffi::SQLITE_OK
        }
        _ => ffi::SQLITE_NOTFOUND,
    }
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    c_int::try_from(SECTOR).expect("a few thousand bytes")
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    // As `os_unix.c` has it unless told otherwise.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

/// # Safety
/// As for [`opened`]; `out` is to be written to.
unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: as SQLite promises.
    let open = unsafe { opened(file) };
    let Place::Disk(file) = &open.file else {
        return ffi::SQLITE_IOERR_SHMMAP;
    };
    let (node, who) = file.ids();
    if open.memory.is_none() {
        open.memory = file.beside(|state| state.locks.entry(node).or_default().memory(who));
    }
    let Some(memory) = &open.memory else {
        return ffi::SQLITE_IOERR_SHMMAP;
    };
    let sizes = (usize::try_from(region), usize::try_from(bytes));
    let (Ok(region), Ok(bytes)) = sizes else {
        return ffi::SQLITE_IOERR_SHMMAP;
    };
    let found = memory.region(region, bytes, extend != 0);
    // SAFETY: as SQLite promises. The region stays where it is while `open.memory` is kept, which is
    // until SQLite unmaps it or closes the file.
    unsafe { *out = found.map_or(std::ptr::null_mut(), <*mut u64>::cast) };
    ffi::SQLITE_OK
}

/// # Safety
/// As for [`opened`].
unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: as SQLite promises.
    let Place::Disk(file) = &(unsafe { opened(file) }).file else {
        return ffi::SQLITE_IOERR_SHMLOCK;
    };
    let (first, count) = (first.unsigned_abs() as usize, count.unsigned_abs() as usize);
    assert!(first + count <= SLOTS, "SQLite has that many locks");
    let mask = ((1_u32 << count) - 1) << first;
    let (node, who) = file.ids();
    let done = file.beside(|state| {
        let locks = state.locks.entry(node).or_default();
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            locks.unlock_slots(who, mask);
            return true;
        }
        locks.lock_slots(who, mask, flags & ffi::SQLITE_SHM_EXCLUSIVE != 0)
    });
    match done {
        Some(true) => ffi::SQLITE_OK,
        Some(false) => ffi::SQLITE_BUSY,
        None => ffi::SQLITE_IOERR_SHMLOCK,
    }
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// # Safety
/// As for [`opened`].
unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: as SQLite promises.
    unsafe { opened(file) }.leave_memory();
    ffi::SQLITE_OK
}

impl Open {
    fn leave_memory(&mut self) {
        if let (Some(_), Place::Disk(file)) = (self.memory.take(), &self.file) {
            let (node, who) = file.ids();
            file.beside(|state| {
                if let Some(locks) = state.locks.get_mut(&node) {
                    locks.leave_memory(who);
                }
            });
        }
    }
}

/// # Safety
/// `name` is a string that ends with 0.
unsafe extern "C" fn delete(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_folder: c_int,
) -> c_int {
    // SAFETY: as SQLite promises.
    let path = unsafe { path_of(name) };
    let Ok((folder, name)) = split(path) else {
        return ffi::SQLITE_IOERR_DELETE;
    };
    match folder.remove_file(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => ffi::SQLITE_IOERR_DELETE_NOENT,
        Err(_) => ffi::SQLITE_IOERR_DELETE,
        Ok(()) if sync_folder != 0 => or_error(&folder.sync(), ffi::SQLITE_IOERR_DIR_FSYNC),
        Ok(()) => ffi::SQLITE_OK,
    }
}

/// # Safety
/// `name` is a string that ends with 0, `out` is to be written to.
unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as SQLite promises.
    let path = unsafe { path_of(name) };
    let stat = split(path).and_then(|(folder, name)| folder.stat(name));
    // As in `os_unix.c`: an empty file is none, and what can't be known isn't there.
    let there = matches!(stat, Ok(Some(stat)) if stat.kind != crate::Kind::File || stat.size > 0);
    // SAFETY: as SQLite promises.
    unsafe { *out = c_int::from(there) };
    ffi::SQLITE_OK
}

/// # Safety
/// `name` is a string that ends with 0, `out` has room for `len` bytes.
unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: as SQLite promises.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if name.len() > usize::try_from(len).unwrap_or(0) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: it fits, and the two are different places.
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len()) };
    ffi::SQLITE_OK
}

/// # Safety
/// `out` has room for `len` bytes.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    let len = usize::try_from(len).unwrap_or(0);
    let mut done = 0;
    while done < len {
        let random = crate::random();
        let piece = random.len().min(len - done);
        // SAFETY: it fits.
        unsafe { std::ptr::copy_nonoverlapping(random.as_ptr().cast(), out.add(done), piece) };
        done += piece;
    }
    c_int::try_from(done).unwrap_or(0)
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    crate::pause(Duration::from_micros(u64::from(micros.unsigned_abs())));
    micros
}

/// # Safety
/// `out` is to be written to.
unsafe extern "C" fn current_time_ms(_: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: as SQLite promises.
    unsafe { *out = UNIX_EPOCH_MS + crate::now().0 / 1_000_000 };
    ffi::SQLITE_OK
}

/// # Safety
/// `out` is to be written to.
#[allow(
    clippy::cast_precision_loss,
    reason = "SQLite's old way of telling the time"
)]
unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    let days = (UNIX_EPOCH_MS + crate::now().0 / 1_000_000) as f64 / 86_400_000.0;
    // SAFETY: as SQLite promises.
    unsafe { *out = days };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}

fn to_level(level: c_int) -> Level {
    match level {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

fn or_error(done: &io::Result<()>, code: c_int) -> c_int {
    match done {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => code,
    }
}
