//! From a file's text to a scenario, with every complaint at its line.

use std::ops::Range;
use std::path::Path as FilePath;

use toml::Spanned;

use super::spec::{Broken, File, Meaning, PathSpec, Side};
use super::{Event, FIRST_PATH, Path, Profile, ProfileError, Scenario};
use crate::core::Outage;

/// A text, its name in complaints, and where its traces are.
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    pub(super) folder: &'a FilePath,
}

impl Reader<'_> {
    pub(super) fn scenario(&self) -> Result<Scenario, ProfileError> {
        let File { summary, like, up, down, path, event } =
            toml::from_str(self.text).map_err(|error| self.broken(error.span(), error.message()))?;
        let mut paths = if path.is_empty() {
            let profile = self.profile(self.file, &summary, like.as_ref(), up, down)?;
            vec![Path { name: FIRST_PATH.into(), profile }]
        } else if like.is_some() || up.is_some() || down.is_some() {
            return Err(self.broken(
                None,
                "`up`, `down` and `like` belong into the [[path]] tables where there are some",
            ));
        } else {
            path.into_iter().map(|spec| self.path(&summary, spec)).collect::<Result<_, _>>()?
        };
        let events = self.events(event, &mut paths)?;
        Ok(Scenario { summary, paths, events })
    }

    fn path(&self, summary: &str, spec: PathSpec) -> Result<Path, ProfileError> {
        let name = spec.name.into_inner();
        let profile =
            self.profile(&format!("{} {name}", self.file), summary, spec.like.as_ref(), spec.up, spec.down)?;
        Ok(Path { name, profile })
    }

    fn profile(
        &self,
        name: &str,
        summary: &str,
        like: Option<&Spanned<String>>,
        up: Option<Side>,
        down: Option<Side>,
    ) -> Result<Profile, ProfileError> {
        let mut profile = match like {
            None => Profile::perfect(name),
            Some(other) => Profile::built_in(other.get_ref()).ok_or_else(|| {
                self.broken(Some(other.span()), "only a profile that comes with the program can be a base")
            })??,
        };
        profile.name = name.into();
        profile.summary = summary.into();
        let law = |side: Side| side.law(self.folder).map_err(|Broken { at, fix }| self.broken(at, &fix));
        if let Some(up) = up {
            profile.up = law(up)?;
        }
        if let Some(down) = down {
            profile.down = law(down)?;
        }
        Ok(profile)
    }

    /// Sorts out outages, which become part of the laws, from what is to be done.
    fn events(
        &self,
        specs: Vec<Spanned<super::spec::EventSpec>>,
        paths: &mut [Path],
    ) -> Result<Vec<Event>, ProfileError> {
        let mut events = Vec::new();
        for spec in specs {
            let at = spec.span();
            let spec = spec.into_inner();
            let path = match &spec.path {
                None => None,
                Some(name) => {
                    Some(paths.iter().position(|path| path.name == *name).ok_or_else(|| {
                        self.broken(Some(at.clone()), &format!("there is no path `{name}`"))
                    })?)
                }
            };
            let meaning = spec.meaning(path, self.folder);
            match meaning.map_err(|broken| self.broken(Some(broken.at.unwrap_or(at)), &broken.fix))? {
                Meaning::Event(event) => events.push(event),
                Meaning::Outage(outage) => add_outage(paths, path, outage),
            }
        }
        Ok(events)
    }

    /// A complaint with line and key.
    fn broken(&self, at: Option<Range<usize>>, message: &str) -> ProfileError {
        let before = at.and_then(|range| self.text.get(..range.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let source = self.text.lines().nth(line - 1).unwrap_or("");
        let key = source.split_once('=').map_or(String::new(), |(key, _)| format!("{}: ", key.trim()));
        let message = message.trim_end().replace('\n', "; ");
        ProfileError::Broken { file: self.file.into(), line, key, message }
    }
}

fn add_outage(paths: &mut [Path], path: Option<usize>, outage: Outage) {
    let concerned =
        paths.iter_mut().enumerate().filter(|(number, _)| path.is_none_or(|path| path == *number));
    for (_, Path { profile, .. }) in concerned {
        profile.up.outages.push(outage);
        profile.down.outages.push(outage);
    }
}
