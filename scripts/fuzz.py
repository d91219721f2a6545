"""Random damage to small files: every one must end in a typed error or a picture, in bounded time.

    python scripts/fuzz.py --count 100000            damage as it happens: the checksum notices
    python scripts/fuzz.py --count 5000 --forge      checksum put right again: parser and entropy
                                                   decoder meet the damage themselves
Prints what the mutations ended in; any other exception or a decode over --limit seconds fails.
"""

from __future__ import annotations

import argparse
import random
import time
import zlib
from collections import Counter

from conftest import make_model, photo_pixels
from PIL import Image

from mambaic.codec import Codec
from mambaic.config import PRESETS
from mambaic.errors import BitstreamError

MAX_PIXELS = 1 << 20  # a forged header may claim a picture of this size and have it decoded


def seeds(codec: Codec) -> list[bytes]:
    """Small files of every feature."""
    image = Image.fromarray(photo_pixels(40, 56))
    exif = Image.Exif()
    exif[0x010E] = "x"
    image.info["exif"] = exif.tobytes()
    return [
        codec.encode(image, 50),
        codec.encode(image.convert("RGBA"), 95, tile=4),
        codec.encode(image.convert("L"), 5),
        codec.encode(image.resize((130, 70)), 70, tile=4),
    ]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four flips, overwrites, deletions, insertions or cuts."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, len(out)))
        kind = rng.randrange(5)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del out[at : at + rng.randint(1, 8)]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del out[at:]
    return bytes(out)


def forge(data: bytes) -> bytes:
    """The same with a checksum that holds."""
    body = data[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def outcome(codec: Codec, data: bytes) -> str:
    """Name of what decoding ended in. Any exception but a BitstreamError passes through."""
    try:
        codec.decode(data, max_pixels=MAX_PIXELS)
    except BitstreamError as exc:
        return type(exc).__name__
    return "decoded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--forge", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds")
    arguments = parser.parse_args()
    codec = Codec(make_model(PRESETS["unit"]))
    files = seeds(codec)
    rng = random.Random(arguments.seed)
    found: Counter[str] = Counter()
    slowest = 0.0
    for number in range(arguments.count):
        data = mutate(rng.choice(files), rng)
        data = forge(data) if arguments.forge else data
        if data in files:
            continue
        started = time.perf_counter()
        try:
            found[outcome(codec, data)] += 1
        except Exception:
            print(f"mutation {number}: {data.hex()}")
            raise
        slowest = max(slowest, time.perf_counter() - started)
        if slowest > arguments.limit:
            raise SystemExit(f"mutation {number} took {slowest:.1f} s: {data.hex()}")
    print(dict(found), f"slowest {slowest:.2f} s")


if __name__ == "__main__":
    main()
