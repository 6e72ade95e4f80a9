//! The daemon from its start to its end.

use crate::accounts::Accounts;
use crate::announce::Announcement;
use crate::config::Settings;
use crate::door::{DRAIN_DEADLINE, accept_all, probe};
use crate::idle::Idle;
use crate::registry::Registry;
use crate::retention;
use crate::scrub;
use crate::shared::Shared;
use crate::state::StateDir;
use crate::status::{STATUS_FILE, Status};
use crate::tls::Identity;
use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use raspbox_store::{Options, Store};
use sd_notify::NotifyState;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How often accounts are looked at for changes by others, and the status for our own.
const TICK: Duration = Duration::from_secs(1);

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 128;

/// Descriptors: a session has its socket, a duplicate, the data connection, a file, and three for
/// its runtime.
const DESCRIPTORS_PER_SESSION: u64 = 12;
const DESCRIPTORS_BESIDES: u64 = 128;

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
    // A thread that hangs in the drive must not keep the process.
    runtime.shutdown_background();
    result
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let dir = StateDir::open(settings.state.clone())?;
    let identity = Identity::open(&dir)?;
    let accounts = Arc::new(Accounts::open(dir.clone(), settings.users.clone())?);
    let first_user = accounts.first_user()?;
    let (changed, changes) = watch_store(&settings)?;
    let listener = listen(settings.listen)?;
    let address = listener.local_addr()?;
    let caps = settings.caps;
    let shared = Arc::new(Shared {
        settings,
        store: changed,
        accounts,
        identity,
        registry: Arc::new(Registry::new(caps)),
        changes,
        main: tokio::runtime::Handle::current(),
    });
    say(&shared, address, first_user);
    let announcement = announce(&shared, address);
    let door = tokio::spawn(accept_all(listener, Arc::clone(&shared)));
    let idle = work_when_idle(&shared)?;
    notify(&[NotifyState::Ready]);

    let upkeep = upkeep(&shared, &dir, address);
    tokio::select! {
        never = upkeep => match never {},
        () = end(&mut terminate, &mut interrupt) => {}
    }

    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    door.abort();
    drop((announcement, idle));
    drain(&shared, &mut terminate, &mut interrupt).await;
    dir.remove(STATUS_FILE);
    Ok(())
}

/// Begins what is done while nobody is served.
fn work_when_idle(shared: &Shared) -> anyhow::Result<Idle> {
    let idle = Idle::new(&shared.registry);
    let (store, settings) = (shared.store.clone(), shared.settings.scrub);
    idle.begin("scrub", move |leave| scrub::run(leave, &store, settings))
        .context("cannot start a thread")?;
    let (store, policy) = (shared.store.clone(), shared.settings.versions);
    idle.begin("retention", move |leave| {
        retention::run(leave, &store, policy, retention::FIRST);
    })
    .context("cannot start a thread")?;
    Ok(idle)
}

fn watch_store(
    settings: &Settings,
) -> anyhow::Result<(Store, watch::Receiver<raspbox_protocol::Cursor>)> {
    let options = Options {
        floor_bytes: settings.floor_bytes,
    };
    let store = Store::open(&settings.folder, options)?;
    let (newest, changes) = watch::channel(store.cursor());
    store.on_change(move |cursor| {
        newest.send_replace(cursor);
    });
    Ok((store, changes))
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
fn say(shared: &Shared, address: SocketAddr, first_user: Option<(&'static str, String)>) {
    let mut out = std::io::stdout().lock();
    let mut lines = format!(
        "listening on {address}\nfingerprint {}\n",
        shared.identity.fingerprint
    );
    if let Some((name, password)) = first_user {
        lines += &format!("user {name} password {password}\n");
    }
    // Whoever started us may have closed it.
    let _ = out.write_all(lines.as_bytes());
    let _ = out.flush();
}

fn announce(shared: &Shared, address: SocketAddr) -> Option<Announcement> {
    let drive = match shared
        .store
        .info(std::time::SystemTime::now().into(), false)
    {
        Ok(info) => info.drive.to_string(),
        Err(_) => String::new(),
    };
    let fingerprint = &shared.identity.fingerprint;
    Announcement::begin(shared.settings.announce, address, fingerprint, &drive).unwrap_or_else(
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

/// What has to be done again and again.
async fn upkeep(
    shared: &Arc<Shared>,
    dir: &StateDir,
    address: SocketAddr,
) -> std::convert::Infallible {
    let mut last = None;
    let mut watchdog = sd_notify::watchdog_enabled().map(|every| {
        // Well within its time, as sd_watchdog_enabled(3) advises.
        tokio::time::interval(every / 3)
    });
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                end_invalid_sessions(shared);
                report(shared, dir, address, &mut last).await;
            }
            () = due(&mut watchdog) => match probe(shared, address).await {
                Ok(()) => notify(&[NotifyState::Watchdog]),
                Err(error) => tracing::error!(%error, "the accept loop doesn't answer"),
            }
        }
    }
}

async fn due(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
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

async fn report(
    shared: &Arc<Shared>,
    dir: &StateDir,
    address: SocketAddr,
    last: &mut Option<Status>,
) {
    let here = Arc::clone(shared);
    let look = tokio::task::spawn_blocking(move || Status::now(&here, &address.to_string()));
    let Ok(status) = look.await else { return };
    if last.as_ref() == Some(&status) {
        return;
    }
    notify(&[NotifyState::Status(&status.to_string())]);
    let json = serde_json::to_vec_pretty(&status).expect("a status is plain data");
    if let Err(error) = dir.write_volatile(STATUS_FILE, &json) {
        tracing::warn!(%error, "cannot write the status");
    }
    *last = Some(status);
}

/// Lets transfers in flight end, for a bounded time; a second signal ends it at once.
async fn drain(shared: &Shared, terminate: &mut Signal, interrupt: &mut Signal) {
    let sessions = shared.registry.all();
    tracing::info!(sessions = sessions.len(), "stopping");
    for session in &sessions {
        session.drain();
    }
    let all_gone = async {
        while !shared.registry.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = all_gone => return,
        () = tokio::time::sleep(DRAIN_DEADLINE) => {}
        () = end(terminate, interrupt) => {}
    }
    for session in shared.registry.all() {
        session.close("the appliance stops");
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
