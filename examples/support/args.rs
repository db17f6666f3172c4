//! Command lines of the fixture programs: `--name value` pairs, and the usage text on `--help`.

/// What a program was called with.
#[derive(Debug)]
pub(crate) struct Args(Vec<String>);

impl Args {
    /// The arguments, or `None` after printing `usage` because `--help` is among them.
    #[expect(clippy::print_stdout, reason = "the usage text is what was asked for")]
    pub(crate) fn or_usage(usage: &str) -> Option<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        if args.iter().any(|arg| arg == "--help") {
            println!("{usage}");
            return None;
        }
        Some(Self(args))
    }

    /// The value after `--name`; `default` when the option is absent.
    pub(crate) fn value<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        let Some(at) = self.0.iter().position(|arg| arg == name) else { return Ok(default) };
        let text = self.0.get(at + 1).map_or("", String::as_str);
        text.parse().map_err(|_| format!("{name} cannot be {text:?}; --help tells what it takes"))
    }
}
