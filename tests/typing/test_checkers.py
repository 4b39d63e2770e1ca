"""What applications write, as both type checkers see it: valid code passes, misuse does not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT, MISUSE = HERE / "project", HERE / "misuse.py"

pytestmark = pytest.mark.slow


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=570)


def mypy(cache: Path, target: Path) -> dict[int, str]:
    """The lines of errors, and what they say; an error elsewhere than in the one file fails the test."""
    done = run(target.parent, "mypy", "--strict", f"--cache-dir={cache}", "--no-error-summary", target.name)
    found = re.findall(r"^([^:\n]+):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {int(line): f"{file}: {message}" for file, line, message in found}


def pyright(config: Path, target: Path) -> dict[int, str]:
    settings = {
        "include": [os.path.relpath(target, config)],
        "typeCheckingMode": "strict",
        "reportMissingTypeStubs": False,
    }
    (config / "pyrightconfig.json").write_text(
        json.dumps(settings | {"extraPaths": [os.path.relpath(PROJECT, config)]})
    )
    done = run(target.parent, "pyright", "--outputjson", "-p", str(config), "--pythonpath", sys.executable)
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] > 0, done.stdout + done.stderr
    errors = [each for each in told["generalDiagnostics"] if each["severity"] == "error"]
    return {each["range"]["start"]["line"] + 1: f"{each['file']}: {each['message']}" for each in errors}


def test_the_project_is_a_system_that_works():
    code = "import shop, test_shop; shop.system.services(); test_shop.test_handlers()"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_mypy_accepts_the_project_and_refuses_misuse(tmp_path: Path):
    for file in ("shop.py", "test_shop.py"):
        assert mypy(tmp_path, PROJECT / file) == {}
    assert mypy(tmp_path, MISUSE).keys() == refused("# refused")


@pytest.mark.timeout(600)
def test_pyright_accepts_the_project_and_refuses_misuse(tmp_path: Path):
    assert pyright(tmp_path, PROJECT) == {}
    assert pyright(tmp_path, MISUSE).keys() == refused("# refused", "# refused by pyright")


def refused(*marks: str) -> set[int]:
    lines = MISUSE.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith(marks)}
