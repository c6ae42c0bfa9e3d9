//! Memory of a real installation: the programs that run in pods of a Kubernetes on this machine (`make demo` leaves one),
//! with the Kubernetes clients, watches and certificates that they have only there.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Result, ensure};

use super::{
    print,
    process::{Memory, megabytes},
};

/// The programs, in the order of the result; those of the control plane are also added up.
const PROGRAMS: [(&str, bool); 5] = [
    ("operator", true),
    ("injector", true),
    ("sentry", true),
    ("placement", true),
    ("daprd", false),
];

/// What every container of a pod has in its environment.
const IN_A_POD: &[u8] = b"KUBERNETES_SERVICE_HOST=";

/// Prints a line per process, and the sum of the control plane.
pub(super) fn run() -> Result<()> {
    let found = processes()?;
    ensure!(
        !found.is_empty(),
        "no pod on this machine runs one of our programs: `make demo` starts some"
    );
    print("in pods of this machine, now")?;
    print(&format!(
        "{:<24} {:>12} {:>12} {:>12}",
        "program", "resident MB", "anonymous MB", "most MB"
    ))?;
    let mut sum = Memory::default();
    for (program, control_plane) in PROGRAMS {
        for memory in found.get(program).into_iter().flatten() {
            line(program, memory)?;
            if control_plane {
                sum.resident += memory.resident;
                sum.anonymous += memory.anonymous;
                sum.peak += memory.peak;
            }
        }
    }
    line("the control plane", &sum)
}

fn line(name: &str, memory: &Memory) -> Result<()> {
    print(&format!(
        "{name:<24} {:>12.1} {:>12.1} {:>12.1}",
        megabytes(memory.resident),
        megabytes(memory.anonymous),
        megabytes(memory.peak),
    ))
}

/// Our programs in pods, by name. What ends meanwhile, or is not ours to read, is left out.
fn processes() -> Result<BTreeMap<String, Vec<Memory>>> {
    let mut found: BTreeMap<String, Vec<Memory>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let proc = Path::new("/proc").join(pid.to_string());
        let Ok(binary) = fs::read_link(proc.join("exe")) else {
            continue;
        };
        let program = binary.file_name().and_then(|name| name.to_str());
        let Some(program) = program.filter(|name| PROGRAMS.iter().any(|(known, _)| known == name))
        else {
            continue;
        };
        let environment = fs::read(proc.join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable.starts_with(IN_A_POD))
            && let Ok(memory) = Memory::of(pid)
        {
            found.entry(program.to_owned()).or_default().push(memory);
        }
    }
    Ok(found)
}
