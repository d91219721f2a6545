"""Pictures to .mbic bytes and back: where files and people meet the networks.

    image --read--> pixels --rotate--> --g_a--> y --walk--> symbols --ANS--> payload
                                                  |                            | container
    encoder:        post-filter fit <-- g_s <-- y_hat                        .mbic
                                                                               |
    image <--clamp-- filter <-- rotate back <-- g_s <-- y_hat <--walk-- symbols

``encoder.picture_encoder`` is the upper way, ``picture_decoder`` the lower one;
``entropy_model.walk`` is the coding order of both.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import torch
from PIL import Image

from mambaic import checkpoint
from mambaic.container import fields
from mambaic.container.fields import MAX_PIXELS, MbicFile
from mambaic.container.file_bytes import FileBytes, file_bytes
from mambaic.devices import check_usable, pick_device
from mambaic.encoder.effort import DEFAULT_EFFORT
from mambaic.encoder.options import EncodeOptions
from mambaic.encoder.picture_encoder import (
    EncodedPicture,
    Progress,
    encode_picture,
    encode_pictures,
)
from mambaic.errors import CheckpointError, CorruptStream, WrongModel
from mambaic.imaging.image import Picture, Source, read_image, to_pil
from mambaic.models.model import MambaIC
from mambaic.models.tuning import Tastes
from mambaic.numerics import own_numerics
from mambaic.picture_decoder import decode_file, decode_files, verify_file
from mambaic.reconstruction.rotation import Rotation

P = ParamSpec("P")
R = TypeVar("R")
Device = str | torch.device


def _coding(method: Callable[Concatenate[Codec, P], R]) -> Callable[Concatenate[Codec, P], R]:
    """A method of a codec in the codec's own numerics."""

    @wraps(method)
    def coding(self: Codec, /, *args: P.args, **kwargs: P.kwargs) -> R:
        check_usable(self.device)
        with own_numerics(self.device):
            return method(self, *args, **kwargs)

    return coding


