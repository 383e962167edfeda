//! Compiled filters are run as the kernel runs them (classic BPF, Documentation/networking/filter.rst) and judged by
//! what they answer.

use serde_json::json;

use super::*;
use crate::seccomp::default_profile;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const X86_64: u32 = 0xc000_003e;

/// What the filter answers to a system call with these arguments.
fn answer(program: &[u8], call: u32, arguments: &[u64]) -> u32 {
    // struct seccomp_data: number, architecture, instruction pointer, six arguments.
    let mut data = [call.to_ne_bytes(), X86_64.to_ne_bytes()].concat();
    data.extend([0; 8]);
    (0..6).for_each(|index| data.extend(arguments.get(index).copied().unwrap_or(0).to_ne_bytes()));
    let instructions: Vec<(u16, usize, usize, u32)> = program
        .chunks_exact(8)
        .map(|bytes| {
            let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
            let operand = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            (code, bytes[2] as usize, bytes[3] as usize, operand)
        })
        .collect();
    let (mut accumulator, mut at) = (0u32, 0);
    loop {
        let (code, if_true, if_false, operand) = instructions[at];
        at += 1;
        let jump = |taken: bool| if taken { if_true } else { if_false };
        match code {
            // ld [k], and #k, ja k, jeq, jgt, jge, jset, ret k.
            0x20 => {
                let start = operand as usize;
                accumulator = u32::from_ne_bytes(data[start..start + 4].try_into().expect("four bytes"));
            }
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => at += jump(accumulator == operand),
            0x25 => at += jump(accumulator > operand),
            0x35 => at += jump(accumulator >= operand),
            0x45 => at += jump(accumulator & operand != 0),
            0x06 => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn compiled(profile: &Value) -> Vec<u8> {
    compile(&serde_json::from_value(profile.clone()).expect("a profile")).expect("it compiles")
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_profile_judges_as_dockers() {
    let plain = compiled(&default_profile(&[]));
    let admin = compiled(&default_profile(&["CAP_SYS_ADMIN".into()]));
    let (read, clone, clone3, mount, unshare) = (0, 56, 435, 165, 272);
    let (socket, personality, io_uring_setup, keyctl, add_key) = (41, 135, 425, 250, 248);
    let (new_user, new_net, vm_and_threads) = (0x1000_0000, 0x4000_0000, 0x003d_0f00);
    let cases: [(&str, u32, &[u64], u32, u32); 15] = [
        ("read", read, &[], ALLOW, ALLOW),
        ("a thread", clone, &[vm_and_threads], ALLOW, ALLOW),
        ("a fork", clone, &[17], ALLOW, ALLOW),
        ("a user namespace", clone, &[new_user | 17], EPERM, ALLOW),
        ("a network namespace", clone, &[new_net | 17], EPERM, ALLOW),
        ("clone3 hides its flags", clone3, &[], ENOSYS, ALLOW),
        ("mount", mount, &[], EPERM, ALLOW),
        ("unshare", unshare, &[], EPERM, ALLOW),
        ("a TCP socket", socket, &[2, 1], ALLOW, ALLOW),
        ("a VSOCK socket", socket, &[40, 1], EPERM, EPERM),
        ("Linux32", personality, &[8], ALLOW, ALLOW),
        ("no randomization", personality, &[0x0004_0000], EPERM, EPERM),
        ("io_uring", io_uring_setup, &[], EPERM, EPERM),
        ("keyctl", keyctl, &[], EPERM, EPERM),
        ("add_key", add_key, &[], EPERM, EPERM),
    ];
    for (case, call, arguments, without, with) in cases {
        let answers = (answer(&plain, call, arguments), answer(&admin, call, arguments));
        assert_eq!(answers, (without, with), "{case}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn conditions_on_one_argument_are_alternatives() {
    let either = |value: u64| json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" });
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [either(1), either(2)] }],
    });
    let program = compiled(&profile);
    for (value, expected) in [(1, ALLOW), (2, ALLOW), (3, EPERM)] {
        assert_eq!(answer(&program, 135, &[value]), expected, "{value}");
    }
}

#[test]
fn a_profile_is_compiled_once_and_refused_when_it_is_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let filters = Filters::new(dir.path().into());
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"] });
    let filter = filters.of(&profile).expect("it compiles");
    assert_eq!((filters.of(&profile).expect("known"), filter.flags), (filter, FLAG_LOG));
    for wrong in [json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), json!({}), json!({ "defaultAction": "nonsense" })] {
        let error = filters.of(&wrong).expect_err("no profile").to_string();
        assert!(error.starts_with("invalid seccomp profile: "), "{error}");
    }
}
