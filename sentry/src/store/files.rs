//! Credentials in files, readable by nobody else.

use std::fs;
use std::io;
use std::path::Path;

use daemon::Draft;

use super::{Credentials, Error, MAX, Stored};
use crate::settings::Paths;

/// Small local files, read in place.
pub fn load(paths: &Paths) -> Result<Stored, Error> {
    let credentials = Credentials {
        root: read(&paths.root)?,
        chain: read(&paths.chain)?,
        key: read(&paths.key)?,
        jwt_key: read(&paths.jwt_key)?,
        jwks: read(&paths.jwks)?,
        record: read(&paths.record)?,
    };
    Ok(Stored {
        credentials,
        objects: None,
    })
}

/// All that is new is written beside at the same time, as a disk takes its time for each; then it is put in place, in order:
/// what is written down comes first, as it has the set of the issuer, whose key is the last; and the key for tokens comes before
/// its public half, which can be made from it.
pub fn save(paths: &Paths, stored: &Stored, wanted: &Credentials) -> Result<(), Error> {
    let found = &stored.credentials;
    let all = [
        (&paths.record, &wanted.record, &found.record),
        (&paths.jwt_key, &wanted.jwt_key, &found.jwt_key),
        (&paths.jwks, &wanted.jwks, &found.jwks),
        (&paths.root, &wanted.root, &found.root),
        (&paths.chain, &wanted.chain, &found.chain),
        (&paths.key, &wanted.key, &found.key),
    ];
    let changed = all.into_iter().filter_map(|(path, wanted, found)| {
        let content = wanted.as_ref().filter(|_| wanted != found)?;
        Some((path.as_path(), content.as_slice()))
    });
    let written = std::thread::scope(|scope| {
        let all: Vec<_> = changed
            .map(|(path, content)| (path, scope.spawn(move || Draft::write(path, content))))
            .collect();
        let done = all.into_iter().map(|(path, written)| {
            let panicked = |_| Err(io::Error::other("writing it panicked"));
            (path, written.join().unwrap_or_else(panicked))
        });
        done.collect::<Vec<_>>()
    });
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Write { path, source }
    };
    let mut ready = Vec::with_capacity(written.len());
    for (path, written) in written {
        ready.push((path, written.map_err(failed(path))?));
    }
    for (path, draft) in ready {
        draft.place().map_err(failed(path))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let label = || path.display().to_string();
    match fs::metadata(path) {
        Ok(found) if found.len() > MAX as u64 => return Err(Error::TooLarge { path: label() }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Read {
                path: label(),
                source,
            });
        }
    }
    // An empty file is there: someone has put it there, so it is an error later rather than a reason to write it.
    let content = fs::read(path).map_err(|source| Error::Read {
        path: label(),
        source,
    })?;
    Ok(Some(content))
}
