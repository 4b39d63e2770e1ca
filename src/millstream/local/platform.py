"""The broker with its registry and its control, as one process runs them."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from millstream.local.broker import Broker, Options, Server, TopicLog, wall_clock
from millstream.local.on_demand import OnDemand, Running
from millstream.local.options import Address


class CannotListen(Exception):
    """An address cannot be had; the message names the option."""


async def serve(options: argparse.Namespace) -> int:
    """Serve until a signal ends it; the exit code. Raises CannotListen, DataError, OSError."""
    stop = asyncio.Event()
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as running:
        print(_said(options, await _start(options, running, failed)), flush=True)
        await stop.wait()
    for error in failures:
        print(f"millstream broker: {type(error).__name__}: {error}", file=sys.stderr)
    return 1 if failures else 0


async def _start(
    options: argparse.Namespace, running: contextlib.AsyncExitStack, failed: Callable[[Exception], None]
) -> dict[str, Any]:
    """Start all that is asked for; where it answers. Leaving `running` stops it in order."""
    orders = None
    if options.control is not None:
        from millstream.local.control.orders import Orders

        orders = Orders(wall_clock)
    broker = Broker(options.data, orders.clock if orders else wall_clock, _broker_options(options))
    running.callback(broker.close)
    open_session = orders.sessions_of(broker) if orders else None
    try:
        server = await Server.start(broker, options.listen.host, options.listen.port, open_session)
    except OSError as error:
        raise CannotListen(f"--listen {options.listen}: {os.strerror(error.errno or 0).lower()}") from None
    running.push_async_callback(server.close)
    if options.advertise is not None:
        broker.host, broker.port = options.advertise.host, options.advertise.port or server.port
    bootstrap = str(Address(broker.host, broker.port))
    ready: dict[str, Any] = {"bootstrap": bootstrap, "registry": None, "control": None, "pid": os.getpid()}

    async def serve_registry(listener: socket.socket) -> Running:
        from millstream.local.registry.server import serve_at

        return await serve_at(listener, TopicLog(broker))

    async def serve_control(listener: socket.socket) -> Running:
        from millstream.local.control.control import Control
        from millstream.local.control.routes import serve as serve_routes

        assert orders is not None
        return await serve_routes(listener, Control(broker, orders.rules, orders.clock, server.set_alarm))

    for name, make in (("registry", serve_registry), ("control", serve_control)):
        address: Address | None = getattr(options, name)
        if address is not None:
            try:
                on_demand = OnDemand(address, make, failed)
            except OSError as error:
                raise CannotListen(f"--{name} {address}: {os.strerror(error.errno or 0).lower()}") from None
            running.push_async_callback(on_demand.close)
            ready[name] = f"http://{Address(address.host, on_demand.port)}"
    return ready


def _broker_options(options: argparse.Namespace) -> Options:
    return Options(
        flush=options.fsync,
        flush_interval=options.fsync_interval,
        auto_create_partitions=options.auto_create,
        initial_rebalance_delay=options.rebalance_delay,
        like_a_cluster=options.like_a_cluster,
    )


def _said(options: argparse.Namespace, ready: dict[str, Any]) -> str:
    if options.json:
        return json.dumps(ready)
    places = [f"Kafka broker at {ready['bootstrap']}"]
    places += [f"{what} at {ready[what]}" for what in ("registry", "control") if ready[what]]
    return f"{', '.join(places)}; data in {options.data}. Ctrl-C stops it."
