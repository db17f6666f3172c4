//! Why nothing is known of a key: nobody declares it, and here is what may have been meant.

use crate::control::Control;
use crate::desired::Lookup;
use crate::error::Error;
use crate::model::{Condition, Isolation, Key};
use crate::reconciler::Happening;

/// The most refused files that are named.
const REFUSED: usize = 3;

impl Control {
    /// The error for a key that nobody declares, with everything that may explain it.
    pub(super) fn unknown(&self, key: &Key, last: Option<&Happening>) -> Error {
        let error = self.not_found(key);
        let mut causes = Vec::new();
        if let Some(last) = last {
            let by = last.by.as_ref().map(|by| format!(", asked for by {by}")).unwrap_or_default();
            causes.push(format!("the last that happened to it was '{}' at {}{by}", last.message, last.wall));
        }
        let pattern = key.pattern_name();
        let usable = match self.patterns().lookup(&pattern) {
            Lookup::Found(_) | Lookup::LastGood(..) => true,
            Lookup::Invalid(problem) | Lookup::Gone(problem) | Lookup::Unknown(problem) => {
                causes.push(problem.summary());
                false
            }
        };
        let desired = self.board.desired();
        let refused: Vec<&Condition> = desired.conditions.iter().filter(|one| one.kind == "InvalidFile").collect();
        causes.extend(
            refused
                .iter()
                .take(REFUSED)
                .map(|one| format!("a file is refused that may declare it: {}", brief(&one.message))),
        );
        if refused.len() > REFUSED {
            causes.push(format!("{} more files are refused", refused.len() - REFUSED));
        }
        for root in desired.roots.iter().filter(|root| !root.ready) {
            causes.push(format!("{} has not been read yet", root.path.display()));
        }
        let error = if causes.is_empty() {
            error.because("no file declares it and nobody has launched it")
        } else {
            error.because(causes.join("; "))
        };
        match (usable, error.suggestion().map(str::to_owned)) {
            (true, Some(own)) => error.suggest(format!("{own}; to have it run: {}", launch(key))),
            _ => error,
        }
    }
}

/// The command that launches a key.
fn launch(key: &Key) -> String {
    let command = format!("prismctl pattern launch {}", key.pattern());
    match key.isolation() {
        Some(Isolation::Namespace(namespace)) => format!("{command} --isolation namespace --namespace {namespace}"),
        Some(Isolation::Session(namespace, session)) => {
            format!("{command} --isolation session --namespace {namespace} --session {}", Error::word(session.as_str()))
        }
        Some(Isolation::None) | None => format!("{command} --isolation none"),
    }
}

/// A printed error up to its context: its code and what it says, with the place.
fn brief(message: &str) -> &str {
    message.split("; Context: ").next().unwrap_or(message)
}
