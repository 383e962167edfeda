//! Device rules on cgroup v2: a container's rules as a program that the kernel runs whenever something in its control
//! group opens or makes a device. On v1 a controller holds them, which the OCI library fills in.
//!
//! The last rule that names a device decides, about reading, writing and making it each; what none names is refused.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use libcontainer::oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::cgroup::{self, Layout};

/// Makes a container's control group and has its bundle's device rules hold there, for all that ever enters it.
///
/// # Errors
/// Rules that can't be, and when the kernel refuses the program.
pub fn guard(bundle: &Path, cgroup: &str) -> io::Result<()> {
    if cgroup::layout() != Layout::V2 {
        return Ok(());
    }
    let spec = Spec::load(bundle.join("config.json")).map_err(io::Error::other)?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let Some(rules) = resources.and_then(|resources| resources.devices().as_ref()) else { return Ok(()) };
    cgroup::create(cgroup)?;
    hold(rules, &cgroup::directory(cgroup, "devices"))
}

/// # Errors
/// When the kernel takes no such program.
pub fn probe() -> io::Result<()> {
    load(&compile(&[])).map(drop)
}

/// Has rules hold in a v2 control group, which keeps the program as long as it stands.
fn hold(rules: &[LinuxDeviceCgroup], directory: &Path) -> io::Result<()> {
    let rules = rules.iter().map(Rule::new).collect::<io::Result<Vec<_>>>()?;
    if all_allowed(&rules) {
        return Ok(());
    }
    let step = |step: &'static str| move |err: io::Error| io::Error::new(err.kind(), format!("{step}: {err}"));
    let group = File::open(directory).map_err(step("open the control group"))?;
    let program = load(&compile(&rules)).map_err(step("load the device rules (CONFIG_CGROUP_BPF)"))?;
    attach(&program, &group).map_err(step("attach the device rules"))
}

// As in the kernel's linux/bpf.h.
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// `None` stands for any.
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

impl Rule {
    fn new(rule: &LinuxDeviceCgroup) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, format!("device rule: {what}"));
        let kind = match rule.typ().unwrap_or(LinuxDeviceType::A) {
            // All else that such a rule says is passed over, by the v1 controller too.
            LinuxDeviceType::A => {
                return Ok(Rule {
                    allow: rule.allow(),
                    kind: None,
                    major: None,
                    minor: None,
                    access: MAKE | READ | WRITE,
                });
            }
            LinuxDeviceType::B => BLOCK,
            LinuxDeviceType::C | LinuxDeviceType::U => CHARACTER,
            LinuxDeviceType::P => return Err(invalid("a pipe is no device".into())),
        };
        let number = |number: Option<i64>| match number {
            Some(number) if number >= 0 => {
                i32::try_from(number).map(Some).map_err(|_| invalid(format!("there is no device number {number}")))
            }
            _ => Ok(None),
        };
        let mut access = 0;
        for letter in rule.access().iter().flat_map(|access| access.chars()) {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                _ => return Err(invalid(format!("unknown access {letter:?}"))),
            };
        }
        Ok(Rule {
            allow: rule.allow(),
            kind: Some(kind),
            major: number(rule.major())?,
            minor: number(rule.minor())?,
            access,
        })
    }
}

/// Nothing is refused: a privileged container, which needs no program.
fn all_allowed(rules: &[Rule]) -> bool {
    let last = rules.iter().rposition(|rule| rule.kind.is_none());
    last.is_some_and(|last| rules[last..].iter().all(|rule| rule.allow))
}

// Registers. The kernel passes `bpf_cgroup_dev_ctx`: kind and access in a word's halves, major, minor.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// What of the wanted access no rule has decided yet.
const WANTED: u8 = 3;

// Operation codes, on a register and a constant.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_UNEQUAL: u8 = 0x55;
const JUMP_IF_ANY_BIT: u8 = 0x45;
const EXIT: u8 = 0x95;

/// One instruction, laid out as `struct bpf_insn`. `offset` counts instructions, or the bytes into the context.
fn op(code: u8, register: u8, offset: i16, constant: i32) -> [u8; 8] {
    let source = if code == LOAD_WORD { CONTEXT } else { 0 };
    let registers = if cfg!(target_endian = "little") { source << 4 | register } else { register << 4 | source };
    let mut bytes = [code, registers, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&constant.to_ne_bytes());
    bytes
}

fn answer(allow: bool) -> [[u8; 8]; 2] {
    [op(MOVE, RESULT, 0, i32::from(allow)), op(EXIT, 0, 0, 0)]
}

