//! Reads the tree and holds it to its own rules. Each rule is shown to bite on a bad sample.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// No file of ours is longer.
const LONGEST_FILE: usize = 800;

/// What a core has no business with: I/O, clocks, locks, tasks, global randomness.
const NOT_IN_CORE: &[&str] = &[
    "tokio::",
    "std::net",
    "std::fs",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "Mutex",
    "RwLock",
    "async fn",
    "async move",
    ".await",
    "rand::rng",
    "println!",
];

/// Written in two parts so that this file keeps its own rule.
const NOT_ANYWHERE: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimpl", "emented!"),
    concat!("db", "g!"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Directories with nothing of ours in them.
const NOT_OURS: &[&str] = &["target", "node_modules", "dist", "vendor"];

/// Which of our crates may be named in a crate's manifest.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("netem", &[]),
    ("transport", &["proto"]),
    ("agent", &["proto", "transport"]),
    ("gateway", &["proto", "transport"]),
    ("bench", &["proto", "transport", "agent", "gateway", "netem", "simulator"]),
    ("bench/simulator", &["proto", "transport", "agent", "gateway"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Our files with one of these endings, below `directory`.
fn files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) {
                found.extend(files(&path, endings));
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found
}

fn too_long(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LONGEST_FILE).then(|| format!("{lines} lines, more than {LONGEST_FILE}"))
}

fn leftovers(text: &str) -> Vec<String> {
    found_in(text.lines(), NOT_ANYWHERE)
}

fn found_in<'a>(lines: impl Iterator<Item = &'a str>, words: &[&str]) -> Vec<String> {
    let hits =
        lines.flat_map(|line| words.iter().filter(|word| holds(line, word)).map(move |word| (word, line)));
    hits.map(|(word, line)| format!("`{word}` in: {}", line.trim())).collect()
}

/// Whether `line` holds `word` as such: a field named `awaiting` awaits nothing.
fn holds(line: &str, word: &str) -> bool {
    let goes_on = |rest: &str| word.starts_with('.') && rest.starts_with(|c: char| c.is_alphanumeric());
    line.match_indices(word).any(|(at, _)| !goes_on(&line[at + word.len()..]))
}

/// What stands in a core's file and must not; tests within it may do as they like.
fn impurities(text: &str) -> Vec<String> {
    let lines = without_tests(text);
    let code = lines.iter().map(|line| line.split("//").next().unwrap_or_default());
    found_in(code, NOT_IN_CORE)
}

/// The lines outside of items marked `#[cfg(test)]`.
fn without_tests(text: &str) -> Vec<&str> {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let (mut depth, mut begun) = (0_i32, false);
        for line in lines.by_ref() {
            depth += i32::try_from(line.matches('{').count()).unwrap();
            depth -= i32::try_from(line.matches('}').count()).unwrap();
            begun |= line.contains('{') || line.trim_end().ends_with(';');
            if begun && depth <= 0 {
                break;
            }
        }
    }
    kept
}

/// Files that exist for tests only: declared as `#[cfg(test)] mod name;` by `file`.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let stem = file.file_stem().unwrap().to_string_lossy();
    let directory = file.parent().unwrap();
    let home = if stem == "mod" || stem == "lib" { directory.to_path_buf() } else { directory.join(&*stem) };
    let mut lines = text.lines().map(str::trim);
    let mut modules = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]"
            && let Some(name) = lines.next().and_then(|next| next.strip_prefix("mod ")?.strip_suffix(';'))
        {
            modules.push(home.join(format!("{name}.rs")));
        }
    }
    modules
}

/// Crates of ours that a manifest names and its crate may not import.
fn forbidden_imports(krate: &str, manifest: &str) -> Vec<String> {
    let (_, allowed) =
        MAY_IMPORT.iter().find(|(name, _)| *name == krate).expect("the table names every crate");
    let mut section = "";
    let mut forbidden = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let Some(name) = imported(line, section) else { continue };
        // The link emulator's core may stand behind transport's own tests.
        let in_tests = krate == "transport" && name == "netem" && section.contains("dev-dependencies");
        if !allowed.contains(&name) && !in_tests {
            forbidden.push(format!("{krate} imports {name}, in {section}"));
        }
    }
    forbidden
}

/// The crate of ours that this line of a manifest's `section` brings in.
fn imported<'a>(line: &'a str, section: &str) -> Option<&'a str> {
    let key = match line.strip_prefix('[') {
        Some(table) => table.trim_end_matches(']').rsplit_once("dependencies.")?.1,
        None if section.trim_end_matches(']').ends_with("dependencies") => {
            line.split(['.', '=']).next()?.trim()
        }
        None => return None,
    };
    key.strip_prefix("carriageway-")
}

