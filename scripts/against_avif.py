"""Whether ours is above AVIF 4:4:4 (speed 4) at equal bytes on every picture, in little time.

    python scripts/against_avif.py IMAGE... --out points.jsonl [--qualities 85,93,100] [--side 1600]

AVIF of speed 6 takes a fifth of the time and its curve tells which quality has our bytes: one file
of speed 4 there, moved along that curve by the last per cent of bytes, is what ours is compared
with. Where ours is more than ``CLEAR`` above speed 6, speed 4 is not asked: it gains 0.4 to 0.7 dB.
A line of JSON for each point; points that are in the file already are not measured again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mambaic import Codec, load
from mambaic.imaging.metrics import psnr_db

LADDER = (45, 62, 77, 88, 95, 99)
CLEAR = 1.1  # dB


class Avif:
    """Curves of one picture: logarithm of bytes and PSNR over quality, at speed 6."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.pixels = image, np.array(image)
        found = [self.file(quality, speed=6) for quality in LADDER]
        self.sizes, self.values = (list(column) for column in zip(*found, strict=True))

    def file(self, quality: int, speed: int) -> tuple[float, float]:
        """Logarithm of bytes, and PSNR."""
        data = io.BytesIO()
        self.image.save(data, "AVIF", quality=quality, speed=speed, subsampling="4:4:4")
        decoded = np.array(Image.open(data).convert("RGB"))
        return math.log(data.tell()), psnr_db(self.pixels, decoded)

    def fast(self, size: float) -> float:
        """PSNR of speed 6 at a logarithm of bytes; beyond the ladder nothing is known."""
        return float(np.interp(size, self.sizes, self.values, left=math.inf, right=math.inf))

    def slow(self, size: float) -> float:
        """The same of speed 4."""
        quality = round(float(np.interp(size, self.sizes, LADDER)))
        near, value = self.file(quality, speed=4)
        slope = np.polyfit(self.sizes[-4:], self.values[-4:], 1)[0]
        return value + slope * (size - near)


def measure(codec: Codec, image: Image.Image, qualities: Sequence[float]) -> list[dict[str, float]]:
    avif, found = Avif(image), []
    for quality in qualities:
        data = codec.encode(image, quality, tune=0)
        ours, size = psnr_db(avif.pixels, np.array(codec.decode(data))), math.log(len(data))
        speed, other = 6, avif.fast(size)
        if ours < other + CLEAR:
            speed, other = 4, avif.slow(size)
        found.append({"quality": quality, "bytes": len(data), "psnr_db": ours,
                      "avif_db": other, "avif_speed": speed})  # fmt: skip
    return found


def middle(image: Image.Image, side: int) -> Image.Image:
    width, height = (min(length, side) for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def summary(points: Sequence[dict[str, float | str]]) -> str:
    lines = ["| quality | pictures | ours above | mean | worst |", "|---|---|---|---|---|"]
    for quality in sorted({float(point["quality"]) for point in points}):
        rows = {
            str(p["image"]): float(p["psnr_db"]) - float(p["avif_db"])
            for p in points
            if p["quality"] == quality
        }
        worst = min(rows, key=lambda name: rows[name])
        won = sum(value >= 0 for value in rows.values())
        mean = sum(rows.values()) / len(rows)
        cells = [f"{quality:g}", str(len(rows)), str(won), f"{mean:+.2f} dB"]
        lines.append(f"| {' | '.join(cells)} | {worst} {rows[worst]:+.2f} dB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--qualities", default="85,93,100")
    parser.add_argument("--side", type=int, default=1600, help="larger pictures: their middle")
    arguments = parser.parse_args()
    qualities = [float(quality) for quality in arguments.qualities.split(",")]
    done = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    points = [json.loads(line) for line in done if line.endswith("}")]
    codec = load("s", "cpu")
    for path in arguments.images:
        known = {p["quality"] for p in points if p["image"] == path.name}
        todo = [quality for quality in qualities if quality not in known]
        if todo:
            image = middle(Image.open(path).convert("RGB"), arguments.side)
            found = [{"image": path.name, **point} for point in measure(codec, image, todo)]
            points += found
            with arguments.out.open("a") as log:
                log.writelines(json.dumps(point) + "\n" for point in found)
    print(summary([p for p in points if p["image"] in {path.name for path in arguments.images}]))


if __name__ == "__main__":
    main()
