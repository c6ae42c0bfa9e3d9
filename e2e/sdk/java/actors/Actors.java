import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.dapr.actors.ActorId;
import io.dapr.actors.ActorMethod;
import io.dapr.actors.ActorType;
import io.dapr.actors.client.ActorClient;
import io.dapr.actors.client.ActorProxyBuilder;
import io.dapr.actors.runtime.AbstractActor;
import io.dapr.actors.runtime.ActorRuntime;
import io.dapr.actors.runtime.ActorRuntimeContext;
import io.dapr.actors.runtime.Remindable;
import io.dapr.utils.TypeRef;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Executors;
import reactor.core.publisher.Mono;

/**
 * An app of the official SDK whose actors count, and a client that calls them; the exit code says whether all was as it should be.
 * The SDK leaves the server to a framework, of which nothing is needed here. It passes no reentrancy id on, so nothing comes back
 * to its actors. Arguments: the port to serve.
 */
public class Actors {
  static final Duration NOW = Duration.ZERO;
  static final Duration SOON = Duration.ofMillis(100);

  /** What an actor has seen so far. */
  public static class Seen {
    public boolean activated;
    public List<String> timer = new CopyOnWriteArrayList<>();
    public List<String> reminder = new CopyOnWriteArrayList<>();
  }

  @ActorType(name = "Counter")
  public interface Counter {
    @ActorMethod(name = "add", returns = Integer.class)
    Mono<Integer> add(int amount);

    @ActorMethod(returns = Seen.class)
    Mono<Seen> seen();

    Mono<Void> arm();

    Mono<Void> disarm();

    // Timers call what is in an interface only.
    Mono<Void> tick(String state);
  }

  /** What no actor serves. */
  public interface Unserved {
    Mono<Void> none();
  }

  public static class CounterActor extends AbstractActor implements Counter, Remindable<String> {
    private final Seen seen = new Seen();

    public CounterActor(ActorRuntimeContext<CounterActor> context, ActorId id) {
      super(context, id);
    }

    @Override
    protected Mono<Void> onActivate() {
      return Mono.fromRunnable(() -> seen.activated = true);
    }

    @Override
    public Mono<Integer> add(int amount) {
      var state = getActorStateManager();
      return state.contains("count")
          .flatMap(known -> known ? state.get("count", int.class) : Mono.just(0))
          .flatMap(before -> state.set("count", before + amount).then(saveState()).thenReturn(before + amount));
    }

    @Override
    public Mono<Seen> seen() {
      return Mono.just(seen);
    }

    @Override
    public Mono<Void> arm() {
      return registerActorTimer("tick", "tick", "of the timer", NOW, SOON)
          .then(registerReminder("ring", "of the reminder", NOW, Duration.ofSeconds(1)));
    }

    @Override
    public Mono<Void> disarm() {
      return unregisterTimer("tick").then(unregisterReminder("ring"));
    }

    @Override
    public Mono<Void> tick(String state) {
      return Mono.fromRunnable(() -> seen.timer.add(state));
    }

    @Override
    public TypeRef<String> getStateType() {
      return TypeRef.STRING;
    }

    @Override
    public Mono<Void> receiveReminder(String name, String state, Duration due, Duration period) {
      return Mono.fromRunnable(() -> seen.reminder.add(name + " " + state));
    }
  }

  /** What the sidecar asks an app with actors. */
  static byte[] answer(HttpExchange exchange) throws IOException {
    ActorRuntime runtime = ActorRuntime.getInstance();
    String[] path = exchange.getRequestURI().getPath().substring(1).split("/");
    byte[] body = exchange.getRequestBody().readAllBytes();
    String what = exchange.getRequestMethod() + " " + (path.length > 4 ? path[4] : "");
    if (path[0].equals("dapr")) {
      return runtime.serializeConfig();
    } else if (path[0].equals("healthz")) {
      return new byte[0];
    } else if (what.equals("DELETE ")) {
      runtime.deactivate(path[1], path[2]).block();
      return new byte[0];
    } else if (what.equals("PUT timer")) {
      runtime.invokeTimer(path[1], path[2], path[5], body).block();
      return new byte[0];
    } else if (what.equals("PUT remind")) {
      runtime.invokeReminder(path[1], path[2], path[5], body).block();
      return new byte[0];
    }
    return runtime.invoke(path[1], path[2], path[4], body).blockOptional().orElse(new byte[0]);
  }

  static void handle(HttpExchange exchange) throws IOException {
    byte[] body;
    int status = 200;
    try {
      body = answer(exchange);
    } catch (RuntimeException problem) {
      body = problem.toString().getBytes();
      status = 500;
    }
    exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
  }

  static void run(int port) throws Exception {
    ActorRuntime.getInstance().registerActor(CounterActor.class);
    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
    server.createContext("/", Actors::handle);
    server.setExecutor(Executors.newCachedThreadPool());
    server.start();

    ActorClient client = new ActorClient();
    ActorProxyBuilder<Counter> builder = new ActorProxyBuilder<>(Counter.class, client);
    Counter first = builder.build(new ActorId("first"));
    Counter second = builder.build(new ActorId("second"));
    Check.eventually("the first call", () -> first.add(2).block(Check.DEADLINE) == 2);
    Check.that(first.add(3).block(Check.DEADLINE) == 5, "the second call");
    Check.that(second.add(1).block(Check.DEADLINE) == 1, "another actor");
    Check.that(first.seen().block(Check.DEADLINE).activated, "the activation");

    first.arm().block(Check.DEADLINE);
    Check.eventually("the timer and the reminder", () -> {
      Seen seen = first.seen().block(Check.DEADLINE);
      return seen.timer.size() > 1 && seen.reminder.size() > 1;
    });
    Seen seen = first.seen().block(Check.DEADLINE);
    Check.that(seen.timer.get(0).equals("of the timer"), seen.timer);
    Check.that(seen.reminder.get(0).equals("ring of the reminder"), seen.reminder);
    first.disarm().block(Check.DEADLINE);
    Unserved unserved = new ActorProxyBuilder<>("Counter", Unserved.class, client).build(new ActorId("first"));
    try {
      unserved.none().block(Check.DEADLINE);
    } catch (RuntimeException problem) {
      System.out.println("a method that is not there: " + problem);
      return;
    }
    throw new IllegalStateException("a method that is not there has an answer");
  }

  public static void main(String[] arguments) {
    Check.exit(() -> run(Integer.parseInt(arguments[0])));
  }
}
