//! The versions of libraries, as this build has locked them.

/// The workspace's lock file.
const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));

/// Names and versions of these libraries, for people.
pub(in crate::compare::subjects) fn versions(libraries: &[&str]) -> String {
    let named = libraries.iter().map(|name| format!("{name} {}", version(LOCK, name)));
    named.collect::<Vec<_>>().join(", ")
}

/// Of the one that the bench depends on, where there are several.
fn version<'a>(lock: &'a str, name: &str) -> &'a str {
    let packages = || lock.split("[[package]]");
    let value = |package: &'a str, key: &str| {
        let lines = package.lines().filter_map(|line| line.split_once(" = "));
        lines.filter(|(found, _)| *found == key).map(|(_, value)| value.trim_matches('"')).next()
    };
    let bench = packages().find(|package| value(package, "name") == Some(env!("CARGO_PKG_NAME")));
    let chosen = bench.and_then(|bench| {
        let dependencies = bench.lines().map(|line| line.trim().trim_matches([',', '"']));
        dependencies.filter_map(|line| line.split_once(' ')).find(|(found, _)| *found == name)
    });
    let only = || packages().find(|package| value(package, "name") == Some(name));
    chosen.map(|(_, version)| version).or_else(|| value(only()?, "version")).unwrap_or("of unknown version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock() {
        let lock = r#"
[[package]]
name = "lone"
version = "1.2.3"

[[package]]
name = "twice"
version = "0.1.0"

[[package]]
name = "twice"
version = "0.2.0"

[[package]]
name = "carriageway-bench"
version = "9.9.9"
dependencies = [
 "lone",
 "twice 0.2.0",
]
"#;
        assert_eq!(version(lock, "lone"), "1.2.3");
        assert_eq!(version(lock, "twice"), "0.2.0");
        assert_eq!(version(lock, "none"), "of unknown version");
        assert!(!versions(&["quinn", "tokio-tungstenite", "rustls", "axum", "tokio"]).contains("unknown"));
    }
}
