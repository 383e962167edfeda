//! The shape of every kind: built at first use from the generated schemas, interned, and stripped of all that only
//! documentation needs. Decoding (`check`), patches and apply all walk it.

mod build;
mod check;
mod duplicates;

use std::sync::OnceLock;

use crate::kind::Kind;
use crate::merge::Merge;

pub use check::{Checked, check};
pub use duplicates::duplicate_fields;

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Anything goes and is kept: raw extensions, the JSON in custom resource definitions.
    Any,
    Bool,
    Int32,
    Int64,
    Number,
    Text,
    /// Base64 on the wire.
    Bytes,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    Quantity,
    IntOrString,
    Struct(&'static Struct),
    Map(&'static Type),
    List(&'static Type),
}

/// A named type with fields. Each exists once, whichever kinds it is part of.
pub struct Struct {
    /// `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    /// Sorted by name. Set right after the struct is entered in the registry, for types may contain themselves.
    fields: OnceLock<Box<[Field]>>,
}

/// A field of a [`Struct`].
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub r#type: Type,
    /// Written even if it is empty.
    pub required: bool,
    /// How patches and apply treat it, where that isn't the default.
    pub merge: Option<&'static Merge>,
}

/// The shape of a whole kind.
pub fn of(kind: &Kind) -> &'static Struct {
    build::root(kind)
}

impl Struct {
    pub fn fields(&self) -> &[Field] {
        self.fields.get().map_or(&[], |fields| fields)
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        let fields = self.fields();
        fields.binary_search_by(|field| field.name.cmp(name)).ok().map(|index| &fields[index])
    }

    /// Go's name for the type: `DeploymentSpec`.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, name)| name)
    }

    /// Go's name with its package: `v1.DeploymentSpec`.
    fn go_path(&self) -> &'static str {
        let mut dots = self.name.rmatch_indices('.').map(|(at, _)| at + 1);
        dots.nth(1).map_or(self.name, |at| &self.name[at..])
    }
}

impl std::fmt::Debug for Struct {
    /// Only the name: types may contain themselves.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Type {
    /// The field of this name, if this is a struct that has it.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Struct(of) => of.field(name),
            _ => None,
        }
    }

    /// Go's name for the type, as its decoder's errors print it.
    fn go_path(&self) -> String {
        match self {
            Self::Any => "runtime.RawExtension".into(),
            Self::Bool => "bool".into(),
            Self::Int32 => "int32".into(),
            Self::Int64 => "int64".into(),
            Self::Number => "float64".into(),
            Self::Text => "string".into(),
            Self::Bytes => "[]uint8".into(),
            Self::Time => "v1.Time".into(),
            Self::MicroTime => "v1.MicroTime".into(),
            Self::Quantity => "resource.Quantity".into(),
            Self::IntOrString => "intstr.IntOrString".into(),
            Self::Struct(of) => of.go_path().into(),
            Self::Map(of) => format!("map[string]{}", of.go_path()),
            Self::List(of) => format!("[]{}", of.go_path()),
        }
    }
}
