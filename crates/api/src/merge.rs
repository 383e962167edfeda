//! How lists and maps of the built-in types merge: patch strategies and keys, list types and map keys.

/// What upstream's Go types say of one field (`patchStrategy`, `patchMergeKey`, `+listType`, `+listMapKey` …).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// `merge`, `replace`, `retainKeys`, or two of them with a comma.
    pub patch_strategy: &'static str,
    pub patch_key: &'static str,
    /// `atomic`, `set`, `map`, `granular`, or empty.
    pub list_type: &'static str,
    pub map_keys: &'static [&'static str],
}
