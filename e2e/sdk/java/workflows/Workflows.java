import io.dapr.durabletask.Task;
import io.dapr.durabletask.TaskCanceledException;
import io.dapr.durabletask.TaskFailedException;
import io.dapr.workflows.Workflow;
import io.dapr.workflows.WorkflowActivity;
import io.dapr.workflows.WorkflowActivityContext;
import io.dapr.workflows.WorkflowStub;
import io.dapr.workflows.WorkflowTaskOptions;
import io.dapr.workflows.WorkflowTaskRetryPolicy;
import io.dapr.workflows.client.DaprWorkflowClient;
import io.dapr.workflows.client.WorkflowRuntimeStatus;
import io.dapr.workflows.client.WorkflowState;
import io.dapr.workflows.runtime.WorkflowRuntimeBuilder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.IntStream;

/**
 * A worker of the official SDK with the patterns that people build of workflows, and a client that starts them and says by the
 * exit code whether all came to what it should. In the middle the sidecar is restarted: the file `middle` asks for it, `restarted`
 * says that it is done. Arguments: the folder of these files.
 */
public class Workflows {
  static final Map<String, Integer> runs = new ConcurrentHashMap<>();

  static int count(String name) {
    return runs.merge(name, 1, Integer::sum);
  }

  public static class Book implements WorkflowActivity {
    @Override
    public Object run(WorkflowActivityContext context) {
      String what = context.getInput(String.class);
      count("book " + what);
      if (what.equals("car")) {
        throw new IllegalStateException("no car is left");
      }
      return "booked " + what;
    }
  }

  public static class Cancel implements WorkflowActivity {
    @Override
    public Object run(WorkflowActivityContext context) {
      String what = context.getInput(String.class);
      count("cancel " + what);
      return "cancelled " + what;
    }
  }

  public static class Square implements WorkflowActivity {
    @Override
    public Object run(WorkflowActivityContext context) {
      count("square");
      int number = context.getInput(Integer.class);
      return number * number;
    }
  }

  public static class Shaky implements WorkflowActivity {
    @Override
    public Object run(WorkflowActivityContext context) {
      if (count("shaky") < 3) {
        throw new IllegalStateException("not yet");
      }
      return "at last";
    }
  }

  /** Books one after the other, and takes all back where one cannot be had. */
  public static class Saga implements Workflow {
    @Override
    public WorkflowStub create() {
      return context -> {
        List<String> done = new ArrayList<>();
        try {
          for (String wish : context.getInput(String[].class)) {
            context.callActivity(Book.class.getCanonicalName(), wish, String.class).await();
            done.add(wish);
          }
          context.complete(Map.of("booked", done));
        } catch (TaskFailedException problem) {
          List<String> reversed = new ArrayList<>(done);
          Collections.reverse(reversed);
          for (String other : reversed) {
            context.callActivity(Cancel.class.getCanonicalName(), other, String.class).await();
          }
          context.complete(Map.of("cancelled", done));
        }
      };
    }
  }

  public static class FanOut implements Workflow {
    @Override
    public WorkflowStub create() {
      return context -> {
        List<Task<Integer>> squares = Arrays.stream(context.getInput(Integer[].class))
            .map(number -> context.callActivity(Square.class.getCanonicalName(), number, Integer.class))
            .toList();
        context.complete(context.allOf(squares).await().stream().mapToInt(Integer::intValue).sum());
      };
    }
  }

  public static class Approval implements Workflow {
    @Override
    public WorkflowStub create() {
      return context -> {
        Duration patience = Duration.ofMillis(context.getInput(Integer.class));
        String outcome;
        try {
          outcome = context.waitForExternalEvent("approved", patience, String.class).await();
        } catch (TaskCanceledException late) {
          outcome = "too late";
        }
        context.complete(outcome);
      };
    }
  }

  public static class Family implements Workflow {
    @Override
    public WorkflowStub create() {
      return context -> {
        Integer[] numbers = context.getInput(Integer[].class);
        String child = context.getInstanceId() + "-child";
        int total = context.callChildWorkflow(FanOut.class.getCanonicalName(), numbers, child, Integer.class).await();
        context.complete(total + 1);
      };
    }
  }

  public static class Patient implements Workflow {
    @Override
    public WorkflowStub create() {
      return context -> {
        WorkflowTaskRetryPolicy policy = WorkflowTaskRetryPolicy.newBuilder()
            .setFirstRetryInterval(Duration.ofMillis(100))
            .setMaxNumberOfAttempts(5)
            .build();
        WorkflowTaskOptions options = new WorkflowTaskOptions(policy);
        context.complete(context.callActivity(Shaky.class.getCanonicalName(), "", options, String.class).await());
      };
    }
  }

