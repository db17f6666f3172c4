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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Content, DesiredState, Isolation, Key, Namespace, PatternName, PatternRevision, Privileges, Resources,
        RestartPolicy, StartSpec, StopSignal, Supervision,
    };
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    fn instance(file: &str, api_managed: bool, state: DesiredState) -> Instance {
        let pattern = PatternName::new("p").expect("a name");
        let isolation = Isolation::Namespace(Namespace::default_namespace());
        let revision = PatternRevision {
            version: "1".to_owned(),
            folder: PathBuf::new(),
            executable: "sh".to_owned(),
            digest: None,
            args: Vec::new(),
            environment: BTreeMap::new(),
            preferred_port: None,
            privileges: Privileges::default(),
        };
        let root = PathBuf::from(if api_managed { "/a-launched" } else { "/desired" });
        Instance {
            key: Key::new(&isolation, &pattern),
            pattern,
            isolation,
            content: Content {
                launch: Arc::new(StartSpec {
                    pattern: revision,
                    config: BTreeMap::new(),
                    credentials: BTreeMap::new(),
                }),
                supervision: Supervision {
                    healthcheck: None,
                    stop_signal: StopSignal::Term,
                    grace_period: Duration::from_secs(10),
                    restart: RestartPolicy::Always,
                    resources: Resources::default(),
                },
                state,
                ttl: None,
            },
            origin: Origin { root, file: file.into(), line: 1, api_managed },
            defaulted: Vec::new(),
        }
    }

    fn claims(instances: &[(Instance, Presence)]) -> Vec<Claim<'_>> {
        instances.iter().map(|(instance, presence)| Claim { instance, presence: *presence }).collect()
    }

    #[test]
    fn a_person_beats_the_incumbent_beats_the_smaller_path() {
        let run = DesiredState::Running;
        let all = [
            (instance("a.yaml", true, run), Presence::Live),
            (instance("c.yaml", false, run), Presence::Live),
            (instance("b.yaml", false, run), Presence::Live),
        ];
        assert_eq!(choose(&claims(&all), None), Choice::Owner(2));
        assert_eq!(choose(&claims(&all), Some(&all[1].0.origin)), Choice::Owner(1));
        assert_eq!(choose(&claims(&all), Some(&all[0].0.origin)), Choice::Owner(2));
    }

    #[test]
    fn a_missing_incumbent_yields_at_once_only_to_what_says_the_same() {
        let missing = (instance("m.yaml", false, DesiredState::Running), Presence::Missing);
        let same = (instance("z.yaml", false, DesiredState::Running), Presence::Live);
        let other = (instance("z.yaml", false, DesiredState::Stopped), Presence::Live);
        let incumbent = Some(missing.0.origin.clone());
        assert_eq!(choose(&claims(&[missing.clone(), same]), incumbent.as_ref()), Choice::Owner(1));
        assert_eq!(choose(&claims(&[missing.clone(), other.clone()]), incumbent.as_ref()), Choice::Owner(0));
        let gone = (missing.0.clone(), Presence::Gone);
        assert_eq!(choose(&claims(&[gone.clone(), other]), incumbent.as_ref()), Choice::Owner(1));
        assert_eq!(choose(&claims(std::slice::from_ref(&gone)), incumbent.as_ref()), Choice::Nobody);
        assert_eq!(choose(&claims(&[gone, missing]), None), Choice::AsBefore);
    }

    proptest! {
        /// The order in which claims are found decides nothing.
        #[test]
        fn the_owner_does_not_depend_on_the_order(
            files in prop::collection::btree_set((0_u8..6, any::<bool>()), 1..6),
            incumbent in 0_usize..8,
            rotation in 0_usize..6,
        ) {
            let mut all: Vec<(Instance, Presence)> = files
                .into_iter()
                .map(|(file, api)| (instance(&format!("{file}.yaml"), api, DesiredState::Running), Presence::Live))
                .collect();
            let incumbent = all.get(incumbent).map(|(instance, _)| instance.origin.clone());
            let owner = |all: &[(Instance, Presence)]| match choose(&claims(all), incumbent.as_ref()) {
                Choice::Owner(index) => Some(all[index].0.origin.clone()),
                Choice::AsBefore | Choice::Nobody => None,
            };
            let before = owner(&all);
            prop_assert!(before.is_some());
            let places = rotation % all.len();
            all.rotate_left(places);
            prop_assert_eq!(owner(&all), before);
        }
    }
}
