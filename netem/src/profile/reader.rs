//! From a file's text to a scenario, with every complaint at its line.

use std::ops::Range;
use std::path::Path as FilePath;

use toml::Spanned;

use super::spec::{File, Meaning, PathSpec, Side};
use super::{BUILT_IN, Event, FIRST_PATH, Path, Profile, ProfileError, Scenario};
use crate::core::{Direction, Law, Outage};

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
        let mut paths = Vec::new();
        let mut events = Vec::new();
        if path.is_empty() {
            let (profile, inherited) = self.link(self.file, &summary, like.as_ref(), [up, down])?;
            paths.push(Path { name: FIRST_PATH.into(), profile });
            events = inherited;
        } else if like.is_some() || up.is_some() || down.is_some() {
            return Err(self.broken(
                None,
                "`up`, `down` and `like` belong into the [[path]] tables where there are some",
            ));
        } else {
            for PathSpec { name, like, up, down } in path {
                let title = format!("{} {}", self.file, name.get_ref());
                let (profile, inherited) = self.link(&title, &summary, like.as_ref(), [up, down])?;
                let here = Some(paths.len());
                events.extend(inherited.into_iter().map(|event| Event { path: here, ..event }));
                paths.push(Path { name: name.into_inner(), profile });
            }
        }
        events.extend(self.events(event, &mut paths)?);
        self.check(&paths)?;
        Ok(Scenario { summary, paths, events })
    }

    /// One link and the events that it has from its base.
    fn link(
        &self,
        name: &str,
        summary: &str,
        like: Option<&Spanned<String>>,
        sides: [Option<Spanned<Side>>; 2],
    ) -> Result<(Profile, Vec<Event>), ProfileError> {
        let (mut profile, events) = match like {
            None => (Profile::perfect(name), Vec::new()),
            Some(other) => self.base(other)?,
        };
        profile.name = name.into();
        profile.summary = summary.into();
        for (direction, side) in Direction::BOTH.into_iter().zip(sides) {
            let Some(side) = side else { continue };
            let at = side.span();
            let law = side.into_inner().law(profile.law(direction).clone(), self.folder);
            *profile.law_mut(direction) =
                law.map_err(|broken| self.broken(Some(broken.at.unwrap_or(at)), &broken.fix))?;
        }
        Ok((profile, events))
    }

    /// The profile that another starts from, with its events.
    fn base(&self, like: &Spanned<String>) -> Result<(Profile, Vec<Event>), ProfileError> {
        let name = like.get_ref();
        let complaint = |message: &str| self.broken(Some(like.span()), message);
        if !BUILT_IN.iter().any(|profile| profile.name == name) {
            return Err(complaint("only a profile that comes with the program can be a base"));
        }
        let Scenario { mut paths, events, .. } = Scenario::find(name)?;
        if paths.len() > 1 {
            return Err(complaint(&format!(
                "`{name}` has several paths and cannot be a base; name one of its links"
            )));
        }
        Ok((paths.remove(0).profile, events))
    }

    /// Events have added outages: what they make of the laws may be unsound together.
    fn check(&self, paths: &[Path]) -> Result<(), ProfileError> {
        let laws = paths.iter().flat_map(|path| [&path.profile.up, &path.profile.down]);
        let mut checks = laws.map(Law::check);
        checks.try_for_each(|check| check.map_err(|unsound| self.broken(None, &unsound.to_string())))
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
                Meaning::Outage(outage, direction) => add_outage(paths, path, direction, outage),
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

fn add_outage(paths: &mut [Path], path: Option<usize>, direction: Option<Direction>, outage: Outage) {
    for (number, Path { profile, .. }) in paths.iter_mut().enumerate() {
        let on_path = path.is_none_or(|path| path == number);
        for way in Direction::BOTH {
            if on_path && direction.is_none_or(|direction| direction == way) {
                profile.law_mut(way).outages.push(outage);
            }
        }
    }
}
