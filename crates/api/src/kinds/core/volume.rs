//! What volumes and claims to them share.

use serde_json::Value;

use crate::kinds::walk::list;

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// `RWO,ROX,RWX,RWOP`, in that order, each once.
pub fn access_modes(object: &Value, pointer: &str) -> String {
    let modes = list(object, pointer);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let found: Vec<&str> =
        short.iter().filter(|(mode, _)| modes.iter().any(|held| held == mode)).map(|(_, short)| *short).collect();
    found.join(",")
}
