"""Pictures to .mbic bytes and back: where files and people meet the networks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mambaic import checkpoint
from mambaic.container import fields
from mambaic.container.alpha import decode_alpha, encode_alpha
from mambaic.container.fields import (
    MAX_PIXELS,
    MAX_TILE_LATENTS,
    MbicFile,
    largest_tile,
    stored_quality,
    tile_grid,
)
from mambaic.encoder.filter_fit import Fit
from mambaic.encoder.filter_rate import cheapest
from mambaic.encoder.latent_refinement import blocks
from mambaic.encoder.rotation_search import promising as promising_rotations
from mambaic.encoder.tile_encoder import CodedTile, TileEncoder
from mambaic.errors import ConfigError, CorruptStream, DesyncError, DeviceError, WrongModel
from mambaic.imaging.image import Picture, read_image, to_pil
from mambaic.models.model import MambaIC
from mambaic.reconstruction.post_filter import PostFilter
from mambaic.reconstruction.rotation import IDENTITY, Rotation
from mambaic.tiling.boxes import default_tile
from mambaic.tiling.synthesis import Synthesis

Progress = Callable[[int, int], None]  # parts done, parts in all


class Codec:
    """One set of weights on one device. Safe to use from several threads."""

    def __init__(self, model: MambaIC) -> None:
        self.model = model
        self.device = next(model.parameters()).device

    # -- encoding ----------------------------------------------------------------------------

    def encode(self, image: Image.Image | Picture, quality: float = 60.0, **options: Any) -> bytes:
        """Compress a picture; options as in ``encode_picture``."""
        picture = image if isinstance(image, Picture) else read_image(image)
        return self.encode_picture(picture, quality, **options)[0]

    def encode_picture(
        self,
        picture: Picture,
        quality: float = 60.0,
        *,
        strip: bool = False,
        tile: int | None = None,
        refine: int = 0,
        post_filter: bool = True,
        rotation: Rotation | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> tuple[bytes, float]:
        """(file bytes, estimated bits of its latents).

        ``strip`` leaves ICC, EXIF and XMP out; ``tile`` is the side of latent tiles (multiple of 4
        latents of 16 pixels, 0 for one tile, None to choose by size); ``refine`` is the number of
        steps by which latents are refined for this picture (``encoder.latent_refinement``); without
        ``post_filter`` decoded pictures are left as they are (``reconstruction.post_filter``);
        ``rotation`` of colours, None to look for the best (``reconstruction.rotation``);
        ``workers`` tiles are coded at a time. Raises ConfigError on an option outside its range.
        """
        if not 0 <= quality <= 100:
            raise ConfigError(f"quality = {quality} must lie between 0 and 100")
        width, height = picture.size
        if tile is None:
            tile = default_tile(width, height)
        if refine < 0:
            raise ConfigError(f"refine = {refine} steps must not be negative")
        if tile < 0 or tile % 4:
            raise ConfigError(f"tile = {tile} must be 0 or a multiple of 4 latents")
        if largest_tile(width, height, tile) > MAX_TILE_LATENTS:
            raise ConfigError(
                f"tile = {tile} makes a tile of more than {MAX_TILE_LATENTS} latents: choose at "
                f"most 256, or leave the choice to the size of the image"
            )
        quality = stored_quality(quality)
        grid = tile_grid(width, height, tile)
        rotations = [IDENTITY] if rotation is None else [rotation]
        if rotation is None and not picture.gray:
            several = len(grid) == 1 and not refine
            rotations = promising_rotations(self.model, picture.pixels, quality, several=several)
        advance = _counter(progress, sum(len(blocks(box)) if refine else 1 for box in grid))

        encoder = TileEncoder(self.model, picture.pixels, quality, refine, advance)

        def code(index: int) -> tuple[CodedTile, Fit]:
            coded = encoder.cheapest(grid[index], rotations)
            fit = Fit(planes=1 if picture.gray else 3)
            if post_filter:
                for region in coded.regions:
                    fit.add(*region)
            if not refine:
                advance()
            return coded._replace(regions=()), fit

        with ThreadPoolExecutor(max_workers=max(1, min(workers, len(grid)))) as pool:
            tiles, fits = zip(*pool.map(code, range(len(grid))), strict=True)
        chunks = {"icc": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
        kept = {} if strip else {name: data for name, data in chunks.items() if data}
        if picture.alpha is not None:
            kept["alpha"] = encode_alpha(picture.alpha)
        if post_filter:
            costs = Fit.of(fits).costs(self.model.config.error_weight(quality), width * height)
            found = cheapest(costs, self.model.filter_code)
            if found is not None:
                kept["filter"] = self.model.filter_code.to_bytes(found)
        if any(tiles[0].rotation):
            kept["rotation"] = tiles[0].rotation.to_bytes()
        file = MbicFile(
            width=width,
            height=height,
            gray=picture.gray,
            quality=quality,
            weights_id=self.model.weights_id,
            tile=tile,
            tiles=tuple(coded.payload for coded in tiles),
            chunks=kept,
        )
        return fields.write(file), sum(coded.estimated_bits for coded in tiles)

    # -- decoding ----------------------------------------------------------------------------

    def decode(self, data: bytes, **options: Any) -> Image.Image:
        """Decompress to a Pillow image; options as in ``decode_picture``."""
        return to_pil(self.decode_picture(data, **options))

    def decode_picture(
        self,
        data: bytes,
        *,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Picture:
        """Decompress. Raises a BitstreamError: what is wrong and what to do about it."""
        file = self._read(data, max_pixels)
        grid = tile_grid(file.width, file.height, file.tile)
        size = file.width, file.height
        fitted = _rotation_of(file), self._filter_of(file)
        synthesis = Synthesis(self.model, *size, grid, file.quality, *fitted)
        for done, count in synthesis.run(lambda i: self._decode_tile(file, grid, i)):
            if progress is not None:
                progress(done, count)
        alpha = None
        if "alpha" in file.chunks:
            alpha = decode_alpha(file.chunks["alpha"], file.width, file.height)
        return Picture(
            pixels=synthesis.pixels,
            gray=file.gray,
            alpha=alpha,
            icc=file.chunks.get("icc", b""),
            exif=file.chunks.get("exif", b""),
            xmp=file.chunks.get("xmp", b""),
        )

    def verify(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> None:
        """Decode every symbol without making the picture. Raises a BitstreamError."""
        file = self._read(data, max_pixels)
        grid = tile_grid(file.width, file.height, file.tile)
        for index in range(len(grid)):
            self._decode_tile(file, grid, index)
        _rotation_of(file)
        self._filter_of(file)
        if "alpha" in file.chunks:
            decode_alpha(file.chunks["alpha"], file.width, file.height)

    def _read(self, data: bytes, max_pixels: int) -> MbicFile:
        file = fields.read(data, max_pixels=max_pixels)
        if file.weights_id != self.model.weights_id:
            raise WrongModel(
                f"the file was made with weights {file.weights_id.hex()}, these are "
                f"{self.model.weights_id.hex()} ({self.model.config.name}): decode with the "
                "checkpoint it was made with (--model)"
            )
        # every tile takes at least its first words: a claim of size must be backed
        if not all(file.tiles):
            raise CorruptStream("a tile has no payload: the data is damaged")
        return file

    def _decode_tile(
        self, file: MbicFile, grid: list[tuple[int, int, int, int]], index: int
    ) -> Tensor:
        _, _, rows, columns = grid[index]
        try:
            decoded = self.model.entropy_model.decode(
                file.tiles[index],
                (rows, columns),
                file.quality,
                self.model.error_weights(file.quality),
            )
        except DesyncError as exc:
            raise DesyncError(f"tile {index + 1} of {len(grid)}: {exc}") from exc
        return torch.cat(decoded, dim=1)

    def _filter_of(self, file: MbicFile) -> PostFilter:
        if (chunk := file.chunks.get("filter")) is None:
            return PostFilter()
        coded = self.model.filter_code.from_bytes(chunk, planes=1 if file.gray else 3)
        return PostFilter(self.model.filter_code.coefficients(coded))


def _rotation_of(file: MbicFile) -> Rotation:
    chunk = file.chunks.get("rotation")
    return IDENTITY if chunk is None else Rotation.from_bytes(chunk)


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    """Call it when one of ``total`` parts is done, from any thread."""
    lock, done = threading.Lock(), itertools.count(1)

    def advance() -> None:
        if progress is not None:
            with lock:
                progress(next(done), total)

    return advance


def pick_device(device: str) -> torch.device:
    """ "auto", "cpu" or "cuda" as a device. Raises DeviceError if it is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"device {device!r} is not one of auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to this torch: use --device cpu")
    return torch.device(device)


