//! Drives a reader of outside bytes with a corpus and, for as long as `FUZZ_SECONDS` says, with mutations of it. It needs no
//! instrumented build and no other toolchain, so it runs wherever tests do: the corpus with every `make test`, mutations
//! with `make fuzz`. It is blind to coverage; what it lacks there, the seeds and the readers' own promises must bring.
#![deny(missing_docs)]

mod mutate;

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// How long each target is fed with mutations; none without it.
const SECONDS: &str = "FUZZ_SECONDS";

/// Where mutations begin; by default another place each time.
const SEED: &str = "FUZZ_SEED";

/// Longest time for one input. No reader waits for anything, so more is a loop or worse than linear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gives `read` all inputs of `corpus/<name>`, then mutations.
///
/// # Panics
/// With the input, if `read` panics or takes too long. The input is kept below the folder for temporary files.
pub fn run(name: &str, mut read: impl FnMut(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    for input in &corpus {
        once(name, input, &mut read);
    }
    let Some(seconds) = number(SECONDS) else {
        return;
    };
    let began = Instant::now();
    let clock = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(1, |since| since.as_secs());
    let seed = number(SEED).unwrap_or(clock);
    let mut mutator = Mutator::new(seed, corpus);
    let mut count = 0_u64;
    let kept = kept(name);
    while began.elapsed() < Duration::from_secs(seconds) {
        let input = mutator.next();
        // Beforehand: a stack that overflows ends the program at once.
        std::fs::write(&kept, &input).expect("the temporary folder is writable");
        once(name, &input, &mut read);
        count += 1;
    }
    std::fs::remove_file(kept).expect("it was written");
    let line = format!("fuzz {name}: {count} inputs in {seconds} s from seed {seed}, no finding\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("a test has an output");
}

fn once(name: &str, input: &[u8], read: &mut impl FnMut(&[u8])) {
    let began = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| read(input)));
    let took = began.elapsed();
    if done.is_ok() && took < PATIENCE {
        return;
    }
    let kept = kept(name);
    std::fs::write(&kept, input).expect("the temporary folder is writable");
    let mut shown = String::new();
    for byte in input {
        write!(shown, "{}", byte.escape_ascii()).expect("a string grows");
    }
    let place = kept.display();
    match done {
        Err(panic) => {
            let note = format!("fuzz {name}: panicked, input kept in {place}: {shown}\n");
            std::io::stderr()
                .write_all(note.as_bytes())
                .expect("a test has an output");
            resume_unwind(panic)
        }
        Ok(()) => panic!("{name} took {took:?} for what is kept in {place}: {shown}"),
    }
}

fn kept(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("fuzz-{name}"))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a whole number"))
}

/// The inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let entries = std::fs::read_dir(&folder).expect("a folder below corpus");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let read = |path: &PathBuf| std::fs::read(path).expect("a file below corpus");
    paths.iter().map(read).collect()
}
