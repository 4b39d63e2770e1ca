"""A load generator in a process of its own: keep-alive connections that each send the next request at once.

Run as `python -m bench.load HOST PORT PATH SECONDS CONNECTIONS < bodies.jsonl`; prints one JSON object.
"""

import asyncio
import json
import sys
import time
from collections import Counter


async def connection(
    host: str, port: int, requests: list[bytes], first: int, step: int, until: float, statuses: Counter[int]
) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    number = first
    try:
        while time.monotonic() < until:
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            lowered = head.lower()
            at = lowered.find(b"content-length:")
            if at >= 0:
                await reader.readexactly(int(lowered[at + 15 : lowered.index(b"\r", at)]))
            statuses[int(head[9:12])] += 1
            number += step
    finally:
        writer.close()


async def run(
    host: str, port: int, path: str, seconds: float, connections: int, bodies: list[bytes]
) -> dict[str, object]:
    requests = [
        (
            f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        + body
        for body in bodies
    ]
    statuses: Counter[int] = Counter()
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(connection(host, port, requests, number, connections, started + seconds, statuses))
    elapsed = time.monotonic() - started
    return {"per_second": sum(statuses.values()) / elapsed, "statuses": {str(k): v for k, v in statuses.items()}}


if __name__ == "__main__":
    host, port, path, seconds, connections = sys.argv[1:6]
    bodies = [line.rstrip("\n").encode() for line in sys.stdin]
    print(json.dumps(asyncio.run(run(host, int(port), path, float(seconds), int(connections), bodies))))
