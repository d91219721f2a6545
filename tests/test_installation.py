"""``pip install mambaic`` brings what coding pictures needs; all else names its extra."""

from __future__ import annotations

import ast
import re
import sys

import numpy as np
import pytest
from test_layering import IMPORTS, MODULES, ROOT, tomllib

from mambaic.errors import MissingPackage
from mambaic.evaluation import page, plots
from mambaic.extras import EXTRAS, require
from mambaic.imaging.metrics import bd_rate, ms_ssim
from mambaic_cli.main import main

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"cvvdp": "pycvvdp", "pillow": "PIL", "pillow-jxl-plugin": "pillow_jxl"}
# come with torch, or are asked for by name (mambaic_kernels.dispatch)
BACKENDS = {"triton", "mamba_ssm", "llvmlite", "fsspec"}


def modules(requirements: list[str]) -> set[str]:
    names = [re.split(r"[<>=\[]", requirement)[0] for requirement in requirements]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


BASE = modules(PROJECT["dependencies"])


def third_party(name: str, *, at_import_time: bool = False) -> set[str]:
    """Packages that a module of ours imports; tensorboard through torch."""
    found = set()
    for one in IMPORTS[name]:
        package = one.module.partition(".")[0]
        if one.module == "torch.utils.tensorboard":
            package = "tensorboard"
        if one.at_import_time or not at_import_time:
            found.add(package)
    return found - sys.stdlib_module_names - {of.partition(".")[0] for of in MODULES} - BACKENDS


@pytest.mark.parametrize("extra", EXTRAS)
def test_extra_installs_what_is_asked_for(extra):
    assert modules(PROJECT["optional-dependencies"][extra]) == set(EXTRAS[extra])


def test_no_dependency_is_without_use():
    used = set().union(*map(third_party, MODULES))
    assert used == BASE.union(*EXTRAS.values())


@pytest.mark.parametrize("name", MODULES)
def test_import_needs_no_extra(name):
    if name != "mambaic.integrations.compressai":
        assert third_party(name, at_import_time=True) <= BASE


@pytest.mark.parametrize("name", [name for name in MODULES if third_party(name) - BASE])
def test_module_that_needs_an_extra_asks_for_it(name):
    calls = [node for node in ast.walk(ast.parse(MODULES[name].read_text())) if _requires(node)]
    asked = {module for call in calls for module in EXTRAS[ast.literal_eval(call.args[0])]}
    assert third_party(name) - BASE - {"pillow_jxl"} <= asked


def _requires(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and ast.unparse(node.func) == "require"
    return called and isinstance(node.args[0], ast.Constant)


@pytest.fixture
def without(monkeypatch):
    """Hides a package."""
    return lambda package: monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["eval", "{0}", "-o", "{0}/report"], "bjontegaard", "eval"),
        (["eval", "--compare", "{0}", "{0}"], "matplotlib", "eval"),
        (["demo", "-o", "{0}/demo"], "pytorch_msssim", "eval"),
        (["train", "--data", "{0}", "--out", "{0}/run"], "tensorboard", "train"),
        (["bulk", "{0}", "{0}/packed"], "pyarrow and ray", "ray"),
    ],
    ids=["eval", "compare", "demo", "train", "bulk"],
)
def test_command_names_the_extra_before_it_begins(
    arguments, package, extra, without, tmp_path, capsys
):
    for name in package.split(" and "):
        without(name)
    assert main([argument.format(tmp_path) for argument in arguments]) == 6
    said = capsys.readouterr().err.splitlines()
    assert said == [f"mambaic: {package} not installed: pip install 'mambaic[{extra}]'"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("pytorch_msssim", lambda: ms_ssim(*np.zeros((2, 200, 200, 3), np.uint8))),
        ("bjontegaard", lambda: bd_rate(([1, 2], [30, 40]), ([1, 2], [30, 40]))),
        ("matplotlib", lambda: plots.draw(None)),
        ("jinja2", lambda: page.render(None, {}, [])),
    ],
)
def test_function_names_the_extra(package, call, without):
    without(package)
    with pytest.raises(MissingPackage, match=rf"{package} .*pip install 'mambaic\[eval\]'"):
        call()


def test_adapter_names_its_extra(without, monkeypatch):
    monkeypatch.delitem(sys.modules, "mambaic.integrations.compressai", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "compressai"]:
        monkeypatch.setitem(sys.modules, name, None)
    without("compressai")
    with pytest.raises(ImportError, match="compressai not installed"):
        import mambaic.integrations.compressai  # noqa: F401


def test_all_that_is_missing_is_named(without):
    without("jinja2")
    without("matplotlib")
    with pytest.raises(MissingPackage, match=r"^jinja2 and matplotlib not installed"):
        require("eval")
