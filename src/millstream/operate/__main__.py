"""`python -m millstream.operate --system PLACE run NAME`: what `millstream up` starts."""

import argparse
import sys

from millstream.errors import MillstreamError


def main() -> int:
    """Runs one process of a system and answers its exit code."""
    parser = argparse.ArgumentParser(prog="python -m millstream.operate")
    parser.add_argument("--system", help='"module:attribute"; default: what pyproject.toml names')
    parser.add_argument("command", choices=["run"])
    parser.add_argument("name", help="of the service or sandbox process")
    told = parser.parse_args()
    from millstream.operate.place import load_system
    from millstream.operate.run import Exit, run

    try:
        system = load_system(told.system)
    except MillstreamError as error:
        print(error, file=sys.stderr)
        return Exit.MISCONFIGURED
    return run(system, told.name)


if __name__ == "__main__":
    sys.exit(main())
