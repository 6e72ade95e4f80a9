//! Hears which commands libunftp handles, of those that it tells nobody about.
//!
//! Each of libunftp's handlers is a tracing span, and a session has its thread to itself; so a span
//! that begins on that thread is a command of that session. Only the span's name is looked at. Its
//! fields are never formatted: they hold whole sessions. Tied to libunftp's module names; a test
//! would notice another CDUP.
//!
//! A command in the middle of a transfer is heard only after it: libunftp first waits for the
//! session's lock. So ABOR can't be served this way.

use crate::session::Session;
use std::cell::RefCell;
use std::sync::Arc;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};

thread_local! {
    static SESSION: RefCell<Option<Arc<Session>>> = const { RefCell::new(None) };
}

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Any command, also one that does nothing.
    Command,
    /// The working directory changes to the one above.
    Cdup,
}

/// Says that this thread is a session's, for as long as `serve` runs.
pub(crate) fn on_this_thread<T>(session: &Arc<Session>, serve: impl FnOnce() -> T) -> T {
    SESSION.set(Some(Arc::clone(session)));
    let result = serve();
    SESSION.set(None);
    result
}

/// Tells sessions what is heard, and hands on everything else.
///
/// A registry's span of each would take 4 KiB for each thread, for what nobody asks for again.
#[derive(Debug)]
pub(crate) struct Verbs<S>(pub(crate) S);

/// What all that is heard is called: no registry has so many spans at once that it would call one of its own so.
const HEARD: u64 = u64::MAX;

impl<S: Subscriber> Subscriber for Verbs<S> {
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        self.0.on_register_dispatch(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_heard(metadata) {
            return Interest::always();
        }
        self.0.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_heard(metadata) || self.0.enabled(metadata)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        if attributes.parent().is_some_and(|id| id.into_u64() == HEARD) {
            // The registry doesn't know the one that it would be in.
            return Id::from_u64(HEARD);
        }
        match heard_in(attributes.metadata()) {
            Some(heard) => {
                tell(heard);
                Id::from_u64(HEARD)
            }
            None => self.0.new_span(attributes),
        }
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if span.into_u64() != HEARD {
            self.0.record(span, values);
        }
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        if span.into_u64() != HEARD && follows.into_u64() != HEARD {
            self.0.record_follows_from(span, follows);
        }
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.0.event_enabled(event)
    }

    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
    }

    fn enter(&self, span: &Id) {
        if span.into_u64() != HEARD {
            self.0.enter(span);
        }
    }

    fn exit(&self, span: &Id) {
        if span.into_u64() != HEARD {
            self.0.exit(span);
        }
    }

    fn clone_span(&self, id: &Id) -> Id {
        if id.into_u64() == HEARD {
            return id.clone();
        }
        self.0.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        id.into_u64() == HEARD || self.0.try_close(id)
    }
}

fn tell(heard: Heard) {
    // Not there while the thread itself ends.
    let _ = SESSION.try_with(|session| {
        if let Some(session) = &*session.borrow() {
            match heard {
                Heard::Command => session.on_command(),
                Heard::Cdup => session.on_cdup(),
            }
        }
    });
}

/// Whether a span is one of those that are listened to.
fn is_heard(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && heard_in(metadata).is_some()
}

fn heard_in(metadata: &Metadata<'_>) -> Option<Heard> {
    let module = metadata
        .target()
        .strip_prefix("libunftp::server::controlchan::")?;
    match (module, metadata.name()) {
        ("control_loop", "handle_command") => Some(Heard::Command),
        ("commands::cdup", "handle") => Some(Heard::Cdup),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Event, Id, Metadata, Record, Subscriber, Verbs, on_this_thread};
    use crate::session::Session;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::Duration;

    /// Wants to know of nothing, and is told of nothing.
    struct Deaf;

    impl Subscriber for Deaf {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "somebody's"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            panic!("a span takes memory of each thread")
        }
        fn record(&self, _: &Id, _: &Record<'_>) {
            panic!("what was heard is nobody's span")
        }
        fn record_follows_from(&self, _: &Id, _: &Id) {
            panic!("what was heard is nobody's span")
        }
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {
            panic!("what was heard is nobody's span")
        }
        fn exit(&self, _: &Id) {
            panic!("what was heard is nobody's span")
        }
    }

    #[test]
    fn what_is_heard_is_told_to_the_session_and_kept_by_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = client.local_addr().unwrap();
        let session = Arc::new(Session::new(1, peer, client, false, Duration::MAX));
        session.set_cwd("/a/b/c".into());
        let cdup = || {
            let span = tracing::info_span!(target: "libunftp::server::controlchan::commands::cdup", "handle");
            assert!(!span.is_disabled());
            let again = span.clone();
            again.follows_from(&span);
            // What is in it is known to nobody either.
            drop(tracing::info_span!(target: "somebody's", parent: &span, "within"));
            drop(span.entered());
            let _ = tracing::info_span!(target: "libunftp::server::controlchan::commands::cwd", "handle").entered();
        };
        tracing::subscriber::with_default(Verbs(Deaf), || {
            on_this_thread(&session, cdup);
            assert_eq!(session.cwd(), "/a/b");
            cdup();
        });
        assert_eq!(session.cwd(), "/a/b", "of no session's thread");
    }
}
