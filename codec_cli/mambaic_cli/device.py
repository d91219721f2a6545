"""``--device``; whether it is there is told when it is needed, as torch takes a second to import."""

from __future__ import annotations

import re

import click


def _named(context: click.Context, option: click.Parameter, device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise click.BadParameter(f"{device!r} is none of auto, cpu, cuda, cuda:0, cuda:1 and so on")
    return device


device_option = click.option(
    "--device",
    callback=_named,
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, or one of several: cuda:1.",
)
