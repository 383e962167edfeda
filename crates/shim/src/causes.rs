//! Why the OCI library failed. Its errors name the step and lose what went wrong in it, which it only says to its log:
//! so the log's errors travel through the launch's pipe, from whichever process of the launch they come.

use std::fmt::{Debug, Write};
use std::os::fd::{BorrowedFd, RawFd};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::launch::Outcome;

/// Sends the log's errors from now on to the pipe, in this process and those forked from it.
pub fn send_to(outcome: RawFd) {
    // Set once a process: the helper is forked from a shim that has no subscriber.
    let _ = tracing::subscriber::set_global_default(Errors { outcome });
}

struct Errors {
    outcome: RawFd,
}

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        // SAFETY: the pipe stays open until the program replaces this process.
        let outcome = unsafe { BorrowedFd::borrow_raw(self.outcome) };
        // Only says more about a failure that is told anyway.
        drop(Outcome::Cause(text.0).send(outcome));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// `message`, then the other fields.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string can't fail.
        let _ = match field.name() {
            "message" if self.0.is_empty() => write!(self.0, "{value:?}"),
            "message" => {
                let others = std::mem::take(&mut self.0);
                write!(self.0, "{value:?} {others}")
            }
            name if self.0.is_empty() => write!(self.0, "{name}={value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
