"""What is measured: a mambaic checkpoint or a codec of another library, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from PIL import Image

from mambaic.codec import Codec
from mambaic.encoder.effort import DEFAULT_EFFORT
from mambaic.encoder.options import EncodeOptions
from mambaic.encoder.rate_control import Target, encode_to_target
from mambaic.errors import ImageError
from mambaic.evaluation.rivals import Rival
from mambaic.imaging.image import Picture, to_pil

T = TypeVar("T")


class Contender(Protocol):
    """A name, its qualities, and how it codes. Contenders of one name and different ``setting``
    are one codec, of which each picture takes the better setting."""

    @property
    def name(self) -> str: ...

    @property
    def setting(self) -> str: ...

    @property
    def qualities(self) -> Sequence[float]: ...

    @property
    def library(self) -> str:
        """What codes, with its version and fixed options."""

    @property
    def ours(self) -> bool: ...

    @property
    def times_only(self) -> bool:
        """Its rates and distortions mean nothing."""

    def encode(self, picture: Picture, quality: float) -> tuple[bytes, float | None]:
        """(file, estimated bits or None). Raises MambaICError where it cannot."""

    def encode_to_size(self, picture: Picture, n_bytes: int) -> bytes:
        """A file of about ``n_bytes``: within 1 % where qualities are continuous, else the largest
        that is no larger. Raises MambaICError where it cannot."""

    def decode(self, data: bytes) -> Image.Image: ...


@dataclass(frozen=True)
class OurContender:
    """A mambaic checkpoint."""

    name: str
    qualities: Sequence[float]
    codec: Codec
    library: str
    effort: int = DEFAULT_EFFORT
    tune: float = 0.0
    grain: bool = False
    setting: str = ""
    ours: bool = True
    times_only: bool = False

    def encode(self, picture: Picture, quality: float) -> tuple[bytes, float | None]:
        encoded = self.codec.encode_picture(picture, self._options(quality))
        return encoded.data, encoded.estimated_bits

    def encode_to_size(self, picture: Picture, n_bytes: int) -> bytes:
        return encode_to_target(self.codec, picture, Target("size", n_bytes), self._options())

    def _options(self, quality: float = 60.0) -> EncodeOptions:
        return EncodeOptions(quality=quality, effort=self.effort, tune=self.tune, grain=self.grain)

    def decode(self, data: bytes) -> Image.Image:
        return self.codec.decode(data)


@dataclass(frozen=True)
class RivalContender:
    """A codec of another library. Whatever that raises becomes an ImageError."""

    rival: Rival
    ours: bool = False
    times_only: bool = False

    @property
    def name(self) -> str:
        return self.rival.name

    @property
    def setting(self) -> str:
        return self.rival.setting

    @property
    def qualities(self) -> Sequence[float]:
        return self.rival.qualities

    @property
    def library(self) -> str:
        return self.rival.library

    def encode(self, picture: Picture, quality: float) -> tuple[bytes, float | None]:
        return _guarded(lambda: self.rival.encode(to_pil(picture), quality)), None

    def encode_to_size(self, picture: Picture, n_bytes: int) -> bytes:
        low, high = min(self.qualities) / 2, max(self.qualities)
        return at_size(lambda quality: self.encode(picture, quality)[0], n_bytes, low, high)

    def decode(self, data: bytes) -> Image.Image:
        return _guarded(lambda: self.rival.decode(data))


def _guarded(call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as exc:  # other libraries raise anything, MemoryError and SystemError among it
        raise ImageError(f"{type(exc).__name__}: {exc}") from exc


def at_size(encode: Callable[[float], bytes], n_bytes: int, low: float, high: float) -> bytes:
    """The largest file of at most ``n_bytes`` over qualities [low, high], to 1/128 of the range;
    the smallest file if none fits."""
    best = None
    lowest = low
    for _ in range(7):
        middle = (low + high) / 2
        data = encode(middle)
        if len(data) <= n_bytes:
            low, best = middle, data
        else:
            high = middle
    return encode(lowest) if best is None else best
