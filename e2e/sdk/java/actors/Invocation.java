import com.sun.net.httpserver.HttpServer;
import io.dapr.client.DaprClient;
import io.dapr.client.DaprClientBuilder;
import io.dapr.client.domain.HttpExtension;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * An app of the official SDK that calls another one, and ends when that has called it; the exit code says whether all was as it
 * should be. Arguments: the port to serve, and the id of the other app.
 */
public class Invocation {
  static void run(int port, String other) throws Exception {
    CountDownLatch called = new CountDownLatch(1);
    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
    server.createContext("/echo", exchange -> {
      byte[] body = exchange.getRequestBody().readAllBytes();
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
      called.countDown();
    });
    server.start();

    try (DaprClient client = new DaprClientBuilder().build()) {
      Check.eventually("an answer", () -> {
        String answer = client.invokeMethod(other, "echo", "hello", HttpExtension.POST, String.class).block(Check.DEADLINE);
        Check.that(answer.equals("hello"), answer);
        return true;
      });
      try {
        client.invokeMethod(other, "none", "", HttpExtension.POST, String.class).block(Check.DEADLINE);
      } catch (RuntimeException problem) {
        System.out.println("a method that is not there: " + problem);
        Check.that(called.await(Check.DEADLINE.toSeconds(), TimeUnit.SECONDS), "nobody has called");
        // What was called last is still being answered.
        server.stop(1);
        return;
      }
    }
    throw new IllegalStateException("a method that is not there has an answer");
  }

  public static void main(String[] arguments) {
    Check.exit(() -> run(Integer.parseInt(arguments[0]), arguments[1]));
  }
}
