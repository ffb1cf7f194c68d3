//! Raw samples on disk: one line per arrival, compressed. Nothing is averaged before it is written.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use crate::compare::workload::{Heard, Kind};

const HEADER: &str = "kind,number,bytes,at_us";

/// Writes all arrivals, by time per end of the link.
pub fn write(path: &Path, heard: &[Heard]) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(cannot)?;
    let mut out = BufWriter::new(GzEncoder::new(file, Compression::fast()));
    writeln!(out, "{HEADER}").with_context(cannot)?;
    for Heard { kind, number, bytes, at } in heard {
        writeln!(out, "{},{number},{bytes},{}", kind.name(), at.as_micros()).with_context(cannot)?;
    }
    let encoder = out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(cannot)?;
    encoder.finish().with_context(cannot)?;
    Ok(())
}

/// Reads them again.
pub fn read(path: &Path) -> Result<Vec<Heard>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let lines = BufReader::new(GzDecoder::new(BufReader::new(file))).lines();
    let mut heard = Vec::new();
    for (index, line) in lines.enumerate() {
        let line = line.with_context(cannot)?;
        if index == 0 && line == HEADER {
            continue;
        }
        heard
            .push(parse(&line).with_context(|| format!("{}, line {}: {line:?}", path.display(), index + 1))?);
    }
    Ok(heard)
}

fn parse(line: &str) -> Result<Heard> {
    let fields: Vec<_> = line.split(',').collect();
    let [kind, number, bytes, at] = fields[..] else {
        anyhow::bail!("there should be four fields: {HEADER}")
    };
    Ok(Heard {
        kind: Kind::named(kind).context("no such kind")?,
        number: number.parse()?,
        bytes: bytes.parse()?,
        at: Duration::from_micros(at.parse()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_and_a_broken_line_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.csv.gz");
        let heard = [Kind::Control, Kind::Log].map(|kind| Heard {
            kind,
            number: 7,
            bytes: 64,
            at: Duration::from_micros(1_234_567),
        });
        write(&path, &heard).unwrap();
        assert_eq!(read(&path).unwrap(), heard);
        let broken = place.path().join("b.csv.gz");
        let mut out = GzEncoder::new(File::create(&broken).unwrap(), Compression::fast());
        writeln!(out, "{HEADER}\ncontrol,1,64").unwrap();
        out.finish().unwrap();
        let why = format!("{:#}", read(&broken).unwrap_err());
        assert!(why.contains("line 2") && why.contains("four fields"), "{why}");
    }
}
