//! Netlink messages, written and read as attributes, over a blocking socket of the calling thread's network namespace.
//!
//! Both users need a handful of message types each, and nftables needs expressions that no published crate encodes: this
//! small writer and reader serves route and netfilter messages alike.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLMSG_ERROR` with `NETLINK_CAP_ACK`: header, error number, the request's header; then attributes.
const ACK_ATTRIBUTES: usize = HEADER + 4 + HEADER;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = !(NLA_F_NESTED | 1 << 14);
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The kernel answers at once; a silence this long means a lost answer, not a slow one.
const ANSWER_TIMEOUT_SECONDS: i64 = 30;
/// Dumps arrive in pieces of at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The kernel's refusal, with its own explanation where it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub errno: i32,
    pub detail: Option<String>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Errno::from_raw(self.errno))?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { errno: errno as i32, detail: None }
    }
}

/// A list of attributes being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(4 + value.len()).expect("attributes are written in pieces of less than 64 KiB");
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.bytes(kind, &terminated)
    }

    pub(crate) fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Netfilter's numbers are big-endian.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn be64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nest(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &inner.0)
    }

    /// A list that was read, to be sent back as it is.
    pub(crate) fn raw(list: &[u8]) -> Self {
        Self(list.to_vec())
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Attributes being read: kind (without flags) and value. Ends early at a malformed one.
pub(crate) fn attributes(mut buffer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(buffer.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(buffer.get(2..4)?.try_into().ok()?);
        let value = buffer.get(4..len)?;
        buffer = buffer.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NLA_TYPE_MASK, value))
    })
}

pub(crate) fn attribute(buffer: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(buffer).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A string attribute without its terminating zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub(crate) fn read_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

pub(crate) fn read_be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// One message: `kind` and `flags` of its netlink header, then the family's own header and attributes.
pub(crate) fn message(kind: u16, flags: u16, seq: u32, family_header: &[u8], body: &Attributes) -> Vec<u8> {
    let len = HEADER + family_header.len().next_multiple_of(4) + body.0.len();
    let mut message = Vec::with_capacity(len);
    message.extend_from_slice(&u32::try_from(len).expect("a message is far smaller than 4 GiB").to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&seq.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    message.extend_from_slice(family_header);
    message.resize(message.len().next_multiple_of(4), 0);
    message.extend_from_slice(&body.0);
    message
}

/// A message that came in, without its netlink header.
pub(crate) struct Received {
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

/// A netlink socket. It belongs to the network namespace of the thread that opened it, wherever it is used later.
pub(crate) struct Socket {
    fd: OwnedFd,
    seq: u32,
}

impl Socket {
    pub(crate) fn route() -> Result<Self, Failure> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    pub(crate) fn netfilter() -> Result<Self, Failure> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> Result<Self, Failure> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_SECONDS, 0))?;
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
            enable(&fd, option)?;
        }
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { fd, seq: 0 })
    }

    /// Sends one request and waits for its acknowledgement.
    pub(crate) fn execute(
        &mut self,
        kind: u16,
        flags: u16,
        family_header: &[u8],
        body: &Attributes,
    ) -> Result<(), Failure> {
        self.seq += 1;
        let flags = flags | libc::NLM_F_REQUEST as u16 | libc::NLM_F_ACK as u16;
        self.send(&message(kind, flags, self.seq, family_header, body))?;
        let seq = self.seq;
        self.receive_until(|answer| (answer.seq == seq).then_some(()), |_| {})
    }

    /// All objects that a dump request yields. Begins anew when the kernel says that they changed underway.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        family_header: &[u8],
        body: &Attributes,
    ) -> Result<Vec<Received>, Failure> {
        loop {
            self.seq += 1;
            let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
            self.send(&message(kind, flags, self.seq, family_header, body))?;
            let (seq, mut found, mut interrupted) = (self.seq, Vec::new(), false);
            self.receive_until(
                |answer| (answer.seq == seq).then_some(()),
                |part| {
                    interrupted |= part.flags & NLM_F_DUMP_INTR != 0;
                    found.push(Received { kind: part.kind, payload: part.payload.to_vec() });
                },
            )?;
            if !interrupted {
                return Ok(found);
            }
        }
    }

    /// Sends a whole netfilter batch whose messages are numbered from `first`. The one numbered `last` asks for an
    /// acknowledgement; a commit that fails as a whole is answered with `first`.
    pub(crate) fn execute_batch(&mut self, batch: &[u8], first: u32, last: u32) -> Result<(), (u32, Failure)> {
        setsockopt(&self.fd, sockopt::SndBufForce, &(2 * batch.len() + 4096))
            .map_err(|errno| (first, Failure::from(errno)))?;
        self.send(batch).map_err(|failure| (first, failure))?;
        let mut refused = None;
        let end = self.receive_until(
            |answer| {
                if let Some(failure) = answer.failure {
                    refused.get_or_insert((answer.seq, failure));
                }
                (answer.seq == last || answer.seq == first).then_some(())
            },
            |_| {},
        );
        match (refused, end) {
            (Some(refused), _) => Err(refused),
            (None, Ok(())) => Ok(()),
            (None, Err(failure)) => Err((first, failure)),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Reads until `answered` recognizes an acknowledgement; other messages go to `part`. The error in the recognized
    /// acknowledgement is the result.
    fn receive_until(
        &self,
        mut answered: impl FnMut(Answer) -> Option<()>,
        mut part: impl FnMut(Part<'_>),
    ) -> Result<(), Failure> {
        let mut buffer = vec![0u8; RECEIVE_BUFFER];
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut rest = &buffer[..len];
            while let Some((found, after)) = split(rest) {
                rest = after;
                match i32::from(found.kind) {
                    libc::NLMSG_NOOP => {}
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let answer = Answer { seq: found.seq, failure: failure(&found) };
                        let outcome = answer.failure.clone();
                        if answered(answer).is_some() {
                            return outcome.map_or(Ok(()), Err);
                        }
                    }
                    _ => part(found),
                }
            }
        }
    }
}

