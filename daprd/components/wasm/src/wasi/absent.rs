//! The functions of WASI that have nothing to do here: guests that import them start, and where they call one, it is told that
//! there is no such file.

use wasmi::{Error, FuncType, Linker, Val, ValType};

use super::{MODULE, errno};
use crate::{memory::charge, state::State};

/// Their names and parameters: `i` for one of 32 bits, `l` for one of 64. Each gives an error number.
const ABSENT: [(&str, &str); 28] = [
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_datasync", "i"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_pwrite", "iiili"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("proc_raise", "i"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

pub fn link(linker: &mut Linker<State>) -> Result<(), Error> {
    for (name, parameters) in ABSENT {
        let parameters = parameters.bytes().map(|letter| match letter {
            b'l' => ValType::I64,
            _ => ValType::I32,
        });
        let of = FuncType::new(parameters, [ValType::I32]);
        linker.func_new(MODULE, name, of, |mut guest, _, results| {
            charge(&mut guest, 0)?;
            if let [result] = results {
                *result = Val::I32(errno::BADF as i32);
            }
            Ok(())
        })?;
    }
    Ok(())
}
