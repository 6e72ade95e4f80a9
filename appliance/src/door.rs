//! The accept loop, and the thread on which a session runs.
//!
//! Each session has a thread and a runtime of its own. libunftp spawns tasks that nobody can abort:
//! the control loop, each data connection (whose TLS handshake has no deadline and holds the
//! session's lock), each STAT. Dropping the session's runtime ends all of them, whatever state they
//! are in; a panic in one stays in its session; the store may be called right there, since only
//! this session waits; and a Pi's four cores encrypt for four clients.

use crate::accounts::Gate;
use crate::backend::Backend;
use crate::config::TlsPolicy;
use crate::ports::{Ports, SessionPorts};
use crate::registry::Full;
use crate::session::{Abandoned, Phase, Session};
use crate::shared::Shared;
use crate::site::SITES;
use crate::verbs::on_this_thread;
use libunftp::options::{ActivePassiveMode, FtpsRequired, PassiveHost};
use libunftp::{Server, ServerBuilder};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::OobInline;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// How long to wait where no connection can be accepted for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How often a session is looked at.
const GUARD_INTERVAL: Duration = Duration::from_secs(1);

/// How long a session's last reply has to reach its peer before the socket is shut down.
const LAST_REPLY: Duration = Duration::from_millis(500);

/// How long a transfer may go on after its control connection has gone, or in a shutdown.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How much later than libunftp we end an idle session, where its control loop hangs.
const IDLE_GRACE: Duration = Duration::from_secs(30);

/// How many descriptors a session's runtime is told of at once: it has four. The default of 1,024 takes 12 KiB.
const EVENTS_PER_TURN: usize = 8;

/// Half of std's default. It is address space only, but a 32-bit Pi has little of that.
const STACK_BYTES: usize = 1 << 20;

/// Accepts connections for as long as it is polled.
pub(crate) async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let ports = Arc::new(Ports::new());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match stream.into_std() {
                Ok(stream) => admit(stream, peer, &shared, &ports),
                Err(error) => tracing::warn!(%peer, %error, "connection lost"),
            },
            Err(error) => {
                // EMFILE, ENFILE, ENOBUFS, ENOMEM stay true for a while; the connection waits in
                // the kernel. Trying again at once would only burn the processor.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, ports: &Arc<Ports>) {
    // This machine may by any of its addresses: the watchdog's probe comes from the one that is listened on.
    let is_here = stream.local_addr().is_ok_and(|here| here.ip() == peer.ip());
    if !is_here && !shared.settings.allow_from.allow(peer.ip()) {
        // Without a word. Of the whole internet's scanners a line each would fill the log.
        return tracing::debug!(%peer, "connection from elsewhere refused");
    }
    let tls_required = shared.settings.tls == TlsPolicy::Required;
    let admitted = shared.registry.admit(peer, |id| {
        // Replies are small and awaited: 22 small files/s became 1,500 with this (DESIGN.md).
        stream.set_nodelay(true)?;
        // Some clients send the last byte of ABOR out of band (RFC 959, "Telnet Synch"): without
        // this it would be taken out of the stream, and the line never end.
        setsockopt(&stream, OobInline, &true)?;
        let idle_timeout = shared.settings.idle_timeout;
        Ok(Session::new(
            id,
            peer,
            stream.try_clone()?,
            tls_required,
            idle_timeout,
        ))
    });
    let session = match admitted {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return tracing::warn!(%peer, %error, "connection refused"),
        Err(full) => return refuse(stream, peer, full),
    };
    let (id, shared_here, ports) = (session.id, Arc::clone(shared), Arc::clone(ports));
    let watched = Arc::clone(&session);
    let spawned = std::thread::Builder::new()
        .name(format!("session-{id}"))
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let leave = Leave {
                shared: shared_here,
                session,
            };
            on_this_thread(&leave.session, || {
                run(&leave.shared, &leave.session, stream, ports);
            });
            drop(leave);
            // The C library keeps stacks for the next ones.
            raspbox_heap::give_back_stack();
        });
    match spawned {
        Ok(_) => drop(tokio::spawn(end_if_abandoned(watched))),
        Err(error) => {
            tracing::error!(%peer, %error, "no thread for a session");
            shared.registry.remove(id);
        }
    }
}

/// Ends a session whose peer sends more than anybody needs, or has gone.
async fn end_if_abandoned(session: Arc<Session>) {
    tokio::select! {
        () = session.reached(Phase::Closed) => {}
        result = session.abandoned() => match result {
            Ok(Abandoned::Flooding) => session.close("too much on its control connection"),
            Ok(Abandoned::Gone) => {
                // A transfer may end, as where libunftp notices it.
                session.drain();
                tokio::time::sleep(DRAIN_DEADLINE).await;
                session.close("disconnected");
            }
            Err(error) => {
                tracing::warn!(session = session.id, %error, "cannot watch a control connection");
                session.close("it can't be watched");
            }
        }
    }
}

fn refuse(mut stream: TcpStream, peer: SocketAddr, full: Full) {
    tracing::warn!(%peer, %full, "connection refused");
    // The socket's buffer is empty, so this doesn't block.
    let _ = write!(stream, "421 {full}\r\n");
}

/// Leaves the registry when the thread ends, also by a panic.
struct Leave {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.session.close("disconnected");
        self.shared.registry.remove(self.session.id);
    }
}

fn run(shared: &Arc<Shared>, session: &Arc<Session>, stream: TcpStream, ports: Arc<Ports>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_io_events_per_tick(EVENTS_PER_TURN)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return tracing::error!(peer = %session.peer, %error, "no runtime for a session");
        }
    };
    runtime.block_on(whole(shared, session, stream, ports));
    session.close("disconnected");
    // Doesn't wait for blocking work, of which a session's runtime has none.
    runtime.shutdown_background();
}

