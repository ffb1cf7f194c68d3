use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::auth::unix_now;
use crate::certs::{Authority, Folder};
use tempfile::TempDir;

/// A folder with certificates and a configuration file that is right but for what a test adds.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Folder::new(dir.path()).init(&[], unix_now()).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Loads a file of twelve lines, and then `more`.
    fn load(&self, more: &str) -> Config {
        let text = format!(
            "[tls]\ncert = {:?}\nkey = {:?}\nca = {:?}\n[auth]\npublic_key = {:?}\n[quic]\nsecret = {:?}\n\n\n\n\n{more}",
            self.path("server.pem"),
            self.path("server.key"),
            self.path("ca.pem"),
            self.path("operator.pub"),
            self.path("quic.secret"),
        );
        fs::write(self.path("gateway.toml"), text).unwrap();
        Config::load(Some(Path::new(&self.path("gateway.toml"))), Vec::new()).unwrap()
    }

    /// What is found in a configuration with `more`: key, line, and the whole sentence.
    fn problems(&self, more: &str) -> Vec<(String, Option<usize>, String)> {
        let found = self.load(more).check().err().unwrap_or_default();
        found.iter().map(|p| (p.key.clone(), p.place.as_ref().map(|place| place.1), p.to_string())).collect()
    }
}

#[test]
fn a_good_configuration_has_no_problems() {
    let world = World::new();
    assert_eq!(world.problems(""), []);
    assert_eq!(world.problems("[classes.body]\nttl_ms = 3000\nburst = 3\n"), []);
}

#[test]
fn the_defaults_are_those_of_certs_init() {
    let config = Config::default();
    assert_eq!(config.tls.cert, Path::new("certs/server.pem"));
    assert_eq!(config.auth.public_key, Path::new("certs/operator.pub"));
    assert_eq!(config.policies(), PolicyTable::defaults());
}

#[test]
fn an_unknown_key_is_refused_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    fs::write(&file, "[listen]\ntcp = \"127.0.0.1:1\"\ntpc = \"127.0.0.1:2\"\n").unwrap();
    let error = Config::load(Some(&file), Vec::new()).unwrap_err().to_string();
    assert!(error.contains("gateway.toml:3") && error.contains("tpc"), "{error}");
}

#[test]
fn a_wrong_type_is_refused_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    for (text, word) in [
        ("\n[limits]\nvehicles = \"many\"\n", "vehicles"),
        ("\n[listen]\ntcp = \"localhost\"\n", "tcp"),
        ("\n[quic]\ncongestion = \"reno\"\n", "congestion"),
        ("\n[limits]\nvehicles = -1\n", "vehicles"),
    ] {
        fs::write(&file, text).unwrap();
        let error = Config::load(Some(&file), Vec::new()).unwrap_err().to_string();
        assert!(error.contains("gateway.toml:3"), "{word}: {error}");
    }
}

#[test]
fn later_sources_win() {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let overrides =
        vec![set("listen.tcp", "127.0.0.1:7"), set("limits.vehicles", "3"), set("classes.body.burst", "2")];
    let config = Config::load(None, overrides).unwrap();
    assert_eq!(config.listen.tcp.port(), 7);
    assert_eq!(config.limits.vehicles, 3);
    assert_eq!(config.policies()[Class::Body].burst, 2);
    assert!(Config::load(None, vec![set("listen.tpc", "127.0.0.1:7")]).is_err());
}

#[test]
fn the_environment_lies_between_file_and_flags() {
    let world = World::new();
    world.load("[limits]\nvehicles = 1\nevent_streams = 1\n");
    let file = world.path("gateway.toml");
    let variables = [("VEHICLES", "2"), ("EVENT_STREAMS", "2")]
        .map(|(key, value)| (format!("{ENV_PREFIX}__LIMITS__{key}"), value.to_owned()));
    let flags = vec![("limits.vehicles".to_owned(), "3".to_owned())];
    let config: Config = settings::load_with(Some(Path::new(&file)), ENV_PREFIX, variables, flags).unwrap();
    assert_eq!((config.limits.vehicles, config.limits.event_streams), (3, 2));

    let wrong = [(format!("{ENV_PREFIX}__LIMITS__VEHICLE"), "2".to_owned())];
    let error = settings::load_with::<Config>(None, ENV_PREFIX, wrong, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("CARRIAGEWAY_GATEWAY__LIMITS__VEHICLE") && error.contains("vehicles"), "{error}");
}

#[test]
fn class_changes_lie_over_the_defaults() {
    let world = World::new();
    let table = world.load("[classes.body]\nttl_ms = 3000\nrate_per_second = 2\n").policies();
    let body = table[Class::Body];
    assert_eq!((body.ttl, body.rate_per_second), (Some(Duration::from_secs(3)), Some(2)));
    assert_eq!(body.burst, PolicyTable::defaults()[Class::Body].burst);
    assert_eq!(table[Class::Comfort], PolicyTable::defaults()[Class::Comfort]);
}

