//! scheduler: fires jobs and reminders at their time.

fn main() -> std::process::ExitCode {
    daemon::main(scheduler::run)
}
