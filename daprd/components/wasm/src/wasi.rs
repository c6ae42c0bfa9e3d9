//! The part of WASI (preview 1) that guests need because their language's runtime does: output, which goes to the log, clocks,
//! random numbers, sleeping and an end. There are no arguments, no environment and no files, and what asks for them is told so.

use wasmi::{Error, Linker};

use crate::{
    abi::Pause,
    memory::{Guest, charge, piece, plain, split},
    state::State,
};

mod absent;
mod poll;
pub mod senses;

/// The name of the module.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// Error numbers.
mod errno {
    pub const SUCCESS: u32 = 0;
    pub const BADF: u32 = 8;
    pub const INVAL: u32 = 28;
    pub const IO: u32 = 29;
    pub const NOTSUP: u32 = 58;
    pub const SPIPE: u32 = 70;
}

/// Input, which is empty, and output.
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// How many copied bytes a random one costs.
const RANDOM: usize = 32;

/// Most random bytes that are made without a pause, in which others have their turn.
pub const RANDOM_AT_ONCE: usize = 64 << 10;

/// Most buffers of one write.
const MOST_BUFFERS: u32 = 1024;

/// Gives guests all of them.
///
/// # Errors
/// Where one is there already.
pub fn link(linker: &mut Linker<State>) -> Result<(), Error> {
    for list in ["args", "environ"] {
        linker.func_wrap(
            MODULE,
            &format!("{list}_get"),
            |mut guest: Guest<'_>, _: u32, _: u32| plain(&mut guest, errno::SUCCESS),
        )?;
        linker.func_wrap(
            MODULE,
            &format!("{list}_sizes_get"),
            |guest: Guest<'_>, count: u32, size: u32| {
                put(guest, &[(count, &[0; 4]), (size, &[0; 4])])
            },
        )?;
    }
    linker.func_wrap(
        MODULE,
        "clock_res_get",
        |mut guest: Guest<'_>, clock: u32, at: u32| match clock {
            0 | 1 => put(guest, &[(at, &1_000_u64.to_le_bytes())]),
            _ => plain(&mut guest, errno::INVAL),
        },
    )?;
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "sched_yield", |mut guest: Guest<'_>| {
        plain(&mut guest, errno::SUCCESS)
    })?;
    linker.func_wrap(
        MODULE,
        "proc_exit",
        |_: Guest<'_>, code: i32| -> Result<(), Error> { Err(Error::i32_exit(code)) },
    )?;
    linker.func_wrap(MODULE, "poll_oneoff", poll_oneoff)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(
        MODULE,
        "fd_read",
        |mut guest: Guest<'_>, file: u32, _: u32, _: u32, read: u32| match file {
            STDIN => put(guest, &[(read, &[0; 4])]),
            _ => plain(&mut guest, errno::BADF),
        },
    )?;
    linker.func_wrap(MODULE, "fd_close", |mut guest: Guest<'_>, file: u32| {
        plain(&mut guest, of_stream(file, errno::SUCCESS))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_seek",
        |mut guest: Guest<'_>, file: u32, _: i64, _: u32, _: u32| {
            plain(&mut guest, of_stream(file, errno::SPIPE))
        },
    )?;
    linker.func_wrap(MODULE, "fd_fdstat_get", fd_fdstat_get)?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |mut guest: Guest<'_>, file: u32, _: u32| {
            plain(&mut guest, of_stream(file, errno::SUCCESS))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_get",
        |mut guest: Guest<'_>, _: u32, _: u32| plain(&mut guest, errno::BADF),
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_dir_name",
        |mut guest: Guest<'_>, _: u32, _: u32, _: u32| plain(&mut guest, errno::BADF),
    )?;
    absent::link(linker)
}

fn of_stream(file: u32, otherwise: u32) -> u32 {
    match file {
        STDIN | STDOUT | STDERR => otherwise,
        _ => errno::BADF,
    }
}

