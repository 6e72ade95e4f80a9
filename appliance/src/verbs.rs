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
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

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

/// Tells sessions what is heard.
#[derive(Debug)]
pub(crate) struct Verbs;

impl<S: Subscriber> Layer<S> for Verbs {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let Some(heard) = hear(attributes.metadata()) else {
            return;
        };
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
}

/// Whether a span is one of those that are listened to.
pub(crate) fn is_heard(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && hear(metadata).is_some()
}

fn hear(metadata: &Metadata<'_>) -> Option<Heard> {
    let module = metadata
        .target()
        .strip_prefix("libunftp::server::controlchan::")?;
    match (module, metadata.name()) {
        ("control_loop", "handle_command") => Some(Heard::Command),
        ("commands::cdup", "handle") => Some(Heard::Cdup),
        _ => None,
    }
}
