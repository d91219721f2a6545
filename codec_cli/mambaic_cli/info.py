"""``mambaic info``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mambaic_cli.console import tell
from mambaic_cli.inputs import GivenPath, read_file


@click.command()
@click.argument("file", required=False, type=GivenPath(path_type=Path))
@click.option("--preset", help="Describe a model preset instead: unit, s, b, paper.")
@click.option("--verify", is_flag=True, help="Decode all symbols and check them; writes nothing.")
@click.option("--model", help="Checkpoint to verify with [default: the shipped one of the file].")
@click.option("--json", "as_json", is_flag=True)
def command(
    file: Path | None, preset: str | None, verify: bool, model: str | None, as_json: bool
) -> int:
    """Describe FILE, or the size and cost of a model preset."""
    if (file is None) == (preset is None):
        raise click.UsageError("give a FILE or --preset NAME")
    result = _preset(preset) if preset is not None else _file(file, verify, model)
    if as_json:
        tell(json.dumps(result))
    else:
        for key, value in _flat(result):
            tell(f"{key:32} {value}")
    return 0


def _preset(name: str) -> dict[str, Any]:
    from mambaic.config import PRESETS
    from mambaic.models.complexity import count

    if name not in PRESETS:
        raise click.UsageError(f"preset {name!r} is not one of {', '.join(PRESETS)}")
    return count(PRESETS[name])


def _file(path: Path | None, verify: bool, model: str | None) -> dict[str, Any]:
    from mambaic.container.fields import describe

    assert path is not None
    data = read_file(path)
    result = describe(data)
    if verify:
        from mambaic.codec import load, load_for

        (load(model) if model else load_for(data)).verify(data)
        result["verified"] = True
    return result


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            shown = f"{value:,.3f}" if isinstance(value, float) else f"{value}"
            rows.append((prefix + key, shown))
    return rows
