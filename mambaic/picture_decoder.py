"""The contents of a file to a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mambaic.container.alpha import decode_alpha
from mambaic.container.fields import MbicFile, tile_grid
from mambaic.entropy_model.colour_blocks import Known
from mambaic.errors import BitstreamError, DesyncError
from mambaic.imaging.image import Picture
from mambaic.models.model import COLOUR_CHANNELS, MambaIC
from mambaic.reconstruction import exact_blocks, filter_code
from mambaic.reconstruction.grain import Grain
from mambaic.reconstruction.post_filter import PostFilter
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.batches import batches
from mambaic.tiling.synthesis import Synthesis

Progress = Callable[[int, int], None]  # parts done, parts in all


def decode_file(model: MambaIC, file: MbicFile, progress: Progress | None = None) -> Picture:
    """Raises a BitstreamError."""
    return _picture(model, file, lambda index: decode_tile(model, file, index), progress)


def decode_files(model: MambaIC, files: Sequence[MbicFile]) -> list[Picture]:
    """As ``decode_file`` of each, what has one tile in batches of equal size and quality: the
    latents of larger pictures are not kept. Raises a BitstreamError of the first bad file."""
    small = [number for number, file in enumerate(files) if len(file.tiles) == 1]
    sizes = [_grid(files[number])[0][2:] for number in small]
    qualities = [_quality(model, files[number]) for number in small]
    found: dict[int, Picture] = {}
    for places in batches(sizes, qualities):
        numbers = [small[place] for place in places]
        alike = [files[number] for number in numbers]
        try:
            latents = _decode_alike(model, alike)
        except BitstreamError:  # of one of them: alone it says so
            latents = [decode_tile(model, file, 0) for file in alike]
        for number, file, of_file in zip(numbers, alike, latents, strict=True):
            found[number] = _picture(model, file, [of_file].__getitem__)
    return [
        found[number] if number in found else decode_file(model, file)
        for number, file in enumerate(files)
    ]


def verify_file(model: MambaIC, file: MbicFile) -> None:
    """Decode every symbol without making the picture. Raises a BitstreamError."""
    for index in range(len(file.tiles)):
        decode_tile(model, file, index)
    _rotation(file)
    _post_filter(file)
    _grain(file)
    if (chunk := file.chunks.get("exact")) is not None:
        exact_blocks.check(chunk, file.width, file.height)
    _alpha(file)


def decode_tile(model: MambaIC, file: MbicFile, index: int) -> Tensor:
    """Latents of a tile as ``Synthesis`` takes them."""
    grid, quality = _grid(file), _quality(model, file)
    try:
        decoded = model.entropy_model.decode(
            file.tiles[index],
            grid[index][2:],
            quality,
            model.error_weights(quality),
            _known(model, file, index),
        )
    except DesyncError as exc:
        raise DesyncError(f"tile {index + 1} of {len(grid)}: {exc}") from exc
    if any(file.coloured) and not file.coloured[index]:
        none = decoded.y_hat.new_zeros(1, COLOUR_CHANNELS, *decoded.y_hat.shape[2:])
        decoded = decoded._replace(colours=none)
    return torch.cat(decoded, dim=1)


def _decode_alike(model: MambaIC, files: Sequence[MbicFile]) -> list[Tensor]:
    """Of files of one tile each, of equal size and quality."""
    quality = _quality(model, files[0])
    decoded = model.entropy_model.decode_batch(
        [file.tiles[0] for file in files],
        _grid(files[0])[0][2:],
        quality,
        model.error_weights(quality),
        [_known(model, file, 0) for file in files],
    )
    return [torch.cat(of_file, dim=1) for of_file in decoded]


def _picture(
    model: MambaIC,
    file: MbicFile,
    decode: Callable[[int], Tensor],
    progress: Progress | None = None,
) -> Picture:
    grid, quality = _grid(file), _quality(model, file)
    fitted = _rotation(file), _post_filter(file), _grain(file)
    synthesis = Synthesis(model, file.width, file.height, grid, quality, *fitted)
    for done, count in synthesis.run(decode):
        if progress is not None:
            progress(done, count)
    if (chunk := file.chunks.get("exact")) is not None:
        exact_blocks.paste(chunk, synthesis.pixels)
    return Picture(
        pixels=synthesis.pixels,
        gray=file.gray,
        alpha=_alpha(file),
        icc=file.chunks.get("icc", b""),
        exif=file.chunks.get("exif", b""),
        xmp=file.chunks.get("xmp", b""),
    )


def _grid(file: MbicFile) -> list[tuple[int, int, int, int]]:
    return tile_grid(file.width, file.height, file.tile)


def _quality(model: MambaIC, file: MbicFile) -> float:
    """Stretched, in files that have stretched ones."""
    return model.config.stretched(file.quality) if file.fine else file.quality


def _known(model: MambaIC, file: MbicFile, index: int) -> Known | None:
    """Of the finest colours of a tile; None if it has none."""
    return model.known_colours(file.colour_lag) if file.fine and file.coloured[index] else None


def _rotation(file: MbicFile) -> Rotation:
    chunk = file.chunks.get("rotation")
    return IDENTITY if chunk is None else Rotation.from_bytes(chunk)


def _post_filter(file: MbicFile) -> PostFilter:
    if (chunk := file.chunks.get("filter")) is None:
        return PostFilter()
    return PostFilter(filter_code.from_bytes(chunk, planes=1 if file.gray else 3).coefficients)


def _grain(file: MbicFile) -> Grain | None:
    chunk = file.chunks.get("grain")
    return None if chunk is None else Grain.from_bytes(chunk)


def _alpha(file: MbicFile) -> NDArray[np.uint8] | None:
    chunk = file.chunks.get("alpha")
    return None if chunk is None else decode_alpha(chunk, file.width, file.height)