class Codec:
    """One set of weights on one device. Safe to use from several threads.

    One that was loaded from a checkpoint can be pickled: its name or path travels, not the weights.
    """

    def __init__(self, model: MambaIC, origin: Path | None = None) -> None:
        self.model = model
        self._tastes = Tastes(model)
        self.device = next(model.parameters()).device
        self._origin = origin

    def __reduce__(self) -> tuple[Callable[..., Codec], tuple[str | Path, str, bytes]]:
        """Raises CheckpointError if it was made from a model."""
        if self._origin is None:
            raise CheckpointError(
                "a Codec that was made from a model cannot be pickled: save the model "
                "(mambaic.checkpoint.save_model), and load a Codec from there (mambaic.load)"
            )
        names = {path.resolve(): name for name, path in checkpoint.shipped().items()}
        model = names.get(self._origin, self._origin)
        return _load_same, (model, str(self.device), self.model.weights_id)

    def __deepcopy__(self, memo: dict[int, object]) -> Codec:
        return Codec(copy.deepcopy(self.model, memo), self._origin)

    def weights_id(self, tune: float = 0.0) -> bytes:
        """Names the weights in files of this tune; empty if there are none."""
        return self._tastes.at(tune).weights_id if self.model.eye or not tune else b""

    def _id_of(self, file: MbicFile) -> bytes:
        known = self.model.eye or not file.tune
        return self._tastes.at(file.tune).id_of(fine=file.fine) if known else b""

    def _model_for(self, options: EncodeOptions) -> MambaIC:
        eye = 1.0 if self.model.eye else 0.0
        return self._tastes.at(eye if options.tune is None else options.tune)

    # -- encoding ----------------------------------------------------------------------------

    def encode(
        self,
        image: Source | Picture,
        quality: float = 60.0,
        *,
        strip: bool = False,
        tile: int | None = None,
        effort: int = DEFAULT_EFFORT,
        rotation: Rotation | None = None,
        tune: float | None = None,
        grain: bool = False,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> bytes:
        """Compress a picture to the bytes of a file; options as in ``EncodeOptions``.

        Pictures are Pillow images, arrays of uint8, paths, binary files or bytes of images
        (``imaging.image.read_image``).

        ``progress`` is called with (parts done, parts in all). Raises ImageError, ConfigError.
        """
        options = EncodeOptions(
            quality=quality,
            strip=strip,
            tile=tile,
            effort=effort,
            rotation=rotation,
            tune=tune,
            grain=grain,
            workers=workers,
        )
        picture = image if isinstance(image, Picture) else read_image(image)
        return self.encode_picture(picture, options, progress).data

    @_coding
    def encode_picture(
        self, picture: Picture, options: EncodeOptions, progress: Progress | None = None
    ) -> EncodedPicture:
        """Contents of the file of a picture, and the estimated bits of its latents."""
        return encode_picture(self._model_for(options), picture, options, progress)

    def encode_batch(
        self,
        images: Sequence[Source | Picture],
        quality: float = 60.0,
        *,
        strip: bool = False,
        tile: int | None = None,
        effort: int = DEFAULT_EFFORT,
        rotation: Rotation | None = None,
        tune: float | None = None,
        grain: bool = False,
        progress: Progress | None = None,
    ) -> list[bytes]:
        """As ``encode`` of each, to the same bytes, tiles of equal size together: for a GPU, which
        one picture leaves idle. Raises ImageError, ConfigError."""
        options = EncodeOptions(
            quality=quality,
            strip=strip,
            tile=tile,
            effort=effort,
            rotation=rotation,
            tune=tune,
            grain=grain,
        )
        pictures = [image if isinstance(image, Picture) else read_image(image) for image in images]
        return [encoded.data for encoded in self.encode_pictures(pictures, options, progress)]

    @_coding
    def encode_pictures(
        self, pictures: Sequence[Picture], options: EncodeOptions, progress: Progress | None = None
    ) -> list[EncodedPicture]:
        """As ``encode_picture`` of each, in batches."""
        return encode_pictures(self._model_for(options), pictures, options, progress)

    # -- decoding ----------------------------------------------------------------------------

    def decode(
        self, data: FileBytes, *, max_pixels: int = MAX_PIXELS, progress: Progress | None = None
    ) -> Image.Image:
        """Decompress to a Pillow image. Raises a BitstreamError."""
        return to_pil(self.decode_picture(data, max_pixels=max_pixels, progress=progress))

    @_coding
    def decode_picture(
        self,
        data: FileBytes,
        *,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ) -> Picture:
        """Decompress. Raises a BitstreamError: what is wrong and what to do about it."""
        file = self._read(data, max_pixels)
        return decode_file(self._tastes.at(file.tune), file, progress)

    def decode_batch(
        self, files: Sequence[FileBytes], *, max_pixels: int = MAX_PIXELS
    ) -> list[Image.Image]:
        """As ``decode`` of each, those of equal size and quality together: for a GPU, which one
        picture leaves idle. Raises the BitstreamError of a bad file."""
        return [to_pil(picture) for picture in self.decode_pictures(files, max_pixels=max_pixels)]

    @_coding
    def decode_pictures(
        self, files: Sequence[FileBytes], *, max_pixels: int = MAX_PIXELS
    ) -> list[Picture]:
        """As ``decode_picture`` of each, in batches."""
        read = [self._read(data, max_pixels) for data in files]
        found: dict[int, Picture] = {}
        for tune in sorted({file.tune for file in read}):
            numbers = [number for number, file in enumerate(read) if file.tune == tune]
            pictures = decode_files(self._tastes.at(tune), [read[number] for number in numbers])
            found.update(zip(numbers, pictures, strict=True))
        return [found[number] for number in range(len(read))]

    @_coding
    def verify(self, data: FileBytes, *, max_pixels: int = MAX_PIXELS) -> None:
        """Decode every symbol without making the picture. Raises a BitstreamError."""
        file = self._read(data, max_pixels)
        verify_file(self._tastes.at(file.tune), file)

    def _read(self, data: FileBytes, max_pixels: int) -> MbicFile:
        file = fields.read(file_bytes(data), max_pixels=max_pixels)
        if file.weights_id != (own := self._id_of(file)):
            raise WrongModel(
                f"the file was made with weights {file.weights_id.hex()} at tune {file.tune:g}; "
                f"these ({self.model.config.name}) have {own.hex() or 'none'}: decode with "
                "the checkpoint it was made with (--model)"
            )
        # every tile takes at least its first words: a claim of size must be backed
        if not all(file.tiles):
            raise CorruptStream("a tile has no payload: the data is damaged")
        return file


_load_lock = threading.Lock()


def _after_fork() -> None:
    global _load_lock
    _load_lock = threading.Lock()  # a thread that is not in the child may have held it


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


@lru_cache(maxsize=4)
def _load(path: Path, weights_id: str, device: torch.device) -> Codec:
    # frozen: gradients of latent refinement are of latents alone
    return Codec(checkpoint.load_model(path, device).requires_grad_(False), path)


def load(model: str | Path = "s", device: Device = "auto") -> Codec:
    """Codec of a shipped checkpoint ("s") or of a checkpoint folder; loaded once per device.

    Devices are "auto", "cpu", "cuda", "cuda:1" or torch's. Raises CheckpointError, DeviceError.
    """
    path = checkpoint.find(model).resolve()
    with _load_lock:
        # by the id, too: a folder may hold other weights than it did
        weights_id = str(checkpoint.read_config(path).get("weights_id"))
        return _load(path, weights_id, pick_device(device))


def _load_same(model: str | Path, device: str, weights_id: bytes) -> Codec:
    """A codec that was pickled. Raises CheckpointError if its weights are not there any more."""
    codec = load(model, device)
    if (found := codec.model.weights_id) != weights_id:
        raise CheckpointError(
            f"{model}: the codec was pickled with weights {weights_id.hex()}, and the checkpoint "
            f"there has {found.hex()} now"
        )
    return codec


def load_for(data: FileBytes, device: Device = "auto") -> Codec:
    """Codec whose shipped weights made the file ``data``. Raises WrongModel if there is none."""
    wanted = fields.describe_weights(file_bytes(data))
    for name, path in checkpoint.shipped().items():
        if wanted in checkpoint.readable_ids(checkpoint.read_config(path)):
            return load(name, device)
    raise WrongModel(
        f"the file was made with weights {wanted.hex()}, which are not among the shipped ones "
        f"({', '.join(checkpoint.shipped()) or 'none'}): name its checkpoint with --model"
    )


def decode(data: FileBytes, device: Device = "auto") -> Image.Image:
    """Decompress with the shipped weights that the file names."""
    data = file_bytes(data)
    return load_for(data, device).decode(data)


__all__ = ["Codec", "EncodeOptions", "Progress", "decode", "load", "load_for"]
