//! What a process finds in its environment, and `$(NAME)` in its arguments.

use super::id::RunId;
use super::instance::{Instance, Ports};
use std::collections::BTreeMap;

/// The variables the launcher itself sets; no manifest, config or slot may override them.
pub const RESERVED: [&str; 7] =
    ["PATTERN_NAME", "NAMESPACE", "SESSION_ID", "PROCESS_ID", "GRPC_PORT", "HEALTH_PORT", "RUN_ID"];

/// What of the launcher's own environment a process inherits, besides `inherit_env`.
pub const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A process's environment by name. Values may be secret: it has no `Debug` of its own.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment(pub BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// The environment of one run: `inherited`, then the manifest's, then config and slots, then the reserved ones.
    pub fn of(inherited: &BTreeMap<String, String>, instance: &Instance, ports: Ports, run: RunId) -> Self {
        let launch = &instance.content.launch;
        let mut all = inherited.clone();
        for (name, value) in launch.pattern.environment.iter().chain(&launch.config) {
            all.insert(name.clone(), value.reveal().to_owned());
        }
        let own = [
            instance.pattern.as_str().to_owned(),
            instance.isolation.namespace().map(|n| n.as_str().to_owned()).unwrap_or_default(),
            instance.isolation.session().map(|s| s.as_str().to_owned()).unwrap_or_default(),
            instance.key.as_str().to_owned(),
            ports.grpc.to_string(),
            ports.health.to_string(),
            run.to_string(),
        ];
        all.extend(RESERVED.iter().map(|name| (*name).to_owned()).zip(own));
        Self(all)
    }
}

/// Whether `name` can be an environment variable: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Replaces `$(NAME)` by its value as the kubelet does: `$$(NAME)` is literally `$(NAME)`, an unknown name stays as it
/// is written.
pub fn expand(text: &str, environment: &Environment) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            if let Some(value) = environment.0.get(name) {
                out.push_str(value);
            } else {
                out.push_str("$(");
                out.push_str(name);
                out.push(')');
            }
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion_follows_the_kubelet() {
        let environment = Environment(BTreeMap::from([("A".to_owned(), "x$(A)".to_owned())]));
        for (text, expected) in [
            ("--t=$(A)", "--t=x$(A)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$x$(A)"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("a$", "a$"),
            ("$A", "$A"),
            ("100$$", "100$"),
        ] {
            assert_eq!(expand(text, &environment), expected, "{text}");
        }
    }
}
