"""`python -m millstream.local`: the broker, and the registry if it is asked for, until a signal ends it.

One line of JSON on stdout says that both answer: {"bootstrap": "127.0.0.1:9092", "registry": "http://127.0.0.1:8081",
"pid": 4711}.
"""

import argparse
import asyncio
import ctypes
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path

# kio offers test strategies to hypothesis wherever it finds it: 110 ms and 10 MB that a broker has no use for.
sys.modules.setdefault("hypothesis", None)  # type: ignore[arg-type]

from millstream.local.broker import Broker, DataError, Options, Server, TopicLog, wall_clock  # noqa: E402
from millstream.local.broker.data_lock import DataLock  # noqa: E402

_PR_SET_PDEATHSIG = 1


def main() -> int:
    arguments = _parse(sys.argv[1:])
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if arguments.exit_with_parent and not _follow_parent():
        return 0
    _allow_many_files()
    try:
        with DataLock(arguments.data):
            asyncio.run(_serve(arguments))
    except (DataError, OSError) as error:
        print(f"millstream.local: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    options = Options(
        flush=arguments.fsync,
        auto_create_partitions=arguments.auto_create,
        initial_rebalance_delay=arguments.rebalance_delay,
    )
    broker = Broker(arguments.data, wall_clock, options)
    host, port = arguments.listen
    server = await Server.start(broker, host, port)
    registry = None
    if arguments.registry is not None:
        from millstream.local import registry as registry_room

        registry = await registry_room.serve(TopicLog(broker), *arguments.registry)
    ready = {
        "bootstrap": f"{host}:{server.port}",
        "registry": registry.url if registry else None,
        "pid": os.getpid(),
    }
    print(json.dumps(ready), flush=True)
    await stop.wait()
    if registry is not None:
        await registry.close()
    await server.close()
    broker.close()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m millstream.local",
        description="A Kafka broker and schema registry for one machine. For development and tests: it is durable, but "
        "it is one process on one disk; production is Apache Kafka's.",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder to keep everything in; one broker at a time"
    )
    parser.add_argument(
        "--listen", type=_address, default=("127.0.0.1", 9092), metavar="HOST:PORT", help="port 0: a free one"
    )
    parser.add_argument("--registry", type=_address, metavar="HOST:PORT", help="serve a schema registry too")
    parser.add_argument(
        "--fsync",
        choices=("never", "ack"),
        default="never",
        help="never: acknowledged is what the system has, safe from the death of this process; ack: what the disk has",
    )
    parser.add_argument(
        "--auto-create",
        type=int,
        default=0,
        metavar="PARTITIONS",
        help="create topics on first use; 0 (default) does not",
    )
    parser.add_argument(
        "--rebalance-delay", type=int, default=0, metavar="MS", help="how long a new group waits for a second member"
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the process that started this one dies"
    )
    parser.add_argument("--log-level", default="WARNING", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser.parse_args(arguments)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _follow_parent() -> bool:
    """Have the system send SIGTERM when the parent dies; False if it is dead already."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
