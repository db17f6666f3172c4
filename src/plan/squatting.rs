//! Whether what answers on a port is the instance that the port was promised to.

/// Where a socket listens, as far as connections to 127.0.0.1 are concerned: the kernel prefers them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// On that very address.
    Loopback,
    /// On all addresses of IPv4.
    AnyV4,
    /// On all addresses of IPv6, which may include those of IPv4.
    AnyV6,
}

/// Whose a listening socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The instance's own tree has it.
    Own,
    /// A process outside of it, where that can be seen.
    Stranger(Option<i32>),
    /// That cannot be told.
    Unknown,
}

/// Who would be given a connection to a port on 127.0.0.1; `None` where nobody listens. A more special address wins over
/// another. Of several sockets on the same, as `SO_REUSEPORT` allows, each is given some: one stranger is one too many.
pub fn answers(listeners: &[(Reach, Owner)]) -> Option<Owner> {
    let nearest = listeners.iter().map(|(reach, _)| *reach).min()?;
    let owners = || listeners.iter().filter(|(reach, _)| *reach == nearest).map(|(_, owner)| *owner);
    let stranger = owners().find(|owner| matches!(owner, Owner::Stranger(_)));
    Some(stranger.or_else(|| owners().find(|owner| *owner == Owner::Unknown)).unwrap_or(Owner::Own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_special_address_decides_and_one_stranger_on_it_is_too_many() {
        use Owner::{Own, Stranger, Unknown};
        use Reach::{AnyV4, AnyV6, Loopback};
        let stranger = Stranger(Some(7));
        for (listeners, expected) in [
            (vec![], None),
            (vec![(AnyV4, Own)], Some(Own)),
            (vec![(AnyV6, stranger)], Some(stranger)),
            // A stranger that is asked before the instance is; and one that is not.
            (vec![(AnyV4, Own), (Loopback, stranger)], Some(stranger)),
            (vec![(Loopback, Own), (AnyV4, stranger)], Some(Own)),
            (vec![(AnyV4, Own), (AnyV6, stranger)], Some(Own)),
            // Some connections would go to the other.
            (vec![(AnyV4, Own), (AnyV4, stranger)], Some(stranger)),
            (vec![(AnyV4, Unknown), (AnyV4, Own)], Some(Unknown)),
            (vec![(AnyV4, Unknown), (AnyV4, stranger)], Some(stranger)),
        ] {
            assert_eq!(answers(&listeners), expected, "{listeners:?}");
        }
    }
}