/// All that a session does; on the heap, and made where it leaves nothing on the stack of a thread that then waits.
#[inline(never)]
fn whole<'a>(
    shared: &'a Arc<Shared>,
    session: &'a Arc<Session>,
    stream: TcpStream,
    ports: Arc<Ports>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        // A task of its own: each look at libunftp's reaches 12 KiB further down, and a tick would be one.
        let mut guard = tokio::spawn(guard(Arc::clone(shared), Arc::clone(session)));
        tokio::select! {
            result = serve(shared, session, stream, ports) => {
                if let Err(error) = result {
                    tracing::warn!(session = session.id, %error, "session failed");
                }
                guard.abort();
                // What still runs has lost its control connection. A transfer may end, and tell it
                // to nobody.
                session.drain();
                tokio::select! {
                    () = idle(session) => {}
                    // Somebody has closed it, which may be why it lost it.
                    () = session.reached(Phase::Closed) => {}
                    () = tokio::time::sleep(DRAIN_DEADLINE) => {}
                }
            }
            // It has ended the session, or panicked, and nobody would.
            _ = &mut guard => {}
        }
    })
}

async fn serve(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    stream: TcpStream,
    ports: Arc<Ports>,
) -> anyhow::Result<()> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
    server(shared, session, ports)?.service(stream).await?;
    Ok(())
}

/// libunftp, set up for one session.
fn server(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    ports: Arc<Ports>,
) -> anyhow::Result<Server<Backend, crate::accounts::Account>> {
    let gate = Arc::new(Gate {
        accounts: Arc::clone(&shared.accounts),
        session: Arc::clone(session),
    });
    let backend = Backend {
        shared: Arc::clone(shared),
        session: Arc::clone(session),
    };
    let required = match shared.settings.tls {
        TlsPolicy::Required => FtpsRequired::All,
        TlsPolicy::Optional => FtpsRequired::None,
    };
    let builder = ServerBuilder::with_user_detail_provider(
        Box::new(move || backend.clone()),
        Arc::clone(&gate) as Arc<_>,
    )
    .authenticator(gate)
    .greeting("raspbox")
    .ftps_manual::<std::path::PathBuf>(shared.identity.server_config(session))
    .ftps_required(required, required)
    .active_passive_mode(ActivePassiveMode::PassiveOnly)
    .passive_host(PassiveHost::FromConnection)
    .passive_ports(shared.settings.passive_ports.clone())
    .binder(SessionPorts {
        session: Arc::clone(session),
        ports,
    })
    .idle_session_timeout(shared.settings.idle_timeout.as_secs())
    // It would log paths and names for each command; what matters is logged here.
    .logger(slog::Logger::root(slog::Discard, slog::o!()));
    let builder = SITES.into_iter().fold(builder, |builder, (word, site)| {
        builder.site_command(word, site)
    });
    Ok(builder.build()?)
}

/// Watches over a session, and returns when it must end.
async fn guard(shared: Arc<Shared>, session: Arc<Session>) {
    let login_deadline =
        tokio::time::Instant::from_std(session.since) + shared.settings.login_deadline;
    let mut deadline = Box::pin(tokio::time::sleep_until(login_deadline));
    let mut waits_for_login = true;
    let mut draining = Box::pin(drained(&session));
    let mut rested: Option<Instant> = None;
    loop {
        tokio::select! {
            () = &mut deadline, if waits_for_login => {
                if session.account().is_none() {
                    return session.close("no login in time");
                }
                waits_for_login = false;
            }
            () = session.reached(Phase::Closed) => return,
            () = &mut draining => return session.close("drained"),
            () = tokio::time::sleep(GUARD_INTERVAL) => {
                let now = Instant::now();
                if session.is_stuck(now) {
                    return session.close("a data connection hangs");
                }
                if session.quiet(now) > shared.settings.idle_timeout + IDLE_GRACE {
                    return session.close("idle");
                }
                // Logins and transfers go deep, and as deep as a stack ever was, so much of it stays in memory. Once
                // until somebody works here again, and not between the files of one who does.
                let idle = session.idle(now);
                let worked = rested.is_none_or(|then| now.saturating_duration_since(then) > idle);
                if worked && idle >= GUARD_INTERVAL {
                    raspbox_heap::give_back_stack();
                    rested = Some(now);
                }
            }
        }
    }
}

/// Returns when a session that drains has said its last.
async fn drained(session: &Session) {
    session.reached(Phase::Draining).await;
    idle(session).await;
    tokio::time::sleep(LAST_REPLY).await;
}

/// Returns when no transfer runs.
async fn idle(session: &Session) {
    while session.transfers() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Connects to ourselves and waits for the greeting: whether the accept loop lives.
pub(crate) async fn probe(shared: &Shared, address: SocketAddr) -> io::Result<()> {
    let mut target = address;
    if target.ip().is_unspecified() {
        target.set_ip(match target {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let socket = match target {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(target.ip(), 0))?;
    let from = socket.local_addr()?;
    shared.registry.expect_probe(from);
    let greeting = async {
        let stream = socket.connect(target).await?;
        let mut greeting = [0; 3];
        let mut stream = stream;
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut greeting).await?;
        io::Result::Ok(greeting)
    };
    let result = tokio::time::timeout(Duration::from_secs(10), greeting).await;
    shared.registry.forget_probe(from);
    match result {
        Ok(Ok(greeting)) if &greeting == b"220" => Ok(()),
        Ok(Ok(_)) => Err(io::ErrorKind::InvalidData.into()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
