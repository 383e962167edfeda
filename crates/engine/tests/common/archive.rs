//! Images made on the spot, as `docker save` archives.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;

/// One member of a layer.
pub struct Member {
    name: String,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    target: String,
    bytes: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Member {
    fn new(name: &str, kind: EntryType) -> Self {
        let (target, bytes, xattrs) = Default::default();
        Member { name: name.into(), kind, mode: 0o755, owner: (0, 0), target, bytes, xattrs }
    }

    pub fn file(name: &str, bytes: &[u8]) -> Self {
        Member { bytes: bytes.to_vec(), mode: 0o644, ..Self::new(name, EntryType::Regular) }
    }

    pub fn directory(name: &str) -> Self {
        Self::new(name, EntryType::Directory)
    }

    pub fn link(name: &str, target: &str) -> Self {
        Member { target: target.into(), ..Self::new(name, EntryType::Link) }
    }

    pub fn symlink(name: &str, target: &str) -> Self {
        Member { target: target.into(), mode: 0o777, ..Self::new(name, EntryType::Symlink) }
    }

    pub fn mode(self, mode: u32) -> Self {
        Member { mode, ..self }
    }

    pub fn owner(self, uid: u64, gid: u64) -> Self {
        Member { owner: (uid, gid), ..self }
    }

    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.push((name.into(), value.into()));
        self
    }

    fn append(&self, archive: &mut tar::Builder<Vec<u8>>) {
        let attributes = self.xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice()));
        let attributes: Vec<_> = attributes.collect();
        if !attributes.is_empty() {
            let borrowed = attributes.iter().map(|(name, value)| (name.as_str(), *value));
            archive.append_pax_extensions(borrowed).expect("writing to memory");
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(1_000_000);
        header.set_size(self.bytes.len() as u64);
        if !self.target.is_empty() {
            header.set_link_name(&self.target).expect("a short name");
        }
        // Written as bytes, since the library refuses to write names that lead out.
        header.as_old_mut().name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        header.set_cksum();
        archive.append(&header, self.bytes.as_slice()).expect("writing to memory");
    }
}

/// Bytes that don't compress, so that a transfer is as long as the file.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// A layer's archive, uncompressed.
pub fn layer(members: &[Member]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for member in members {
        member.append(&mut archive);
    }
    archive.into_inner().expect("writing to memory")
}

/// An image: its name, its layers and its `config`.
pub struct Image {
    pub name: String,
    pub layers: Vec<Vec<u8>>,
    pub config: Value,
}

impl Image {
    pub fn new(name: &str, layers: Vec<Vec<u8>>) -> Self {
        Image { name: name.into(), layers, config: json!({ "Cmd": ["sh"] }) }
    }

    pub fn busybox() -> Self {
        Self::new("busybox:latest", vec![layer(&super::busybox_members())])
    }

    /// Writes a `docker save` archive.
    pub fn write(&self, path: &Path) {
        let digest = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let diff_ids: Vec<String> = ids.iter().map(|id| format!("sha256:{id}")).collect();
        let document = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let layers: Vec<String> = ids.iter().map(|id| format!("{id}/layer.tar")).collect();
        let manifest = json!([{ "Config": "config.json", "RepoTags": [self.name], "Layers": layers }]);
        let mut archive = tar::Builder::new(fs::File::create(path).expect("making the archive"));
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, name, bytes).expect("writing the archive");
        };
        add("config.json", document.to_string().as_bytes());
        for (name, layer) in layers.iter().zip(&self.layers) {
            add(name, layer);
        }
        add("manifest.json", manifest.to_string().as_bytes());
    }
}
