#!/usr/bin/env bash
# Guess:    with `pytest -n 2 --dist loadgroup`, tests that carry the same `xdist_group` mark run in one process.
# Versions: pytest 9.2.0, pytest-xdist 3.8.0 (the newest of both on 2026-11-30), Python 3.11.
# Behaviour: they are spread over all processes, without an error or a warning. pytest-xdist tells its scheduler of a
#           group by writing `@group` behind `Item._nodeid`; in pytest 9.2 `Item.nodeid` is no longer read from there,
#           so that the scheduler sees plain ids, each a group by itself. `--dist loadfile` and `loadscope`, which
#           split the id, work.
# Output:   "loadgroup: 8 tests of one group ran in 2 processes" (pytest 9.1.0: in 1 process).
# Matters:  a group is how tests share what must exist once (a port, a cluster, a database); they now trample on each
#           other, or each process starts a cluster for itself, and nothing says why.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >test_group.py <<'TEST'
import os, time
import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(8))
def test_it(number):
    time.sleep(0.2)
    with open("ran", "a") as ran:
        ran.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
TEST
processes() { # with which pytest
    python3 -m venv "venv-$1"
    "venv-$1/bin/pip" install -q --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
    rm -f ran
    "venv-$1/bin/pytest" -q -n 2 --dist loadgroup -p no:cacheprovider >/dev/null
    sort -u ran | wc -l
}
now=$(processes 9.2.0)
before=$(processes 9.1.0)
echo "loadgroup: 8 tests of one group ran in $now processes (pytest 9.1.0: in $before process)"
[[ $now == 2 && $before == 1 ]]
