//! The daemon from its start to its end.

use crate::accounts::Accounts;
use crate::announce::Announcement;
use crate::clock;
use crate::config::{Settings, Source};
use crate::door::{DRAIN_DEADLINE, accept_all, probe};
use crate::drive::keep::{keep, open_folder};
use crate::drive::slot::{Nothing, Slot};
use crate::registry::Registry;
use crate::rest;
use crate::shared::Shared;
use crate::state::StateDir;
use crate::status::{Look, STATUS_FILE, Status, status_dir};
use crate::tls::Identity;
use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use raspbox_protocol::info::DriveId;
use sd_notify::NotifyState;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// How often accounts are looked at for changes by others, and the status for our own.
const TICK: Duration = Duration::from_secs(1);

/// For how long a drive may keep silent before that is said.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 128;

/// Descriptors: a session has its socket, a duplicate, the data connection, a file, and three for
/// its runtime.
const DESCRIPTORS_PER_SESSION: u64 = 12;
const DESCRIPTORS_BESIDES: u64 = 128;

/// How long what is done to the drive may take after the last session has ended.
const LAST_WORK: Duration = Duration::from_secs(2);

/// How long sessions that were closed have until they are over.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Serves until a signal to end comes.
pub(crate) fn serve(settings: Settings) -> anyhow::Result<()> {
    raise_descriptor_limit(settings.caps.sessions_max);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // A session has at most one transfer, and so one blocking thread.
        .max_blocking_threads(settings.caps.sessions_max + 8)
        .build()
        .context("cannot start")?;
    let result = runtime.block_on(run(settings));
    // What was cut is kept by then; a thread that hangs in the drive must not keep the process.
    runtime.shutdown_timeout(LAST_WORK);
    result
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let dir = StateDir::open(settings.state.clone())?;
    let status_dir = status_dir(&dir)?;
    let _clock = clock::keep(&dir).context("cannot start a thread")?;
    let identity = Identity::open(&dir)?;
    let accounts = Arc::new(Accounts::open(dir, settings.users.clone())?);
    let first_user = if settings.makes_first_user {
        accounts.first_user()?
    } else {
        None
    };
    let registry = Arc::new(Registry::new(settings.caps));
    let slot = match &settings.source {
        Source::Folder(folder) => {
            let slot = Slot::empty(Nothing::Opening);
            slot.serve(open_folder(folder, &settings, &registry)?);
            slot
        }
        Source::Mount(_) => Slot::empty(Nothing::NoDrive),
    };
    let listener = match given_socket()? {
        Some(listener) => listener,
        None => listen(settings.listen)?,
    };
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        settings,
        slot,
        accounts,
        identity,
        registry,
        main: tokio::runtime::Handle::current(),
    });
    say(&shared, address, first_user);
    let _rest = rest::begin(&shared).context("cannot start a thread")?;
    let door = tokio::spawn(accept_all(listener, Arc::clone(&shared)));
    notify(&[NotifyState::Ready]);

    // Side by side, so that a drive that hangs takes nothing but itself away.
    tokio::select! {
        () = keep_drive(&shared) => {}
        () = keep_accounts(&shared) => {}
        () = keep_announced(&shared, address) => {}
        () = tell_status(&shared, &status_dir, address) => {}
        () = feed_watchdog(&shared, address) => {}
        () = end(&mut terminate, &mut interrupt) => {}
    }

    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    door.abort();
    drain(&shared, &mut terminate, &mut interrupt).await;
    status_dir.remove(STATUS_FILE);
    Ok(())
}

/// The socket that systemd listens on for us, so that a restart refuses nobody.
fn given_socket() -> anyhow::Result<Option<TcpListener>> {
    let given = listenfd::ListenFd::from_env().take_tcp_listener(0);
    let Some(listener) = given.context("cannot use the socket that systemd gave")? else {
        return Ok(None);
    };
    listener.set_nonblocking(true)?;
    Ok(Some(TcpListener::from_std(listener)?))
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| {
        let hint = if address.port() < 1024 {
            " (a port below 1024: set net.ipv4.ip_unprivileged_port_start, or choose another \
             with --listen)"
        } else {
            ""
        };
        format!("cannot listen on {address}{hint}")
    })
}

