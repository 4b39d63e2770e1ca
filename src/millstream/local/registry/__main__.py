"""A schema registry beside any Kafka: `python -m millstream.local.registry --bootstrap-servers … --listen HOST:PORT`.

Prints one line of JSON, `{"registry": URL, "pid": N}`, when it answers. Security settings come from `MILLSTREAM_*`.
"""

import argparse
import asyncio
import json
import os
import signal
import sys

from millstream.errors import MillstreamError
from millstream.local.registry import serve
from millstream.local.registry.kafka_log import KafkaLog
from millstream.settings import load_settings


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m millstream.local.registry",
        description="A schema registry with Confluent's "
        "routes, kept in a Kafka's topic _schemas. For development and tests: it asks nobody for a password.",
    )
    parser.add_argument("--bootstrap-servers", required=True, help="Kafka brokers that keep the schemas")
    parser.add_argument("--listen", default="127.0.0.1:8081", help="address to answer on; port 0 takes a free one")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"--listen is {options.listen!r}; it must be host:port")
    try:
        asyncio.run(_run(options.bootstrap_servers, host, int(port)))
    except (MillstreamError, OSError) as error:
        sys.exit(f"The schema registry cannot start: {error}")


async def _run(bootstrap_servers: str, host: str, port: int) -> None:
    told_to_stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, told_to_stop.set)
    log = KafkaLog(load_settings(bootstrap_servers=bootstrap_servers))
    try:
        registry = await serve(log, host, port)
        print(json.dumps({"registry": registry.url, "pid": os.getpid()}), flush=True)
        await told_to_stop.wait()
        await registry.close()
    finally:
        await log.close()


if __name__ == "__main__":
    main()
