// An app of the official SDK whose actors count, and a client that calls them; the exit code says whether all was as it should
// be. This SDK passes no reentrancy id on, so nothing comes back to its actors.
//
//   actors.js PORT

const { AbstractActor, ActorId, ActorProxyBuilder, DaprServer, Temporal } = require("@dapr/dapr");

const DEADLINE = 20_000;

class Counter extends AbstractActor {
  seenSoFar = { activated: false, timer: [], reminder: [] };

  async onActivate() {
    this.seenSoFar.activated = true;
  }

  async add(amount) {
    const states = this.getStateManager();
    const [known, before] = await states.tryGetState("count");
    const count = (known ? before : 0) + amount;
    await states.setState("count", count);
    await states.saveState();
    return count;
  }

  async seen() {
    return this.seenSoFar;
  }

  async arm() {
    const [now, soon] = [Temporal.Duration.from({ seconds: 0 }), Temporal.Duration.from({ seconds: 1 })];
    await this.registerActorTimer("tick", "tick", now, soon, undefined, "of the timer");
    await this.registerActorReminder("ring", now, soon, undefined, "of the reminder");
  }

  async disarm() {
    await this.unregisterActorTimer("tick");
    await this.unregisterActorReminder("ring");
  }

  async tick(state) {
    this.seenSoFar.timer.push(state);
  }

  async receiveReminder(state) {
    this.seenSoFar.reminder.push(state);
  }
}

function check(holds, what) {
  if (!holds) {
    throw new Error(what);
  }
}

async function eventually(what, probe) {
  const end = Date.now() + DEADLINE;
  let problem = "not yet";
  while (Date.now() < end) {
    try {
      if (await probe()) {
        return;
      }
    } catch (error) {
      problem = error; // the sidecar may know of no host yet
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited for ${what}: ${problem}`);
}

async function call(client) {
  const builder = new ActorProxyBuilder(Counter, client);
  const [first, second] = ["first", "second"].map((id) => builder.build(new ActorId(id)));
  await eventually("the first call", async () => (await first.add(2)) === 2);
  check((await first.add(3)) === 5, "the second call");
  check((await second.add(1)) === 1, "another actor");
  check((await first.seen()).activated, "the activation");
  await first.arm();
  await eventually("the timer and the reminder", async () => {
    const { timer, reminder } = await first.seen();
    return timer.length > 1 && reminder.length > 1;
  });
  const { timer, reminder } = await first.seen();
  check(timer[0] === "of the timer", `the timer's data: ${JSON.stringify(timer)}`);
  check(reminder[0] === "of the reminder", `the reminder's data: ${JSON.stringify(reminder)}`);
  await first.disarm();
}

async function main() {
  const server = new DaprServer({ serverHost: "127.0.0.1", serverPort: process.argv[2] });
  await server.actor.init();
  server.actor.registerActor(Counter);
  await server.start();
  await call(server.client);
  console.log("all is well");
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
