"""An app of the official SDK whose actors count: over HTTP callbacks, or over a stream that the app opens. Beside them runs a
client that calls them, and says by the exit code whether all was as it should be.

    actors.py http|stream PORT"""

import asyncio
import datetime
import os
import sys

import uvicorn
from dapr.actor import Actor, ActorId, ActorInterface, ActorProxy, Remindable, actormethod
from dapr.actor.runtime.config import ActorReentrancyConfig, ActorRuntimeConfig
from dapr.actor.runtime.runtime import ActorRuntime

NOW = datetime.timedelta(0)
SOON = datetime.timedelta(milliseconds=100)
DEADLINE = 20


class CounterInterface(ActorInterface):
    @actormethod(name="add")
    async def add(self, amount: int) -> int: ...

    @actormethod(name="seen")
    async def seen(self) -> dict: ...

    @actormethod(name="arm")
    async def arm(self) -> None: ...

    @actormethod(name="disarm")
    async def disarm(self) -> None: ...

    @actormethod(name="around")
    async def around(self, depth: int) -> int: ...


class Counter(Actor, CounterInterface, Remindable):
    def __init__(self, ctx, actor_id):
        super().__init__(ctx, actor_id)
        self._seen = {"activated": False, "timer": [], "reminder": []}

    async def _on_activate(self) -> None:
        self._seen["activated"] = True

    async def add(self, amount: int) -> int:
        known, before = await self._state_manager.try_get_state("count")
        count = (before if known else 0) + amount
        await self._state_manager.set_state("count", count)
        await self._state_manager.save_state()
        return count

    async def seen(self) -> dict:
        return self._seen

    async def arm(self) -> None:
        await self.register_timer("tick", self.tick, "of the timer", NOW, SOON)
        await self.register_reminder("ring", b"of the reminder", NOW, datetime.timedelta(seconds=1))

    async def disarm(self) -> None:
        await self.unregister_timer("tick")
        await self.unregister_reminder("ring")

    async def tick(self, state) -> None:
        self._seen["timer"].append(state)

    async def receive_reminder(self, name, state, due_time, period, ttl=None) -> None:
        self._seen["reminder"].append([name, state.decode()])

    async def around(self, depth: int) -> int:
        """Comes back to itself: without reentrancy it would wait for ever."""
        if depth == 0:
            return await self.add(1)
        return await proxy(self.id.id).around(depth - 1)


def proxy(actor_id: str):
    return ActorProxy.create("Counter", ActorId(actor_id), CounterInterface)


async def eventually(what, probe):
    end = asyncio.get_running_loop().time() + DEADLINE
    while True:
        try:
            if await probe():
                return
            problem = "not yet"
        except Exception as error:  # the sidecar may not be there yet, or know of no host
            problem = error
        if asyncio.get_running_loop().time() > end:
            raise SystemExit(f"waited for {what}: {problem!r}")
        await asyncio.sleep(0.05)


async def call() -> None:
    first, second = proxy("first"), proxy("second")

    async def counted():
        return await first.add(2) == 2

    await eventually("the first call", counted)
    assert await first.add(3) == 5
    assert await second.add(1) == 1
    assert (await first.seen())["activated"]
    assert await second.around(3) == 2

    await first.arm()

    async def fired():
        seen = await first.seen()
        return len(seen["timer"]) > 1 and len(seen["reminder"]) > 1

    await eventually("the timer and the reminder", fired)
    seen = await first.seen()
    assert seen["timer"][0] == "of the timer", seen
    assert seen["reminder"][0] == ["ring", "of the reminder"], seen
    await first.disarm()
    try:
        await first.invoke_method("none")
    except Exception as error:
        print(f"a method that is not there: {error!r}")
    else:
        raise SystemExit("a method that is not there has an answer")


async def serve_http(port: int) -> None:
    from dapr.ext.fastapi import DaprActor
    from fastapi import FastAPI

    app = FastAPI()
    await DaprActor(app).register_actor(Counter)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    await server.serve()


async def serve_stream(port: int) -> None:
    from dapr.actor.runtime.grpc_host import ActorGrpcHost

    host = ActorGrpcHost(app_port=port)
    await host.register_actor(Counter)
    await host.run_forever()


async def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    ActorRuntime.set_actor_config(ActorRuntimeConfig(reentrancy=ActorReentrancyConfig(enabled=True)))
    serve = serve_http if mode == "http" else serve_stream
    serving = asyncio.ensure_future(serve(port))
    calling = asyncio.ensure_future(call())
    done, _ = await asyncio.wait([serving, calling], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    assert calling in done, "the server has ended"
    print("all is well", flush=True)
    os._exit(0)


asyncio.run(main())
