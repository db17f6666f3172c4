//! The breaker of a version, without an engine around it.

use super::*;
use crate::model::{BootId, Isolation, Namespace, SessionId};
use crate::testing::samples::instance;

fn at(millis: u64) -> Moment {
    Moment::new(BootId::from_u128(1), Duration::from_millis(100_000 + millis))
}

fn policy() -> Policy {
    Policy { backoff_period: Duration::from_secs(1), ..Policy::default() }
}

fn spec(version: u32) -> Arc<StartSpec> {
    Arc::clone(&instance("p", "t", version, 1).content.launch)
}

fn of(namespace: &str) -> Key {
    instance("p", namespace, 1, 1).key
}

fn session(namespace: &str, n: usize) -> Key {
    let session = SessionId::new(&format!("s{n}")).expect("name");
    Isolation::Session(Namespace::new(namespace).expect("name"), session).key(&of("t").pattern_name())
}

const FAILED: Sight = Sight { failure: Some(Code::ProcessCrashed), healthy_since: None, is_idle: true };

fn healthy(since: Moment, failure: Option<Code>) -> Sight {
    Sight { failure, healthy_since: Some(since), is_idle: false }
}

/// `keys` of version 1 have failed and want to start again.
fn failing(keys: &[Key]) -> Outbreaks {
    let mut all = Outbreaks::default();
    for key in keys {
        all.book(key, Some((&spec(1), FAILED)), &policy());
    }
    all
}

fn waits(all: &mut Outbreaks, key: &Key, version: u32, first: bool) -> bool {
    all.may_start(key, &spec(version), first).is_err()
}

#[test]
fn four_that_fail_alike_in_four_namespaces_wait_for_one_trial_and_it_is_told_once() {
    let keys = ["a", "b", "c", "d"].map(of);
    let mut all = failing(&keys);
    assert!(keys.iter().all(|key| waits(&mut all, key, 1, false)));
    let turns = all.take_turns();
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].opened, Some((Code::ProcessCrashed, 4, 4)));
    let trial = all.advance(at(0), &policy());
    assert_eq!(trial, [keys[0].clone()]);
    assert!(!waits(&mut all, &keys[0], 1, false));
    let held = all.may_start(&keys[1], &spec(1), false).unwrap_err();
    assert_eq!(held.trial, Some(keys[0].clone()));
    assert!(all.advance(at(0), &policy()).is_empty(), "there is one at a time");
}

#[test]
fn three_that_fail_or_four_that_fail_differently_have_causes_of_their_own() {
    let mut all = failing(&["a", "b", "c"].map(of));
    assert!(!waits(&mut all, &of("a"), 1, false));
    let other = Sight { failure: Some(Code::HealthCheckFailed), ..FAILED };
    all.book(&of("d"), Some((&spec(1), other)), &policy());
    assert!(!waits(&mut all, &of("a"), 1, false));
    assert!(all.take_turns().is_empty());
}

#[test]
fn being_killed_for_memory_is_a_failure_like_others_and_not_the_same_as_a_crash() {
    let killed = Sight { failure: Some(Code::ResourceLimitExceeded), ..FAILED };
    let keys = ["a", "b", "c", "d"].map(of);
    let mut all = failing(&keys[..3]);
    all.book(&keys[3], Some((&spec(1), killed)), &policy());
    assert!(all.take_turns().is_empty(), "three crash and one is killed");
    for key in &keys {
        all.book(key, Some((&spec(1), killed)), &policy());
    }
    let turns = all.take_turns();
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].opened, Some((Code::ResourceLimitExceeded, 4, 4)));
}

#[test]
fn what_somebody_has_mended_is_tried_before_what_has_waited_for_longer() {
    let keys: Vec<Key> = (0..9).map(|n| session("a", n)).chain([of("b")]).collect();
    let mut all = failing(&keys);
    for key in &keys[..9] {
        assert!(waits(&mut all, key, 1, false));
    }
    assert!(waits(&mut all, &keys[7], 1, true), "it has been declared anew, and others of its namespace fail");
    assert!(waits(&mut all, &keys[7], 1, true));
    assert_eq!(all.advance(at(0), &policy()), [keys[7].clone()]);
}

