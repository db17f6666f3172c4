//! `init`: a pattern to begin with, that works at once.
//!
//! The program is a POSIX shell script, since that is what every machine has.

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::model::PatternName;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes the pattern; the text says how to go on. Never writes over anything.
pub(super) fn init(config: &Config, name: &str) -> Result<String> {
    let name = PatternName::new(name).map_err(|reason| {
        Error::new(Code::InvalidManifest, "the pattern cannot have that name")
            .with("name", format!("'{}'", Error::echo(name)))
            .because(reason)
            .suggest("pattern-launcher init my-pattern")
    })?;
    let folder = config.patterns_dir.join(name.as_str());
    write_pattern(&config.patterns_dir, &folder, &name).map_err(|cause| {
        let error = Error::new(Code::StoreUnavailable, "the pattern cannot be made")
            .with("folder", folder.display())
            .caused_by(&cause);
        if cause.kind() == io::ErrorKind::AlreadyExists {
            error.suggest(format!("choose another name, or remove {} first", folder.display()))
        } else {
            error.suggest(format!("check that {} can be written", config.patterns_dir.display()))
        }
    })?;
    let instance = config.desired[0].path.join(format!("{name}.yaml"));
    Ok(format!(
        "made {folder}\n\n\
         declare an instance of it:\n\n  \
         mkdir -p {desired} && printf 'pattern: {name}\\nnamespace: default\\n' > {instance}\n\n\
         and run the launcher, if it does not run yet:\n\n  \
         pattern-launcher run --patterns-dir {patterns} --desired-dir {desired}\n",
        folder = folder.display(),
        desired = config.desired[0].path.display(),
        instance = instance.display(),
        patterns = config.patterns_dir.display(),
    ))
}

fn write_pattern(patterns_dir: &Path, folder: &Path, name: &PatternName) -> io::Result<()> {
    fs::create_dir_all(patterns_dir)?;
    fs::create_dir(folder)?;
    // The manifest comes last: a launcher that runs takes up a pattern when it sees one.
    for (file, mode, text) in
        [("program", 0o755, PROGRAM), ("README.md", 0o644, README), ("manifest.yaml", 0o644, MANIFEST)]
    {
        let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(folder.join(file))?;
        new.write_all(text.replace("@NAME@", name.as_str()).as_bytes())?;
    }
    Ok(())
}

const MANIFEST: &str = "name: @NAME@
version: 0.1.0
description: What it does, in a line.
executable: ./program
args: []
isolation_level: namespace

# Asked every 10 s, and quickly at first. A program that speaks HTTP listens on HEALTH_PORT and has
#   healthcheck: { type: http, path: /health }
# instead; tcp and grpc use HEALTH_PORT, too.
healthcheck:
  type: exec
  command: [sh, ./program, health]
  interval: 10s

environment:
  GREETING: hello

lifecycle:
  grace_period: 5s
";

const PROGRAM: &str = r#"#!/bin/sh
# A process of the pattern @NAME@. The launcher gives it PATTERN_NAME, NAMESPACE, SESSION_ID, PROCESS_ID, GRPC_PORT,
# HEALTH_PORT and RUN_ID, then the manifest's environment, then the instance's config and slots.
# A server listens on 127.0.0.1:$GRPC_PORT and answers for its health on 127.0.0.1:$HEALTH_PORT.
set -eu

ready="${TMPDIR:-/tmp}/@NAME@-$RUN_ID.ready"

# The health check runs this same program with an argument, in the environment of the process.
if [ "${1:-}" = health ]; then
    test -e "$ready"
    exit
fi

# The stop signal: tidy up within the grace period.
stop() {
    rm -f "$ready"
    kill "$sleeper" 2> /dev/null || :
    echo "$PROCESS_ID ends"
    exit 0
}
sleeper=
trap stop TERM INT

# Standard output is the instance's log.
echo "$PROCESS_ID says $GREETING; gRPC would be on port $GRPC_PORT, health on port $HEALTH_PORT"
: > "$ready"
while :; do
    sleep 3600 &
    sleeper=$!
    wait "$sleeper" || :
done
"#;

const README: &str = "# @NAME@

What a process of this pattern does, and what it needs.

| file | what it is |
|---|---|
| `manifest.yaml` | how the launcher starts, checks and stops a process |
| `program` | what runs; any executable will do |

`pattern-launcher check` validates it. An instance is a file in the desired folder:

```yaml
pattern: @NAME@
namespace: default
config: { GREETING: good morning }
```
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::desired::parse_manifest;
    use std::os::unix::fs::PermissionsExt as _;

    fn config(folder: &Path) -> Config {
        let settings = Settings {
            patterns_dir: Some(folder.join("patterns")),
            desired_dir: Some(vec![folder.join("desired")]),
            ..Settings::default()
        };
        Config::decide(settings, None).unwrap()
    }

    #[test]
    fn the_pattern_has_a_manifest_that_is_valid_and_a_program_that_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let said = init(&config, "my-pattern").unwrap();
        assert!(said.contains("pattern: my-pattern"), "{said}");
        let made = config.patterns_dir.join("my-pattern");
        let path = made.join("manifest.yaml");
        let manifest = parse_manifest(&path, &made, &fs::read(&path).unwrap()).unwrap();
        assert_eq!(manifest.name.as_str(), "my-pattern");
        assert_eq!(fs::metadata(made.join("program")).unwrap().permissions().mode() & 0o111, 0o111);
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        init(&config, "mine").unwrap();
        let program = config.patterns_dir.join("mine/program");
        fs::write(&program, "my work").unwrap();
        let error = init(&config, "mine").unwrap_err();
        assert!(error.suggestion().unwrap().contains("mine"), "{error}");
        assert_eq!(fs::read_to_string(&program).unwrap(), "my work");
        assert!(init(&config, "../up").is_err());
    }
}
