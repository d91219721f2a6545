"""``mambaic train``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mambaic_cli.device import device_option
from mambaic_cli.inputs import GivenPath


class Duration(click.ParamType):
    """Seconds of "90s", "25m", "1.5h", or of plain minutes."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:].lower())
        try:
            seconds = float(text if unit is None else text[:-1]) * (unit or 60.0)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a time such as 90s, 25m or 1.5h", param, ctx)
        return seconds


@click.command()
@click.option(
    "--data",
    "paths",
    multiple=True,
    required=True,
    type=GivenPath(path_type=Path),
    help="Folder of images, tar shard, or image; repeat for more.",
)
@click.option(
    "--mix",
    multiple=True,
    type=GivenPath(path_type=Path),
    help="More images, drawn for --mix-share of the crops: a fine-tuned model that sees what it was trained on does not forget it.",
)
@click.option("--mix-share", type=click.FloatRange(0, 1), default=0.25, show_default=True)
@click.option(
    "--reduced",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of crops from photographs made 1.5 to 3 times smaller (of at least 384 pixels a side): sharper, more colourful.",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    help="GB of decoded images to hold; more are streamed.  [default: half of the machine's]",
)
@click.option("--out", type=GivenPath(path_type=Path), help="Folder of the run.")
@click.option(
    "--preset",
    help="unit, s, b or paper; with --init the checkpoint's, or one that it can grow into (s into b).  [default: s]",
)
@click.option("--init", help="Start from a checkpoint (fine-tuning): a shipped name or a folder.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--restart",
    is_flag=True,
    help="With --resume: begin a new schedule, from the state before the last cooldown if there was one (OUT/plateau.pt).",
)
@click.option("--steps", type=click.IntRange(min=1), help="Length of the schedule in steps.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Length of the schedule in minutes of training, over all resumed calls.",
)
@click.option(
    "--time-limit",
    type=Duration(),
    help="Stop this call cleanly after a time such as 90s, 25m (or 25) or 1.5h.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Images of --crop pixels per step.  [default: 16; 4 with --init]",
)
@click.option(
    "--crop",
    type=click.IntRange(min=64),
    help="Side of the crops, multiple of 64.  [default: 128, then 256; 256 with --init]",
)
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate.")
@click.option(
    "--cooldown",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the schedule over which the learning rate falls; with less than 1 more training can follow without a loss.  [default: 1]",
)
@click.option(
    "--lmbda", type=click.FloatRange(min=0, min_open=True), help="Train for one rate only."
)
@click.option(
    "--metric",
    type=click.Choice(["mse", "ms-ssim", "eye"]),
    help="What is minimised beside bits. eye trains the weights of --tune eye beside those of --init, which stay.  [default: eye if --init has such weights, else mse]",
)
@click.option("--seed", type=int)
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp32"]),
    help="Of the convolutions.  [default: bf16 where the device has instructions for it, else fp32]",
)
@click.option(
    "--cuda-graph/--no-cuda-graph",
    default=None,
    help="On a GPU, record the kernels of a step once and start them by one call, for batches too small to keep it busy otherwise.  [default: off]",
)
@click.option(
    "--auto",
    is_flag=True,
    help="Choose --batch, --precision and --cuda-graph, where they are not given, by images per second: trials of half a minute.",
)
@click.option(
    "--keep-every",
    type=Duration(),
    default="5m",
    show_default=True,
    help="How often the state and a checkpoint are written: a run that is cut off loses no more.",
)
@click.option(
    "--valid",
    type=GivenPath(path_type=Path),
    help="Folder of held-out images: measured ten times by real files, and the best checkpoint is kept in OUT/best.",
)
@click.option(
    "--finest-colours",
    is_flag=True,
    help="Train only what codes the finest colours and the highest qualities of the checkpoint --init; writes OUT itself.",
)
@click.option(
    "--crops",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="With --finest-colours: how many crops of 256x256 pixels are coded to train on (4 a second, 1 MB each).",
)
@click.option(
    "--benchmark",
    is_flag=True,
    help="Only measure images/s and where the time goes; --out is not written.",
)
@device_option
def command(paths: tuple[Path, ...], out: Path | None, **given: Any) -> int:
    """Train or fine-tune a model; writes a checkpoint folder OUT/checkpoint for --model."""
    from mambaic_train.session import Request, train

    if out is None and not given["benchmark"]:
        raise click.UsageError("--out: where should the run be kept?")
    settings = {
        name: given[name]
        for name in (
            "steps",
            "minutes",
            "batch",
            "crop",
            "lr",
            "cooldown",
            "lmbda",
            "metric",
            "seed",
            "precision",
            "cuda_graph",
        )
        if given[name] is not None
    }
    if given["finest_colours"]:
        return _finest_colours(paths, out or Path(), given, settings)
    return train(
        Request(
            paths=paths,
            out=out or Path(),
            preset=given["preset"],
            init=given["init"],
            resume=given["resume"],
            restart=given["restart"],
            settings=settings,
            time_limit_s=given["time_limit"],
            mix=given["mix"],
            mix_share=given["mix_share"],
            reduced=given["reduced"],
            memory_gb=given["memory"],
            valid=given["valid"],
            device=given["device"],
            benchmark=given["benchmark"],
            auto=given["auto"],
            keep_every_s=given["keep_every"],
        )
    )


def _finest_colours(
    paths: tuple[Path, ...], out: Path, given: dict[str, Any], settings: dict[str, Any]
) -> int:
    from mambaic_train.config import TrainConfig
    from mambaic_train.fine_colour import train_fine

    if "steps" not in settings:
        settings.setdefault("minutes", 10.0)
    config = TrainConfig(**{"lr": 2e-3, "ema": 0.998} | settings)
    train_fine(given["init"] or "s", paths, out, config, given["crops"])
    return 0
