"""Options of an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

from mambaic.container.fields import MAX_TILE_LATENTS, largest_tile, stored_quality, stored_tune
from mambaic.encoder.effort import DEFAULT_EFFORT, EFFORTS, Effort
from mambaic.errors import ConfigError
from mambaic.reconstruction.rotation import Rotation
from mambaic.tiling.boxes import default_tile


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Settings of one encoding. Raises ConfigError on a value outside its range.

    ``quality`` 0 to 100; ``strip`` leaves ICC, EXIF and XMP out; ``tile`` is the side of latent
    tiles (a multiple of 4 latents of 16 pixels, 0 for one tile, None to choose by size); ``effort``
    from 1 (fastest) to 9 (fewest bits), as in ``encoder.effort``; ``rotation`` of colours, None to
    leave it to the effort; ``tune`` from 0 (least squared error) to 1 (the eye), in quarters, None
    for 1 with weights for the eye and 0 without; ``grain``: decoders make noise like the fine
    texture that is left out; ``workers`` tiles are coded at a time.
    """

    quality: float = 60.0
    strip: bool = False
    tile: int | None = None
    effort: int = DEFAULT_EFFORT
    rotation: Rotation | None = None
    tune: float | None = None
    grain: bool = False
    workers: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.quality, Real) or not 0 <= self.quality <= 100:
            raise ConfigError(f"quality = {self.quality!r} must be a number between 0 and 100")
        if not isinstance(self.effort, Integral) or self.effort not in EFFORTS:
            raise ConfigError(f"effort = {self.effort!r} must be a whole number from 1 to 9")
        tile = 0 if self.tile is None else self.tile
        if not isinstance(tile, Integral) or tile < 0 or tile % 4:
            raise ConfigError(f"tile = {self.tile!r} must be 0 or a multiple of 4 latents")
        if not isinstance(self.workers, Integral):
            raise ConfigError(f"workers = {self.workers!r} must be a number of tiles")
        if self.tune is not None and not (isinstance(self.tune, Real) and 0 <= self.tune <= 1):
            raise ConfigError(f"tune = {self.tune!r} must be a number between 0 (psnr) and 1 (eye)")
        # encoder and decoder both use the values that a file keeps
        object.__setattr__(self, "quality", stored_quality(self.quality))
        if self.tune is not None:
            object.__setattr__(self, "tune", stored_tune(self.tune))

    @property
    def tools(self) -> Effort:
        """What the encoder does at this effort."""
        return EFFORTS[self.effort]

    def tile_of(self, width: int, height: int) -> int:
        """Side of the tiles of a picture. Raises ConfigError if they would be too large."""
        tile = default_tile(width, height) if self.tile is None else self.tile
        if largest_tile(width, height, tile) > MAX_TILE_LATENTS:
            raise ConfigError(
                f"tile = {tile} makes a tile of more than {MAX_TILE_LATENTS} latents: choose at "
                f"most 256, or leave the choice to the size of the image"
            )
        return tile