_load_lock = threading.Lock()


@lru_cache(maxsize=4)
def _load(path: Path, device: torch.device) -> Codec:
    # frozen: gradients of ``refine`` are of latents alone
    return Codec(checkpoint.load_model(path, device).requires_grad_(False))


def load(model: str | Path = "s", device: str = "auto") -> Codec:
    """Codec of a shipped checkpoint ("s") or of a checkpoint folder; loaded once per device.

    Raises CheckpointError, DeviceError.
    """
    with _load_lock:
        return _load(checkpoint.find(model).resolve(), pick_device(device))


def load_for(data: bytes, device: str = "auto") -> Codec:
    """Codec whose shipped weights made the file ``data``. Raises WrongModel if there is none."""
    wanted = fields.describe_weights(data)
    for name, path in checkpoint.shipped().items():
        if checkpoint.read_config(path).get("weights_id") == wanted.hex():
            return load(name, device)
    raise WrongModel(
        f"the file was made with weights {wanted.hex()}, which are not among the shipped ones "
        f"({', '.join(checkpoint.shipped()) or 'none'}): name its checkpoint with --model"
    )


def decode(data: bytes, device: str = "auto") -> Image.Image:
    """Decompress with the shipped weights that the file names."""
    return load_for(data, device).decode(data)


__all__ = ["Codec", "decode", "load", "load_for", "pick_device"]
