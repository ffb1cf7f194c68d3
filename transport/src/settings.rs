//! Settings of a daemon: a TOML file, then the environment, then flags, each over the one before.
//!
//! Every mistake is said in one line that names where it was made: the file's line and column, the
//! variable, or the flag.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Why settings cannot be used. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// A mistake in the file.
    #[error("{}:{line}:{column}: {why}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong and what to do.
        why: String,
    },
    /// A mistake in a variable or a flag.
    #[error("{origin}: {why}")]
    Overlay {
        /// The variable or flag.
        origin: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// Something that nobody set.
    #[error("{why}; set it in the configuration file, or in the environment as {prefix}__<TABLE>__<KEY>")]
    Missing {
        /// What is missing.
        why: String,
        /// What the environment's variables begin with.
        prefix: String,
    },
}

/// Loads settings from a TOML `file`, then variables of the process's environment such as
/// `PREFIX__LISTEN__UDP=...` for the key `listen.udp`, then `overrides` by dotted key. Types should deny
/// unknown fields, so that misspelt keys are refused.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
    overrides: Vec<(String, String)>,
) -> Result<T, SettingsError> {
    load_with(file, env_prefix, std::env::vars_os().filter_map(text), overrides)
}

/// As [`load`], with the variables given.
pub fn load_with<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: Vec<(String, String)>,
) -> Result<T, SettingsError> {
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| Overlay::variable(env_prefix, name, value))
        .collect();
    variables.sort_by(|a, b| a.origin.cmp(&b.origin));
    let flags = overrides.into_iter().map(|(key, value)| Overlay::flag(&key, value));

    let text = file.map(read).transpose()?.unwrap_or_default();
    let file = file.unwrap_or(Path::new("configuration"));
    // On its own, for the places of mistakes: a merged table has none.
    let alone = toml::from_str::<T>(&text).err().filter(|error| !is_missing(error.message()));
    if let Some(error) = alone {
        return Err(in_file(file, &text, &error));
    }
    let mut table: Table = toml::from_str(&text).map_err(|error| in_file(file, &text, &error))?;
    for overlay in variables.into_iter().chain(flags) {
        table = overlay.onto::<T>(&table)?;
    }
    Value::Table(table).try_into().map_err(|error: toml::de::Error| SettingsError::Missing {
        why: explain(error.message()),
        prefix: env_prefix.into(),
    })
}

/// Reads a `KEY=VALUE` of the command line; says what is wrong with another.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The line, counted from 1, on which this dotted key stands in a TOML text; of a key that is absent,
/// the line of the longest part of it that is there. `None` where not even its first part is.
pub fn line_of(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut offset = None;
    let mut table = table.get_ref();
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref().as_ref() == part) else {
            break;
        };
        offset = Some(name.span().start);
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    offset.map(|offset| 1 + text[..offset].matches('\n').count())
}

fn text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn read(file: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(file).map_err(|source| SettingsError::Unreadable { file: file.into(), source })
}

/// One setting from outside the file.
struct Overlay {
    /// How errors call it.
    origin: String,
    keys: Vec<String>,
    value: String,
}

impl Overlay {
    fn variable(prefix: &str, name: String, value: String) -> Option<Self> {
        let rest = name.strip_prefix(prefix)?.strip_prefix("__")?;
        let keys = rest.split("__").map(str::to_ascii_lowercase).collect();
        Some(Self { keys, origin: name, value })
    }

    fn flag(key: &str, value: String) -> Self {
        Self { keys: key.split('.').map(str::to_owned).collect(), origin: format!("flag {key}"), value }
    }

    /// The table with this setting in it. The value is read as TOML, and as plain text where that
    /// does not fit: `8080` may be a number or a name.
    fn onto<T: DeserializeOwned>(&self, table: &Table) -> Result<Table, SettingsError> {
        let mut first = None;
        for value in [as_toml(&self.value), Some(Value::String(self.value.clone()))].into_iter().flatten() {
            let mut merged = table.clone();
            if let Err(why) = insert(&mut merged, &self.keys, value) {
                return Err(self.wrong(why));
            }
            match Value::Table(merged.clone()).try_into::<T>() {
                Ok(_) => return Ok(merged),
                Err(error) if is_missing(error.message()) => return Ok(merged),
                Err(error) => {
                    first.get_or_insert_with(|| explain(error.message()));
                }
            }
        }
        Err(self.wrong(first.expect("text was tried at least")))
    }

    fn wrong(&self, why: String) -> SettingsError {
        SettingsError::Overlay { origin: self.origin.clone(), why }
    }
}

fn as_toml(value: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {value}")).ok()?;
    if table.len() == 1 { table.remove("value") } else { None }
}

fn insert(table: &mut Table, keys: &[String], value: Value) -> Result<(), String> {
    let (last, parents) = keys.split_last().expect("splitting gives at least one key");
    let mut inner = table;
    for key in parents {
        let next = inner.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(next) = next else { return Err(format!("{key:?} is a value, it has no keys")) };
        inner = next;
    }
    inner.insert(last.clone(), value);
    Ok(())
}

