// A worker of the official SDK with the patterns that people build of workflows, and a client that starts them and says by the exit
// code whether all came to what it should. In the middle the sidecar is restarted: the file `middle` asks for it, `restarted` says
// that it is done.
//
//   workflows.js FOLDER

const fs = require("node:fs");
const path = require("node:path");
const { DaprWorkflowClient, WorkflowRuntime } = require("@dapr/dapr");

const DEADLINE = 60;
const runs = {};

function count(name) {
  runs[name] = (runs[name] ?? 0) + 1;
}

async function book(_context, what) {
  count(`book ${what}`);
  if (what === "car") {
    throw new Error("no car is left");
  }
  return `booked ${what}`;
}

async function cancel(_context, what) {
  count(`cancel ${what}`);
  return `cancelled ${what}`;
}

async function square(_context, number) {
  count("square");
  return number * number;
}

async function slowSquare(context, number) {
  await new Promise((resolve) => setTimeout(resolve, 800));
  return square(context, number);
}

// Books one after the other, and takes all back where one cannot be had.
async function* saga(context, wishes) {
  const done = [];
  for (const wish of wishes) {
    try {
      yield context.callActivity(book, wish);
      done.push(wish);
    } catch {
      for (const other of done.toReversed()) {
        yield context.callActivity(cancel, other);
      }
      return { cancelled: done };
    }
  }
  return { booked: done };
}

async function* fanOut(context, numbers) {
  const squares = yield context.whenAll(numbers.map((number) => context.callActivity(square, number)));
  return squares.reduce((sum, one) => sum + one, 0);
}

async function* slowFanOut(context, numbers) {
  const squares = yield context.whenAll(numbers.map((number) => context.callActivity(slowSquare, number)));
  return squares.length;
}

async function* approval(context, patience) {
  const event = context.waitForExternalEvent("approved");
  const timeout = context.createTimer(patience);
  const first = yield context.whenAny([event, timeout]);
  return first === event ? event.getResult() : "too late";
}

async function* family(context, numbers) {
  const total = yield context.callChildWorkflow(fanOut, numbers, `${context.getWorkflowInstanceId()}-child`);
  return total + 1;
}

async function* rounds(context, left) {
  if (left > 0) {
    yield context.createTimer(0.02);
    context.continueAsNew(left - 1, false);
    return;
  }
  return "round and round";
}

// Has done something and waits when its sidecar is restarted.
async function* long(context, numbers) {
  const before = yield context.callActivity(square, numbers[0]);
  const word = yield context.waitForExternalEvent("go on");
  const after = yield context.callActivity(square, numbers[1]);
  return `${before} ${word} ${after}`;
}

function check(holds, what) {
  if (!holds) {
    throw new Error(what);
  }
}

async function eventually(what, probe) {
  const end = Date.now() + DEADLINE * 1000;
  let problem = "not yet";
  while (Date.now() < end) {
    try {
      if (await probe()) {
        return;
      }
    } catch (error) {
      problem = error; // the sidecar may be away
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: ${problem}`);
}

async function startWorker(options) {
  const runtime = new WorkflowRuntime(options);
  for (const workflow of [saga, fanOut, slowFanOut, approval, family, rounds, long]) {
    runtime.registerWorkflow(workflow);
  }
  for (const activity of [book, cancel, square, slowSquare]) {
    runtime.registerActivity(activity);
  }
  await runtime.start();
}

async function main() {
  const folder = process.argv[2];
  const options = { daprHost: "127.0.0.1", daprPort: process.env.DAPR_GRPC_PORT };
  await startWorker(options);
  const client = new DaprWorkflowClient(options);

  const outcome = async (id) => {
    const state = await client.waitForWorkflowCompletion(id, true, DEADLINE);
    return state?.serializedOutput;
  };
  const comesTo = async (workflow, argument, expected, id) => {
    const instance = await client.scheduleNewWorkflow(workflow, argument, id);
    const output = await outcome(instance);
    check(output === JSON.stringify(expected), `${workflow.name}: ${output}`);
  };

  await comesTo(saga, ["flight", "hotel"], { booked: ["flight", "hotel"] });
  await comesTo(saga, ["train", "ship", "car"], { cancelled: ["train", "ship"] });
  check(runs["cancel train"] === 1 && runs["cancel ship"] === 1, JSON.stringify(runs));
  await comesTo(fanOut, [1, 2, 3, 4], 30);
  check(runs.square === 4, JSON.stringify(runs));
  // More than the worker keeps: it drops what is beyond.
  await comesTo(slowFanOut, Array(150).fill(1), 150);
  await comesTo(approval, 0.3, "too late");
  await comesTo(family, [1, 2, 3], 15, "the-family");
  await comesTo(rounds, 5, "round and round");

  const waiting = await client.scheduleNewWorkflow(approval, 60);
  await client.raiseEvent(waiting, "approved", "by the boss");
  check((await outcome(waiting)) === '"by the boss"', "the event");

  const squares = runs.square;
  await client.scheduleNewWorkflow(long, [3, 4], "the-long-one");
  await eventually("the first half", () => runs.square > squares);
  fs.writeFileSync(path.join(folder, "middle"), "");
  await eventually("the restart", () => fs.existsSync(path.join(folder, "restarted")));
  // The worker of this SDK gives up when its first stream breaks.
  await startWorker(options);
  await eventually("an event", async () => {
    await client.raiseEvent("the-long-one", "go on", "then");
    return true;
  });
  check((await outcome("the-long-one")) === '"9 then 16"', "the long one");

  await client.scheduleNewWorkflow(approval, 60, "the-last");
  await client.terminateWorkflow("the-last", "enough");
  const state = await client.waitForWorkflowCompletion("the-last", true, DEADLINE);
  check(state.serializedOutput === '"enough"', `${state.serializedOutput}`);
  check(await client.purgeWorkflow("the-last"), "the purge");
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
