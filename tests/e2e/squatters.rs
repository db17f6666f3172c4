//! A stranger who is quicker than the process that a port was promised to.

use crate::world::command::program;
use crate::world::{Prismctl, World, processes};
use std::process::Stdio;

#[test]
fn what_answers_in_the_place_of_a_process_is_named_and_the_process_comes_up_on_another_port() {
    let world = World::new();
    // It begins to listen late enough for somebody else to be first, and goes on without its port.
    world.pattern("late", "hello", "");
    let manifest = "name: late\nversion: 1.0.0\nexecutable: sh\nargs: [-c, 'sleep 3; ./late || exec sleep 1000']\n\
                    healthcheck: { interval: 100ms, startup_timeout: 8s }\nlifecycle: { grace_period: 1s }\n";
    world.put(&world.patterns().join("late/manifest.yaml"), manifest);
    world.pattern("squatter", "hello", "");
    world.desire("a.yaml", "pattern: late\nnamespace: a\n");
    let daemon = world.launch().flag("--backoff-period", "100ms").start();
    let id = "ns:a:late";
    let first = daemon.wait("it is started", |status| status.key(id)?.pid);
    let given = processes::environment(first)["HEALTH_PORT"].clone();
    let mut squatter = program(world.program("squatter"))
        .env("HEALTH_PORT", &given)
        .env_remove("GRPC_PORT")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let error = daemon.wait("it has failed", |status| {
        let key = status.key(id)?;
        assert!(!(key.healthy && key.pid == Some(first)), "what answers is somebody else");
        key.last_error.clone()
    });
    let named = format!("HEALTH_PORT {given} is held by pid {}, which is none of its processes", squatter.id());
    assert!(error.contains(&named), "{error}");
    let told = Prismctl::of(&world).done(&format!("pattern explain {id}"));
    assert!(told.contains(&format!("is held by pid {}", squatter.id())), "{told}");
    let second = daemon.settled(id);
    assert_ne!(second, first);
    let other = processes::environment(second)["HEALTH_PORT"].clone();
    assert_ne!(other, given, "the port has moved");
    assert!(daemon.log().contains(&format!("HEALTH_PORT {given} is held by pid {}; now {other}", squatter.id())));
    squatter.kill().unwrap();
    squatter.wait().unwrap();
    assert!(daemon.stop().success());
}
