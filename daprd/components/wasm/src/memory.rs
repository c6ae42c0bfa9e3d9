//! The guest's memory: what it points at is read and written here, and nowhere else. What the host does for a guest costs it
//! fuel, as what it does itself.

use std::fmt;

use wasmi::{Caller, Error, Extern, errors::HostError};

use crate::{exchange::Misuse, headers::List, state::State};

/// The guest, while it waits for a function of the host.
pub type Guest<'a> = Caller<'a, State>;

/// Fuel of any call of the host.
const CALL: u64 = 300;
/// Bytes that the host copies for one unit of fuel.
const BYTES_PER_FUEL: u64 = 8;

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self::new(misuse.0)
    }
}

/// The guest has called for more than it has fuel for.
#[derive(Debug)]
pub struct Spent;

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the guest has no fuel left for what it calls")
    }
}

impl HostError for Spent {}

/// Takes the fuel of a call in which `bytes` are copied, before they are. What the slice has not comes out of what the call has
/// left; where that is not enough, the call ends.
pub fn charge(guest: &mut Guest<'_>, bytes: usize) -> Result<(), Error> {
    let cost = CALL + bytes as u64 / BYTES_PER_FUEL;
    let slice = guest.get_fuel()?;
    let beyond = cost.saturating_sub(slice);
    let taken = guest.data_mut().meter.take(beyond);
    taken.ok_or_else(|| Error::host(Spent))?;
    guest.set_fuel(slice.saturating_sub(cost))
}

/// A number for a call that does no more than give it.
pub fn plain(guest: &mut Guest<'_>, number: u32) -> Result<u32, Error> {
    charge(guest, 0)?;
    Ok(number)
}

/// Memory and state at a time.
pub fn split<'g>(guest: &'g mut Guest<'_>) -> Result<(&'g mut [u8], &'g mut State), Error> {
    let memory = guest.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.ok_or_else(|| Error::new("the guest has no memory yet"))?;
    Ok(memory.data_and_store_mut(guest))
}

/// A piece of memory.
pub fn piece(memory: &mut [u8], at: u32, length: u32) -> Result<&mut [u8], Error> {
    let (at, length) = (at as usize, length as usize);
    let end = at.checked_add(length);
    let piece = end.and_then(|end| memory.get_mut(at..end));
    piece.ok_or_else(|| Error::new(format!("{length} bytes at {at} are outside of the memory")))
}

/// Writes a value if it is not longer than the guest has room for; says how long it is in any case.
pub fn tell(
    mut guest: Guest<'_>,
    at: u32,
    room: u32,
    value: impl FnOnce(&mut State) -> Result<Vec<u8>, Misuse>,
) -> Result<u32, Error> {
    let value = value(guest.data_mut())?;
    charge(&mut guest, value.len())?;
    let length = length(&value)?;
    if length <= room {
        let (memory, _) = split(&mut guest)?;
        piece(memory, at, length)?.copy_from_slice(&value);
    }
    Ok(length)
}

/// The same with a list: how many, and how long in all.
pub fn tell_list(
    mut guest: Guest<'_>,
    at: u32,
    room: u32,
    list: impl FnOnce(&mut [u8], &mut State) -> Result<List, Error>,
) -> Result<u64, Error> {
    let (memory, state) = split(&mut guest)?;
    let list = list(memory, state)?;
    charge(&mut guest, list.bytes.len())?;
    let length = length(&list.bytes)?;
    if length <= room {
        let (memory, _) = split(&mut guest)?;
        piece(memory, at, length)?.copy_from_slice(&list.bytes);
    }
    Ok(two(list.count, length))
}

/// Two numbers as one.
pub fn two(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn length(bytes: &[u8]) -> Result<u32, Error> {
    u32::try_from(bytes.len()).map_err(|_| Error::new("the value is too long"))
}
