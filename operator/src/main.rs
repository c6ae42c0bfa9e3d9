//! operator: resources for sidecars, Services for apps.

fn main() -> std::process::ExitCode {
    daemon::main(operator::run)
}
