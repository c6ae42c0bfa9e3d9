//! The functions of the module `http_handler`, which guests import. Each finds what it is about in the guest's memory, asks the
//! exchange, and writes the answer back.

use std::fmt;

use tracing::{Level, enabled};
use wasmi::{Error, Linker, errors::HostError};

use crate::{
    exchange::{BodyKind, HeaderKind},
    headers::{Change, List},
    memory::{Guest, charge, piece, plain, split, tell, tell_list, two},
    state::State,
};

/// The name of the module.
pub const MODULE: &str = "http_handler";

/// A guest that is stopped until something is there, and goes on with it.
#[derive(Clone, Copy, Debug)]
pub enum Pause {
    /// It wants so many bytes of the request's body.
    Body { at: u32, room: u32 },
    /// It sleeps for so many nanoseconds.
    Sleep { nanoseconds: u64 },
    /// It wants so many random bytes, which take a while.
    Random { at: u32, length: u32 },
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest waits: {self:?}")
    }
}

impl HostError for Pause {}

/// Gives guests all of them.
///
/// # Errors
/// Where one is there already.
pub fn link(linker: &mut Linker<State>) -> Result<(), Error> {
    linker.func_wrap(MODULE, "enable_features", enable_features)?;
    linker.func_wrap(
        MODULE,
        "get_config",
        |guest: Guest<'_>, at: u32, room: u32| {
            tell(guest, at, room, |state| Ok(state.config.to_vec()))
        },
    )?;
    linker.func_wrap(MODULE, "log_enabled", |mut guest: Guest<'_>, level: i32| {
        plain(&mut guest, level_of(level).is_some_and(is_logged).into())
    })?;
    linker.func_wrap(MODULE, "log", log)?;
    linker.func_wrap(
        MODULE,
        "get_method",
        |guest: Guest<'_>, at: u32, room: u32| {
            tell(guest, at, room, |state| {
                Ok(state.exchange()?.method().into())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "set_method",
        |guest: Guest<'_>, at: u32, length: u32| {
            told(guest, at, length, |state, text| {
                Ok(state.exchange()?.set_method(text)?)
            })
        },
    )?;
    linker.func_wrap(MODULE, "get_uri", |guest: Guest<'_>, at: u32, room: u32| {
        tell(guest, at, room, |state| Ok(state.exchange()?.uri().into()))
    })?;
    linker.func_wrap(
        MODULE,
        "set_uri",
        |guest: Guest<'_>, at: u32, length: u32| {
            told(guest, at, length, |state, text| {
                Ok(state.exchange()?.set_uri(text)?)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "get_protocol_version",
        |guest: Guest<'_>, at: u32, room: u32| {
            tell(guest, at, room, |state| {
                Ok(state.exchange()?.version().into())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "get_source_addr",
        |guest: Guest<'_>, at: u32, room: u32| {
            tell(guest, at, room, |state| {
                Ok(state.exchange()?.source().into())
            })
        },
    )?;
    link_headers(linker)?;
    link_bodies(linker)
}

fn link_headers(linker: &mut Linker<State>) -> Result<(), Error> {
    linker.func_wrap(MODULE, "get_header_names", get_header_names)?;
    linker.func_wrap(MODULE, "get_header_values", get_header_values)?;
    linker.func_wrap(
        MODULE,
        "set_header_value",
        |guest: Guest<'_>, kind: u32, name: u32, name_length: u32, value: u32, length: u32| {
            change(
                guest,
                Change::Set,
                kind,
                (name, name_length),
                (value, length),
            )
        },
    )?;
    linker.func_wrap(
        MODULE,
        "add_header_value",
        |guest: Guest<'_>, kind: u32, name: u32, name_length: u32, value: u32, length: u32| {
            change(
                guest,
                Change::Add,
                kind,
                (name, name_length),
                (value, length),
            )
        },
    )?;
    linker.func_wrap(
        MODULE,
        "remove_header",
        |guest: Guest<'_>, kind: u32, name: u32, name_length: u32| {
            change(guest, Change::Remove, kind, (name, name_length), (0, 0))
        },
    )?;
    Ok(())
}