#[test]
fn l4_a_tenant_with_many_failing_sessions_is_one_namespace() {
    let mut keys: Vec<Key> = (0..500).map(|n| session("busy", n)).collect();
    let mut all = failing(&keys);
    assert!(!waits(&mut all, &keys[0], 1, false), "what one tenant makes for itself is no outbreak");
    for calm in ["calm", "quiet"] {
        all.book(&of(calm), Some((&spec(1), healthy(at(0), None))), &policy());
    }
    keys.push(of("other"));
    all.book(&keys[500], Some((&spec(1), FAILED)), &policy());
    assert!(!waits(&mut all, &keys[500], 1, false), "two of four namespaces are not most of them");
}

#[test]
fn a_namespace_in_which_an_instance_works_is_not_concerned() {
    let mut all = failing(&[session("a", 1), session("a", 2), session("b", 1), session("b", 2)]);
    assert_eq!(all.take_turns().len(), 1);
    let mut all = failing(&[session("a", 1), session("a", 2), session("b", 1)]);
    all.book(&session("b", 3), Some((&spec(1), healthy(at(0), None))), &policy());
    all.book(&session("b", 2), Some((&spec(1), FAILED)), &policy());
    assert!(all.take_turns().is_empty(), "of two namespaces one is concerned");
    for namespace in ["c", "d"] {
        all.book(&of(namespace), Some((&spec(1), FAILED)), &policy());
    }
    assert_eq!(all.take_turns().len(), 1);
    assert!(!waits(&mut all, &session("b", 4), 1, true), "it may well work");
    assert!(waits(&mut all, &session("a", 4), 1, true));
    assert!(waits(&mut all, &session("b", 1), 1, false));
}

#[test]
fn what_is_healthy_for_a_moment_closes_no_breaker() {
    let keys: Vec<Key> = (0..4).flat_map(|n| [session("a", n), session("b", n)]).collect();
    let mut all = failing(&keys[..4]);
    assert_eq!(all.take_turns().len(), 1);
    for key in &keys[4..] {
        all.book(key, Some((&spec(1), healthy(at(0), None))), &policy());
        all.advance(at(0), &policy());
        all.book(key, Some((&spec(1), FAILED)), &policy());
    }
    assert!(all.take_turns().is_empty(), "they crash like the others");
    for namespace in ["c", "d"] {
        all.book(&of(namespace), Some((&spec(1), healthy(at(0), None))), &policy());
    }
    all.advance(at(999), &policy());
    assert!(all.take_turns().is_empty());
    all.advance(at(1_000), &policy());
    assert_eq!(all.take_turns().len(), 1, "they have been healthy for long enough");
}

