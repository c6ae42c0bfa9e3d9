//! daprd: the sidecar.

fn main() -> std::process::ExitCode {
    daemon::main(daprd::run)
}
