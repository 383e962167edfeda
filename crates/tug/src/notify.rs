//! Readiness, told as to systemd: datagrams to the socket named in `NOTIFY_SOCKET` (sd_notify(3)). A unit of
//! `Type=notify` and `tug start` listen to the same words.

use std::env;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where a part of start-up has got to; without a listener it goes nowhere.
#[derive(Clone)]
pub struct Notifier {
    socket: Option<std::sync::Arc<UnixDatagram>>,
}

impl Notifier {
    pub fn from_environment() -> Self {
        let connect = |path: std::ffi::OsString| {
            let socket = UnixDatagram::unbound()?;
            socket.connect(Path::new(&path))?;
            io::Result::Ok(std::sync::Arc::new(socket))
        };
        Self { socket: env::var_os("NOTIFY_SOCKET").and_then(|path| connect(path).ok()) }
    }

    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={text}\n"));
    }

    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// Says why there will be no readiness; a listener needn't wait on.
    pub fn failed(&self, why: &str) {
        self.send(&format!("STATUS={}\nEXIT_STATUS=1\n", why.replace('\n', "; ")));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // The listener may have gone away: nobody waits any more.
            let _unheard = socket.send(message.as_bytes());
        }
    }
}

/// What a listener reads out of one datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Status(String),
    Ready,
    /// For what the status before it says.
    Failed,
}

pub fn parse(datagram: &str) -> Vec<Message> {
    datagram
        .lines()
        .filter_map(|line| match line.split_once('=')? {
            ("STATUS", text) => Some(Message::Status(text.into())),
            ("READY", "1") => Some(Message::Ready),
            ("EXIT_STATUS", code) => (code != "0").then_some(Message::Failed),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_may_hold_several_messages() {
        let heard = parse("STATUS=Loading\nREADY=1\nMAINPID=4\n");
        assert_eq!(heard, [Message::Status("Loading".into()), Message::Ready]);
        let heard = parse("STATUS=no space\nEXIT_STATUS=1\n");
        assert_eq!(heard, [Message::Status("no space".into()), Message::Failed]);
    }
}
