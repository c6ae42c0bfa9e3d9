//! placement: which host owns which actor.

fn main() -> std::process::ExitCode {
    daemon::main(placement::run)
}
