//! A part of the archive has what was put into it, finds each fact without the others, and shows no byte that was changed.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::log::conformance::{event, stream};
use crate::log::frame::{Draft, Payload};

/// Facts of two streams in turn, in chunks of appends of three; every tenth has a large payload.
fn fill(root: &Path, facts: u64) -> (PathBuf, Vec<Vec<u8>>, [StreamId; 2]) {
    let streams = [stream(), StreamId::Fleet];
    let mut part = Builder::begin(root, Position(0), GENESIS).unwrap();
    let (mut link, mut frames) = (GENESIS, Vec::new());
    for position in 1..=facts {
        let text = if position % 10 == 0 { "large ".repeat(2000) } else { format!("{position} ").repeat(30) };
        let new = event(&text);
        let which = usize::from(position % 2 == 0);
        let payload = new.fact.encode().unwrap();
        let mut draft = Draft::new(streams[which], &new, payload);
        let mut bytes = Vec::new();
        let place = (Position(position), Version(position.div_ceil(2)));
        link = draft.finish(place, position % 3 == 0 || position == facts, &link, &mut bytes);
        let apart = draft.elsewhere.map(|(digest, payload)| (*digest.as_bytes(), payload));
        part.push(&Frame::read(&bytes).unwrap(), apart).unwrap();
        frames.push(bytes);
    }
    (part.finish().unwrap().unwrap(), frames, streams)
}

fn open(root: &Path) -> Result<Archive, OpenError> {
    Archive::open(root, true, &mut |_, _| {})
}

#[test]
fn every_fact_is_found_by_its_position_and_by_its_stream() {
    let home = TempDir::new().unwrap();
    let (_, frames, streams) = fill(home.path(), 2000);
    let archive = open(home.path()).unwrap();
    assert!(archive.parts()[0].segments() == 1 && archive.parts()[0].block_of(Position(2000)) > Some(5));
    for position in (1..=2000).rev().step_by(7) {
        let mut found = Vec::new();
        let show = &mut |frame: &Frame<'_>| {
            found = frame.bytes.to_vec();
            if let Payload::Elsewhere(digest) = frame.payload() {
                assert_eq!(archive.payload(frame.position, digest.as_bytes())?.len(), frame.payload_len());
            }
            Ok(())
        };
        archive.frame(Position(position), show).unwrap();
        assert_eq!(found, frames[usize::try_from(position).unwrap() - 1]);
    }
    assert_eq!(archive.frames(Position(1), usize::MAX).unwrap(), (frames.concat(), true));
    assert_eq!(archive.frames(Position(1999), usize::MAX).unwrap(), (frames[1998..].concat(), true));
    let positions =
        |positions: Vec<Position>| positions.into_iter().map(|position| position.0).collect::<Vec<_>>();
    assert_eq!(positions(archive.stream(streams[0], Version(999), 5).unwrap()), [1997, 1999]);
    assert_eq!(positions(archive.stream(streams[1], Version(1), 2).unwrap()), [2, 4]);
    assert_eq!(positions(archive.stream_back(streams[0], Position(10), 2).unwrap()), [7, 9]);
    assert!(archive.stream(stream(), Version(1), 5).unwrap().is_empty());
    assert_eq!(archive.link_at(Position(2000)).unwrap(), Some(archive.link()));
}

#[test]
fn a_changed_byte_or_a_missing_file_is_damage_and_never_a_shorter_log() {
    let home = TempDir::new().unwrap();
    let (part, ..) = fill(home.path(), 20);
    let files: Vec<PathBuf> = fs::read_dir(&part).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let whole = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(matches!(open(home.path()), Err(OpenError::Damaged { position: Position(1), .. })));
        fs::write(&file, &whole[1..]).unwrap();
        assert!(matches!(open(home.path()), Err(OpenError::Damaged { .. })));
        for at in [9, 40, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&file, flipped).unwrap();
            let noticed = open(home.path()).map(|archive| archive.parts()[0].segment(0).is_err());
            assert!(noticed.unwrap_or(true), "byte {at} of {}", file.display());
        }
        fs::write(&file, whole).unwrap();
        open(home.path()).unwrap();
    }
}

#[test]
fn what_was_not_finished_is_removed_and_a_part_that_is_missing_is_noticed() {
    let home = TempDir::new().unwrap();
    let (first, ..) = fill(home.path(), 20);
    let archive = open(home.path()).unwrap();
    drop(Builder::begin(home.path(), archive.last(), archive.link()).unwrap());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    assert_eq!(open(home.path()).unwrap().last(), Position(20));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let moved = home.path().join("part-00000000000000000002-00000000000000000020.0");
    fs::rename(first, &moved).unwrap();
    assert!(matches!(open(home.path()), Err(OpenError::Damaged { .. })));
}
