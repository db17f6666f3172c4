//! `kill -9` of the daemon while two hundred launches are being made by many callers, at a different moment each round.

use crate::world::api::{Client, tenant};
use crate::world::dice::Dice;
use crate::world::wait::{SOON, pause, wait_up_to};
use crate::world::{Daemon, World, wait_for};
use pattern_launcher::api::proto::{LaunchResponse, ListPatternsRequest, TerminateRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::Status;

const LAUNCHES: usize = 200;
/// How many callers there are in each round: few wait for each other, many come as one batch.
const CALLERS: [usize; 6] = [8, 64, 200, 16, 64, 100];
const CONNECTIONS: usize = 8;
/// Names the moments again that a run of this test printed.
const SEED: &str = "LAUNCH_CRASH_SEED";

fn id(number: usize) -> String {
    format!("ns:n{number}:sleeper")
}

/// What a caller was answered.
type Answer = Result<LaunchResponse, Status>;

/// Callers that launch all two hundred, each its share, one after the other.
struct Callers {
    calls: Vec<JoinHandle<Vec<(String, Answer)>>>,
    answered: mpsc::Receiver<()>,
}

impl Callers {
    fn begin(clients: &[Client], count: usize) -> Self {
        let (told, answered) = mpsc::channel();
        let calls = (0..count).map(|caller| {
            let client = &clients[caller % clients.len()];
            let (mut stub, told) = (client.stub(), told.clone());
            client.spawn(async move {
                let mut answers = Vec::new();
                for number in (caller..LAUNCHES).step_by(count) {
                    let answer = stub.launch_pattern(tenant("sleeper", &format!("n{number}"))).await;
                    if answer.is_ok() {
                        told.send(()).unwrap_or_default();
                    }
                    answers.push((id(number), answer.map(tonic::Response::into_inner)));
                }
                answers
            })
        });
        Self { calls: calls.collect(), answered }
    }

    /// Waits until so many launches are answered.
    fn wait_for(&self, answers: u64) {
        for _ in 0..answers {
            self.answered.recv_timeout(SOON).expect("an answer in time");
        }
    }

    fn end(self, clients: &[Client]) -> BTreeMap<String, Answer> {
        self.calls.into_iter().flat_map(|call| clients[0].run(call).unwrap()).collect()
    }
}

/// What is declared, as the API lists it; checks that it is exactly what lies in the folder, whole, and nothing else.
fn declared(world: &World, client: &Client) -> BTreeSet<String> {
    let listed = client.list(ListPatternsRequest::default()).patterns;
    assert!(listed.iter().all(|info| info.api_managed));
    let listed: BTreeSet<String> = listed.into_iter().map(|info| info.process_id).collect();
    let mut written = BTreeSet::new();
    for name in world.launched_files() {
        assert!(Some("yaml") == name.rsplit('.').next() && !name.starts_with('.'), "{name} is left behind");
        let text = fs::read_to_string(world.launched().join(&name)).unwrap();
        let whole =
            serde_yaml::from_str::<BTreeMap<String, String>>(&text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
        assert_eq!((whole["pattern"].as_str(), whole["isolation"].as_str()), ("sleeper", "namespace"), "{name}");
        assert!(written.insert(format!("ns:{}:sleeper", whole["namespace"])), "{name} is there twice");
    }
    assert_eq!(written, listed, "files and the list differ");
    listed
}

/// Waits until exactly these run; checks that each has one process, and has had no other in this round.
fn each_runs_once(world: &World, daemon: &Daemon, keys: &BTreeSet<String>, round: usize) {
    daemon.all_settled(keys.len());
    let live = world.processes("sleeper");
    let doubled: Vec<_> = live.iter().filter(|(_, pids)| pids.len() != 1).collect();
    assert!(doubled.is_empty(), "more than one process: {doubled:?}");
    let running: BTreeSet<String> = live.keys().cloned().collect();
    assert_eq!(&running, keys, "what runs and what is declared differ");
    let starts = wait_up_to(SOON, "every process has said that it started", || {
        let starts = starts(world, round);
        (starts.len() >= keys.len()).then_some(starts)
    });
    let live: BTreeSet<(String, i32)> = live.into_iter().map(|(key, pids)| (key, pids[0])).collect();
    assert_eq!(starts.len(), live.len(), "something was started twice: {starts:?}");
    assert_eq!(
        starts.into_iter().collect::<BTreeSet<_>>(),
        live,
        "another process was started than the one that lives"
    );
}

/// Every process of a round that has ever run, by what it wrote when it began.
fn starts(world: &World, round: usize) -> Vec<(String, i32)> {
    let text = fs::read_to_string(log(world, round)).unwrap_or_default();
    let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.map(|words| (words[1].to_owned(), words[2].parse().unwrap())).collect()
}

fn log(world: &World, round: usize) -> std::path::PathBuf {
    world.root().join(format!("starts-{round}"))
}

/// Ends everything, so that the next round launches all of it anew.
fn terminate_all(world: &World, client: &Client, keys: &BTreeSet<String>) {
    let calls = keys.iter().map(|key| {
        let mut stub = client.stub();
        let request = TerminateRequest { process_id: key.clone(), ..Default::default() };
        client.spawn(async move { stub.terminate_pattern(request).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(client.run(call).unwrap().unwrap().into_inner().success);
    }
    assert!(world.processes("sleeper").is_empty());
    assert_eq!(world.launched_files(), [""; 0]);
}

#[test]
fn what_was_answered_before_the_launcher_was_killed_runs_once_afterwards() {
    let mut dice = Dice::of_variable(SEED);
    let world = World::for_instances(u16::try_from(LAUNCHES).unwrap());
    let launch = world.launch();
    for (round, callers) in CALLERS.into_iter().enumerate() {
        world.pattern("sleeper", "sleeper", &format!("args: [\"--log\", \"{}\"]", log(&world, round).display()));
        let daemon = launch.start();
        let clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::of(&world)).collect();
        let (answers, later) = (dice.below(LAUNCHES as u64), Duration::from_micros(dice.below(20_000)));
        eprintln!("round {round}: {callers} callers, killed {later:?} after {answers} answers");
        let calls = Callers::begin(&clients, callers);
        calls.wait_for(answers);
        pause(later);
        daemon.kill();
        let answers = calls.end(&clients);

        let daemon = launch.start();
        let client = Client::of(&world);
        let kept = declared(&world, &client);
        let answered = || answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(key, _)| key);
        let lost: Vec<_> = answered().filter(|key| !kept.contains(*key)).collect();
        assert!(lost.is_empty(), "answered, and not there any more: {lost:?}");
        each_runs_once(&world, &daemon, &kept, round);
        eprintln!("round {round}: {} were answered, {} were on disk", answered().count(), kept.len());

        // Whoever was not answered asks again, and so does everybody else.
        let clients = [client];
        for (key, answer) in Callers::begin(&clients, callers).end(&clients) {
            let answer = answer.unwrap_or_else(|status| panic!("{key}: {status:?}"));
            assert_eq!((&answer.process_id, answer.created), (&key, !kept.contains(&key)));
        }
        let all = declared(&world, &clients[0]);
        assert_eq!(all.len(), LAUNCHES);
        each_runs_once(&world, &daemon, &all, round);
        terminate_all(&world, &clients[0], &all);
        assert!(daemon.stop().success());
    }
    wait_for("nothing is left", || world.processes("sleeper").is_empty().then_some(()));
}
