"""A picture to the contents of its file.

pixels --rotation--> --g_a--> y --walk--> payloads, y_hat      tile by tile
       --rotation--> <--g_s-- y_hat --post-filter fit, grain estimate--> coefficients, strengths
alpha, metadata, exact blocks --------------------> chunks
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import torch

from mambaic.container.alpha import encode_alpha
from mambaic.container.fields import MbicFile, tile_grid, write
from mambaic.encoder.completion import drawn_better
from mambaic.encoder.exact_choice import choose_blocks, without
from mambaic.encoder.filter_fit import Fit
from mambaic.encoder.filter_rate import cheapest
from mambaic.encoder.fine_colour import colour_lag
from mambaic.encoder.fit_regions import fit_tile
from mambaic.encoder.grain_estimate import GrainEstimate
from mambaic.encoder.latent_refinement import blocks
from mambaic.encoder.options import EncodeOptions
from mambaic.encoder.rotation_search import find_rotation
from mambaic.encoder.tile_encoder import analyse_tile, encode_tiles
from mambaic.entropy_model.streams import DecodedLatents
from mambaic.imaging.image import Picture
from mambaic.models.model import MambaIC
from mambaic.numerics import worker_threads
from mambaic.reconstruction import exact_blocks, filter_code
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.batches import batches
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


class _Plan(NamedTuple):
    """A picture before its tiles are coded; ``quality`` is stretched."""

    picture: Picture
    options: EncodeOptions
    tile: int
    grid: list[Box]
    quality: float
    rotation: Rotation
    exact: bytes  # chunk of the exact blocks, which the picture has not any more


class _Tile(NamedTuple):
    payload: bytes
    has_colours: bool  # of the finest
    estimated_bits: float
    fit: Fit | None
    grain: GrainEstimate | None


def encode_picture(
    model: MambaIC, picture: Picture, options: EncodeOptions, progress: Progress | None = None
) -> EncodedPicture:
    """Raises ConfigError if the options do not fit the size of the picture."""
    plan = _plan(model, picture, options)
    parts = sum(len(blocks(box)) if options.tools.refinement else 1 for box in plan.grid)
    advance = _counter(progress, parts)

    def encode(box: Box) -> _Tile:
        return _encode_tiles(model, [(plan, box)], advance)[0]

    workers = min(options.workers, len(plan.grid))
    if workers <= 1:  # a thread of its own would have threads of its own, too
        return _finished(model, plan, [encode(box) for box in plan.grid])
    with worker_threads(workers) as pool:
        return _finished(model, plan, list(pool.map(encode, plan.grid)))


def encode_pictures(
    model: MambaIC,
    pictures: Sequence[Picture],
    options: EncodeOptions,
    progress: Progress | None = None,
) -> list[EncodedPicture]:
    """As ``encode_picture`` of each, tiles of equal size in batches."""
    plans = [_plan(model, picture, options) for picture in pictures]
    jobs = [(plan, box) for plan in plans for box in plan.grid]
    advance = _counter(progress, len(jobs))
    tiles: dict[int, _Tile] = {}
    for numbers in batches([box[2:] for _, box in jobs], [None] * len(jobs)):
        of_batch = _encode_tiles(model, [jobs[number] for number in numbers])
        tiles.update(zip(numbers, of_batch, strict=True))
        for _ in numbers:
            advance()
    in_order = iter([tiles[number] for number in range(len(jobs))])
    return [_finished(model, plan, list(islice(in_order, len(plan.grid)))) for plan in plans]


def _plan(model: MambaIC, picture: Picture, options: EncodeOptions) -> _Plan:
    width, height = picture.size
    tile = options.tile_of(width, height)
    quality = model.config.stretched(options.quality)
    picture, exact = _exact_blocks(model, picture, options, quality)
    rotation = _rotation(model, picture, options, quality)
    grid = tile_grid(width, height, tile)
    return _Plan(picture, options, tile, grid, quality, rotation, exact)


def _exact_blocks(
    model: MambaIC, picture: Picture, options: EncodeOptions, quality: float
) -> tuple[Picture, bytes]:
    """The picture without its exact blocks, and their chunk: empty if there are none."""
    if not options.tools.exact_blocks:
        return picture, b""
    chosen = choose_blocks(picture.pixels, model.config.error_weight(quality))
    if chosen is None:
        return picture, b""
    chunk = exact_blocks.encode(chosen.pixels, chosen.mask)
    return replace(picture, pixels=without(picture.pixels, chosen.mask)), chunk


def _rotation(model: MambaIC, picture: Picture, options: EncodeOptions, quality: float) -> Rotation:
    if options.rotation is not None:
        return options.rotation
    if picture.gray or not options.tools.rotation:
        return IDENTITY
    found = find_rotation(model, picture.pixels, quality)
    return drawn_better(model, picture.pixels, quality, found)


def _encode_tiles(
    model: MambaIC, jobs: Sequence[tuple[_Plan, Box]], advance: Callable[[], None] = lambda: None
) -> list[_Tile]:
    """Tiles of equal size, of pictures with the same options."""
    quality, tools = jobs[0][0].quality, jobs[0][0].options.tools
    analysed = [
        analyse_tile(
            model, plan.picture.pixels, box, quality, plan.rotation,
            refinement=tools.refinement, advance=advance,
        )
        for plan, box in jobs
    ]  # fmt: skip
    found = []
    for (plan, box), stream in zip(jobs, encode_tiles(model, analysed, quality), strict=True):
        measured = _measured(model, plan, box, stream.decoded)
        has_colours = stream.decoded.colours.shape[1] > 0
        found.append(_Tile(stream.payload, has_colours, stream.estimated_bits, *measured))
        if not tools.refinement:
            advance()
    return found


def _measured(
    model: MambaIC, plan: _Plan, box: Box, decoded: DecodedLatents
) -> tuple[Fit | None, GrainEstimate | None]:
    """What the reconstruction of a tile tells of the post-filter and of the grain, if wanted."""
    fitted, planes = plan.options.tools.fitted, 1 if plan.picture.gray else 3
    fit = Fit(planes, round(1 / fitted)) if fitted else None
    grain = GrainEstimate() if plan.options.grain else None
    collectors = [one for one in (fit, grain) if one is not None]
    if collectors:
        source = model, plan.picture.pixels, box, torch.cat(decoded, dim=1)
        fit_tile(*source, plan.quality, plan.rotation, collectors)
    return fit, grain


def _finished(model: MambaIC, plan: _Plan, tiles: Sequence[_Tile]) -> EncodedPicture:
    (width, height), options = plan.picture.size, plan.options
    chunks = _metadata(plan.picture, options)
    if any(plan.rotation):
        chunks["rotation"] = plan.rotation.to_bytes()
    fits = [coded.fit for coded in tiles if coded.fit is not None]
    if fits and (coefficients := _filter_chunk(model, fits, plan.quality, width * height)):
        chunks["filter"] = coefficients
    if plan.exact:
        chunks["exact"] = plan.exact
    grains = [coded.grain for coded in tiles if coded.grain is not None]
    if grains and (grain := GrainEstimate.of(grains).found()) is not None:
        chunks["grain"] = grain.to_bytes()
    coloured = tuple(coded.has_colours for coded in tiles)
    fine = plan.quality != options.quality or any(coloured)
    file = MbicFile(
        width=width,
        height=height,
        gray=plan.picture.gray,
        quality=options.quality,
        tune=model.tune,
        weights_id=model.id_of(fine=fine),
        tile=plan.tile,
        tiles=tuple(coded.payload for coded in tiles),
        fine=fine,
        coloured=coloured if fine else (),
        colour_lag=colour_lag(model.tune) if any(coloured) else 0,
        chunks=chunks,
    )
    return EncodedPicture(file, sum(coded.estimated_bits for coded in tiles))


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
    if model.tune > 0.5:
        # squared error wants brightness smoother than the eye does (docs/design/tune.md)
        costs[0] = costs[0]._replace(cross=torch.zeros_like(costs[0].cross))
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
