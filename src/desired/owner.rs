//! Who owns a key that several documents declare: a pure function of the claims and the incumbent.
//!
//! A person's file beats the launch directory, then the incumbent file beats a newcomer, then the smaller path wins.

use crate::model::{Instance, Origin};
use std::cmp::Ordering;

/// Whether the document that makes a claim is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Live,
    /// A complete scan did not find it; its absence does not count yet.
    Missing,
    /// Its absence counts.
    Gone,
}

/// One document that declares the key.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// What it declares, and where.
    pub instance: &'a Instance,
    /// Whether it is there.
    pub presence: Presence,
}

/// Who owns a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The claim of this index.
    Owner(usize),
    /// Nothing changes yet: what claims it is missing, and that does not count yet.
    AsBefore,
    /// Every claim's absence counts.
    Nobody,
}

/// Decides who owns a key.
///
/// While the incumbent is missing, and its absence does not count yet, a newcomer takes over at once only if it says
/// the same: then it is the same file renamed, and nothing restarts.
pub fn choose(claims: &[Claim<'_>], incumbent: Option<&Origin>) -> Choice {
    let says_the_same = |missing: &Claim<'_>| {
        claims
            .iter()
            .any(|other| other.presence == Presence::Live && other.instance.content == missing.instance.content)
    };
    let stands = |claim: &Claim<'_>| match claim.presence {
        Presence::Live => true,
        Presence::Missing => is_incumbent(claim, incumbent) && !says_the_same(claim),
        Presence::Gone => false,
    };
    let standing = claims.iter().enumerate().filter(|(_, claim)| stands(claim));
    match standing.min_by(|(_, a), (_, b)| rank(a, b, incumbent)) {
        Some((index, _)) => Choice::Owner(index),
        None if claims.iter().any(|claim| claim.presence == Presence::Missing) => Choice::AsBefore,
        None => Choice::Nobody,
    }
}

fn is_incumbent(claim: &Claim<'_>, incumbent: Option<&Origin>) -> bool {
    let origin = &claim.instance.origin;
    incumbent.is_some_and(|incumbent| incumbent.root == origin.root && incumbent.file == origin.file)
}

fn rank(a: &Claim<'_>, b: &Claim<'_>, incumbent: Option<&Origin>) -> Ordering {
    let (left, right) = (&a.instance.origin, &b.instance.origin);
    left.api_managed
        .cmp(&right.api_managed)
        .then_with(|| is_incumbent(b, incumbent).cmp(&is_incumbent(a, incumbent)))
        .then_with(|| left.path().cmp(&right.path()))
        .then_with(|| left.line.cmp(&right.line))
}
