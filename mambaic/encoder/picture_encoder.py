"""A picture to the contents of its file.

pixels --rotation--> --g_a--> y --walk--> payloads, y_hat      tile by tile
       --rotation--> <--g_s-- y_hat --post-filter fit--> coefficients
alpha, metadata ----------------------------------> chunks
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import NamedTuple

import torch

from mambaic.container.alpha import encode_alpha
from mambaic.container.fields import MbicFile, tile_grid, write
from mambaic.encoder.filter_fit import Fit
from mambaic.encoder.filter_rate import cheapest
from mambaic.encoder.fit_regions import fit_tile
from mambaic.encoder.latent_refinement import blocks
from mambaic.encoder.options import EncodeOptions
from mambaic.encoder.rotation_search import find_rotation
from mambaic.encoder.tile_encoder import encode_tile
from mambaic.imaging.image import Picture
from mambaic.models.model import MambaIC
from mambaic.numerics import worker_threads
from mambaic.reconstruction import filter_code
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.boxes import Box

Progress = Callable[[int, int], None]  # parts done, parts in all


class EncodedPicture(NamedTuple):
    """Contents of a file, and the estimated bits of its latents."""

    file: MbicFile
    estimated_bits: float

    @property
    def data(self) -> bytes:
        """Bytes of the file."""
        return write(self.file)


class _Tile(NamedTuple):
    payload: bytes
    has_colours: bool  # of the finest
    estimated_bits: float
    fit: Fit | None


def encode_picture(
    model: MambaIC, picture: Picture, options: EncodeOptions, progress: Progress | None = None
) -> EncodedPicture:
    """Raises ConfigError if the options do not fit the size of the picture."""
    width, height = picture.size
    tile = options.tile_of(width, height)
    grid = tile_grid(width, height, tile)
    quality = model.config.stretched(options.quality)
    rotation = _rotation(model, picture, options, quality)
    tiles = _encode_tiles(model, picture, grid, rotation, options, quality, progress)
    chunks = _metadata(picture, options)
    if any(rotation):
        chunks["rotation"] = rotation.to_bytes()
    fits = [coded.fit for coded in tiles if coded.fit is not None]
    if fits and (coefficients := _filter_chunk(model, fits, quality, width * height)):
        chunks["filter"] = coefficients
    coloured = tuple(coded.has_colours for coded in tiles)
    fine = quality != options.quality or any(coloured)
    file = MbicFile(
        width=width,
        height=height,
        gray=picture.gray,
        quality=options.quality,
        tune=options.tune,
        weights_id=model.id_of(fine=fine),
        tile=tile,
        tiles=tuple(coded.payload for coded in tiles),
        fine=fine,
        coloured=coloured if fine else (),
        chunks=chunks,
    )
    return EncodedPicture(file, sum(coded.estimated_bits for coded in tiles))


def _rotation(model: MambaIC, picture: Picture, options: EncodeOptions, quality: float) -> Rotation:
    if options.rotation is not None:
        return options.rotation
    if picture.gray or not options.tools.rotation:
        return IDENTITY
    return find_rotation(model, picture.pixels, quality)


def _encode_tiles(
    model: MambaIC,
    picture: Picture,
    grid: list[Box],
    rotation: Rotation,
    options: EncodeOptions,
    quality: float,
    progress: Progress | None,
) -> list[_Tile]:
    tools = options.tools
    parts = sum(len(blocks(box)) if tools.refinement else 1 for box in grid)
    advance = _counter(progress, parts)
    planes = 1 if picture.gray else 3

    def encode(box: Box) -> _Tile:
        source = model, picture.pixels, box
        stream = encode_tile(
            *source, quality, rotation, refinement=tools.refinement, advance=advance
        )
        fit = None
        if tools.post_filter:
            latents = torch.cat(stream.decoded, dim=1)
            fit = fit_tile(*source, latents, quality, rotation, planes)
        if not tools.refinement:
            advance()
        has_colours = stream.decoded.colours.shape[1] > 0
        return _Tile(stream.payload, has_colours, stream.estimated_bits, fit)

    with worker_threads(max(1, min(options.workers, len(grid)))) as pool:
        return list(pool.map(encode, grid))


def _metadata(picture: Picture, options: EncodeOptions) -> dict[str, bytes]:
    chunks: dict[str, bytes] = {}
    if not options.strip:
        stored = {"icc": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
        chunks = {name: data for name, data in stored.items() if data}
    if picture.alpha is not None:
        chunks["alpha"] = encode_alpha(picture.alpha)
    return chunks


def _filter_chunk(model: MambaIC, fits: list[Fit], quality: float, pixels: int) -> bytes | None:
    """None if the filter costs more than it gains."""
    costs = Fit.of(fits).costs(model.config.error_weight(quality), pixels)
    found = cheapest(costs)
    return None if found is None else filter_code.to_bytes(found)


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    """Call it when one of ``total`` parts is done, from any thread."""
    lock, done = threading.Lock(), itertools.count(1)

    def advance() -> None:
        if progress is not None:
            with lock:
                progress(next(done), total)

    return advance