#[test]
fn each_problem_names_its_key_its_line_and_a_way_out() {
    let world = World::new();
    for (more, key, line) in [
        ("[classes.body]\nttl_ms = 0\n", "classes.body.ttl_ms", 14),
        ("[classes.horn]\nttl_ms = 1\n", "classes.horn", 13),
        ("[classes.safety]\nrate_per_second = 5\n", "classes.safety.rate_per_second", 14),
        ("[classes.safety]\nduplicate_window_ms = 500\n", "classes.safety.duplicate_window_ms", 14),
        ("[classes.body]\npriority = 60\n", "classes.body.priority", 14),
        ("[classes.body]\nqueue_bytes = 100\n", "classes.body.queue_bytes", 14),
        ("[classes.body]\nburst = 0\n", "classes.body.burst", 14),
        ("[limits]\nvehicles = 0\n", "limits.vehicles", 14),
        ("[drain]\ndeadline_ms = 0\n", "drain.deadline_ms", 14),
        ("[drain]\ndeadline_ms = 1999\n", "drain.deadline_ms", 14),
        ("[lease]\nttl_ms = 100\n", "lease.ttl_ms", 14),
        ("[lease]\nttl_ms = 999\n", "lease.ttl_ms", 14),
        ("[listen]\nudp = []\n", "listen.udp", 14),
        ("[listen]\ntcp = '0.0.0.0:9464'\n", "listen.internal", 13),
        ("[listen]\nudp = ['0.0.0.0:1', '127.0.0.1:1']\n", "listen.udp", 14),
        ("[log]\nfilter = 'a=b=c'\n", "log.filter", 14),
    ] {
        let problems = world.problems(more);
        assert_eq!(problems.len(), 1, "{more}: {problems:?}");
        let (found, place, sentence) = &problems[0];
        assert_eq!((found.as_str(), *place), (key, Some(line)), "{more}");
        assert!(sentence.starts_with(&world.path("gateway.toml")) && sentence.contains("; "), "{sentence}");
    }
}

#[test]
fn a_port_of_zero_collides_with_nothing() {
    let world = World::new();
    assert_eq!(world.problems("[listen]\ntcp = '127.0.0.1:0'\ninternal = '127.0.0.1:0'\n"), []);
}

#[test]
fn files_must_be_there_and_belong_together() {
    let world = World::new();
    let other = Authority::create(unix_now()).unwrap().server(&[], unix_now()).unwrap();
    fs::write(world.path("server.key"), &other.private).unwrap();
    fs::write(world.path("operator.pub"), "nothing").unwrap();
    fs::write(world.path("quic.secret"), "nothing").unwrap();
    fs::remove_file(world.path("ca.pem")).unwrap();
    let keys: Vec<_> = world.problems("").into_iter().map(|(key, line, _)| (key, line)).collect();
    let expected = [("tls.key", 3), ("tls.ca", 4), ("auth.public_key", 6), ("quic.secret", 8)];
    assert_eq!(keys, expected.map(|(key, line)| (key.to_owned(), Some(line))));
}

#[test]
fn a_certificate_that_has_ended_is_noticed_before_a_vehicle_does() {
    let world = World::new();
    let long_ago = unix_now() - 500 * 86_400;
    let old = Authority::create(long_ago).unwrap().server(&[], long_ago).unwrap();
    fs::write(world.path("server.pem"), &old.public).unwrap();
    fs::write(world.path("server.key"), &old.private).unwrap();
    let problems = world.problems("");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].2.contains("the certificate ended 103 days ago"), "{}", problems[0].2);
}

#[test]
fn what_is_shown_can_be_loaded_again_and_means_the_same() {
    let world = World::new();
    let config = world.load("[classes.body]\nttl_ms = 3000\n");
    let shown = toml::to_string_pretty(&config.effective()).unwrap();
    assert!(shown.contains("[classes.safety]") && shown.contains("internal = \"127.0.0.1:9464\""), "{shown}");
    fs::write(world.path("shown.toml"), &shown).unwrap();
    let again = Config::load(Some(Path::new(&world.path("shown.toml"))), Vec::new()).unwrap();
    assert_eq!(again.policies(), config.policies());
    assert_eq!(again.listen, config.listen);
    assert_eq!(again.check(), Ok(()));
}

#[test]
fn a_variable_that_lacks_an_underscore_is_noticed() {
    let names = ["CARRIAGEWAY_GATEWAY_LISTEN__TCP", "CARRIAGEWAY_GATEWAY__LISTEN__TCP", "CARRIAGEWAY_CONFIG"];
    assert_eq!(unread(names.map(String::from)), ["CARRIAGEWAY_GATEWAY_LISTEN__TCP"]);
}
