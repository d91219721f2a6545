"""Pillow plugin: ``Image.open("x.mbic")`` and ``image.save("x.mbic", quality=60)``.

Size and metadata are known without decoding; pixels are decoded when first needed, with the shipped
weights that the file names.
"""

from __future__ import annotations

from typing import IO, Any

from PIL import Image, ImageFile

from mambaic.container.fields import MAGIC, MAX_PIXELS, read, read_size
from mambaic.errors import BitstreamError, MambaICError, NotAnMbicFile

FORMAT = "MBIC"
MODES = {(False, False): "RGB", (False, True): "RGBA", (True, False): "L", (True, True): "LA"}


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


class MbicImageFile(ImageFile.ImageFile):
    """An .mbic file as Pillow sees it."""

    format = FORMAT
    format_description = "mambaic learned image"

    def _open(self) -> None:
        from mambaic.imaging.metadata import INFO_KEYS

        assert self.fp is not None
        data = self.fp.read()
        try:
            width, height, gray, has_alpha = read_size(data)
            if width * height > (Image.MAX_IMAGE_PIXELS or MAX_PIXELS) * 2:
                raise Image.DecompressionBombError(f"{width}x{height} pixels exceed Pillow's limit")
            chunks = read(data).chunks
        except NotAnMbicFile as exc:
            # what Pillow expects of a plugin that is offered another format
            raise SyntaxError(str(exc)) from exc
        except BitstreamError as exc:
            raise OSError(str(exc)) from exc
        self.info.update({key: chunks[name] for name, key in INFO_KEYS.items() if name in chunks})
        self._size = (width, height)
        self._mode = MODES[gray, has_alpha]

    def load(self) -> Any:
        if self.fp is not None:
            from mambaic.codec import decode

            self.fp.seek(0)
            try:
                image = decode(self.fp.read())
            except MambaICError as exc:
                raise OSError(str(exc)) from exc
            self.im = image.im
            self._mode, self._size = image.mode, image.size
            self.info.update(image.info)
            if self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Options: quality (0 to 100, default 60), model (default "s"), strip (default False), refine
    (steps, default 0)."""
    from mambaic.codec import load

    options = image.encoderinfo
    codec = load(options.get("model", "s"))
    quality = float(options.get("quality", 60))
    strip, refine = bool(options.get("strip", False)), int(options.get("refine", 0))
    file.write(codec.encode(image, quality, strip=strip, refine=refine))


def register() -> None:
    """Make Pillow know the format."""
    Image.register_open(FORMAT, MbicImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".mbic")
    Image.register_mime(FORMAT, "image/x-mbic")
