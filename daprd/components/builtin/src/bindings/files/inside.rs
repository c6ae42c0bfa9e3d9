//! A path below a folder, whatever the name says: as if the folder were the root of the system.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// Links that one name may lead through.
const MOST_LINKS: usize = 40;

/// The place of `name` below `root`. Dots do not lead above it, and links lead to where they would if it were the root.
pub fn join(root: &Path, name: &str) -> io::Result<PathBuf> {
    let mut links = 0;
    let mut left: VecDeque<Part> = parts(Path::new(name)).collect();
    let mut found = PathBuf::new();
    while let Some(part) = left.pop_front() {
        match part {
            Part::Root => found.clear(),
            Part::Up => {
                found.pop();
            }
            Part::Name(name) => {
                let next = found.join(name);
                let Ok(target) = std::fs::read_link(root.join(&next)) else {
                    found = next;
                    continue;
                };
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::other("it leads through too many links"));
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(part);
                }
            }
        }
    }
    Ok(root.join(found))
}

enum Part {
    Root,
    Up,
    Name(OsString),
}

fn parts(path: &Path) -> impl Iterator<Item = Part> {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    })
}
