//! The last steps before a program runs, which the OCI library leaves out or gets wrong: mount propagation, the system
//! call filter, capabilities. The library is given none of them, so that the process still has all privileges here.

use std::fs;
use std::io;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

/// What a process is confined to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confinement {
    /// Bounding, permitted and effective set, a bit a capability. None is inheritable or ambient.
    pub capabilities: u64,
    pub filter: Option<Filter>,
    /// The filter comes last, as it can with no_new_privs; otherwise installing it takes a capability.
    pub no_new_privileges: bool,
    /// Mount points and how mounts below them spread.
    pub propagation: Vec<(PathBuf, Propagation)>,
}

/// A compiled system call filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// File of classic BPF instructions, as the kernel has them in memory.
    pub program: PathBuf,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

/// As mount(8) names them, recursively.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    fn flags(self) -> MsFlags {
        MsFlags::MS_REC
            | match self {
                Propagation::Private => MsFlags::MS_PRIVATE,
                Propagation::Slave => MsFlags::MS_SLAVE,
                Propagation::Shared => MsFlags::MS_SHARED,
                Propagation::Unbindable => MsFlags::MS_UNBINDABLE,
            }
    }
}

/// A confinement whose files are read, for they are not the container's.
#[derive(Clone)]
pub struct Ready {
    confinement: Confinement,
    instructions: Vec<u8>,
}

const INSTRUCTION_BYTES: usize = size_of::<libc::sock_filter>();

impl Confinement {
    pub fn read_filter(self) -> io::Result<Ready> {
        let instructions = match &self.filter {
            Some(filter) => fs::read(&filter.program)?,
            None => Vec::new(),
        };
        Ok(Ready { confinement: self, instructions })
    }
}

impl Ready {
    /// Confines this process, in the container's namespaces already.
    pub fn apply(&self) -> Result<(), String> {
        let Confinement { capabilities, no_new_privileges, propagation, .. } = &self.confinement;
        for (target, how) in propagation {
            mount(None::<&str>, target, None::<&str>, how.flags(), None::<&str>)
                .map_err(|err| format!("mount propagation of {}: {err}", target.display()))?;
        }
        let filter = || self.install_filter().map_err(|err| format!("seccomp: {err}"));
        let limit = || limit_capabilities(*capabilities).map_err(|err| format!("capabilities: {err}"));
        if *no_new_privileges {
            limit()?;
            filter()
        } else {
            filter()?;
            limit()
        }
    }

    fn install_filter(&self) -> io::Result<()> {
        let Some(filter) = &self.confinement.filter else { return Ok(()) };
        let length = u16::try_from(self.instructions.len() / INSTRUCTION_BYTES).map_err(io::Error::other)?;
        // The kernel copies the instructions byte by byte: their alignment here does not matter to it.
        let program = libc::sock_fprog { len: length, filter: self.instructions.as_ptr().cast_mut().cast() };
        // SAFETY: `program` names that many whole instructions, which live past the call; the kernel only reads them.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, filter.flags, &raw const program)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// Capabilities of one half of the bits.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two halves.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

fn limit_capabilities(allowed: u64) -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: these prctl options take numbers only.
        let has = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        if has < 0 {
            // Past the last one that this kernel knows.
            break;
        }
        // SAFETY: as above.
        if has == 1
            && allowed & (1 << capability) == 0
            && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    let half = |bits: u32| CapabilityData { effective: bits, permitted: bits, inheritable: 0 };
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let data = [half(allowed as u32), half((allowed >> 32) as u32)];
    // SAFETY: version 3 reads a header and two halves, which both are.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