/// Says on standard output what one needs to know to connect.
fn say(
    shared: &Shared,
    address: SocketAddr,
    first_user: Option<(&'static str, Zeroizing<String>)>,
) {
    let mut out = std::io::stdout().lock();
    let mut lines = format!(
        "listening on {address}\nfingerprint {}\n",
        shared.identity.fingerprint_text()
    );
    if let Some((name, password)) = first_user {
        lines += &format!("user {name} password {}\n", *password);
    }
    // Whoever started us may have closed it.
    let _ = out.write_all(lines.as_bytes());
    let _ = out.flush();
}

/// Announces it with the drive that is in it.
async fn keep_announced(shared: &Arc<Shared>, address: SocketAddr) {
    let mut tick = ticks();
    let mut said: Option<(Option<DriveId>, Option<Announcement>)> = None;
    loop {
        tick.tick().await;
        let drive = shared.slot.drive();
        if said.as_ref().is_some_and(|(before, _)| *before == drive) {
            continue;
        }
        // It waits for the network, at its end too.
        let (before, here) = (said.take(), Arc::clone(shared));
        let announcing = tokio::task::spawn_blocking(move || {
            drop(before);
            announce(&here, address, drive)
        });
        said = Some((drive, announcing.await.unwrap_or_default()));
    }
}

fn announce(shared: &Shared, address: SocketAddr, drive: Option<DriveId>) -> Option<Announcement> {
    let drive = drive.map(|drive| drive.to_string()).unwrap_or_default();
    let fingerprint = shared.identity.fingerprint_text();
    Announcement::begin(shared.settings.announce, address, &fingerprint, &drive).unwrap_or_else(
        |error| {
            // Clients can still be told the address.
            tracing::warn!(
                error = format!("{error:#}"),
                "cannot announce the appliance"
            );
            None
        },
    )
}

/// Serves whatever is mounted, where it isn't a plain folder.
async fn keep_drive(shared: &Arc<Shared>) {
    let Source::Mount(point) = &shared.settings.source else {
        return std::future::pending().await;
    };
    keep(shared, point, shared.settings.reports.clone()).await;
}

/// Ends the sessions of those who may not stay any more.
async fn keep_accounts(shared: &Shared) {
    let mut tick = ticks();
    loop {
        tick.tick().await;
        end_invalid_sessions(shared);
    }
}

/// Says what it is doing, whenever that changes.
async fn tell_status(shared: &Arc<Shared>, dir: &StateDir, address: SocketAddr) {
    let mut tick = ticks();
    let mut last = None;
    let mut looking = None;
    loop {
        tick.tick().await;
        // A drive that hangs holds up one look, and not what is said of it.
        let look = looking.take().unwrap_or_else(|| {
            let shared = Arc::clone(shared);
            tokio::task::spawn_blocking(move || Look::now(&shared))
        });
        let (look, still) = within(LOOK_DEADLINE, look).await;
        looking = still;
        let status = Status::now(shared, &address.to_string(), look);
        if last.as_ref() == Some(&status) {
            continue;
        }
        notify(&[NotifyState::Status(&status.to_string())]);
        let json = serde_json::to_vec_pretty(&status).expect("a status is plain data");
        if let Err(error) = dir.write_volatile(STATUS_FILE, &json) {
            tracing::warn!(%error, "cannot write the status");
        }
        last = Some(status);
    }
}

/// Waits for a task, and gives it back where it takes too long.
async fn within<T>(time: Duration, mut task: JoinHandle<T>) -> (Option<T>, Option<JoinHandle<T>>) {
    match tokio::time::timeout(time, &mut task).await {
        Ok(done) => (done.ok(), None),
        Err(_) => (None, Some(task)),
    }
}

/// Tells systemd that it lives, as long as somebody who connects is greeted.
///
/// Not that the drive does: a stick that is dying must not take away the only one who can say so.
async fn feed_watchdog(shared: &Shared, address: SocketAddr) {
    let Some(every) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Well within its time, as sd_watchdog_enabled(3) advises.
    let mut tick = tokio::time::interval(every / 3);
    loop {
        tick.tick().await;
        match probe(shared, address).await {
            Ok(()) => notify(&[NotifyState::Watchdog]),
            Err(error) => tracing::error!(%error, "the accept loop doesn't answer"),
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}

fn end_invalid_sessions(shared: &Shared) {
    if let Err(error) = shared.accounts.refresh() {
        // The accounts that we know stay: a file being edited must not lock everybody out.
        tracing::error!(
            error = format!("{error:#}"),
            "cannot read the accounts again"
        );
    }
    for session in shared.registry.all() {
        if session
            .account()
            .is_some_and(|account| !shared.accounts.is_valid(&account))
        {
            session.close("its account was revoked or changed");
        }
    }
}

/// Lets transfers in flight end, for a bounded time; a second signal ends it at once.
async fn drain(shared: &Shared, terminate: &mut Signal, interrupt: &mut Signal) {
    let sessions = shared.registry.all();
    tracing::info!(sessions = sessions.len(), "stopping");
    for session in &sessions {
        session.drain();
    }
    let all_gone = || async {
        while !shared.registry.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = all_gone() => return,
        () = tokio::time::sleep(DRAIN_DEADLINE) => {}
        () = end(terminate, interrupt) => {}
    }
    for session in shared.registry.all() {
        session.close("the appliance stops");
    }
    // Each of them puts away what has come of an upload, for whoever goes on with it.
    if (tokio::time::timeout(CLOSE_DEADLINE, all_gone()).await).is_err() {
        tracing::warn!("sessions hang; what they were receiving may have to be sent anew");
    }
}

async fn end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn notify(state: &[NotifyState<'_>]) {
    // Not an error where nobody listens.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// The usual soft limit of 1,024 is too low for many sessions; the hard one is there to be used.
fn raise_descriptor_limit(sessions_max: usize) {
    let want = sessions_max as u64 * DESCRIPTORS_PER_SESSION + DESCRIPTORS_BESIDES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft >= want {
        return;
    }
    if hard < want || setrlimit(Resource::RLIMIT_NOFILE, want.min(hard), hard).is_err() {
        tracing::warn!(
            soft,
            hard,
            want,
            "few file descriptors for so many sessions"
        );
    }
}
