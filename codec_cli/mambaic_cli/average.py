"""``mambaic average``"""

from __future__ import annotations

from pathlib import Path

import click

from mambaic_cli.console import tell
from mambaic_cli.inputs import GivenPath


@click.command()
@click.argument("checkpoints", nargs=-1, required=True)
@click.option(
    "--data",
    "paths",
    multiple=True,
    required=True,
    type=GivenPath(path_type=Path),
    help="Photographs to fit the coding tables to, as in train; repeat for more.",
)
@click.option(
    "--out", required=True, type=GivenPath(path_type=Path), help="Folder of the new checkpoint."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the crops of --data.")
def command(checkpoints: tuple[str, ...], paths: tuple[Path, ...], out: Path, seed: int) -> int:
    """Write the mean of the weights of CHECKPOINTS (shipped names or folders)."""
    from mambaic_train.average import average

    tell(f"{out}: weights {average(checkpoints, paths, out, seed).hex()}")
    return 0
