"""Order of positions in the four directions of a feature map, once for all backends.

Direction 0 reads rows left to right, 1 the exact reverse, 2 columns top to bottom, 3 its reverse.
With lines="reset" the state restarts at each row or column, with lines="flat" it never does.
"""

from __future__ import annotations

from torch import Tensor

DIRECTIONS = 4
LINES = ("flat", "reset")


def check_lines(lines: str) -> None:
    if lines not in LINES:
        raise ValueError(f"lines = {lines!r} must be one of {LINES}")


def to_sequence(x: Tensor, direction: int, lines: str) -> Tensor:
    """(B, H, W, ...) -> (B * sequences, L, ...) in the order of ``direction``; a copy."""
    if direction >= 2:
        x = x.transpose(1, 2)
    x = x.flatten(0, 1) if lines == "reset" else x.flatten(1, 2)
    return x.flip(1) if direction % 2 else x


def from_sequence(x: Tensor, direction: int, lines: str, size: tuple[int, int, int]) -> Tensor:
    """Inverse of ``to_sequence``; ``size`` is (B, H, W)."""
    batch, height, width = size
    if direction % 2:
        x = x.flip(1)
    shape = (batch, height, width) if direction < 2 else (batch, width, height)
    x = x.reshape(*shape, *x.shape[2:])
    return x.transpose(1, 2) if direction >= 2 else x