/// Fails with every complaint at once.
/// Paths in backticks that begin in one of our folders and are not there. What has a wildcard or a placeholder is no path.
fn dead_paths(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        let ours = word.split_once('/').is_some_and(|(first, _)| {
            MAY_IMPORT.iter().any(|(name, _)| *name == first) || ["dashboard", "docs"].contains(&first)
        });
        ours && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    };
    let is_dead = |word: &&str| !root().join(word).exists();
    quoted.filter(is_path).filter(is_dead).map(|word| format!("{word} is not there")).collect()
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn complaints(files: &[PathBuf], rule: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let name = |path: &Path| path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let check = |path: &PathBuf| {
        let complaints = rule(&fs::read_to_string(path).unwrap());
        complaints
            .into_iter()
            .map(move |complaint| format!("{}: {complaint}", name(path)))
            .collect::<Vec<_>>()
    };
    files.iter().flat_map(check).collect()
}

#[test]
fn no_file_is_too_long() {
    let ours = files(&root(), &[".rs", ".js", ".ts"]);
    assert!(ours.len() > 100, "the tree is read: {}", ours.len());
    assert_none(&complaints(&ours, |text| too_long(text).into_iter().collect()));
    assert!(too_long(&"\n".repeat(LONGEST_FILE)).is_none());
    assert!(too_long(&"\n".repeat(LONGEST_FILE + 1)).is_some());
}

#[test]
fn documents_name_what_is_there() {
    let documents = files(&root(), &[".md"]);
    assert!(documents.len() > 5, "the tree is read: {}", documents.len());
    assert_none(&complaints(&documents, dead_paths));
    assert_eq!(
        dead_paths("see `proto/nowhere.rs`, `proto/src` and `proto/*`"),
        ["proto/nowhere.rs is not there"]
    );
}

#[test]
fn nothing_is_left_unfinished() {
    assert_none(&complaints(&files(&root(), &[".rs", ".js", ".ts", ".proto", ".toml"]), leftovers));
    for word in NOT_ANYWHERE {
        assert_eq!(leftovers(&format!("fn f() {{\n    {word}(1);\n}}\n")).len(), 1, "{word}");
    }
    assert_none(&leftovers("a list of what is done\n"));
}

#[test]
fn every_core_is_pure() {
    let sources = files(&root(), &[".rs"]);
    let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let for_tests: BTreeSet<_> = sources.iter().flat_map(|path| test_modules(path, &text(path))).collect();
    let is_core = |path: &&PathBuf| path.display().to_string().contains("/src/core/");
    let cores: Vec<_> =
        sources.iter().filter(is_core).filter(|path| !for_tests.contains(*path)).cloned().collect();
    assert!(cores.len() > 30, "the cores are read: {}", cores.len());
    assert_none(&complaints(&cores, impurities));
    for word in NOT_IN_CORE {
        assert_eq!(impurities(&format!("fn f() {{\n    {word} x;\n}}\n")).len(), 1, "{word}");
    }
    let in_tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n    fn g() { if a {} }\n}\n";
    assert_none(&impurities(in_tests));
    assert_eq!(impurities(&format!("{in_tests}use std::fs;\n")).len(), 1, "what follows the tests counts");
    assert_eq!(impurities("#[cfg(test)]\nmod tests;\nuse std::fs;\n").len(), 1);
    assert_none(&impurities("fn f() { self.awaiting() }\n"));
    assert_none(&impurities("/// Not a Mutex.\nfn f() {} // nor tokio::spawn\n"));
    let declared = test_modules(Path::new("a/core/x.rs"), "#[cfg(test)]\nmod model;\nmod y;\n");
    assert_eq!(declared, [Path::new("a/core/x/model.rs")]);
}

#[test]
fn crates_import_in_one_direction() {
    for (krate, _) in MAY_IMPORT {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        assert_none(&forbidden_imports(krate, &manifest));
    }
    let members = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = members.lines().find(|line| line.starts_with("members")).unwrap().matches('"').count() / 2;
    assert_eq!(members, MAY_IMPORT.len(), "every crate has a rule");
    for bad in [
        "[dependencies]\ncarriageway-gateway.workspace = true\n",
        "[dependencies]\ncarriageway-gateway = { workspace = true, features = [\"shell\"] }\n",
        "[dev-dependencies]\ncarriageway-gateway = \"1\"\n",
        "[target.'cfg(unix)'.dependencies]\ncarriageway-gateway = \"1\"\n",
        "[dependencies.carriageway-gateway]\nworkspace = true\n",
    ] {
        assert_eq!(forbidden_imports("agent", bad).len(), 1, "{bad}");
    }
    let netem = "[dev-dependencies]\ncarriageway-netem.workspace = true\n";
    assert_none(&forbidden_imports("transport", netem));
    assert_eq!(forbidden_imports("transport", &netem.replace("dev-", "")).len(), 1);
    assert_none(&forbidden_imports("agent", "[features]\nshell = [\"carriageway-gateway/shell\"]\n"));
}
