//! sentry: the certificate authority of the control plane.

fn main() -> std::process::ExitCode {
    daemon::main(sentry::run)
}
