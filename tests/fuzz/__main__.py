"""`python -m tests.fuzz`: hostile bytes for the broker, guided by the code they reach (`make fuzz`).

Ends with 0 when nothing was found, with 1 and a file for each finding else. `--replay FILE` feeds a finding again,
`--drawn COUNT` as many streams as one seed draws, with nothing to guide them.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path


def main() -> int:
    arguments = _parse()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="millstream-fuzz-"))
    if arguments.replay is None and arguments.drawn is None:
        from tests.fuzz.guided import fuzz  # instruments the broker, which must not be imported before

        return fuzz(arguments.seed, arguments.seconds, folder)
    from tests.fuzz.findings import Findings, feed_drawn, read, replay
    from tests.fuzz.target import complaints_are_findings

    with complaints_are_findings():
        if arguments.replay is not None:
            replay(read(arguments.replay))
            print("the broker stood it")
            return 0
        findings = Findings(folder)
        feed_drawn(findings, arguments.seed, arguments.drawn)
        return findings.told(f"seed {arguments.seed}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 31), help="drawn when it is not given")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for findings; a new one when it is not given")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--replay", type=Path, metavar="FILE", help="feed a finding again instead")
    instead.add_argument("--drawn", type=int, metavar="COUNT", help="feed what the seed draws instead")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
