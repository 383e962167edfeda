//! System call filters: Docker's default profile as a table of facts, and profiles from files in Docker's format.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::{Error, Result};

/// Allowed to every container.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
    getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
    getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
    get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
    ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr listxattrat llistxattr _llseek
    lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore
    mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
    prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall
    socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee
    tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
    truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes
    vfork vmsplice wait4 waitid waitpid write writev
    process_vm_readv process_vm_writev ptrace";

/// Allowed on one architecture only.
const ALLOWED_X86: &str = "arch_prctl modify_ldt";
const ALLOWED_ARM: &str = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// Allowed with a capability.
const ALLOWED_WITH: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie lsm_get_self_attr
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
         quotactl_fd setdomainname sethostname setns statmount syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Personalities that programs may set: Linux, Linux32, each with UNAME26, and asking for the current one.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];
/// All `CLONE_NEW*` flags but the time namespace's, which clone(2) can't carry.
const CLONE_NEW: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// `linux.seccomp` of Docker's default profile for a container with these capabilities.
pub fn default_profile(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let mut names: Vec<&str> = ALLOWED.split_whitespace().collect();
    names.extend(if cfg!(target_arch = "x86_64") { ALLOWED_X86 } else { ALLOWED_ARM }.split_whitespace());
    for (capability, allowed) in ALLOWED_WITH {
        if has(capability) {
            names.extend(allowed.split_whitespace());
        }
    }
    names.sort_unstable();
    names.dedup();
    let allow_when = |name: &str, op: &str, value: u64, value_two: u64| {
        let argument = json!({"index": 0, "value": value, "valueTwo": value_two, "op": op});
        json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
    };
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    rules.push(allow_when("socket", "SCMP_CMP_NE", AF_VSOCK, 0));
    rules.extend(PERSONALITIES.map(|value| allow_when("personality", "SCMP_CMP_EQ", value, 0)));
    if !has("CAP_SYS_ADMIN") {
        rules.push(allow_when("clone", "SCMP_CMP_MASKED_EQ", CLONE_NEW, 0));
        // The C library falls back to clone, whose flags a filter can read, only on this error.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

fn architectures() -> &'static [&'static str] {
    match cfg!(target_arch = "x86_64") {
        true => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        false => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    }
}

/// A profile in Docker's format, which adds conditions and a map of architectures to the OCI's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    /// The format's older form: one name a rule.
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Default, Deserialize)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

/// `linux.seccomp` from a profile file, for a container with these capabilities.
///
/// # Errors
/// When the file can't be read or is no such profile.
pub fn from_file(path: &Path, capabilities: &[String]) -> Result<Value> {
    let failed = |why: String| Error::Invalid(format!("cannot load seccomp profile \"{}\": {why}", path.display()));
    let text = std::fs::read(path).map_err(|err| failed(err.to_string()))?;
    let profile: Profile = serde_json::from_slice(&text).map_err(|err| failed(err.to_string()))?;
    Ok(evaluate(profile, capabilities))
}

fn evaluate(profile: Profile, capabilities: &[String]) -> Value {
    let native = architectures()[0];
    let mut arches = profile.architectures;
    for entry in profile.arch_map {
        if entry.architecture == native {
            arches.push(entry.architecture);
            arches.extend(entry.sub_architectures.unwrap_or_default());
        }
    }
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let is_here = |name: &String| name == arch;
    let has = |name: &String| capabilities.contains(name);
    let mut rules = Vec::new();
    for rule in profile.syscalls {
        let included = rule.includes.caps.iter().all(has)
            && (rule.includes.arches.is_empty() || rule.includes.arches.iter().any(is_here));
        let excluded = rule.excludes.caps.iter().any(has) || rule.excludes.arches.iter().any(is_here);
        if !included || excluded {
            continue;
        }
        let names: Vec<String> = rule.names.into_iter().chain(rule.name).collect();
        let mut value = json!({"names": names, "action": rule.action});
        if let Some(args) = rule.args.filter(|args| !args.is_empty()) {
            value["args"] = json!(args);
        }
        if let Some(errno) = rule.errno_ret {
            value["errnoRet"] = json!(errno);
        }
        rules.push(value);
    }
    let mut seccomp = json!({"defaultAction": profile.default_action, "syscalls": rules});
    if let Some(errno) = profile.default_errno_ret {
        seccomp["defaultErrnoRet"] = json!(errno);
    }
    if !arches.is_empty() {
        seccomp["architectures"] = json!(arches);
    }
    if !profile.flags.is_empty() {
        seccomp["flags"] = json!(profile.flags);
    }
    seccomp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(profile: &Value, name: &str) -> bool {
        let rules = profile["syscalls"].as_array().unwrap();
        rules.iter().any(|rule| {
            rule["action"] == "SCMP_ACT_ALLOW"
                && rule.get("args").is_none()
                && rule["names"].as_array().unwrap().iter().any(|entry| entry == name)
        })
    }

    #[test]
    fn what_is_allowed_follows_capabilities() {
        let plain = default_profile(&[]);
        let admin = default_profile(&["CAP_SYS_ADMIN".into()]);
        for (name, without, with) in [
            ("read", true, true),
            ("mount", false, true),
            ("unshare", false, true),
            ("clone", false, true),
            ("reboot", false, false),
            ("io_uring_setup", false, false),
            ("ptrace", true, true),
        ] {
            assert_eq!((allows(&plain, name), allows(&admin, name)), (without, with), "{name}");
        }
        let rules = plain["syscalls"].as_array().unwrap();
        assert!(rules.iter().any(|rule| rule["names"] == json!(["clone3"]) && rule["errnoRet"] == 38));
    }

    #[test]
    fn conditions_of_a_file_are_evaluated() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": []},
                {"name": "old", "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}}
            ]}"#;
        let evaluated = |capabilities: &[String]| evaluate(serde_json::from_str(text).unwrap(), capabilities);
        let plain = evaluated(&[]);
        let admin = evaluated(&["CAP_SYS_ADMIN".into()]);
        for (name, without, with) in [
            ("read", true, true),
            ("old", true, true),
            ("mount", false, true),
            ("clone", true, false),
            ("s390", false, false),
        ] {
            assert_eq!((allows(&plain, name), allows(&admin, name)), (without, with), "{name}");
        }
        assert_eq!(plain["architectures"].as_array().unwrap().len(), 2);
    }
}
