//! What `config` and `slots` may hold, whether a file says it or a request does.

use super::fields::alternatives;
use crate::error::Error;
use crate::model::Secret;
use crate::model::environment::{RESERVED, is_variable_name};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The longest `NAME=value` that the kernel gives to a process (`MAX_ARG_STRLEN`, its final NUL included).
const VARIABLE_LIMIT: usize = 128 * 1024;
/// The longest path that the kernel takes (`PATH_MAX`, its final NUL included).
const PATH_LIMIT: usize = 4095;
/// What a value's variable is longer than its path: `SLOT_`, `=` and a NUL.
const VARIABLE_EXCESS: usize = 8;

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is wrong, without a full stop.
    pub(crate) message: String,
    /// What to do.
    pub(crate) suggestion: Option<String>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None }
    }

    fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }
}

/// Whether `name` can be a variable that the mapping `key` sets: a valid name that is not the launcher's own.
pub(crate) fn check_variable(key: &str, name: &str) -> Result<(), Fault> {
    let shown = Error::echo(name);
    if !is_variable_name(name) {
        let fault = Fault::new(format!("'{shown}' in '{key}' cannot be the name of an environment variable"));
        let valid: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        return Err(if is_variable_name(&valid) {
            fault.suggest(format!("write it as '{}'", Error::echo(&valid)))
        } else {
            fault.suggest("use letters, digits and '_', and begin with a letter or '_'")
        });
    }
    if RESERVED.contains(&name) {
        let fault = Fault::new(format!("'{shown}' in '{key}' is set by the launcher itself and cannot be overridden"));
        return Err(fault.suggest(format!("remove '{shown}' from '{key}'")));
    }
    Ok(())
}

/// Whether an instance may set the variable: not those that decide what code a program loads.
pub(crate) fn check_config(name: &str) -> Result<(), Fault> {
    if name == "PATH" || name.starts_with("LD_") {
        let fault = Fault::new(format!("'{}' cannot be set by 'config'", Error::echo(name)));
        return Err(fault.suggest("set it in the 'environment' of the pattern's manifest"));
    }
    Ok(())
}

/// Whether a value can stand in an environment. `path` leads to it.
pub(crate) fn check_value(path: &[&str], value: &Secret) -> Result<(), Fault> {
    let name = Error::echo(&path.join("."));
    let length: usize = path.iter().map(|part| part.len() + 1).sum::<usize>() + value.reveal().len();
    if value.reveal().contains('\0') {
        return Err(Fault::new(format!("the value of '{name}' contains a NUL character")));
    }
    if length + VARIABLE_EXCESS > VARIABLE_LIMIT {
        let fault = Fault::new(format!("the value of '{name}' is longer than an environment variable can be"));
        return Err(fault.suggest("put it into a file, and set the file's path"));
    }
    Ok(())
}

/// Whether the keys of a slot's binding become variables of their own; the second of two that do not is given back.
pub(crate) fn check_keys<'a>(slot: &str, keys: impl Iterator<Item = &'a str>) -> Result<(), (&'a str, Fault)> {
    let mut parts = BTreeMap::new();
    for key in keys {
        check_slot_name(key).map_err(|message| (key, Fault::new(message)))?;
        if let Some(other) = parts.insert(variable_part(key), key) {
            let variable = format!("SLOT_{}_{}", variable_part(slot), variable_part(key));
            let fault = Fault::new(format!("'{other}' and '{key}' would both become {variable}"));
            return Err((key, fault.suggest("rename or remove one of them")));
        }
    }
    Ok(())
}

/// The most files that an instance may name.
pub(crate) const CREDENTIALS_LIMIT: usize = 64;

/// Whether a credential can have this name, which is that of its file.
pub(crate) fn check_credential_name(name: &str) -> Result<(), String> {
    check_name(name, "in 'credentials'")?;
    if name.starts_with('.') {
        return Err(format!(
            "the name '{}' in 'credentials' must be a file's that is not hidden: without a dot in front",
            Error::echo(name)
        ));
    }
    Ok(())
}

/// Where a credential is read. What leads out of a folder is refused here already; links are looked at when it is read.
pub(crate) fn credential_path(name: &str, written: &str) -> Result<PathBuf, Fault> {
    let path = Path::new(written);
    let ordinary = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let named = path.file_name().is_some() && !written.ends_with('/');
    if written.contains('\0') || written.len() > PATH_LIMIT || !named || !path.components().all(ordinary) {
        let fault = Fault::new(format!("'credentials.{name}' is no path of a file: '{}'", Error::echo(written)));
        return Err(fault.suggest("write the path of a file in a credentials_dir of the launcher, without '..'"));
    }
    Ok(path.to_owned())
}

/// Upper case, anything but letters and digits as `_`.
pub(crate) fn variable_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Whether a slot, or a key of its binding, can become part of a variable's name.
pub(crate) fn check_slot_name(name: &str) -> Result<(), String> {
    check_name(name, "in a slot")
}

fn check_name(name: &str, place: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
        let marks = alternatives(&["letters", "digits", "'.'", "'_'", "'-'"]);
        return Err(format!("the name '{}' {place} must be 1 to 63 characters, {marks}", Error::echo(name)));
    }
    Ok(())
}
