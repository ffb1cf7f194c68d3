//! The plans that come with the program.

/// A plan that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its TOML.
    pub text: &'static str,
}

/// Embeds `plans/NAME.toml`.
macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        [$(BuiltIn { name: $name, text: include_str!(concat!("../../../plans/", $name, ".toml")) }),+]
    };
}

/// The plans that come with the program.
pub const BUILT_IN: [BuiltIn; 13] = built_in![
    "virtual",
    "quick",
    "parked",
    "camera",
    "ablation",
    "download",
    "drive-100hz",
    "fairness",
    "fleet",
    "media",
    "peers",
    "practice",
    "drive"
];

impl BuiltIn {
    /// What it says of itself: the comment that it begins with.
    pub fn comment(&self) -> impl Iterator<Item = &'static str> {
        self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim)
    }
}