  public static class Rounds implements Workflow {
    @Override
    public WorkflowStub create() {
      return context -> {
        int left = context.getInput(Integer.class);
        if (left > 0) {
          context.createTimer(Duration.ofMillis(20)).await();
          context.continueAsNew(left - 1);
        }
        context.complete("round and round");
      };
    }
  }

  /** Has done something and waits when its sidecar is restarted. */
  public static class Halves implements Workflow {
    @Override
    public WorkflowStub create() {
      return context -> {
        Integer[] numbers = context.getInput(Integer[].class);
        int before = context.callActivity(Square.class.getCanonicalName(), numbers[0], Integer.class).await();
        // Before the sidecar has stored that the square is there, no turn gets here.
        count("half");
        String word = context.waitForExternalEvent("go on", String.class).await();
        int after = context.callActivity(Square.class.getCanonicalName(), numbers[1], Integer.class).await();
        context.complete(before + " " + word + " " + after);
      };
    }
  }

  static final DaprWorkflowClient client = new DaprWorkflowClient();

  static void comesTo(Class<? extends Workflow> workflow, Object input, String expected, String instance) throws Exception {
    isCompleted(client.scheduleNewWorkflow(workflow, input, instance), expected);
  }

  static void isCompleted(String instance, String expected) throws Exception {
    WorkflowState state = client.waitForWorkflowCompletion(instance, Check.DEADLINE, true);
    Check.that(state.getRuntimeStatus() == WorkflowRuntimeStatus.COMPLETED, state);
    Check.that(expected.equals(state.getSerializedOutput()), state.getSerializedOutput());
  }

  static void startWorker() {
    WorkflowRuntimeBuilder builder = new WorkflowRuntimeBuilder();
    List.of(new Saga(), new FanOut(), new Approval(), new Family(), new Patient(), new Rounds(), new Halves())
        .forEach(builder::registerWorkflow);
    List.of(new Book(), new Cancel(), new Square(), new Shaky()).forEach(builder::registerActivity);
    builder.build().start(false);
  }

  static void run(Path folder) throws Exception {
    startWorker();
    comesTo(Saga.class, List.of("flight", "hotel"), "{\"booked\":[\"flight\",\"hotel\"]}", null);
    comesTo(Saga.class, List.of("train", "ship", "car"), "{\"cancelled\":[\"train\",\"ship\"]}", null);
    Check.that(runs.get("cancel train") == 1 && runs.get("cancel ship") == 1, runs);
    comesTo(FanOut.class, IntStream.range(0, 10).toArray(), "285", null);
    Check.that(runs.get("square") == 10, runs);
    comesTo(Approval.class, 300, "\"too late\"", null);
    comesTo(Family.class, List.of(1, 2, 3), "15", "the-family");
    isCompleted("the-family-child", "14");
    comesTo(Patient.class, "", "\"at last\"", null);
    comesTo(Rounds.class, 5, "\"round and round\"", null);

    String waiting = client.scheduleNewWorkflow(Approval.class, 60_000);
    client.raiseEvent(waiting, "approved", "by the boss");
    isCompleted(waiting, "\"by the boss\"");

    int squares = runs.get("square");
    client.scheduleNewWorkflow(Halves.class, List.of(3, 4), "the-long-one");
    Check.eventually("the first half", () -> runs.containsKey("half"));
    Files.createFile(folder.resolve("middle"));
    Check.eventually("the restart", () -> Files.exists(folder.resolve("restarted")));
    Check.eventually("an event", () -> {
      client.raiseEvent("the-long-one", "go on", "then");
      return true;
    });
    isCompleted("the-long-one", "\"9 then 16\"");
    Check.that(runs.get("square") == squares + 2, runs);

    client.scheduleNewWorkflow(Approval.class, 60_000, "the-last");
    client.suspendWorkflow("the-last", "wait");
    Check.eventually("the pause", () -> client.getWorkflowState("the-last", false).getRuntimeStatus() == WorkflowRuntimeStatus.SUSPENDED);
    client.resumeWorkflow("the-last", "go on");
    client.terminateWorkflow("the-last", "enough");
    WorkflowState state = client.waitForWorkflowCompletion("the-last", Check.DEADLINE, true);
    Check.that(state.getRuntimeStatus() == WorkflowRuntimeStatus.TERMINATED, state);
    Check.that(client.purgeWorkflow("the-last"), "the purge");
    WorkflowState none = client.getWorkflowState("the-last", false);
    Check.that(none == null || none.getWorkflowId().isEmpty(), none);
  }

  public static void main(String[] arguments) {
    Check.exit(() -> run(Path.of(arguments[0])));
  }
}
