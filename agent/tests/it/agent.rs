//! Stories of one session.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use carriageway_agent::agent::End;
use carriageway_agent::core::executor::{Record, Verdict, Wish};
use carriageway_agent::core::vehicle::EMERGENCY_STOP;
use carriageway_agent::journal::{Change, Journal, JournalError, Keeper, Loaded, Sqlite, Store};
use carriageway_agent::upload::PIECE;
use carriageway_proto::{Class, CloseCode, Command, Message, Phase, Reason, Value, VehicleId};
use carriageway_transport::link::Happening;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::world::{WINDOW, World, clock};

#[tokio::test(start_paused = true)]
async fn a_window_is_opened_and_seen_to_open() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    world.send(&open);
    let mut phases = Vec::new();
    while phases.last() != Some(&Phase::Succeeded) {
        let (lane, outcome) = world.outcome().await;
        assert_eq!((lane, outcome.key.as_str()), (Class::Body, "open"));
        phases.push(outcome.phase);
    }
    assert_eq!(phases, [Phase::Executing, Phase::Succeeded], "a phase that is overtaken is not told");
    world.signal(WINDOW, |value| *value == Value::Int(100)).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_key_executes_once_and_answers_twice() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    world.send(&open);
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    world.send(&open);
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    world.send(&Command { value: Value::Int(0), ..open });
    assert_eq!(world.end_of("open").await, Phase::Rejected);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let commands = world.handle.status().commands;
    assert_eq!((commands.acted, commands.repeats, commands.refused), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_expired_command_never_executes() {
    let mut world = World::new().await;
    let open = world.window("late", 100).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.send(&open);
    assert_eq!(world.end_of("late").await, Phase::Expired);
    assert_eq!(world.handle.status().commands.acted, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_lost_with_its_session_is_told_in_the_next() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    world.send(&open);
    while world.outcome().await.1.phase != Phase::Executing {}
    world.new_session().await;
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    world.send(&open);
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    assert_eq!(world.handle.status().commands.acted, 1);
}

#[tokio::test(start_paused = true)]
async fn the_emergency_stop_brings_it_to_a_halt() {
    let mut world = World::new().await;
    world.signal("Vehicle.Speed", |value| value.as_f64() > Some(20.0)).await;
    let body = world.window("stop", 0).await;
    let path = EMERGENCY_STOP.parse().unwrap();
    world.send(&Command { class: Class::Safety, path, value: Value::Bool(true), ..body });
    assert_eq!(world.end_of("stop").await, Phase::Succeeded);
    world.signal("Vehicle.Speed", |value| value.as_f64() == Some(0.0)).await;
}

/// A disk that hangs until the other end is dropped.
struct Hanging(Receiver<()>);

impl Store for Hanging {
    fn load(&mut self, _: &VehicleId) -> Result<Loaded, JournalError> {
        Ok(Loaded::default())
    }

    fn commit(&mut self, _: &[(VehicleId, Change)]) -> Result<(), JournalError> {
        assert!(self.0.recv().is_err(), "nothing is ever sent");
        Ok(())
    }
}

// In real time: the journal's thread does not know of tokio's.
#[tokio::test]
async fn a_disk_that_hangs_holds_up_commands_but_not_the_emergency_stop() {
    let (hanging, held) = sync_channel(0);
    let keeper = Keeper::start(Hanging(held)).unwrap();
    let journal = keeper.open("car".parse().unwrap()).await.unwrap();
    let mut world = World::with(clock(), journal).await;
    let open = world.window("open", 5).await;
    world.send(&open);
    let path = EMERGENCY_STOP.parse().unwrap();
    let stop = Command { key: "stop".parse().unwrap(), class: Class::Safety, path, ..open };
    world.send(&Command { value: Value::Bool(true), ..stop });
    let (_, outcome) = world.outcome().await;
    assert_eq!((outcome.key.as_str(), outcome.phase), ("stop", Phase::Executing));
    world.signal(EMERGENCY_STOP, |value| *value == Value::Bool(true)).await;
    assert_eq!(world.handle.status().commands.acted, 1, "the window waits for its intent");
    drop(hanging);
    let ends = [world.end_of_any().await, world.end_of_any().await];
    assert!(ends.contains(&("stop".into(), Phase::Succeeded)), "{ends:?}");
    assert!(ends.contains(&("open".into(), Phase::Succeeded)), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_command_is_answered_or_counted() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    world.gateway().send(Class::Body, vec![0xff; 40].into(), None).unwrap();
    world.gateway().send(Class::Safety, Message::Command(open).encode(), None).unwrap();
    let (lane, outcome) = world.outcome().await;
    assert_eq!(
        (lane, outcome.phase, outcome.reason),
        (Class::Safety, Phase::Rejected, Some(Reason::Malformed))
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.handle.status().strays.unreadable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_agent_ends_what_is_under_way_and_says_goodbye() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    world.send(&open);
    while world.outcome().await.1.phase != Phase::Executing {}
    world.begin_to_stop();
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    while !matches!(world.next().await, Happening::Ended(_)) {}
    assert_eq!(world.ended().await, End::Stopped { clean: true });
}

#[tokio::test(start_paused = true)]
async fn a_stopping_agent_refuses_what_is_new() {
    let mut world = World::new().await;
    let open = world.window("open", 100).await;
    world.send(&open);
    while world.outcome().await.1.phase != Phase::Executing {}
    world.begin_to_stop();
    let late = world.window("late", 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.send(&late);
    let (_, outcome) = world.outcome().await;
    let told = (outcome.key.as_str(), outcome.phase, outcome.reason);
    assert_eq!(told, ("late", Phase::Rejected, Some(Reason::Busy)));
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    assert_eq!(world.ended().await, End::Stopped { clean: true });
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_session_is_refused_says_so() {
    let mut world = World::new().await;
    world.window("any", 0).await;
    world.gateway().close(CloseCode::TakenOver, "another vehicle has this name", None);
    assert!(matches!(world.ended().await, End::Refused(_)));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_uploaded_whole_and_its_progress_told() {
    let mut world = World::new().await;
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n / 7) as u8).collect();
    let (handle, copy) = (world.handle.clone(), bytes.clone());
    let upload = async move {
        let mut steps = 0;
        let sent = handle.upload("drive.log", copy.as_slice(), |_| steps += 1).await.unwrap();
        (sent, steps)
    };
    let gather = async {
        let mut got = Vec::new();
        loop {
            let Happening::Message { class: Class::Bulk, payload } = world.next().await else { continue };
            let Ok(Message::Chunk(chunk)) = Message::decode(payload) else { panic!("no chunk") };
            assert_eq!((chunk.name.as_str(), chunk.offset), ("drive.log", got.len() as u64));
            got.extend_from_slice(&chunk.data);
            if chunk.last {
                break;
            }
        }
        // The last acknowledgement leaves only while the session is driven on.
        (got, world)
    };
    let ((sent, steps), (got, _world)) = tokio::join!(upload, gather);
    assert_eq!(sent, bytes.len() as u64);
    assert!(got == bytes && steps > 10);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_given_up_does_not_hold_up_the_next() {
    let mut world = World::new().await;
    world.window("any", 0).await;
    world.cut();
    let room = give_up(&world, tokio::io::repeat(7)).await;
    assert!(room > 0, "without a connection an upload fills its lane and waits");

    let mut world = World::new().await;
    world.window("any", 0).await;
    world.cut();
    let (_never_written, rest) = tokio::io::duplex(1);
    // One piece is held back until it is known whether it is the last.
    let exactly = tokio::io::repeat(7).take(room + PIECE as u64).chain(rest);
    assert_eq!(give_up(&world, exactly).await, room, "the lane is full, and nothing waits for it");
    let handle = world.handle.clone();
    let next = async { handle.upload("b.log", [7; 5_000].as_slice(), |_| ()).await.unwrap() };
    let gateway = async {
        // Long enough for the next one to find the lane full.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.new_session().await;
        loop {
            world.next().await;
        }
    };
    tokio::select! {
        sent = next => assert_eq!(sent, 5_000),
        () = tokio::time::sleep(Duration::from_secs(50)) => panic!("it hangs"),
        () = gateway => {}
    }
}

// In real time: the journal's thread does not know of tokio's.
#[tokio::test]
async fn a_restarted_agent_answers_from_its_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let clock = clock();
    let vehicle = || "car".parse().unwrap();

    let keeper = Keeper::start(Sqlite::open(&path).unwrap()).unwrap();
    let mut world = World::with(clock.clone(), keeper.open(vehicle()).await.unwrap()).await;
    let open = world.window("open", 5).await;
    world.send(&open);
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    let close = world.window("close", 100).await;
    world.send(&close);
    while world.outcome().await.1.phase != Phase::Executing {}
    drop((world, keeper));

    let keeper = Keeper::start(reopened(&path).await).unwrap();
    let mut world = World::with(clock, keeper.open(vehicle()).await.unwrap()).await;
    assert_eq!(world.end_of("close").await, Phase::Unknown);
    world.send(&open);
    assert_eq!(world.end_of("open").await, Phase::Succeeded);
    world.send(&close);
    assert_eq!(world.end_of("close").await, Phase::Unknown);
    assert_eq!(world.handle.status().commands.acted, 0);
}

// In real time: the journal's thread does not know of tokio's.
#[tokio::test]
async fn a_restarted_agent_keeps_its_vehicle_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let clock = clock();
    let vehicle = || "car".parse().unwrap();

    let keeper = Keeper::start(Sqlite::open(&path).unwrap()).unwrap();
    let mut world = World::with(clock.clone(), keeper.open(vehicle()).await.unwrap()).await;
    let body = world.window("stop", 0).await;
    let stop = Command { class: Class::Safety, path: EMERGENCY_STOP.parse().unwrap(), ..body };
    world.send(&Command { value: Value::Bool(true), ..stop });
    assert_eq!(world.end_of("stop").await, Phase::Succeeded);
    drop((world, keeper));

    let keeper = Keeper::start(reopened(&path).await).unwrap();
    let mut world = World::with(clock, keeper.open(vehicle()).await.unwrap()).await;
    world.signal(EMERGENCY_STOP, |value| *value == Value::Bool(true)).await;
    world.signal("Vehicle.Speed", |value| value.as_f64() == Some(0.0)).await;
}

/// A drive through a long tunnel ends with the host's agent anew: more outcomes than any queue of answers holds.
#[tokio::test(start_paused = true)]
async fn a_restarted_agent_tells_every_outcome_the_newest_first() {
    const MANY: u64 = 700;
    let record = |number: u64| Record {
        wish: Wish::Command(Command {
            key: format!("k{number}").parse().unwrap(),
            class: Class::Body,
            path: WINDOW.parse().unwrap(),
            value: Value::Int(5),
            stamp: clock().stamp(),
            ttl: Duration::from_secs(5),
            operator: "ada".into(),
            token: None,
            order: number + 1,
        }),
        received: clock().stamp(),
        keep_for: Duration::from_hours(1),
        acted: Some(clock().now()),
        verdict: Some(Verdict::succeeded()),
        released: false,
    };
    let loaded = Loaded { records: (0..MANY).map(record).collect(), ..Loaded::default() };
    let mut world = World::with(clock(), (Journal::volatile(), loaded)).await;
    for number in (0..MANY).rev() {
        let told = tokio::time::timeout(Duration::from_mins(1), world.end_of_any()).await;
        assert_eq!(told, Ok((format!("k{number}"), Phase::Succeeded)));
    }
    while world.handle.status().answers > 0 {
        world.next().await;
    }
    assert_eq!(world.handle.status().commands.dropped, 0);
    world.begin_to_stop();
    assert_eq!(world.ended().await, End::Stopped { clean: true });
}

/// Begins an upload, and gives it up once it does not go on. Bytes that the link took.
async fn give_up(world: &World, reader: impl AsyncRead + Unpin) -> u64 {
    let mut sent = 0;
    let upload = world.handle.upload("given-up.log", reader, |progress| sent = progress.sent);
    let given_up = tokio::time::timeout(Duration::from_secs(2), upload).await;
    assert!(given_up.is_err(), "it cannot come to its end");
    sent
}

/// Opens the journal once the agent that had it is gone: each try waits half a second for its thread.
pub(crate) async fn reopened(path: &std::path::Path) -> Sqlite {
    for _ in 0..20 {
        tokio::task::yield_now().await;
        if let Ok(store) = Sqlite::open(path) {
            return store;
        }
    }
    panic!("the first agent does not let go of its journal");
}
