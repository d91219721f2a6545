"""What an encoder does for a picture at each effort. Decoders take any of it."""

from __future__ import annotations

from typing import NamedTuple


class Effort(NamedTuple):
    """Tools of an encoder."""

    fitted: float  # share of the rows that the post-filter is fitted to; 0: there is none
    rotation: bool  # of colours, searched for
    refinement: int  # steps of gradient descent on the latents
    exact_blocks: bool  # of text and line art


# each level does at least what the one below does; 2 and 3 are alike, as are 4 and 5
EFFORTS = {
    1: Effort(fitted=0.0, rotation=False, refinement=0, exact_blocks=False),
    2: Effort(fitted=0.5, rotation=False, refinement=0, exact_blocks=True),
    3: Effort(fitted=0.5, rotation=False, refinement=0, exact_blocks=True),
    4: Effort(fitted=0.5, rotation=True, refinement=0, exact_blocks=True),
    5: Effort(fitted=0.5, rotation=True, refinement=0, exact_blocks=True),
    6: Effort(fitted=1.0, rotation=True, refinement=6, exact_blocks=True),
    7: Effort(fitted=1.0, rotation=True, refinement=12, exact_blocks=True),
    8: Effort(fitted=1.0, rotation=True, refinement=25, exact_blocks=True),
    9: Effort(fitted=1.0, rotation=True, refinement=50, exact_blocks=True),
}
DEFAULT_EFFORT = 5
UNREFINED = max(level for level, tools in EFFORTS.items() if not tools.refinement)
