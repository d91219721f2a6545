"""Pillow plugin: ``Image.open("x.mbic")`` and ``image.save("x.mbic", quality=60)``.

Size and metadata are known without decoding; pixels are decoded when first needed, with the shipped
weights that the file names.
"""

from __future__ import annotations

from typing import IO, Any

from PIL import Image, ImageFile

from mambaic.container.fields import MAGIC, MAX_PIXELS, read, read_size
from mambaic.errors import BitstreamError, ConfigError, MambaICError, NotAnMbicFile

FORMAT = "MBIC"
MODES = {(False, False): "RGB", (False, True): "RGBA", (True, False): "L", (True, True): "LA"}


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


class MbicImageFile(ImageFile.ImageFile):
    """An .mbic file as Pillow sees it; ``tile`` is empty once its pixels are decoded."""

    format = FORMAT
    format_description = "mambaic learned image"

    def _open(self) -> None:
        from mambaic.imaging.metadata import INFO_KEYS

        assert self.fp is not None
        self._data = self.fp.read()
        try:
            width, height, gray, has_alpha = read_size(self._data)
            if width * height > (Image.MAX_IMAGE_PIXELS or MAX_PIXELS) * 2:
                raise Image.DecompressionBombError(f"{width}x{height} pixels exceed Pillow's limit")
            chunks = read(self._data).chunks
        except NotAnMbicFile as exc:
            # what Pillow expects of a plugin that is offered another format
            raise SyntaxError(str(exc)) from exc
        except BitstreamError as exc:
            raise OSError(str(exc)) from exc
        self.info.update({key: chunks[name] for name, key in INFO_KEYS.items() if name in chunks})
        self._size = (width, height)
        self._mode = MODES[gray, has_alpha]
        self.tile = [ImageFile._Tile(FORMAT, (0, 0, width, height))]

    def load(self) -> Any:
        if self.tile:
            from mambaic.codec import decode

            try:
                image = decode(self._data)
            except MambaICError as exc:
                raise OSError(str(exc)) from exc
            self.im = image.im
            self.tile, self._data, self.readonly = [], b"", 0
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Options: quality (0 to 100, default 60), model (default "s"), strip (default False), effort
    (1 to 9, default 5), tune (0 for PSNR to 1 for the eye, by default), grain (default False);
    exif, icc_profile and xmp instead of those in ``image.info``."""
    from mambaic.codec import load
    from mambaic.imaging.image import read_image
    from mambaic.imaging.metadata import INFO_KEYS

    options = image.encoderinfo
    names = ("quality", "strip", "effort", "tune", "grain")
    settings = {key: options[key] for key in names if key in options}
    metadata = {key: options[key] for key in INFO_KEYS.values() if key in options}
    try:
        data = load(options.get("model", "s")).encode(read_image(image, info=metadata), **settings)
    except ConfigError:
        raise  # a ValueError, as of Pillow's own writers
    except MambaICError as exc:
        raise OSError(str(exc)) from exc
    file.write(data)


def register() -> None:
    """Make Pillow know the format."""
    Image.register_open(FORMAT, MbicImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".mbic")
    Image.register_mime(FORMAT, "image/x-mbic")
