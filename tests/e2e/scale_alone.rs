//! A thousand instances.

use crate::world::World;
use crate::world::wait::{now, since};

#[test]
fn a_thousand_instances_converge_and_all_end_on_sigterm() {
    let world = World::for_instances(1000);
    world.pattern("sleeper", "sleeper", "");
    for group in 0..10 {
        let names: Vec<String> = (0..100).map(|n| format!("t{group}-{n}")).collect();
        world.desire(&format!("{group}.yaml"), &format!("pattern: sleeper\nnamespaces: [{}]\n", names.join(", ")));
    }
    let begun = now();
    let daemon = world.start();
    let status = daemon.all_settled(1000);
    eprintln!("a thousand instances were running after {:?}", since(begun));
    assert_eq!(world.processes("sleeper").len(), 1000);
    let mut ports: Vec<u16> =
        status.instances.iter().filter_map(|key| key.ports).flat_map(|p| [p.grpc, p.health]).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 2000, "a port was given twice");

    let begun = now();
    assert!(daemon.stop().success());
    eprintln!("and ended after {:?}", since(begun));
    assert!(world.processes("sleeper").is_empty());
}
