"""Dependencies: whatever is imported is declared, and whatever is declared is imported."""

import ast
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from millstream.extras import MODULES, Extra

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "millstream": (ROOT / "pyproject.toml", [ROOT / "src" / "millstream"]),
    "millstream-apps": (ROOT / "apps" / "pyproject.toml", [ROOT / "apps" / "orders", ROOT / "apps" / "temperature"]),
}
FOR_TESTS = {"pytest"}
"""Imported by `millstream.testing`, where whoever uses it has brought it."""


def imported(folders: list[Path]) -> set[str]:
    """The top-level modules that the files of `folders` import, without Python's own and the package's."""
    found: set[str] = set()
    for path in (file for folder in folders for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found - sys.stdlib_module_names - {folder.name for folder in folders}


def declared(pyproject: Path) -> set[str]:
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = [text for texts in project.get("optional-dependencies", {}).values() for text in texts]
    return {canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *extras]}


def extra(name: str) -> set[str]:
    project = tomllib.loads(PACKAGES["millstream"][0].read_text())["project"]
    return {canonicalize_name(Requirement(text).name) for text in project["optional-dependencies"][name]}


@cache
def known() -> dict[str, list[str]]:
    return {"millstream": ["millstream"]} | dict(packages_distributions())  # installed from here, it names no files


def distributions_of(modules: set[str]) -> dict[str, set[str]]:
    return {module: {canonicalize_name(name) for name in known().get(module, ())} for module in modules}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(package: str):
    pyproject, folders = PACKAGES[package]
    there = declared(pyproject)
    missing = {
        module: sorted(distributions)
        for module, distributions in distributions_of(imported(folders) - FOR_TESTS).items()
        if not distributions & there
    }
    assert missing == {}, f"declare them in {pyproject.relative_to(ROOT)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_dependency_is_imported(package: str):
    pyproject, folders = PACKAGES[package]
    used = {name for distributions in distributions_of(imported(folders)).values() for name in distributions}
    assert declared(pyproject) - used == set(), f"nothing imports them; take them out of {pyproject.relative_to(ROOT)}"


def test_services_need_nothing_of_the_local_platform():
    source = ROOT / "src" / "millstream"
    apart = [source / "local", source / "testing"]
    rest = [folder for folder in source.iterdir() if folder not in apart]
    used = {name for names in distributions_of(imported(rest)).values() for name in names}
    assert used & extra("local") == set(), "only the rooms `local` and `testing` may import them"


@pytest.mark.parametrize("name", MODULES)
def test_an_extra_brings_what_it_is_said_to_bring(name: Extra):
    assert set().union(*distributions_of(set(MODULES[name])).values()) == extra(name)
