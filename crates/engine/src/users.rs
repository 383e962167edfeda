//! Who a container runs as: names from an image or a request, looked up in the container's own `passwd` and `group`.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::engine::{Error, Result};
use crate::spec::{Identity, ImageGroups};

/// Longest `passwd` or `group` that is read.
const FILE_BYTES: u64 = 4 << 20;

/// An identity as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one among them: a set-group-id program must not shed it.
    pub groups: Vec<u32>,
    pub home: String,
}

impl User {
    /// With groups that are asked for; its own group counts as one, as containerd and Docker have it.
    pub fn identity(&self, more: &[u32]) -> Identity {
        let mut groups = [&[self.gid], self.groups.as_slice(), more].concat();
        groups.sort_unstable();
        groups.dedup();
        Identity { uid: self.uid, gid: self.gid, groups }
    }
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user`, `user:group`, `uid`, `uid:gid` and their mixtures; root when empty.
///
/// # Errors
/// A name that is not in the container's files, or a number out of range, in Docker's words.
pub fn resolve(rootfs: &Path, user: &str, image_groups: ImageGroups) -> Result<User> {
    let passwd = read(rootfs, "etc/passwd");
    let group = read(rootfs, "etc/group");
    resolve_in(&passwd, &group, user, image_groups)
}

fn resolve_in(passwd: &str, group: &str, user: &str, image_groups: ImageGroups) -> Result<User> {
    let (name, group_name) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let number = parse_id(name)?;
    let entry = passwd.lines().filter_map(passwd_entry).find(|entry| match (name, number) {
        ("", _) => entry.uid == 0,
        (name, number) => entry.name == name || number == Some(entry.uid),
    });
    let mut found = match (&entry, number) {
        (Some(entry), _) => User { uid: entry.uid, gid: entry.gid, groups: Vec::new(), home: entry.home.to_owned() },
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".into() },
        (None, None) if name.is_empty() => User { uid: 0, gid: 0, groups: Vec::new(), home: "/root".into() },
        (None, None) => {
            let message = format!("unable to find user {name}: no matching entries in passwd file");
            return Err(Error::Invalid(message));
        }
    };
    if found.home.is_empty() {
        found.home = "/".into();
    }
    let group_name = group_name.filter(|group| !group.is_empty());
    if let Some(group_name) = group_name {
        let number = parse_id(group_name)?;
        let mut entries = group.lines().filter_map(group_entry);
        let matching = entries.find(|entry| entry.name == group_name || number == Some(entry.gid));
        found.gid = matching.map(|entry| entry.gid).or(number).ok_or_else(|| {
            Error::Invalid(format!("unable to find group {group_name}: no matching entries in group file"))
        })?;
    }
    let from_image = match image_groups {
        ImageGroups::UnlessGroupGiven => group_name.is_none(),
        ImageGroups::Always => true,
        ImageGroups::Never => false,
    };
    if let Some(entry) = entry.filter(|_| from_image) {
        let of_user = |group: &GroupEntry<'_>| group.members.split(',').any(|member| member == entry.name);
        found.groups = group.lines().filter_map(group_entry).filter(of_user).map(|group| group.gid).collect();
    }
    found.groups.retain(|group| *group != found.gid);
    found.groups.insert(0, found.gid);
    Ok(found)
}

fn parse_id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i32>() {
        Ok(id) => Ok(Some(id as u32)),
        Err(_) => Err(Error::Invalid("uids and gids must be in range 0-2147483647".into())),
    }
}

fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.split(':');
    let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let home = fields.nth(1).unwrap_or_default();
    Some(PasswdEntry { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
}

fn group_entry(line: &str) -> Option<GroupEntry<'_>> {
    let mut fields = line.split(':');
    let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
    Some(GroupEntry { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or_default() })
}

/// Empty when the file is missing: an image without users is a valid one.
fn read(rootfs: &Path, path: &str) -> String {
    let mut bytes = Vec::new();
    // A file that can't be read whole resolves fewer names, which is an error of its own where one was asked for.
    let _ = open_inside(rootfs, Path::new(path)).map(|fd| File::from(fd).take(FILE_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens a file of a container for reading; links can't lead out of its root.
pub fn open_inside(rootfs: &Path, path: &Path) -> std::io::Result<OwnedFd> {
    let root = rustix::fs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nodd line\n";
    const GROUP: &str = "root:x:0:\ndocker:x:7:web,root\nstaff:x:50:web\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let user = |uid, gid, groups: &[u32], home: &str| User { uid, gid, groups: groups.to_vec(), home: home.into() };
        let cases = [
            ("", user(0, 0, &[0, 7], "/root")),
            ("web", user(33, 34, &[34, 7, 50], "/var/www")),
            ("33", user(33, 34, &[34, 7, 50], "/var/www")),
            ("web:staff", user(33, 50, &[50], "/var/www")),
            ("web:99", user(33, 99, &[99], "/var/www")),
            ("1000", user(1000, 0, &[0], "/")),
            ("1000:1000", user(1000, 1000, &[1000], "/")),
        ];
        for (asked, expected) in cases {
            let found = resolve_in(PASSWD, GROUP, asked, ImageGroups::UnlessGroupGiven);
            assert_eq!(found.unwrap(), expected, "{asked}");
        }
    }

    #[test]
    fn groups_of_the_image_come_when_they_are_asked_for() {
        let cases = [
            ("web", ImageGroups::Always, &[7, 34, 50, 4000][..]),
            ("33:99", ImageGroups::Always, &[7, 50, 99, 4000]),
            ("33:99", ImageGroups::UnlessGroupGiven, &[99, 4000]),
            ("web", ImageGroups::Never, &[34, 4000]),
            ("1000", ImageGroups::Always, &[0, 4000]),
        ];
        for (asked, image_groups, groups) in cases {
            let found = resolve_in(PASSWD, GROUP, asked, image_groups).unwrap();
            assert_eq!(found.identity(&[4000, 4000]).groups, groups, "{asked} {image_groups:?}");
        }
    }

    #[test]
    fn unknown_names_are_refused_in_dockers_words() {
        let cases = [
            ("nobody", "unable to find user nobody: no matching entries in passwd file"),
            ("web:nogroup", "unable to find group nogroup: no matching entries in group file"),
            ("4294967295", "uids and gids must be in range 0-2147483647"),
        ];
        for (asked, expected) in cases {
            let found = resolve_in(PASSWD, GROUP, asked, ImageGroups::default());
            assert_eq!(found.unwrap_err().to_string(), expected);
        }
        assert_eq!(resolve_in("", "", "", ImageGroups::default()).unwrap().uid, 0);
    }
}
