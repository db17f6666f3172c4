//! Writes a file of instances that reads back as exactly what it was written from.

use crate::desired::spec::InstanceSpec;
use crate::model::{DesiredState, Resources, Secret, units};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The text of a file that declares `specs`, for people to read; `remark` becomes a comment above them. Every value is
/// quoted, so that it comes back as the text it is.
pub fn write_instances(specs: &[InstanceSpec], remark: &str) -> String {
    let remark: String = remark.chars().map(|c| if is_plain(c) { c } else { '?' }).collect();
    let mut text = format!("# {remark}\n");
    for (number, spec) in specs.iter().enumerate() {
        if number > 0 {
            text.push_str("---\n");
        }
        document(&mut text, spec);
    }
    text
}

/// The line of the first document's first key.
pub const FIRST_LINE: u32 = 2;

fn document(text: &mut String, spec: &InstanceSpec) {
    line(text, 0, "pattern", &quoted(spec.pattern.as_str()));
    if let Some(level) = spec.isolation {
        line(text, 0, "isolation", level.as_str());
    }
    if let Some(namespace) = &spec.namespace {
        line(text, 0, "namespace", &quoted(namespace.as_str()));
    }
    if let Some(session) = &spec.session {
        line(text, 0, "session", &quoted(session.as_str()));
    }
    if !spec.config.is_empty() {
        line(text, 0, "config", "");
        values(text, 1, &spec.config);
    }
    if !spec.slots.is_empty() {
        line(text, 0, "slots", "");
        for (slot, binding) in &spec.slots {
            line(text, 1, &quoted(slot), if binding.is_empty() { "{}" } else { "" });
            values(text, 2, binding);
        }
    }
    if !spec.credentials.is_empty() {
        line(text, 0, "credentials", "");
        for (name, path) in &spec.credentials {
            // It was read from a file of this kind, so it is text.
            line(text, 1, &quoted(name), &quoted(&path.to_string_lossy()));
        }
    }
    resources(text, &spec.resources);
    if let Some(grace) = spec.grace_period {
        line(text, 0, "grace_period", &units::format_duration(grace));
    }
    if spec.state == DesiredState::Stopped {
        line(text, 0, "state", "stopped");
    }
    if let Some(ttl) = spec.ttl {
        line(text, 0, "ttl", &units::format_duration(ttl));
    }
}

fn values(text: &mut String, depth: usize, values: &BTreeMap<String, Secret>) {
    for (name, value) in values {
        line(text, depth, &quoted(name), &quoted(value.reveal()));
    }
}

fn resources(text: &mut String, resources: &Resources) {
    let Resources { cpu_limit_millis, memory_limit, cpu_request_millis, memory_request, pids_limit, oom_policy } =
        resources;
    let all = [
        ("cpu_limit", cpu_limit_millis, "m"),
        ("memory_limit", memory_limit, ""),
        ("cpu_request", cpu_request_millis, "m"),
        ("memory_request", memory_request, ""),
        ("pids_limit", pids_limit, ""),
    ];
    if *resources != Resources::default() {
        line(text, 0, "resources", "");
    }
    for (name, number, unit) in all {
        if let Some(number) = number {
            line(text, 1, name, &format!("{number}{unit}"));
        }
    }
    if let Some(policy) = oom_policy {
        line(text, 1, "oom_policy", policy.as_str());
    }
}

fn line(text: &mut String, depth: usize, key: &str, value: &str) {
    let space = if value.is_empty() { "" } else { " " };
    writeln!(text, "{:1$}{key}:{space}{value}", "", depth * 2).unwrap_or_default();
}

/// A text in double quotes. Letters and digits of any script stay as they are; marks that could end a line, or be shown
/// as something else, are escaped.
fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_plain(c) => out.push(c),
            c => escape(&mut out, u32::from(c)),
        }
    }
    out.push('"');
    out
}

fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') || (!c.is_ascii() && c.is_alphanumeric())
}

fn escape(out: &mut String, code: u32) {
    let written = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
    written.unwrap_or_default();
}

#[cfg(test)]
mod tests;
