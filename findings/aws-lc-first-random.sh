#!/bin/bash
# The first random number of a program that uses AWS-LC costs tens of milliseconds of CPU time, and a switch of the build
# takes them away.
#
# Versions: aws-lc-rs 1.19.0 with aws-lc-sys 0.47.0 (crates.io), which rustls takes by default.
# Source: AWS-LC's documents describe a tree of generators; nothing says that the seed of the tree is gathered when a program
# asks for its first byte, before any handshake.
# Behaviour: the library times memory accesses until it believes that it has seen enough jitter, although getrandom(2) is
# there and is asked as well. Every start of a program that makes one key pays for it; a program of the control plane that
# is ready within 20 ms otherwise takes several times as long. With AWS_LC_SYS_NO_JITTER_ENTROPY=1 while the library is compiled,
# the kernel alone seeds it.
# Output seen: the lines below `expected`; here the first byte took 20 to 90 ms with jitter, 0.03 ms without.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "first"
version = "0.0.0"
edition = "2021"

[dependencies]
aws-lc-rs = "=1.19.0"
aws-lc-sys = "=0.47.0"
TOML
cat >src/main.rs <<'RS'
use aws_lc_rs::rand::fill;
use std::time::{Duration, Instant};

fn main() {
    let took = || {
        let began = Instant::now();
        fill(&mut [0]).expect("random bytes");
        began.elapsed()
    };
    let (first, second) = (took(), took());
    eprintln!("first {first:?}, second {second:?}");
    let slow = first > Duration::from_millis(2) && first > second * 100;
    println!("the first byte takes {}", if slow { "milliseconds" } else { "microseconds" });
}
RS
export CARGO_TARGET_DIR=$folder/target
cat >expected <<'TEXT'
without jitter: 0; the first byte takes milliseconds
without jitter: 1; the first byte takes microseconds
TEXT
for switch in 0 1; do
	if [ $switch = 1 ]; then export AWS_LC_SYS_NO_JITTER_ENTROPY=1; fi
	cargo build --quiet --release
	echo "without jitter: $switch; $(target/release/first)"
done | tee seen
diff expected seen
