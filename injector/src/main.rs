//! injector: the admission webhook that adds the sidecar to a pod.

fn main() -> std::process::ExitCode {
    daemon::main(injector::run)
}
