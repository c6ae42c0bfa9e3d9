import java.time.Duration;

/** How scenarios wait and judge. */
final class Check {
  static final Duration DEADLINE = Duration.ofSeconds(60);

  interface Probe {
    boolean holds() throws Exception;
  }

  interface Scenario {
    void run() throws Exception;
  }

  static void that(boolean holds, Object what) {
    if (!holds) {
      throw new IllegalStateException(String.valueOf(what));
    }
  }

  static void eventually(String what, Probe probe) throws Exception {
    long end = System.nanoTime() + DEADLINE.toNanos();
    Object problem = "not yet";
    while (System.nanoTime() < end) {
      try {
        if (probe.holds()) {
          return;
        }
      } catch (Exception error) {
        problem = error; // the sidecar may be away, or not know of everybody yet
      }
      Thread.sleep(50);
    }
    throw new IllegalStateException("waited for " + what + ": " + problem);
  }

  /** Ends the program with what came of it: the threads of workers and servers would go on. */
  static void exit(Scenario scenario) {
    int code = 1;
    try {
      scenario.run();
      code = 0;
    } catch (Throwable problem) {
      problem.printStackTrace();
    }
    System.exit(code);
  }

  private Check() {
  }
}
