"""Which room may import which. A room is a package or module of ``mambaic``, or one of the other
packages; each imports only rooms above it in ``MAY_IMPORT``, so there is no way round in a circle.

Imports within functions count like all others.
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    # operations on arrays and tensors, of use to anybody
    "mambaic_kernels": "",
    "errors": "",
    # torch's settings while the codec works
    "numerics": "mambaic_kernels",
    # "cuda:1" and the like, as what is there
    "devices": "errors",
    "config": "errors",
    # packages that not everybody needs
    "extras": "errors",
    # the fields of a file: bytes alone
    "container": "errors",
    # the format has a largest picture
    "imaging": "errors extras container",
    # symbols and bits, whatever networks the priors come from; payloads are whole words
    "coding": "errors container mambaic_kernels",
    "nn": "config mambaic_kernels",
    # the walk's layers in integers
    "fixed_point": "errors config numerics nn mambaic_kernels",
    # what a decoder does after g_s; its chunks are coded, too
    "reconstruction": "errors imaging coding mambaic_kernels",
    # the walk: networks between the steps of coding
    "entropy_model": "errors config coding nn fixed_point mambaic_kernels",
    "models": "errors config coding nn fixed_point entropy_model",
    # the id of weights is a field of files, and they are written as pictures are
    "checkpoint": "errors numerics config container imaging coding models",
    # g_a and g_s piece by piece
    "tiling": "config container nn reconstruction models mambaic_kernels",
    # every search: no decoder needs it
    "encoder": "errors numerics config container imaging coding nn reconstruction entropy_model "
    "models tiling mambaic_kernels",
    # the contents of a file to a picture
    "picture_decoder": "errors container imaging entropy_model reconstruction models tiling",
    "codec": "errors numerics devices container imaging reconstruction models checkpoint "
    "picture_decoder encoder",
    # Pillow, CompressAI and WebDataset
    "integrations": "errors numerics config extras container imaging models checkpoint codec",
    "mambaic": "errors codec integrations",
    "evaluation": "errors extras container imaging encoder codec",
    # many pictures on Ray
    "bulk": "errors extras container imaging encoder codec",
    "mambaic_train": "errors devices config extras container imaging coding nn fixed_point "
    "entropy_model models checkpoint encoder codec evaluation",
    "mambaic_cli": "errors config extras container imaging models checkpoint encoder codec "
    "mambaic evaluation bulk mambaic_train",
}
NETWORKS = {"nn", "fixed_point", "entropy_model", "models"}


class Import(NamedTuple):
    module: str
    at_import_time: bool  # not within a function, nor for type checkers alone


def _settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("mambaic", "mambaic_kernels", "mambaic_train", "mambaic_cli"):
        folder = ROOT / _settings()["package-dir"][package]
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def _imports(path: Path) -> set[Import]:
    found = set()

    def visit(node: ast.AST, at_import_time: bool) -> None:
        if isinstance(node, ast.Import):
            found.update(Import(alias.name, at_import_time) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = {name if name in MODULES else str(node.module) for name in names}
            found.update(Import(module, at_import_time) for module in modules)
        deferred = isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        for child in ast.iter_child_nodes(node):
            visit(child, at_import_time and not deferred)

    visit(ast.parse(path.read_text()), True)
    return found


MODULES = _modules()
IMPORTS = {name: _imports(path) for name, path in MODULES.items()}


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "mambaic" and len(parts) > 1 else parts[0]


def _arrows() -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for name, imports in IMPORTS.items():
        rooms = {_room(one.module) for one in imports if one.module in MODULES}
        arrows[_room(name)] |= rooms - {_room(name)}
    return arrows


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_what_the_table_says(room):
    """Neither more, nor less: an arrow that nothing needs any longer comes out of the table."""
    assert _arrows()[room] == set(MAY_IMPORT[room].split())


def test_table_lists_rooms_from_the_ground_up():
    above: set[str] = set()
    for room, imported in MAY_IMPORT.items():
        assert set(imported.split()) <= above, room
        above.add(room)


def _reach(room: str) -> set[str]:
    nearest = set(MAY_IMPORT[room].split())
    return nearest.union(*map(_reach, nearest))


@pytest.mark.parametrize(
    ("rooms", "never"),
    [
        ({"coding", "container"}, NETWORKS),
        (NETWORKS | {"reconstruction", "tiling"}, {"encoder"}),
        ({"mambaic_kernels"}, set(MAY_IMPORT)),
        ({"mambaic", "evaluation"}, {"mambaic_train", "mambaic_cli"}),
        ({"mambaic_train"}, {"mambaic_cli"}),
    ],
    ids=["coding", "decoding", "kernels", "mambaic", "train"],
)
def test_room_never_reaches(rooms, never):
    for room in rooms:
        assert not _reach(room) & never, room


def test_no_module_imports_itself_round_others():
    graph = {
        name: {one.module for one in imports if one.module in MODULES} - {name}
        for name, imports in IMPORTS.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(" -> ".join(exc.args[1]))


def _imported_with(module: str, seen: set[str]) -> set[str]:
    """Modules that importing ``module`` imports, packages around them included."""
    parts = module.split(".")
    for name in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
        if name not in seen:
            seen.add(name)
            for one in IMPORTS.get(name, ()):
                if one.at_import_time:
                    _imported_with(one.module, seen)
    return seen


@pytest.mark.parametrize(
    "module",
    [
        "mambaic",
        "mambaic.config",
        "mambaic_cli.main",
        *(name for name in MODULES if name.startswith("mambaic.container")),
    ],
)
def test_import_does_without_torch(module):
    assert not {"torch", "numba"} & _imported_with(module, set())


def test_distribution_holds_every_package():
    packages = set()
    for name, path in MODULES.items():
        packages.add(name if path.name == "__init__.py" else name.rpartition(".")[0])
    assert {*packages, "mambaic.checkpoints"} == set(_settings()["packages"])
