"""What the documentation names exists: files that it links to, and options of commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Context

from mambaic_cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[1]
# the experiments keep the words and commands of their time
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "scripts/*.md", "checkpoints/**/*.md")
    for page in ROOT.glob(pattern)
    if "experiments" not in page.parts
)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OF_OTHERS = {"--index-url", "--nproc-per-node"}  # pip's and torchrun's


def options_of(name: str) -> set[str]:
    command = cli.get_command(Context(cli), name)
    assert command is not None
    return {opt for one in command.params for opt in (*one.opts, *one.secondary_opts)} | {"--help"}


OPTIONS = {name: options_of(name) for name in COMMANDS}


def options_of_scripts() -> set[str]:
    files = [*ROOT.glob("scripts/*.py"), *ROOT.glob("kernels/mambaic_kernels/bench*.py")]
    return {opt for file in files for opt in re.findall(r'"(--[a-z][\w-]*)"', file.read_text())}


def text_of(page: Path) -> str:
    """With command lines that go on joined, and without their comments."""
    joined = page.read_text().replace("\\\n", " ")
    return re.sub(r" # .*", "", joined)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_have_the_options_that_pages_give_them(page):
    text = text_of(page)
    for name, arguments in re.findall(r"\bmambaic(?:_cli)? ([a-z]+)\b([^`\n|]*)", text):
        if name in COMMANDS:
            assert set(OPTION.findall(arguments)) <= OPTIONS[name], f"mambaic {name}{arguments}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_pages_name_exist(page):
    known = set().union(*OPTIONS.values(), options_of_scripts(), OF_OTHERS)
    in_code = re.findall(r"```.*?```|`[^`]+`", text_of(page), re.DOTALL)
    assert {opt for code in in_code for opt in OPTION.findall(code)} <= known


FOLDERS = ["", "tests", "mambaic", "kernels/mambaic_kernels", "train/mambaic_train"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_pages_name_exist(page):
    """Modules in code, by their path or the end of it, and tests with or without their folder."""
    text = page.read_text()
    modules = set(re.findall(r"`((?:[\w-]+/)+[\w-]+\.py)`", text))
    assert not {name for name in modules if not any((ROOT / of / name).exists() for of in FOLDERS)}
    tests = {file.relative_to(ROOT / "tests") for file in ROOT.glob("tests/**/test_*.py")}
    known = {str(file.with_suffix("")) for file in tests} | {file.stem for file in tests}
    assert set(re.findall(r"(?<![\w/.])(?:tests/)?((?:\w+/)*test_\w+)", text)) <= known