fn link_bodies(linker: &mut Linker<State>) -> Result<(), Error> {
    linker.func_wrap(MODULE, "read_body", read_body)?;
    linker.func_wrap(
        MODULE,
        "write_body",
        |guest: Guest<'_>, kind: u32, at: u32, length: u32| {
            told(guest, at, length, |state, bytes| {
                Ok(state
                    .exchange()?
                    .write_body(BodyKind::try_from(kind)?, bytes)?)
            })
        },
    )?;
    linker.func_wrap(MODULE, "get_status_code", |mut guest: Guest<'_>| {
        charge(&mut guest, 0)?;
        Ok::<u32, Error>(guest.data_mut().exchange()?.status()?)
    })?;
    linker.func_wrap(
        MODULE,
        "set_status_code",
        |mut guest: Guest<'_>, status: u32| {
            charge(&mut guest, 0)?;
            Ok::<(), Error>(guest.data_mut().exchange()?.set_status(status)?)
        },
    )?;
    Ok(())
}

/// Hands a piece of memory to the host.
fn told(
    mut guest: Guest<'_>,
    at: u32,
    length: u32,
    take: impl FnOnce(&mut State, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    charge(&mut guest, length as usize)?;
    let (memory, state) = split(&mut guest)?;
    take(state, piece(memory, at, length)?)
}

fn enable_features(mut guest: Guest<'_>, bits: u32) -> Result<u32, Error> {
    let enabled = guest.data_mut().enable(bits).bits();
    plain(&mut guest, enabled)
}

fn level_of(level: i32) -> Option<Level> {
    match level {
        -1 => Some(Level::DEBUG),
        0 => Some(Level::INFO),
        1 => Some(Level::WARN),
        2 => Some(Level::ERROR),
        _ => None,
    }
}

fn is_logged(level: Level) -> bool {
    match level {
        Level::DEBUG => enabled!(Level::DEBUG),
        Level::INFO => enabled!(Level::INFO),
        Level::WARN => enabled!(Level::WARN),
        _ => enabled!(Level::ERROR),
    }
}

fn log(mut guest: Guest<'_>, level: i32, at: u32, length: u32) -> Result<(), Error> {
    let Some(level) = level_of(level).filter(|level| is_logged(*level)) else {
        return charge(&mut guest, 0);
    };
    told(guest, at, length, |state, text| {
        let Some(text) = state.log_text(text) else {
            return Ok(());
        };
        let name = &state.name;
        match level {
            Level::DEBUG => tracing::debug!("wasm component {name}: {text}"),
            Level::INFO => tracing::info!("wasm component {name}: {text}"),
            Level::WARN => tracing::warn!("wasm component {name}: {text}"),
            _ => tracing::error!("wasm component {name}: {text}"),
        }
        Ok(())
    })
}

fn get_header_names(guest: Guest<'_>, kind: u32, at: u32, room: u32) -> Result<u64, Error> {
    tell_list(guest, at, room, |_, state| {
        Ok(state.exchange()?.header_names(HeaderKind::try_from(kind)?))
    })
}

fn get_header_values(
    guest: Guest<'_>,
    kind: u32,
    name: u32,
    name_length: u32,
    at: u32,
    room: u32,
) -> Result<u64, Error> {
    tell_list(guest, at, room, |memory, state| -> Result<List, Error> {
        let name = piece(memory, name, name_length)?;
        let kind = HeaderKind::try_from(kind)?;
        Ok(state.exchange()?.header_values(kind, name)?)
    })
}

fn change(
    mut guest: Guest<'_>,
    change: Change,
    kind: u32,
    name: (u32, u32),
    value: (u32, u32),
) -> Result<(), Error> {
    charge(
        &mut guest,
        (name.1 as usize).saturating_add(value.1 as usize),
    )?;
    let (memory, state) = split(&mut guest)?;
    let kind = HeaderKind::try_from(kind)?;
    let name = piece(memory, name.0, name.1)?.to_vec();
    let value = piece(memory, value.0, value.1)?;
    Ok(state
        .exchange()?
        .change_header(kind, change, &name, value)?)
}

/// Reads at once what is there; for what is not, the guest is stopped.
fn read_body(mut guest: Guest<'_>, kind: u32, at: u32, room: u32) -> Result<u64, Error> {
    if room == 0 {
        return Err(Error::new("a body is read without room for it"));
    }
    charge(&mut guest, room as usize)?;
    let (memory, state) = split(&mut guest)?;
    let into = piece(memory, at, room)?;
    let exchange = state.exchange()?;
    let (count, ended) = match BodyKind::try_from(kind)? {
        BodyKind::Response => exchange.read_response(into)?,
        BodyKind::Request => {
            exchange.may_read_request()?;
            if !exchange.incoming.has(room as usize) {
                return Err(Error::host(Pause::Body { at, room }));
            }
            exchange.incoming.take(into)
        }
    };
    Ok(two(ended.into(), count as u32))
}
