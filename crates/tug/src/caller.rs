//! Whose kubeconfig it is: under sudo the invoking user's, not root's.

use std::env;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User};

/// The person at the keyboard.
pub struct Caller {
    pub home: PathBuf,
    /// Owner to give to files made for them; `None` when that is who we are.
    pub owner: Option<(u32, u32)>,
}

pub fn caller() -> Caller {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    let invoking = number("SUDO_UID").zip(number("SUDO_GID")).filter(|(uid, _)| *uid != 0);
    if let Some((uid, gid)) = invoking
        && let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid))
    {
        return Caller { home: user.dir, owner: Some((uid, Gid::from_raw(gid).as_raw())) };
    }
    let home = env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from);
    Caller { home, owner: None }
}