fn put(mut guest: Guest<'_>, values: &[(u32, &[u8])]) -> Result<u32, Error> {
    charge(&mut guest, 0)?;
    let (memory, _) = split(&mut guest)?;
    for (at, value) in values {
        piece(memory, *at, value.len() as u32)?.copy_from_slice(value);
    }
    Ok(errno::SUCCESS)
}

fn clock_time_get(mut guest: Guest<'_>, clock: u32, _: i64, at: u32) -> Result<u32, Error> {
    let senses = &mut guest.data_mut().senses;
    let time = match clock {
        0 => senses.day(),
        1 => senses.line(),
        _ => return plain(&mut guest, errno::INVAL),
    };
    put(guest, &[(at, &time.to_le_bytes())])
}

fn random_get(mut guest: Guest<'_>, at: u32, length: u32) -> Result<u32, Error> {
    // A random byte takes as long as many that are copied.
    charge(&mut guest, (length as usize).saturating_mul(RANDOM))?;
    let (memory, state) = split(&mut guest)?;
    let into = piece(memory, at, length)?;
    if into.len() > RANDOM_AT_ONCE {
        return Err(Error::host(Pause::Random { at, length }));
    }
    Ok(filled(state.senses.fill(into)))
}

/// The number for random bytes that are there, or are not.
pub fn filled(filled: bool) -> u32 {
    if filled { errno::SUCCESS } else { errno::IO }
}

fn fd_write(
    mut guest: Guest<'_>,
    file: u32,
    buffers: u32,
    count: u32,
    written: u32,
) -> Result<u32, Error> {
    if !matches!(file, STDOUT | STDERR) {
        return plain(&mut guest, errno::BADF);
    }
    if count > MOST_BUFFERS {
        return plain(&mut guest, errno::INVAL);
    }
    let (memory, state) = split(&mut guest)?;
    let buffers = piece(memory, buffers, count * 8)?.to_vec();
    let mut total = 0_u32;
    for buffer in buffers.chunks_exact(8) {
        let (at, length) = (number(&buffer[..4]), number(&buffer[4..]));
        state.print(piece(memory, at, length)?);
        total = total.saturating_add(length);
    }
    piece(memory, written, 4)?.copy_from_slice(&total.to_le_bytes());
    charge(&mut guest, total as usize)?;
    Ok(errno::SUCCESS)
}

/// A number of four bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A character device that can be read or written, and nothing else.
fn fd_fdstat_get(mut guest: Guest<'_>, file: u32, at: u32) -> Result<u32, Error> {
    const CHARACTER_DEVICE: u8 = 2;
    const MAY_READ: u8 = 1 << 1;
    const MAY_WRITE: u8 = 1 << 6;
    let right = match file {
        STDIN => MAY_READ,
        STDOUT | STDERR => MAY_WRITE,
        _ => return plain(&mut guest, errno::BADF),
    };
    let mut stat = [0; 24];
    stat[0] = CHARACTER_DEVICE;
    stat[8] = right;
    put(guest, &[(at, &stat)])
}

/// Sleeps, or says that nothing but sleeping can be waited for.
fn poll_oneoff(
    mut guest: Guest<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    told: u32,
) -> Result<u32, Error> {
    if count == 0 || count > poll::MOST {
        return plain(&mut guest, errno::INVAL);
    }
    charge(&mut guest, (count * poll::SUBSCRIPTION) as usize)?;
    let (memory, state) = split(&mut guest)?;
    let bytes = piece(memory, subscriptions, count * poll::SUBSCRIPTION)?;
    let polled = poll::Polled::new(bytes, || (state.senses.day(), state.senses.line()));
    let ready = polled.events();
    piece(memory, events, ready.len() as u32)?.copy_from_slice(&ready);
    let number = ready.len() as u32 / poll::EVENT;
    piece(memory, told, 4)?.copy_from_slice(&number.to_le_bytes());
    match polled
        .sleep()
        .filter(|sleep| *sleep > 0 && state.senses.sleeps())
    {
        // It goes on with success.
        Some(nanoseconds) => Err(Error::host(Pause::Sleep { nanoseconds })),
        None => Ok(errno::SUCCESS),
    }
}
