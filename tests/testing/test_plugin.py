"""The pytest plugin in a project that has nothing but the installed package."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

PROJECT = '''
    import socket
    import struct
    import sys

    HEAVY = {"confluent_kafka", "kio", "httpx", "starlette", "uvicorn", "avro", "fastapi", "msgspec", "asyncio"}


    def versions(bootstrap):
        """Asks for ApiVersions 0, as every client does first."""
        host, port = bootstrap.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(struct.pack(">ihhih", 10, 18, 0, 7, -1))
            size, correlation, error = struct.unpack(">iih", connection.recv(10))
            return correlation, error


    def test_a_broker_of_my_own(kafka):
        assert versions(kafka.bootstrap) == (7, 0)
        with kafka.faults.close("ApiVersions") as closed:
            try:
                versions(kafka.bootstrap)
            except (OSError, struct.error):
                pass
            closed.wait()
        kafka.kill()
        kafka.restart()
        assert versions(kafka.bootstrap) == (7, 0)


    def test_a_shared_one(shared_kafka, kafka):
        assert shared_kafka.bootstrap != kafka.bootstrap
        assert versions(shared_kafka.bootstrap) == (7, 0)


    def test_tests_stay_light():
        assert not HEAVY & set(sys.modules)
'''


def run_pytest(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(project / "tmp")]
    command += ["-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:anyio", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_fixtures_are_there_without_a_line_of_configuration(tmp_path: Path):
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(PROJECT))
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_fixtures_explain_themselves(tmp_path: Path):
    listed = run_pytest(tmp_path, "--fixtures").stdout
    assert "A local broker and registry of this test's own" in listed
    assert "kafka.faults" in listed
