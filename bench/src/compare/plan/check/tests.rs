use super::*;
use crate::compare::plan::{BUILT_IN, Found};

const HEAD: &str = "title = 't'\nblocks = 1\nreference = 'a'\nfloor = 'a'\nsubjects = ['a', 'b']\n";
const LINK: &str = "[[link]]\nprofile = 'clean'\n";

fn known() -> Known {
    let why_not = |name: &str| (!["a", "b", "c"].contains(&name)).then(|| format!("no {name:?}: a, b, c"));
    let no_fleet = |name: &str| (name == "c").then_some("it is small");
    Known { why_not, no_fleet, metrics: ["age", "loss"].map(String::from).into() }
}

fn complaints(text: &str) -> String {
    complaints_of(text, &known())
}

fn complaints_of(text: &str, known: &Known) -> String {
    let found = Found { name: "my".into(), file: "my.toml".into(), text: text.into(), folder: "".into() };
    found.plan(known).map_or_else(|why| why.to_string(), |_| "nothing".into())
}

#[test]
fn a_sound_plan_has_no_complaints() {
    let claim = "[[claim]]\nbetter = 'a'\nthan = 'b'\nmetric = 'age'\nlinks = ['clean']\n";
    assert_eq!(complaints(&format!("{HEAD}{LINK}{claim}")), "nothing");
}

/// What is written in the place of a line of a sound plan, and how the complaint begins.
const BROKEN: &[(&str, &str, &str)] = &[
    ("title = 't'", "title = ''", "my.toml:1: title: a report needs a title"),
    ("title = 't'", "titel = 't'", "my.toml:1: titel: unknown field `titel`, expected one of `title`"),
    ("title = 't'", "title = 't", "my.toml:1: title: "),
    ("blocks = 1", "blocks = 0", "my.toml:2: blocks: 0 blocks cannot be run; write 1 to 1000"),
    (
        "blocks = 1",
        "blocks = 1\nlate-once-ms = 100",
        "my.toml:3: late-once-ms: is no limit that means anything; write 1 to 50",
    ),
    ("blocks = 1", "blocks = -1", "my.toml:2: blocks: invalid value"),
    ("blocks = 1", "blocks = 1\nfirst-seed = 2000000000000", "my.toml:3: first-seed: is too large"),
    ("reference = 'a'", "reference = 'c'", "my.toml:3: reference: \"c\" is not among the subjects"),
    ("floor = 'a'", "floor = 'x'", "my.toml:4: floor: no \"x\": a, b, c"),
    ("['a', 'b']", "['a', 'x']", "my.toml:5: subjects: no \"x\": a, b, c"),
    ("['a', 'b']", "['a',\n 'a']", "my.toml:6: subjects: \"a\" is there twice"),
    ("'clean'", "'claen'", "my.toml:7: link.profile: claen: no such profile; `carriageway-netem profiles`"),
    ("'clean'", "'/nowhere/x.toml'", "my.toml:7: link.profile: /nowhere/x.toml: cannot be read"),
    ("'clean'", "'clean'\nname = '../x'", "my.toml:8: link.name: \"../x\" is no name for a link"),
    ("'clean'", "'clean'\nnmae = 'x'", "my.toml:8: nmae: unknown field `nmae`"),
    ("'clean'", "'clean'\n[[link]]\nprofile = 'clean'", "my.toml:8: link: a second link is called \"clean\""),
    (
        "'clean'",
        "'clean'\ntrace = ['/nowhere/u', '/nowhere/d']",
        "my.toml:8: link.trace: /nowhere/u: cannot be read",
    ),
    (
        "'clean'",
        "'clean'\n[workload]\nseconds = 0",
        "my.toml:9: workload.seconds: 0 is not possible; write 1 to 600",
    ),
    ("'clean'", "'clean'\n[workload]\nseconds = nan", "my.toml:9: workload.seconds: NaN is not possible"),
    ("'clean'", "'clean'\n[workload]\ncontrol_hz = 2000", "my.toml:9: workload.control_hz: 2000 is not"),
    ("'clean'", "'clean'\n[workload]\ncommands_hz = -1", "my.toml:9: workload.commands_hz: -1 is not"),
    (
        "'clean'",
        "'clean'\n[workload]\nlog = false\nrival = true",
        "my.toml:10: workload.rival: it sends while files are transferred; write `log = true`",
    ),
    (
        "blocks = 1\n",
        "blocks = 1\nvirtual = true\nworkload = { rival = true }\n",
        "my.toml:4: workload.rival: there is no TCP in virtual time",
    ),
    (
        "'clean'",
        "'clean'\n[workload]\nvehicles = 0",
        "my.toml:9: workload.vehicles: 0 is not possible; write 1 to 50",
    ),
    ("'clean'", "'clean'\n[workload]\nvehicles = 51", "my.toml:9: workload.vehicles: 51 is not possible"),
    ("'clean'", "'clean'\n[workload]\nvehicles = -1", "my.toml:9: vehicles: invalid value: integer `-1`"),
    (
        "'clean'",
        "'clean'\n[workload]\nrival = true\nvehicles = 2",
        "my.toml:10: workload.vehicles: a rival has one vehicle beside it; leave one of the two out",
    ),
    (
        "blocks = 1\n",
        "blocks = 1\nvirtual = true\nworkload = { vehicles = 2 }\n",
        "my.toml:4: workload.vehicles: virtual time has one vehicle; leave it out",
    ),
    ("'clean'", "'clean'\n[workload]\ncontrol = 50", "my.toml:9: control: unknown field `control`"),
];

