"""The examples for pipelines: valid YAML, and their command lines do what they say."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.operate.documents.conftest import TALE, node

from millstream.testing.local import LocalKafka

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / "docs" / "examples" / "ci" / "github-actions.yml"
PRE_COMMIT = ROOT / "docs" / "examples" / "ci" / "pre-commit-config.yaml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
READ_YAML = (
    "process.stdout.write(JSON.stringify(require('yaml').parse(require('fs').readFileSync(process.argv[1], 'utf8'))))"
)


def commands_of(file: Path) -> list[list[str]]:
    """The command lines of Millstream in a file."""
    found = re.findall(r"^\s*(?:- )?(?:run|entry): (millstream .*)$", file.read_text(), re.MULTILINE)
    return [shlex.split(line) for line in dict.fromkeys(found)]


def run(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs it as a pipeline would: `millstream` is the program beside this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("file", "number"), [(WORKFLOW, 3), (PRE_COMMIT, 1), (HOOKS, 2)], ids=lambda of: getattr(of, "name", of)
)
def test_the_examples_call_millstream(file: Path, number: int):
    commands = commands_of(file)
    assert len(commands) == number
    assert all(command[:2] == ["millstream", "schemas"] for command in commands)


@pytest.mark.slow
@pytest.mark.parametrize("file", [WORKFLOW, PRE_COMMIT, HOOKS], ids=lambda file: file.name)
def test_every_command_line_passes_on_sound_code_and_the_check_fails_on_a_breaking_change(
    file: Path, tale: Path, shared_kafka: LocalKafka
):
    registry = {"MILLSTREAM_REGISTRY_URL": shared_kafka.registry}
    assert run(["millstream", "schemas", "lock"], tale).returncode == 0
    for command in commands_of(file):
        done = run(command, tale, **registry)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    (tale / "tale.py").write_text(TALE.replace("order_id: str\n    lines", "order_id: str\n    till: int\n    lines"))
    codes = {tuple(command[2:3]): run(command, tale, **registry) for command in commands_of(file)}
    assert codes["check",].returncode == 1
    assert "tale.OrderPlaced.till" in codes["check",].stdout
    assert "→ give it a default" in codes["check",].stdout
    assert all(done.returncode == 1 for (name, *_), done in codes.items() if name == "register")


@pytest.mark.real
def test_the_examples_are_what_github_and_pre_commit_read(asyncapi_folder: Path):
    def read(file: Path) -> object:
        return json.loads(node(asyncapi_folder, "node", "-e", READ_YAML, str(file)))

    workflow, hooks, config = read(WORKFLOW), read(HOOKS), read(PRE_COMMIT)
    assert isinstance(workflow, dict)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("millstream")] == commands_of(
        WORKFLOW
    )
    assert isinstance(hooks, list)
    assert {"id", "name", "entry", "language"} <= set.intersection(*map(set, hooks))
    assert isinstance(config, dict)
    assert config["repos"][0]["hooks"][0]["entry"] == hooks[0]["entry"]