/// Rule for rule from the last one, until all of the wanted access is decided.
fn compile(rules: &[Rule]) -> Vec<[u8; 8]> {
    let mut program = vec![
        op(LOAD_WORD, KIND, 0, 0),
        op(AND, KIND, 0, 0xffff),
        op(LOAD_WORD, WANTED, 0, 0),
        op(SHIFT_RIGHT, WANTED, 0, 16),
        op(LOAD_WORD, MAJOR, 4, 0),
        op(LOAD_WORD, MINOR, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let decide = match rule.allow {
            true => [op(AND, WANTED, 0, !rule.access), op(JUMP_UNEQUAL, WANTED, 2, 0)],
            false => [op(JUMP_IF_ANY_BIT, WANTED, 1, rule.access), op(JUMP, 0, 2, 0)],
        };
        let body = [decide, answer(rule.allow)].concat();
        let named = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
        let named: Vec<_> = named.into_iter().filter_map(|(register, value)| Some((register, value?))).collect();
        for (place, (register, value)) in named.iter().enumerate() {
            let past = named.len() - place - 1 + body.len();
            program.push(op(JUMP_UNEQUAL, *register, past as i16, *value));
        }
        program.extend(body);
    }
    program.extend(answer(false));
    program
}

/// `union bpf_attr` as far as loading goes.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log: [u64; 2],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

fn load(program: &[[u8; 8]]) -> io::Result<OwnedFd> {
    const PROG_LOAD: i32 = 5;
    const CGROUP_DEVICE: u32 = 15;
    let mut name = [0; 16];
    name[..11].copy_from_slice(b"tug_devices");
    let attributes = Load {
        kind: CGROUP_DEVICE,
        instructions: program.len() as u32,
        program: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        name,
        ..Load::default()
    };
    let fd = bpf(PROG_LOAD, &attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `union bpf_attr` as far as attaching goes.
#[repr(C)]
struct Attach {
    target: i32,
    program: i32,
    kind: u32,
    flags: u32,
}

fn attach(program: &OwnedFd, group: &File) -> io::Result<()> {
    const PROG_ATTACH: i32 = 8;
    const CGROUP_DEVICE: u32 = 6;
    // Beside those of the groups above, which all must agree: a container can be given no more than what holds it.
    const ALLOW_MULTI: u32 = 2;
    let attributes =
        Attach { target: group.as_raw_fd(), program: program.as_raw_fd(), kind: CGROUP_DEVICE, flags: ALLOW_MULTI };
    bpf(PROG_ATTACH, &attributes).map(drop)
}

fn bpf<T>(command: i32, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads no further than the size says, and what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use nix::mount::{MsFlags, mount, umount};

    use super::*;

    /// A control group of its own in a v2 tree that is mounted for it: any kernel has one, also beside v1.
    struct Group {
        tree: tempfile::TempDir,
        name: String,
    }

    impl Group {
        fn new(number: usize) -> Self {
            let tree = tempfile::tempdir().unwrap();
            mount(None::<&str>, tree.path(), Some("cgroup2"), MsFlags::empty(), None::<&str>).expect("a cgroup2 mount");
            let group = Group { tree, name: format!("tug-devices-{}-{number}", std::process::id()) };
            fs::create_dir(group.directory()).unwrap();
            group
        }

        fn directory(&self) -> std::path::PathBuf {
            self.tree.path().join(&self.name)
        }

        /// Runs a shell's line in the group: whether it succeeded; it may fail for want of permission only.
        fn allows(&self, line: &str) -> bool {
            let script = format!("echo $$ > {}/cgroup.procs && {line}", self.directory().display());
            let output = Command::new("sh").args(["-c", &script]).current_dir(self.tree.path()).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() || error.contains("not permitted"), "{line}: {error}");
            output.status.success()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            fs::remove_dir(self.directory()).expect("an empty group");
            umount(self.tree.path()).expect("unmounting");
        }
    }

    #[test]
    fn the_last_rule_that_names_a_device_decides() {
        // Rules as `allow|deny kind major:minor access`, and what may and may not be done under them.
        let docker = "deny a;allow c *:* m;allow b *:* m;allow c 1:3 rwm";
        let cases: [(&str, &[&str], &[&str]); 9] = [
            (docker, &[": < /dev/null", ": > /dev/null", "mknod N c 1 5", "mknod N b 7 0"], &[": < /dev/zero"]),
            ("deny a;allow c 1:5 r", &[": < /dev/zero"], &[": > /dev/zero", ": <> /dev/zero", "mknod N c 1 5"]),
            ("deny a;allow c 1:5 r;allow c 1:5 w", &[": <> /dev/zero"], &["mknod N c 1 5", ": < /dev/full"]),
            ("deny a;allow c 1:* rw;deny c 1:5 w", &[": < /dev/zero", ": > /dev/null"], &[": > /dev/zero"]),
            ("allow a;deny b *:* rwm", &[": > /dev/null", "mknod N c 1 5"], &["mknod N b 7 0"]),
            ("deny c 1:3 rwm;allow a", &[": > /dev/null", "mknod N b 7 0"], &[]),
            ("allow c 1:3 rwm;deny a", &[], &[": < /dev/null"]),
            ("allow c 5:* rwm", &[], &[": < /dev/null"]),
            ("", &[], &[": < /dev/null", "mknod N c 1 3"]),
        ];
        for (number, (rules, allowed, refused)) in cases.into_iter().enumerate() {
            let group = Group::new(number);
            let parsed: Vec<_> = rules.split(';').filter(|rule| !rule.is_empty()).map(parse).collect();
            hold(&parsed, &group.directory()).expect(rules);
            let made = tempfile::tempdir().unwrap();
            let node = made.path().join("node").display().to_string();
            for (lines, expected) in [(allowed, true), (refused, false)] {
                for line in lines {
                    let allows = group.allows(&line.replace('N', &node));
                    // Another line may make it again.
                    drop(fs::remove_file(&node));
                    assert_eq!(allows, expected, "{line} under {rules:?}");
                }
            }
        }
    }

    fn parse(rule: &str) -> LinuxDeviceCgroup {
        let words: Vec<_> = rule.split(' ').collect();
        let mut value = serde_json::json!({"allow": words[0] == "allow", "type": words[1]});
        if let [_, _, numbers, access] = words[..] {
            let (major, minor) = numbers.split_once(':').unwrap();
            value["access"] = access.into();
            for (name, number) in [("major", major), ("minor", minor)] {
                if let Ok(number) = number.parse::<i64>() {
                    value[name] = number.into();
                }
            }
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for rule in ["allow p 1:3 rwm", "allow c 4294967296:3 r", "allow c 1:3 x"] {
            assert_eq!(
                Rule::new(&parse(rule)).err().map(|err| err.kind()),
                Some(io::ErrorKind::InvalidInput),
                "{rule}"
            );
        }
    }
}
