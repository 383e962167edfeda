//! Compiles system call filters, once for each profile: containers with the same profile share a file of instructions.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use parking_lot::Mutex;
use serde_json::Value;
use tug_shim::confine::Filter;

use crate::engine::{Error, Result};
use crate::record;

/// Filters by their profile.
pub struct Filters {
    dir: PathBuf,
    known: Mutex<HashMap<String, Filter>>,
}

const FLAG_TSYNC: u32 = 1;
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

impl Filters {
    pub fn new(dir: PathBuf) -> Self {
        Filters { dir, known: Mutex::default() }
    }

    /// The compiled filter of a profile, `linux.seccomp` as in the OCI runtime specification. Blocks.
    ///
    /// # Errors
    /// When it is no such profile, or asks for what is not supported.
    pub fn of(&self, profile: &Value) -> Result<Filter> {
        let key = profile.to_string();
        if let Some(filter) = self.known.lock().get(&key) {
            return Ok(filter.clone());
        }
        let parsed: LinuxSeccomp = serde_json::from_value(profile.clone()).map_err(invalid)?;
        let program = self.dir.join(format!("{}.bpf", crate::images::digest_of(key.as_bytes()).replace(':', "-")));
        record::replace(&program, &compile(&parsed)?)?;
        let filter = Filter { program, flags: flags(&parsed) };
        self.known.lock().insert(key, filter.clone());
        Ok(filter)
    }
}

fn invalid(why: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("invalid seccomp profile: {why}"))
}

/// Without any, runc's default: speculation is left to the processor, for a filter is no boundary within a process.
fn flags(profile: &LinuxSeccomp) -> u32 {
    let Some(flags) = profile.flags() else { return FLAG_SPEC_ALLOW };
    flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE_RECV,
        }
    })
}

/// The kernel's instructions, as they are in memory.
fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).map_err(invalid)?;
    for arch in profile.architectures().iter().flatten() {
        context.add_arch(architecture(*arch)).map_err(invalid)?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        // One that says what holds anyway is refused by the library.
        if action != default {
            add(&mut context, rule, action)?;
        }
    }
    // A binary search instead of a comparison with each system call in turn: every call of a container passes here.
    context.set_ctl_optimize(2).map_err(invalid)?;
    export(&context).map_err(|err| Error::Failed { step: "compile seccomp profile", message: err.to_string() })
}

fn export(context: &ScmpFilterContext) -> std::io::Result<Vec<u8>> {
    let mut file: File = tempfile::tempfile()?;
    context.export_bpf(&mut file).map_err(std::io::Error::other)?;
    file.rewind()?;
    let mut program = Vec::new();
    file.read_to_end(&mut program)?;
    Ok(program)
}

fn add(context: &mut ScmpFilterContext, rule: &LinuxSyscall, action: ScmpAction) -> Result<()> {
    let conditions = rule.args().iter().flatten();
    let conditions: Vec<ScmpArgCompare> = conditions
        .map(|arg| {
            let (datum, op) = comparison(arg.op(), arg.value(), arg.value_two().unwrap_or(0));
            ScmpArgCompare::new(arg.index() as u32, op, datum)
        })
        .collect();
    let mut indexes: Vec<usize> = rule.args().iter().flatten().map(|arg| arg.index()).collect();
    indexes.sort_unstable();
    let repeated = indexes.windows(2).any(|pair| pair[0] == pair[1]);
    for name in rule.names() {
        // A call that this machine's kernel does not have needs no rule.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        let added = if repeated {
            // As runc has it: conditions on the same argument are alternatives.
            conditions.iter().try_for_each(|one| context.add_rule_conditional(action, call, &[*one]).map(drop))
        } else if conditions.is_empty() {
            context.add_rule(action, call).map(drop)
        } else {
            context.add_rule_conditional(action, call, &conditions).map(drop)
        };
        added.map_err(|err| invalid(format!("{name}: {err}")))?;
    }
    Ok(())
}

/// For a masked comparison the specification has the mask first, the value second.
fn comparison(op: LinuxSeccompOperator, value: u64, value_two: u64) -> (u64, ScmpCompareOp) {
    match op {
        LinuxSeccompOperator::ScmpCmpNe => (value, ScmpCompareOp::NotEqual),
        LinuxSeccompOperator::ScmpCmpLt => (value, ScmpCompareOp::Less),
        LinuxSeccompOperator::ScmpCmpLe => (value, ScmpCompareOp::LessOrEqual),
        LinuxSeccompOperator::ScmpCmpEq => (value, ScmpCompareOp::Equal),
        LinuxSeccompOperator::ScmpCmpGe => (value, ScmpCompareOp::GreaterEqual),
        LinuxSeccompOperator::ScmpCmpGt => (value, ScmpCompareOp::Greater),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (value_two, ScmpCompareOp::MaskedEqual(value)),
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction> {
    let errno = errno.map_or(nix::libc::EPERM, |errno| errno as i32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(u16::try_from(errno).map_err(invalid)?),
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActNotify => return Err(invalid("SCMP_ACT_NOTIFY is not supported")),
    })
}

fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