#[test]
fn what_was_proven_counts_as_failing_again_when_it_fails() {
    let keys = ["a", "b", "c", "d"].map(of);
    let mut all = failing(&keys);
    let crashed = Some(Code::ProcessCrashed);
    for key in &keys {
        all.book(key, Some((&spec(1), healthy(at(0), crashed))), &policy());
    }
    all.advance(at(1_000), &policy());
    for key in &keys {
        all.book(key, Some((&spec(1), FAILED)), &policy());
    }
    let turns = all.take_turns();
    assert_eq!(turns.iter().map(|turn| turn.opened.is_some()).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_proof_begins_anew_when_health_does() {
    let keys = ["a", "b", "c", "d"].map(of);
    let mut all = failing(&keys);
    let crashed = Some(Code::ProcessCrashed);
    for key in &keys {
        all.book(key, Some((&spec(1), healthy(at(0), crashed))), &policy());
        all.book(key, Some((&spec(1), FAILED)), &policy());
        all.book(key, Some((&spec(1), healthy(at(800), crashed))), &policy());
    }
    all.advance(at(1_000), &policy());
    assert_eq!(all.take_turns().len(), 1, "none has been healthy for a second");
    all.advance(at(1_800), &policy());
    assert_eq!(all.take_turns().len(), 1);
}

#[test]
fn a_trial_is_asked_for_when_it_is_due_and_is_over_with_the_breaker() {
    let keys = ["a", "b", "c", "d"].map(of);
    let mut all = failing(&keys);
    all.take_turns();
    assert!(waits(&mut all, &keys[0], 1, false) && waits(&mut all, &keys[1], 1, false));
    assert_eq!(all.wake_at(at(0)), Some(at(0)), "somebody may be tried");
    assert_eq!(all.advance(at(0), &policy()), [keys[0].clone()]);
    assert_eq!(all.wake_at(at(0)), None, "it is waited for");
    // Half of them go, and come back to fail again.
    for key in &keys[2..] {
        all.book(key, None, &policy());
    }
    all.advance(at(0), &policy());
    all.take_turns();
    for key in &keys[2..] {
        all.book(key, Some((&spec(1), FAILED)), &policy());
    }
    assert!(waits(&mut all, &keys[1], 1, false));
    assert_eq!(all.advance(at(1), &policy()), [keys[1].clone()]);
    all.book(&keys[1], Some((&spec(1), Sight { is_idle: false, ..FAILED })), &policy());
    all.book(&keys[1], Some((&spec(1), FAILED)), &policy());
    assert!(waits(&mut all, &keys[2], 1, false));
    assert!(all.advance(at(2), &policy()).is_empty());
    all.take_turns();
    assert_eq!(all.wake_at(at(2)), Some(at(1_002)), "after a failed trial there is a pause");
}

#[test]
fn l4_trials_go_round_the_namespaces_and_first_starts_elsewhere_go_ahead() {
    let mut keys: Vec<Key> = (0..500).map(|n| session("busy", n)).collect();
    keys.push(of("calm"));
    let mut all = failing(&keys);
    for key in &keys {
        assert!(waits(&mut all, key, 1, false), "{key}");
    }
    assert!(!waits(&mut all, &of("fresh"), 1, true), "a first start in another namespace is a trial of its own");
    assert!(waits(&mut all, &session("busy", 999), 1, true), "one in a namespace that is concerned is none");
    let mut tried = Vec::new();
    for n in 0..4 {
        let next = all.advance(at(n * 2_000), &policy());
        assert_eq!(next.len(), 1, "{next:?}");
        let key = next[0].clone();
        all.book(&key, Some((&spec(1), Sight { is_idle: false, ..FAILED })), &policy());
        all.book(&key, Some((&spec(1), FAILED)), &policy());
        assert!(all.advance(at(n * 2_000 + 1), &policy()).is_empty(), "after a failed trial there is a pause");
        assert!(waits(&mut all, &key, 1, false));
        tried.push(key.namespace().to_owned());
    }
    assert_eq!(tried.iter().filter(|namespace| *namespace == "calm").count(), 2, "{tried:?}");
}

#[test]
fn a_trial_that_stays_healthy_frees_the_rest_twice_as_many_at_a_time() {
    let keys: Vec<Key> = (0..40).map(|n| of(&format!("t{n:02}"))).collect();
    let mut all = failing(&keys);
    for key in &keys {
        assert!(waits(&mut all, key, 1, false));
    }
    assert_eq!(all.take_turns().len(), 1);
    let (mut rounds, mut millis) = (Vec::new(), 0);
    while rounds.iter().sum::<usize>() < keys.len() {
        let next = all.advance(at(millis), &policy());
        assert!(!next.is_empty());
        for key in &next {
            all.book(key, Some((&spec(1), healthy(at(millis), Some(Code::ProcessCrashed)))), &policy());
        }
        rounds.push(next.len());
        if rounds.len() == 1 {
            assert_eq!(all.wake_at(at(millis)), Some(at(millis + 1_000)), "nothing else is waited for");
        }
        millis += 1_000;
    }
    // When twenty of the forty work, the others are no longer most of them.
    assert_eq!(rounds, [1, 1, 2, 4, 8, 16, 8][..rounds.len()], "{rounds:?}");
    all.advance(at(millis), &policy());
    let turns = all.take_turns();
    assert_eq!(turns.iter().map(|turn| turn.opened.is_some()).collect::<Vec<_>>(), [false]);
}

#[test]
fn a_changed_version_starts_without_a_pause_and_leaves_no_trial_behind() {
    let keys = ["a", "b", "c", "d", "e"].map(of);
    let mut all = failing(&keys);
    for key in &keys {
        assert!(waits(&mut all, key, 1, false));
    }
    assert_eq!(all.advance(at(0), &policy()), [keys[0].clone()]);
    all.book(&keys[0], Some((&spec(2), Sight { is_idle: true, ..Sight::default() })), &policy());
    assert!(!waits(&mut all, &keys[0], 2, true));
    assert_eq!(all.advance(at(5_000), &policy()), [keys[1].clone()], "the others go on with the next");
    for key in &keys {
        all.leave(key);
        all.book(key, None, &policy());
    }
    assert!(all.patterns.is_empty() && all.booked.is_empty() && all.open.is_empty(), "{all:?}");
}

#[test]
fn an_open_circuit_is_known_by_the_failure_that_opened_it() {
    let mut memory = Memory::new(Arc::new(instance("p", "t", 1, 1)));
    let error = crate::error::Error::new(Code::ProcessCrashed, "it ended");
    let open = crate::error::Error::new(Code::MaxErrorsExceeded, "it failed").because(error.summary());
    memory.streak = 5;
    for (last, code) in [
        (error, Some(Code::ProcessCrashed)),
        (open, Some(Code::ProcessCrashed)),
        (crate::error::Error::new(Code::StoreUnavailable, "the disk is full"), None),
    ] {
        memory.last_error = Some(last);
        assert_eq!(last_failure(&memory), code);
    }
    memory.last_error = Some(crate::error::Error::new(Code::ProcessCrashed, "it ended"));
    memory.streak = 0;
    assert_eq!(last_failure(&memory), None);
}

#[test]
fn a_breaker_that_opens_again_knows_nothing_of_the_last_time() {
    for was_looked_at in [false, true] {
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"].map(of);
        let mut all = failing(&keys);
        assert!(keys.iter().all(|key| waits(&mut all, key, 1, false)));
        // Two have worked, so that two are tried at once, of which one fails and one is under way when it closes.
        let crashed = Some(Code::ProcessCrashed);
        assert_eq!(all.advance(at(0), &policy()), [keys[0].clone()]);
        all.book(&keys[0], Some((&spec(1), healthy(at(10), crashed))), &policy());
        assert_eq!(all.advance(at(1_010), &policy()), [keys[1].clone()]);
        all.book(&keys[1], Some((&spec(1), healthy(at(1_020), crashed))), &policy());
        assert_eq!(all.advance(at(2_020), &policy()), keys[2..4]);
        for sight in [Sight { is_idle: false, ..FAILED }, FAILED] {
            all.book(&keys[2], Some((&spec(1), sight)), &policy());
        }
        all.book(&keys[3], Some((&spec(1), Sight { is_idle: false, ..FAILED })), &policy());
        if was_looked_at {
            assert!(all.advance(at(2_030), &policy()).is_empty(), "one has just failed");
        }
        for key in &keys[4..7] {
            all.book(key, None, &policy());
        }
        assert_eq!(all.take_turns().last().map(|turn| turn.opened), Some(None), "it has closed");
        assert!(!all.advance(at(2_040), &policy()).is_empty(), "nobody waits any more");

        let others = ["i", "j", "k", "l"].map(of);
        for key in &others {
            all.book(key, Some((&spec(1), FAILED)), &policy());
        }
        assert!(waits(&mut all, &others[0], 1, false) && waits(&mut all, &others[1], 1, false));
        assert_eq!(all.advance(at(2_050), &policy()), [others[0].clone()]);
    }
}