fn in_file(file: &Path, text: &str, error: &toml::de::Error) -> SettingsError {
    let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    SettingsError::File {
        file: file.into(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        why: explain(error.message()),
    }
}

fn is_missing(message: &str) -> bool {
    message.starts_with("missing field")
}

/// serde's message in one line, with the nearest valid key where one was misspelt.
fn explain(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((what, expected)) = line.split_once(", expected ") else { return line };
    if !what.starts_with("unknown field") && !what.starts_with("unknown variant") {
        return line;
    }
    // serde puts names between backticks.
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let Some(wrong) = quoted(what).into_iter().next() else { return line };
    let valid = quoted(expected);
    let nearest = valid.iter().min_by_key(|name| distance(&wrong, name));
    match nearest {
        // Two letters swapped are two steps apart.
        Some(name) if distance(&wrong, name) <= 2.max(name.len() / 2) => {
            format!("{what}; did you mean `{name}`? Valid here: {}", valid.join(", "))
        }
        Some(_) => format!("{what}; valid here: {}", valid.join(", ")),
        None => line,
    }
}

/// Levenshtein's distance between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        name: String,
        #[serde(default)]
        listen: Listen,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Listen {
        udp: u16,
        tcp: u16,
        hosts: Vec<String>,
    }

    fn file(text: &str) -> PathBuf {
        // Unique per test by its content; removed by whoever cleans the temporary directory.
        let mut name = std::env::temp_dir();
        let sum = text.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        name.push(format!("carriageway-settings-{}-{sum}.toml", std::process::id()));
        std::fs::File::create(&name).unwrap().write_all(text.as_bytes()).unwrap();
        name
    }

    fn load_text(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
        };
        let file = file(text);
        let loaded = load_with(Some(&file), "CARRIAGEWAY_GATEWAY", owned(env), owned(flags));
        std::fs::remove_file(&file).unwrap();
        let name = file.display().to_string();
        loaded.map_err(|error: SettingsError| error.to_string().replace(&name, "g.toml"))
    }

    #[test]
    fn flags_go_over_the_environment_and_both_over_the_file() {
        let settings = load_text(
            "name = 'a'\n[listen]\nudp = 1\ntcp = 2\n",
            &[
                ("CARRIAGEWAY_GATEWAY__LISTEN__UDP", "3"),
                ("CARRIAGEWAY_GATEWAY__NAME", "77"),
                ("CARRIAGEWAY_GATEWAY__LISTEN__HOSTS", "['a', 'b']"),
                ("CARRIAGEWAY_AGENT__NAME", "other"),
                ("HOME", "/"),
            ],
            &[("listen.udp", "4")],
        );
        let listen = Listen { udp: 4, tcp: 2, hosts: vec!["a".into(), "b".into()] };
        assert_eq!(settings, Ok(Settings { name: "77".into(), listen }));
    }

    #[test]
    fn mistakes_in_the_file_have_a_place_and_a_remedy() {
        let error = load_text("name = 'a'\n\n[listen]\n  upd = 1\n", &[], &[]).unwrap_err();
        assert_eq!(error, "g.toml:4:3: unknown field `upd`; did you mean `udp`? Valid here: udp, tcp, hosts");
        let error = load_text("name = 'a'\n[listen]\nudp = 'x'\n", &[], &[]).unwrap_err();
        assert!(error.starts_with("g.toml:3:7: invalid type: string"), "{error}");
        let error = load_text("name = \n", &[], &[]).unwrap_err();
        assert!(error.starts_with("g.toml:1:") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn mistakes_elsewhere_name_the_variable_or_the_flag() {
        let error = load_text("name = 'a'", &[("CARRIAGEWAY_GATEWAY__LISTEN__UPD", "1")], &[]).unwrap_err();
        assert!(
            error.starts_with("CARRIAGEWAY_GATEWAY__LISTEN__UPD: unknown field `upd`; did you mean `udp`"),
            "{error}"
        );
        let error = load_text("name = 'a'", &[], &[("listen.tcp", "many")]).unwrap_err();
        assert!(error.starts_with("flag listen.tcp: invalid type"), "{error}");
        let error = load_text("name = 'a'", &[], &[("name.first", "b")]).unwrap_err();
        assert_eq!(error, "flag name.first: \"name\" is a value, it has no keys");
    }

    #[test]
    fn what_the_file_lacks_may_come_from_elsewhere() {
        let env = [("CARRIAGEWAY_GATEWAY__NAME", "b")];
        assert_eq!(load_text("", &env, &[]).unwrap().name, "b");
        let error = load_text("", &[], &[("listen.udp", "1")]).unwrap_err();
        assert!(error.starts_with("missing field `name`; set it in"), "{error}");
        let absent = load::<Settings>(Some(Path::new("no/such.toml")), "X", Vec::new()).unwrap_err();
        assert!(absent.to_string().contains("no/such.toml"));
    }

    const TEXT: &str =
        "log.filter = 'info'\n\n[listen]\ntcp = '[::]:1'\n[classes.body]\nburst = 1\nttl_ms = 0\n";

    #[test]
    fn a_key_is_found_by_any_way_of_writing_it() {
        assert_eq!(line_of(TEXT, "log.filter"), Some(1));
        assert_eq!(line_of(TEXT, "listen.tcp"), Some(4));
        assert_eq!(line_of(TEXT, "classes.body.ttl_ms"), Some(7));
    }

    #[test]
    fn an_absent_key_stands_where_its_table_does() {
        assert_eq!(line_of(TEXT, "listen.udp"), Some(3));
        assert_eq!(line_of(TEXT, "tls.cert"), None);
        assert_eq!(line_of("no toml [", "tls.cert"), None);
    }

    #[test]
    fn a_flag_is_a_pair_or_says_what_it_is_not() {
        assert_eq!(pair("log.filter = a=b"), Ok(("log.filter".into(), "a=b".into())));
        assert_eq!(pair("log.filter").unwrap_err(), "\"log.filter\" is not KEY=VALUE");
    }
}
