//! Raw samples on disk: one line per arrival, compressed. Nothing is averaged before it is written.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use crate::compare::workload::{Heard, Kind};

const HEADER: &str = "kind,number,bytes,at_us,vehicle";

/// The same as it was when a cell had one vehicle, which is the first.
const OLDER_HEADER: &str = "kind,number,bytes,at_us";

/// Writes all arrivals, by time per end of the link.
pub fn write(path: &Path, heard: &[Heard]) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(cannot)?;
    let mut out = BufWriter::new(GzEncoder::new(file, Compression::fast()));
    writeln!(out, "{HEADER}").with_context(cannot)?;
    for Heard { vehicle, kind, number, bytes, at } in heard {
        let (kind, at) = (kind.name(), at.as_micros());
        writeln!(out, "{kind},{number},{bytes},{at},{vehicle}").with_context(cannot)?;
    }
    let encoder = out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(cannot)?;
    encoder.finish().with_context(cannot)?;
    Ok(())
}

/// Reads them again.
pub fn read(path: &Path) -> Result<Vec<Heard>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let mut lines = BufReader::new(GzDecoder::new(BufReader::new(file))).lines();
    let first = lines.next().transpose().with_context(cannot)?.unwrap_or_default();
    let header = [HEADER, OLDER_HEADER].into_iter().find(|header| *header == first);
    let header =
        header.with_context(|| format!("{}, line 1: {first:?}: it should be {HEADER}", path.display()))?;
    let mut heard = Vec::new();
    for (index, line) in lines.enumerate() {
        let line = line.with_context(cannot)?;
        let parsed = parse(&line, header);
        heard.push(parsed.with_context(|| format!("{}, line {}: {line:?}", path.display(), index + 2))?);
    }
    Ok(heard)
}

fn parse(line: &str, header: &str) -> Result<Heard> {
    let fields: Vec<_> = line.split(',').collect();
    let (kind, number, bytes, at, vehicle) = match fields[..] {
        [kind, number, bytes, at, vehicle] if header == HEADER => (kind, number, bytes, at, vehicle),
        [kind, number, bytes, at] if header == OLDER_HEADER => (kind, number, bytes, at, "1"),
        _ => anyhow::bail!("there should be these fields: {header}"),
    };
    Ok(Heard {
        vehicle: vehicle.parse::<NonZeroU16>()?.get(),
        kind: Kind::named(kind).context("no such kind")?,
        number: number.parse()?,
        bytes: bytes.parse()?,
        at: Duration::from_micros(at.parse()?),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn arrival(vehicle: u16, kind: Kind) -> Heard {
        Heard { vehicle, kind, number: 7, bytes: 64, at: Duration::from_micros(1_234_567) }
    }

    /// A file of these lines.
    fn written(place: &Path, lines: &str) -> PathBuf {
        let path = place.join("by-hand.csv.gz");
        let mut out = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        write!(out, "{lines}").unwrap();
        out.finish().unwrap();
        path
    }

    #[test]
    fn samples_come_back_each_with_its_vehicle() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.csv.gz");
        let heard = [arrival(1, Kind::Control), arrival(2, Kind::Control), arrival(50, Kind::Log)];
        write(&path, &heard).unwrap();
        assert_eq!(read(&path).unwrap(), heard);
        write(&path, &[]).unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }

    #[test]
    fn what_was_written_when_there_was_one_vehicle_is_the_first_ones() {
        let place = tempfile::tempdir().unwrap();
        let path = written(place.path(), "kind,number,bytes,at_us\ncontrol,7,64,1234567\nlog,7,64,1234567\n");
        assert_eq!(read(&path).unwrap(), [Kind::Control, Kind::Log].map(|kind| arrival(1, kind)));
    }

    #[test]
    fn a_broken_line_is_named_and_nothing_is_guessed() {
        let place = tempfile::tempdir().unwrap();
        for (lines, why) in [
            (format!("{HEADER}\ncontrol,1,64\n"), ["line 2", HEADER]),
            (format!("{HEADER}\nlog,1,64,5,1\ncontrol,1,64,5\n"), ["line 3", HEADER]),
            (format!("{OLDER_HEADER}\ncontrol,1,64,5,1\n"), ["line 2", OLDER_HEADER]),
            (format!("{HEADER}\ncontrol,1,64,5,0\n"), ["line 2", "zero"]),
            (format!("{HEADER}\nwheel,1,64,5,1\n"), ["line 2", "no such kind"]),
            ("control,1,64,5,1\n".to_owned(), ["line 1", HEADER]),
        ] {
            let told = format!("{:#}", read(&written(place.path(), &lines)).unwrap_err());
            assert!(why.iter().all(|why| told.contains(why)), "{lines}: {told}");
        }
    }
}