/// An acknowledgement: which request, and why it failed if it did.
struct Answer {
    seq: u32,
    failure: Option<Failure>,
}

struct Part<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    payload: &'a [u8],
    whole: &'a [u8],
}

fn split(buffer: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let len = read_u32(buffer)? as usize;
    let whole = buffer.get(..len)?;
    let part = Part {
        kind: u16::from_ne_bytes(whole.get(4..6)?.try_into().ok()?),
        flags: u16::from_ne_bytes(whole.get(6..8)?.try_into().ok()?),
        seq: read_u32(whole.get(8..)?)?,
        payload: whole.get(HEADER..)?,
        whole,
    };
    Some((part, buffer.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// Why the request that `answer` speaks of failed; `NLMSG_DONE` carries an error number too.
fn failure(answer: &Part<'_>) -> Option<Failure> {
    let errno = -(read_u32(answer.payload)? as i32);
    if errno == 0 {
        return None;
    }
    let explained = answer.flags & NLM_F_ACK_TLVS != 0 && i32::from(answer.kind) == libc::NLMSG_ERROR;
    let detail = if explained {
        answer.whole.get(ACK_ATTRIBUTES..).and_then(|tlvs| attribute(tlvs, NLMSGERR_ATTR_MSG)).map(text)
    } else {
        None
    };
    Some(Failure { errno, detail })
}

fn enable(fd: &OwnedFd, option: libc::c_int) -> Result<(), Failure> {
    let on: libc::c_int = 1;
    // SAFETY: `fd` is an open socket and `on` outlives the call, whose length is given truly.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back() {
        let inner = Attributes::new().be32(2, 7);
        let written = Attributes::new().text(1, "eth0").nest(3, inner).u8(4, 9);
        let read: Vec<_> = attributes(written.as_slice()).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(text(read[0].1), "eth0");
        assert_eq!(read[1].0, 3);
        assert_eq!(attribute(read[1].1, 2).and_then(read_be32), Some(7));
        assert_eq!(read[2], (4, &[9u8][..]));
    }

    #[test]
    fn truncated_attributes_end_the_list() {
        let written = Attributes::new().u32(1, 5).u32(2, 6);
        let cut = &written.as_slice()[..12];
        assert_eq!(attributes(cut).count(), 1);
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0);
    }
}
