"""What `millstream broker` is asked for, and how it explains itself."""

import argparse
from pathlib import Path
from typing import NamedTuple

_ABOUT = """\
A Kafka broker and schema registry in one process, for one machine.

For development, tests and demonstrations. It is durable and correct there. It is not for production: it never
clusters, so there is no replication, no failover and no scale; there is no authentication and no encryption.
Production is Apache Kafka, and clients cannot tell the two apart."""
_MORE = """\
Examples:
  millstream broker --data .kafka
  millstream broker --data .kafka --listen 127.0.0.1:0 --registry 127.0.0.1:0 --json
  millstream broker --data /srv/kafka --listen 0.0.0.0:9092 --advertise kafka.example:9092 --fsync ack

SIGTERM and Ctrl-C stop it in order; kill -9 loses nothing that was acknowledged.
Exit codes: 0 stopped, 1 it failed, 2 wrong usage, or an address or folder that cannot be had, 3 another broker has the
folder."""


class Address(NamedTuple):
    """Where to listen, or where clients are sent."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def is_everywhere(self) -> bool:
        """Whether it stands for all interfaces, and so is no address that a client could use."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104 (recognized, not bound)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options. Exits with 2 and a line on standard error if they make no sense."""
    parser = argparse.ArgumentParser(
        prog="millstream broker",
        description=_ABOUT,
        epilog=_MORE,
        # A width of its own: argparse would import shutil, and all that packs files, to ask for the terminal's.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that keeps everything")
    parser.add_argument(
        "--listen",
        type=_address,
        default=Address("127.0.0.1", 9092),
        metavar="HOST:PORT",
        help="where Kafka clients connect (127.0.0.1:9092); port 0 takes a free one, here and below",
    )
    parser.add_argument(
        "--advertise",
        type=_address,
        metavar="HOST:PORT",
        help="the address that clients are told, if it is not the one of --listen; port 0 is that one's",
    )
    parser.add_argument("--registry", type=_address, metavar="HOST:PORT", help="serve a schema registry there, too")
    parser.add_argument(
        "--control",
        type=_address,
        metavar="HOST:PORT",
        help="take orders there over HTTP: faults, the clock, compaction. For tests; a loopback address",
    )
    parser.add_argument(
        "--control-anywhere", action="store_true", help="let --control listen where other machines reach it"
    )
    parser.add_argument(
        "--fsync",
        choices=("never", "interval", "ack"),
        default="never",
        help="when the disk has it. never (default): when the system likes; what was acknowledged outlives this "
        "process. interval: within --fsync-interval. ack: before it is acknowledged, so that it outlives the machine's "
        "power",
    )
    parser.add_argument("--fsync-interval", type=_count, default=1000, metavar="MS", help="for --fsync interval (1000)")
    parser.add_argument(
        "--auto-create",
        type=_count,
        default=1,
        metavar="PARTITIONS",
        help="create topics on first use with so many partitions (1, as Apache Kafka does); 0 refuses them",
    )
    parser.add_argument(
        "--like-a-cluster",
        action="store_true",
        help="let transactions take the time that they take on a cluster, which writes what is decided to its replicas "
        "and answers CONCURRENT_TRANSACTIONS until the last transaction's markers stand",
    )
    parser.add_argument(
        "--rebalance-delay",
        type=_count,
        default=0,
        metavar="MS",
        help="how long a new group waits for a second member (0)",
    )
    parser.add_argument("--json", action="store_true", help="say in JSON where it answers, for programs")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the process that started this one dies"
    )
    parser.add_argument("--log-level", default="WARNING", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    options = parser.parse_args(arguments)
    if options.listen.is_everywhere and options.advertise is None:
        parser.error(f"--listen {options.listen} needs --advertise HOST:PORT, the address that clients reach it by")
    if options.advertise is not None and options.advertise.is_everywhere:
        parser.error(f"--advertise {options.advertise} is no address that a client could use; name this machine")
    if options.control is not None and not options.control.is_loopback and not options.control_anywhere:
        parser.error(
            f"--control {options.control} lets other machines break this broker; listen on 127.0.0.1, or add "
            "--control-anywhere"
        )
    return options


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return Address(host, int(port))


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 upwards")
    return int(text)