#[test]
fn every_mistake_is_told_with_file_line_key_and_fix() {
    for (sound, broken, beginning) in BROKEN {
        let text = format!("{HEAD}{LINK}");
        assert!(text.contains(sound), "{sound}");
        let told = complaints(&text.replacen(sound, broken, 1));
        assert!(told.starts_with(beginning), "{broken}:\n{told}\nshould begin with\n{beginning}");
        let lines = told.lines().all(|line| line.starts_with("my.toml:"));
        assert!(lines, "one line each: {told}");
    }
    let told = complaints(HEAD);
    assert!(
        told.starts_with("my.toml:1: missing field `link`; see `carriageway-bench list quick`"),
        "{told}"
    );
}

#[test]
fn who_carries_one_vehicle_is_in_no_fleet() {
    let text = format!("{HEAD}{LINK}[workload]\nvehicles = 2\n");
    assert_eq!(complaints(&text), "nothing");
    let with_c = text.replace("['a', 'b']", "['a',\n 'c']");
    let told = complaints(&with_c);
    assert_eq!(
        told,
        "my.toml:6: subjects: \"c\" carries one vehicle: it is small; leave it out, or write `vehicles = 1`"
    );
    assert_eq!(complaints(&with_c.replace("vehicles = 2", "vehicles = 1")), "nothing");
    let told = complaints(&text.replace("floor = 'a'", "floor = 'c'"));
    assert!(told.starts_with("my.toml:4: floor: \"c\" carries one vehicle"), "{told}");
}

#[test]
fn claims_are_of_what_the_plan_has() {
    let claimed = |claim: &str| complaints(&format!("{HEAD}{LINK}[[claim]]\n{claim}"));
    let told = claimed("better = 'c'\nthan = 'b'\nmetric = 'age'\n");
    assert_eq!(told, "my.toml:9: claim.better: \"c\" is none of this plan's subjects, which are a, b");
    let told = claimed("better = 'b'\nthan = 'b'\nmetric = 'age'\n");
    assert!(told.starts_with("my.toml:10: claim.than: a subject is not better than itself"), "{told}");
    let told = claimed("better = 'a'\nthan = 'b'\nmetric = 'agee'\n");
    assert_eq!(told, "my.toml:11: claim.metric: no metric is named \"agee\"; there are age, loss");
    let told = claimed("better = 'a'\nthan = 'b'\nmetric = 'age'\nlinks = ['clean',\n 'tunnel']\n");
    assert_eq!(told, "my.toml:13: claim.links: \"tunnel\" is none of this plan's links, which are clean");
}

#[test]
fn what_there_is_of_several_vehicles_alone_is_claimed_of_several() {
    for metric in OF_FLEETS {
        let known = Known { metrics: vec![metric.into()], ..known() };
        let claim = format!("[[claim]]\nbetter = 'a'\nthan = 'b'\nmetric = '{metric}'\n");
        let told = |workload| complaints_of(&format!("{HEAD}{LINK}{workload}{claim}"), &known);
        assert!(
            told("").starts_with(&format!("my.toml:11: claim.metric: {metric:?} is of several vehicles"))
        );
        assert_eq!(told("[workload]\nvehicles = 2\n"), "nothing");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let told = complaints(&format!("{HEAD}{LINK}").replace("'a', 'b'", "'x', 'y'"));
    assert_eq!(told.lines().count(), 3, "{told}");
}

#[test]
fn every_plan_that_comes_with_the_program_is_sound_and_says_what_it_asks() {
    // A subject that this build leaves out is one all the same.
    fn why_not(name: &str) -> Option<String> {
        let why = subjects::named(name).err().map(|why| why.to_string());
        why.filter(|why| !why.contains("build with `--features"))
    }
    let known = Known { why_not, ..Known::here() };
    for plan in BUILT_IN {
        let comment: Vec<_> = plan.comment().collect();
        assert!(comment.len() >= 2, "{}: a plan begins with its question", plan.name);
        for name in [plan.name.to_owned(), format!("plans/{}.toml", plan.name)] {
            let found = Found::find(&name).unwrap();
            assert_eq!((found.name.as_str(), found.text.as_str()), (plan.name, plan.text));
            let plan = found.plan(&known).unwrap_or_else(|why| panic!("{why}"));
            assert!(!plan.labels().collect::<Vec<_>>().is_empty());
            assert!(plan.claim.is_empty() || plan.blocks >= 6, "five blocks can show no claim");
        }
    }
    let quick = Found::find("quick").unwrap().plan(&Known::here()).unwrap();
    assert!(quick.time() < std::time::Duration::from_mins(10), "{:?}", quick.time());
    // Three hundred cells of 37 s and more.
    let in_virtual_time = Found::find("virtual").unwrap().plan(&Known::here()).unwrap();
    assert!(in_virtual_time.time() < std::time::Duration::from_mins(1), "{:?}", in_virtual_time.time());
}

#[test]
fn a_name_that_is_no_plan_says_where_to_look() {
    let told = Found::find("quikc").unwrap_err().to_string();
    assert!(told.contains("`carriageway-bench list`") && told.contains("quick"), "{told}");
    assert!(Found::find("/nowhere/quick.toml").unwrap_err().to_string().contains("no such plan"));
    let not_text = Found::find("/proc/self/exe.toml").unwrap_err().to_string();
    assert!(not_text.contains("no such plan"), "{not_text}");
}
