"""The service that redrives by rule, in this process, for as long as a test needs it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.operate.dlq.rig import DlqRig

from millstream.operate.dlq.context import Origins
from millstream.operate.dlq.rules import Rule, read_rules
from millstream.operate.dlq.serve import RedriveService
from millstream.testing.child import wait_until


def rules(rig: DlqRig, text: str) -> list[Rule]:
    path = rig.folder / "rules.toml"
    path.write_text(text)
    return read_rules(path, Origins(rig.module.system))


@contextmanager
def serving(rig: DlqRig, text: str) -> Iterator[None]:
    """The service with these rules, until the block ends."""
    service = RedriveService(
        rig.kafka, rig.admin, Origins(rig.module.system), rules(rig, text), by="rules@test", interval=0.05
    )
    stop, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            service.run(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert not failures


def wait_for_actions(rig: DlqRig, count: int) -> None:
    wait_until(lambda: len(rig.actions()) >= count, seconds=60, what=f"{count} actions", every=0.1)
