"""A saga and those who take part in it on a real broker: killed, restarted, looked at."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.patterns.trips import TripsRig
from tests.runtime.running import Running

from millstream.declare import Kind, Service, seconds
from millstream.testing.child import end, wait_until
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.slow

Make = Callable[..., TripsRig]

COMMANDS = {
    "good": ["BookFlight", "BookHotel", "Pay"],
    "full": ["BookFlight", "BookHotel", "CancelFlight"],
    "poor": ["BookFlight", "BookHotel", "Pay", "CancelHotel", "CancelFlight"],
}
ENDS = {"good": ["TripBooked"], "full": ["TripCancelled"], "poor": ["TripCancelled"]}


@pytest.fixture
def make(cluster: Cluster) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(**options: Any) -> TripsRig:
            rig = TripsRig(cluster.bootstrap, cluster.registry, **options)
            rig.make_topics()
            stack.callback(rig.close)
            return rig

        yield make


@contextmanager
def running(rig: TripsRig, *services: Service) -> Iterator[None]:
    with ExitStack() as stack:
        for service in services:
            stack.callback(Running(rig.worker(service)).stop)
        yield


def test_trips_are_booked_or_taken_back_and_the_commands_keep_their_order(make: Make):
    rig = make()
    names = [f"{kind}-{number}" for number in range(10) for kind in COMMANDS]
    with running(rig, rig.trips.service, rig.others):
        rig.send(*(rig.trips.BookTrip(trip=name, city="Rome") for name in names))
        rig.wait_for_ends({name: ENDS[name.split("-")[0]] for name in names})
    assert rig.said(rig.trips.commands) == {name: COMMANDS[name.split("-")[0]] for name in names}


@pytest.mark.scenario(19)
def test_compensation_survives_kill_9_and_nothing_is_said_twice(make: Make, tmp_path: Path):
    rig = make()
    names = [f"{kind}-{number}" for number in range(100) for kind in COMMANDS]
    with running(rig, rig.others):
        for life in range(4):
            part = names[life * 75 : (life + 1) * 75]
            child = rig.child(tmp_path / f"output-{life}.log")
            before = _count(rig)
            rig.send(*(rig.trips.BookTrip(trip=name, city="Rome") for name in part))
            wait_until(lambda before=before: _count(rig) > before + 20, seconds=120, what="some commands", every=0.05)
            end(child)
        with running(rig, rig.trips.service):
            rig.wait_for_ends({name: ENDS[name.split("-")[0]] for name in names})
    assert rig.said(rig.trips.commands) == {name: COMMANDS[name.split("-")[0]] for name in names}


def _count(rig: TripsRig) -> int:
    return sum(map(len, rig.said(rig.trips.commands).values()))


@pytest.mark.scenario(17)
def test_a_reply_before_the_state_is_saved_is_passed_over_without_an_error_loop(make: Make):
    rig = make()
    rig.send(rig.trips.FlightBooked(trip="good-1"), rig.trips.Paid(trip="good-1"))
    with running(rig, rig.trips.service):
        wait_until(lambda: _lag(rig) == 0, seconds=60, what="the replies to be passed over", every=0.1)
        with running(rig, rig.others):
            rig.send(rig.trips.BookTrip(trip="good-1", city="Rome"))
            rig.wait_for_ends({"good-1": ["TripBooked"]})
    assert rig.said(rig.trips.commands) == {"good-1": COMMANDS["good"]}


def _lag(rig: TripsRig) -> int:
    admin = rig.kafka.admin()
    try:
        found = admin.group_lag(rig.trips.service.group(Kind.KAFKA), [rig.trips.replies.name])
        return sum(partition.lag for partition in found)
    finally:
        admin.close()


def test_a_parked_compensation_is_shown_with_its_history(make: Make):
    rig = make(undo_within=seconds(0.3))
    with running(rig, rig.trips.service, rig.others):
        rig.send(rig.trips.BookTrip(trip="full-silent", city="Rome"), rig.trips.BookTrip(trip="good-1", city="Rome"))
        wait_until(lambda: _listed(rig, "--state", "parked") != [], seconds=60, what="a parked saga", every=0.2)
    (parked,) = _listed(rig, "--state", "parked", "--older", "0.1s", "--since", "1h")
    assert (parked["id"], parked["step"], parked["tries"], parked["reason"]) == ("full-silent", "BookFlight", 3, "full")
    assert [done["id"] for done in _listed(rig, "--state", "completed")] == ["good-1"]
    assert _listed(rig, "--older", "1h") == []
    (shown,) = _asked(rig, "show", "full-silent")
    assert [(line["step"], line["what"]) for line in shown["history"]][-3:] == [
        ("BookFlight", "undo asked"),
        ("BookFlight", "no answer"),
        ("BookFlight", "parked"),
    ]
    table = _ran(rig, "show", "full-silent")
    assert "full-silent of" in table.stdout and "is parked, because: full" in table.stdout
    tries_anew = _ran(rig, "retry", "full-silent")
    assert tries_anew.returncode == 0, tries_anew.stderr
    with running(rig, rig.trips.service):
        wait_until(lambda: "undo asked" in _since_parked(rig), seconds=60, what="the undo to be asked anew", every=0.2)
        rig.send(rig.trips.FlightCancelled(trip="full-silent"))
        rig.wait_for_ends({"full-silent": ["TripCancelled"], "good-1": ["TripBooked"]})
    ended = _ran(rig, "retry", "good-1")
    assert ended.returncode == 1 and "only a parked one is tried again: trips of" in ended.stderr
    missing = _ran(rig, "show", "nobody")
    assert missing.returncode == 1 and "There is no saga with the id 'nobody'" in missing.stderr
    wrong = _ran(rig, "list", "--saga", "holidays")
    assert wrong.returncode == 2 and "There is no saga 'holidays': the system has trips" in wrong.stderr


def _since_parked(rig: TripsRig) -> list[str]:
    (shown,) = _asked(rig, "show", "full-silent")
    happened = [line["what"] for line in shown["history"]]
    return happened[happened.index("parked") :]


def _listed(rig: TripsRig, *arguments: str) -> list[dict[str, Any]]:
    return _asked(rig, "list", *arguments)


def _asked(rig: TripsRig, *arguments: str) -> list[dict[str, Any]]:
    ran = _ran(rig, *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def _ran(rig: TripsRig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where the system is this saga's service."""
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "import types\n"
        "from tests.patterns.trips import Trips\n"
        "from millstream.declare import System\n"
        "place = types.ModuleType('place')\n"
        "sys.modules['place'] = place\n"
        f"service = Trips({rig.name!r}).service\n"
        "name = service.name.replace('-', '_')\n"
        "setattr(place, name, service)\n"
        "place.system = System('trips', services=[f'place:{name}'])\n"
        "from millstream.operate.cli import main\n"
        f"sys.argv = ['millstream', 'sagas', *{[*arguments, '--system', 'place:system']!r}]\n"
        "main()\n"
    )
    environment = {
        **os.environ,
        "MILLSTREAM_BOOTSTRAP_SERVERS": rig.bootstrap,
        "MILLSTREAM_REGISTRY_URL": rig.registry,
    }
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
