"""A worker of the official SDK with the patterns that people build of workflows, and a client that starts them and says by the exit
code whether all came to what it should. In the middle the sidecar is restarted: the file `middle` asks for it, `restarted` says
that it is done.

    workflows.py FOLDER"""

import datetime
import pathlib
import sys
import threading
import time

from dapr.ext import workflow as wf

SOON = datetime.timedelta(milliseconds=300)
LONG = datetime.timedelta(seconds=60)
DEADLINE = 60

runtime = wf.WorkflowRuntime()
runs = {}
lock = threading.Lock()


def count(name):
    with lock:
        runs[name] = runs.get(name, 0) + 1
        return runs[name]


@runtime.activity
def book(ctx, what):
    count(f"book {what}")
    if what == "car":
        raise ValueError("no car is left")
    return f"booked {what}"


@runtime.activity
def cancel(ctx, what):
    count(f"cancel {what}")
    return f"cancelled {what}"


@runtime.activity
def square(ctx, number):
    count("square")
    return number * number


@runtime.activity
def shaky(ctx, _):
    if count("shaky") < 3:
        raise ValueError("not yet")
    return "at last"


@runtime.workflow
def saga(ctx, wishes):
    """Books one after the other, and takes all back where one cannot be had."""
    done = []
    for wish in wishes:
        try:
            yield ctx.call_activity(book, input=wish)
            done.append(wish)
        except wf.TaskFailedError:
            for other in reversed(done):
                yield ctx.call_activity(cancel, input=other)
            return {"cancelled": done}
    return {"booked": done}


@runtime.workflow
def fan_out(ctx, numbers):
    squares = yield wf.when_all([ctx.call_activity(square, input=number) for number in numbers])
    return sum(squares)


@runtime.workflow
def approval(ctx, patience):
    event = ctx.wait_for_external_event("approved")
    timeout = ctx.create_timer(datetime.timedelta(seconds=patience))
    first = yield wf.when_any([event, timeout])
    return event.get_result() if first is event else "too late"


@runtime.workflow
def family(ctx, numbers):
    total = yield ctx.call_child_workflow(fan_out, input=numbers, instance_id=f"{ctx.instance_id}-child")
    return total + 1


@runtime.workflow
def patient(ctx, _):
    policy = wf.RetryPolicy(first_retry_interval=datetime.timedelta(milliseconds=100), max_number_of_attempts=5)
    return (yield ctx.call_activity(shaky, input="", retry_policy=policy))


@runtime.workflow
def rounds(ctx, left):
    if left > 0:
        yield ctx.create_timer(datetime.timedelta(milliseconds=20))
        ctx.continue_as_new(left - 1)
        return None
    return "round and round"


@runtime.workflow
def long(ctx, numbers):
    """Has done something and waits when its sidecar is restarted."""
    before = yield ctx.call_activity(square, input=numbers[0])
    word = yield ctx.wait_for_external_event("go on")
    after = yield ctx.call_activity(square, input=numbers[1])
    return f"{before} {word} {after}"


def eventually(what, probe):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            if probe():
                return
        except Exception as error:  # the sidecar may be away
            print(what, error)
        time.sleep(0.05)
    raise TimeoutError(what)


def main():
    folder = pathlib.Path(sys.argv[1])
    runtime.start()
    client = wf.DaprWorkflowClient()

    def comes_to(workflow, argument, expected, **options):
        instance = client.schedule_new_workflow(workflow, input=argument, **options)
        state = client.wait_for_workflow_completion(instance, timeout_in_seconds=DEADLINE)
        assert state.runtime_status.name == "COMPLETED", state
        assert state.serialized_output == expected, (workflow.__name__, state.serialized_output)

    comes_to(saga, ["flight", "hotel"], '{"booked": ["flight", "hotel"]}')
    comes_to(saga, ["train", "ship", "car"], '{"cancelled": ["train", "ship"]}')
    assert runs["cancel train"] == runs["cancel ship"] == 1, runs
    comes_to(fan_out, list(range(10)), "285")
    assert runs["square"] == 10, runs
    comes_to(approval, 0.3, '"too late"')
    comes_to(family, [1, 2, 3], "15", instance_id="the-family")
    child = client.get_workflow_state("the-family-child")
    assert child.serialized_output == "14", child
    comes_to(patient, "", '"at last"')
    comes_to(rounds, 5, '"round and round"')

    waiting = client.schedule_new_workflow(approval, input=60)
    client.raise_workflow_event(waiting, "approved", data="by the boss")
    state = client.wait_for_workflow_completion(waiting, timeout_in_seconds=DEADLINE)
    assert state.serialized_output == '"by the boss"', state

    squares = runs["square"]
    client.schedule_new_workflow(long, input=[3, 4], instance_id="the-long-one")
    eventually("the first half", lambda: runs["square"] > squares)
    eventually("a commit", lambda: len(client.get_workflow_history("the-long-one")) >= 4)
    (folder / "middle").touch()
    eventually("the restart", (folder / "restarted").exists)
    eventually("an event", lambda: client.raise_workflow_event("the-long-one", "go on", data="then") is None)
    state = client.wait_for_workflow_completion("the-long-one", timeout_in_seconds=DEADLINE)
    assert state.serialized_output == '"9 then 16"', state
    assert runs["square"] == squares + 2, runs

    client.terminate_workflow(client.schedule_new_workflow(approval, input=60, instance_id="the-last"))
    state = client.wait_for_workflow_completion("the-last", timeout_in_seconds=DEADLINE)
    assert state.runtime_status.name == "TERMINATED", state
    client.purge_workflow("the-last")
    assert client.get_workflow_state("the-last") is None
    runtime.shutdown()


main()
