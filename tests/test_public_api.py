"""Names that others may rely on: docs/api.md lists them, and ``__all__`` does."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import mambaic
import mambaic_kernels
from mambaic import errors

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/api.md").read_text()
ERRORS = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.MambaICError)
}


@pytest.mark.parametrize("package", [mambaic, mambaic_kernels])
def test_page_lists_every_public_name(package):
    """At the head of a row: ``| `name` |``."""
    section = re.search(rf"## `{package.__name__}`\n(.*?)(?=\n## |\Z)", PAGE, re.DOTALL)
    listed = re.findall(r"^\| `(\w+)", section[1], re.MULTILINE)
    assert listed == sorted(listed, key=str.lower)
    assert sorted(listed) == sorted(package.__all__)
    assert all(hasattr(package, name) for name in listed)


def test_page_lists_every_option():
    section = re.search(r"## Options of an encoding\n(.*?)\n## ", PAGE, re.DOTALL)
    fields = dataclasses.fields(mambaic.EncodeOptions)
    assert sorted(re.findall(r"^\| `(\w+)", section[1], re.MULTILINE)) == sorted(
        field.name for field in fields
    )


def test_every_error_is_public():
    assert ERRORS.keys() <= set(mambaic.__all__)


def test_docstring_of_errors_is_their_tree():
    """Indents are bases; an exit code stands where it is first given."""
    bases, codes = [errors.MambaICError], {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([|` -]*)(\w+)(?:\((\w+)\))?  .*?(?:exit (\d))?$", line):
            depth, error = len(found[1]) // 3, ERRORS[found[2]]
            bases[depth:] = [error]
            first, *others = error.__bases__
            assert first is bases[depth - 1]
            assert [base.__name__ for base in others] == ([found[3]] if found[3] else [])
            codes[found[2]] = found[4]
    assert codes.keys() == ERRORS.keys() - {"MambaICError"}
    for name, code in codes.items():
        assert ("exit_code" in vars(ERRORS[name])) == bool(code)
        assert not code or ERRORS[name].exit_code == int(code)


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_examples_use_public_names(page):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    used = set()
    for node in ast.walk(ast.parse("\n".join(blocks))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mambaic":
            used.add(node.attr)
    assert "load" in used
    assert used <= set(mambaic.__all__)


def test_types_are_shipped():
    assert (ROOT / "mambaic/py.typed").exists()


def test_every_script_is_described():
    described = re.findall(r"scripts/(\w+\.py)", (ROOT / "scripts/README.md").read_text())
    assert sorted(described) == sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
