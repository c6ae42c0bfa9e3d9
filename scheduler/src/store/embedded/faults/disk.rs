//! A disk that loses power, has no room, or does not keep what it was given.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use redb::StorageBackend;

use super::super::Shared;
use super::super::medium::Medium;

/// A disk; its clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(pub Arc<Mutex<Image>>);

/// What is on it.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// What is on it for sure.
    kept: Vec<u8>,
    /// What programs read.
    seen: Vec<u8>,
    /// What was done since the last flush.
    loose: Vec<Step>,
    /// Steps until power fails.
    pub left: Option<u64>,
    /// Blocks that there is room for, those that are in use, and whether the reserve is among them.
    pub room: Option<usize>,
    pub used: HashSet<u64>,
    pub reserved: bool,
    /// The file has its name.
    made: bool,
    pub flush_fails: bool,
    /// Steps so far.
    pub steps: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Image {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match &mut self.left {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn has_room(&self) -> bool {
        let reserve = if self.reserved { RESERVE } else { 0 };
        self.room
            .is_none_or(|room| self.used.len() + reserve <= room)
    }
}

fn carry_out(image: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Length(length) => image.resize(usize::try_from(*length).unwrap(), 0),
        Step::Write(offset, data) => {
            let offset = usize::try_from(*offset).unwrap();
            let end = offset + data.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[offset..end].copy_from_slice(data);
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.0.lock();
        let offset = usize::try_from(offset).unwrap();
        let data = image.seen.get(offset..offset + out.len());
        out.copy_from_slice(data.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let image = &mut *self.0.lock();
        image.step()?;
        let step = Step::Length(len);
        carry_out(&mut image.seen, &step);
        image.loose.push(step);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let image = &mut *self.0.lock();
        image.step()?;
        if image.flush_fails {
            // As Linux does it: what could not be written counts as written from now on.
            image.loose.clear();
            return Err(io::Error::other("input/output error"));
        }
        for step in image.loose.drain(..) {
            carry_out(&mut image.kept, &step);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let image = &mut *self.0.lock();
        image.step()?;
        let blocks = offset / BLOCK..=(offset + data.len() as u64 - 1) / BLOCK;
        let fresh: Vec<u64> = blocks.filter(|block| !image.used.contains(block)).collect();
        image.used.extend(&fresh);
        if !image.has_room() {
            for block in fresh {
                image.used.remove(&block);
            }
            return Err(ErrorKind::StorageFull.into());
        }
        let step = Step::Write(offset, data.to_vec());
        carry_out(&mut image.seen, &step);
        image.loose.push(step);
        Ok(())
    }
}

impl Medium for Disk {
    fn is_made(&self) -> bool {
        self.0.lock().made
    }

    fn draft(&self) -> anyhow::Result<Box<dyn StorageBackend>> {
        let image = &mut *self.0.lock();
        for bytes in [&mut image.kept, &mut image.seen] {
            bytes.clear();
        }
        Ok(Box::new(self.clone()))
    }

    fn finish(&self) -> io::Result<()> {
        let image = &mut *self.0.lock();
        image.step()?;
        image.made = true;
        Ok(())
    }

    fn open(&self) -> anyhow::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn reserve(&self) -> io::Result<()> {
        let mut image = self.0.lock();
        image.reserved = true;
        if !image.has_room() {
            image.reserved = false;
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn release(&self) {
        self.0.lock().reserved = false;
    }

    fn size(&self) -> io::Result<u64> {
        self.len()
    }
}

impl Disk {
    /// Power comes back. Of what was not flushed each step was done, was not, or was done for some sectors only.
    pub fn come_back(&self, random: &mut Rng) {
        let image = &mut *self.0.lock();
        let [done, torn] = [random.f64(), random.f64()];
        for step in std::mem::take(&mut image.loose) {
            match step {
                Step::Write(offset, data) if random.f64() < torn => {
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        if random.f64() < done {
                            let offset = offset + (number * SECTOR) as u64;
                            carry_out(&mut image.kept, &Step::Write(offset, sector.to_vec()));
                        }
                    }
                }
                step if random.f64() < done => carry_out(&mut image.kept, &step),
                _ => {}
            }
        }
        image.seen.clone_from(&image.kept);
        image.left = None;
    }

    /// A store on it.
    pub fn store(&self) -> Shared {
        Shared::open(Box::new(self.clone()), u64::MAX).expect("the store opens")
    }
}

/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// What a file takes room by, and those of the reserve.
const BLOCK: u64 = 4096;
pub(super) const RESERVE: usize = 64;
