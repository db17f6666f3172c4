//! Which key has which ports. A port belongs to one key for as long as the key is declared, whether it runs or not.

use crate::error::{Code, Error, Result};
use crate::model::{Key, Moment, Ports};
use crate::observed::PortKind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a port that a stranger was found on is not handed out.
const AVOID: Duration = Duration::from_secs(60);

/// The ports of all keys.
#[derive(Debug, Clone)]
pub struct PortTable {
    first: u16,
    last: u16,
    owners: BTreeMap<u16, Key>,
    strangers: BTreeMap<u16, Moment>,
    /// Where the search for a free port goes on: the range is gone through in turn, so that a port that was given back
    /// is not handed to somebody else at once.
    next: u16,
}

impl PortTable {
    /// An empty table over a range, both ends included.
    pub const fn new((first, last): (u16, u16)) -> Self {
        Self { first, last, owners: BTreeMap::new(), strangers: BTreeMap::new(), next: first }
    }

    /// Changes the range for ports that are handed out from now on.
    pub const fn resize(&mut self, (first, last): (u16, u16)) {
        self.first = first;
        self.last = last;
    }

    /// Enters ports that a key has had before. Where another key has one of them by now, the key gets none: it is then
    /// given new ones at its next start.
    pub fn restore(&mut self, key: &Key, ports: Ports) -> bool {
        let free = |port| self.owners.get(&port).is_none_or(|owner| owner == key);
        if !free(ports.grpc) || !free(ports.health) {
            return false;
        }
        self.owners.insert(ports.grpc, key.clone());
        self.owners.insert(ports.health, key.clone());
        true
    }

    /// Two ports for a key that has none; the preferred one, which may lie outside the range, becomes `HEALTH_PORT`
    /// unless another key has it.
    pub fn allocate(&mut self, key: &Key, preferred: Option<u16>, now: Moment) -> Result<Ports> {
        let health = match preferred {
            Some(port) if self.is_free(port, now) => port,
            Some(_) | None => self.search(key, &BTreeSet::new(), now)?,
        };
        self.owners.insert(health, key.clone());
        match self.search(key, &BTreeSet::new(), now) {
            Ok(grpc) => {
                self.owners.insert(grpc, key.clone());
                Ok(Ports { grpc, health })
            }
            Err(error) => {
                self.owners.remove(&health);
                Err(error)
            }
        }
    }

    /// Gives a key another port in place of one that a stranger holds: none that somebody listens on, since whoever has one
    /// port may have a thousand, and each that is tried is a start that is put off.
    pub fn replace(
        &mut self,
        key: &Key,
        ports: Ports,
        kind: PortKind,
        listening: &BTreeSet<u16>,
        now: Moment,
    ) -> Result<Ports> {
        let taken = match kind {
            PortKind::Grpc => ports.grpc,
            PortKind::Health => ports.health,
        };
        self.strangers.insert(taken, now);
        let port = self.search(key, listening, now)?;
        self.owners.remove(&taken);
        self.owners.insert(port, key.clone());
        Ok(match kind {
            PortKind::Grpc => Ports { grpc: port, ..ports },
            PortKind::Health => Ports { health: port, ..ports },
        })
    }

    /// Takes the ports of a key back.
    pub fn release(&mut self, key: &Key, ports: Ports) {
        for port in [ports.grpc, ports.health] {
            if self.owners.get(&port) == Some(key) {
                self.owners.remove(&port);
            }
        }
    }

    fn is_free(&self, port: u16, now: Moment) -> bool {
        !self.owners.contains_key(&port) && self.strangers.get(&port).is_none_or(|seen| now.since(*seen) >= AVOID)
    }

    fn search(&mut self, key: &Key, listening: &BTreeSet<u16>, now: Moment) -> Result<u16> {
        let start = if (self.first..=self.last).contains(&self.next) { self.next } else { self.first };
        let free = |port: &u16| self.is_free(*port, now) && !listening.contains(port);
        let found = (start..=self.last).chain(self.first..start).find(free);
        if let Some(port) = found {
            self.next = if port == self.last { self.first } else { port + 1 };
            return Ok(port);
        }
        Err(Error::new(Code::PortAllocationFailed, format!("no free port is left for '{key}'"))
            .with("port_range", format!("{}-{}", self.first, self.last))
            .with("ports_in_use", self.owners.len())
            .suggest(
                "widen port_range in the launcher's configuration, or declare fewer instances; each takes two ports",
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, Isolation, PatternName};

    fn now() -> Moment {
        Moment::new(BootId::from_u128(1), Duration::from_secs(100))
    }

    fn key(pattern: &str) -> Key {
        Isolation::None.key(&PatternName::new(pattern).expect("name"))
    }

    #[test]
    fn no_two_keys_share_a_port_and_a_used_up_range_says_so() {
        let mut table = PortTable::new((15_000, 15_003));
        let a = table.allocate(&key("a"), None, now()).expect("free");
        let b = table.allocate(&key("b"), None, now()).expect("free");
        let all = std::collections::BTreeSet::from([a.grpc, a.health, b.grpc, b.health]);
        assert_eq!(all.len(), 4);
        let error = table.allocate(&key("c"), None, now()).expect_err("used up");
        assert_eq!(error.code(), Code::PortAllocationFailed);
        table.release(&key("a"), a);
        assert!(table.allocate(&key("c"), None, now()).is_ok());
    }

    #[test]
    fn a_preferred_port_is_given_once_and_may_lie_outside_the_range() {
        let mut table = PortTable::new((15_000, 15_010));
        assert_eq!(table.allocate(&key("a"), Some(9090), now()).expect("free").health, 9090);
        assert_ne!(table.allocate(&key("b"), Some(9090), now()).expect("free").health, 9090);
    }

    #[test]
    fn a_strangers_port_is_given_up_and_avoided_for_a_while() {
        let mut table = PortTable::new((15_000, 15_003));
        let before = table.allocate(&key("a"), None, now()).expect("free");
        let after = table.replace(&key("a"), before, PortKind::Health, &BTreeSet::new(), now()).expect("free");
        assert_eq!(before.grpc, after.grpc);
        assert_ne!(before.health, after.health);
        assert!(table.allocate(&key("b"), None, now()).is_err(), "one of the four is avoided");
        assert!(table.allocate(&key("b"), None, now().after(AVOID)).is_ok());
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_the_next_one_and_is_not_avoided_later() {
        let mut table = PortTable::new((15_000, 15_005));
        let before = table.allocate(&key("a"), None, now()).expect("free");
        let listening = BTreeSet::from([before.grpc, 15_002, 15_003, 15_004]);
        let after = table.replace(&key("a"), before, PortKind::Grpc, &listening, now()).expect("free");
        assert_eq!(after, Ports { grpc: 15_005, ..before });
        let error = table.replace(&key("a"), after, PortKind::Grpc, &listening, now()).expect_err("none is left");
        assert_eq!(error.code(), Code::PortAllocationFailed);
        let other = table.allocate(&key("b"), None, now()).expect("they may be free by now");
        assert_eq!(BTreeSet::from([other.grpc, other.health]), BTreeSet::from([15_002, 15_003]));
    }
}
