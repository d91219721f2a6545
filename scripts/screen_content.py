"""Pages that are no photographs in files of ours, with exact blocks and without, and in AVIF's.

    python scripts/screen_content.py [--photo FILE] [--qualities 80,90,100] [--pages text,chart]

AVIF is Pillow's, 4:4:4, speed 4: its PSNR in as many bytes as ours with exact blocks, read off
between its files of some qualities. A photograph makes the left half of one more page.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mambaic import load
from mambaic.encoder import picture_encoder
from mambaic.evaluation.rivals import rivals
from mambaic.imaging.metrics import psnr_db, rising

TEXT = (
    "The quick brown fox jumps over the lazy dog while seventeen wizards pack boxes with liquor "
    "jugs. Rate and distortion are two sides of one coin: every bit that a picture takes must be "
    "paid for, and each error that it keeps is seen by somebody."
)
WORDS = TEXT.split()
COLOURS = [(31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40)]
AVIF_QUALITIES = (30, 50, 65, 75, 82, 88, 93, 97, 100)
Curve = tuple[list[int], list[float]]  # bytes, PSNR in dB


def text(
    width: int = 640, height: int = 480, ink: str = "black", paper: str = "white"
) -> Image.Image:
    image, rng = Image.new("RGB", (width, height), paper), np.random.default_rng(0)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for y in range(12, height - 22, 19):
        line = ""
        while draw.textlength(line, font=font) < width - 90:
            line += WORDS[rng.integers(len(WORDS))] + " "
        draw.text((18, y), line, fill=ink, font=font)
    return image


def chart(width: int = 640, height: int = 480) -> Image.Image:
    """Lines and bars with smooth edges, drawn at twice the size."""
    image, rng = Image.new("RGB", (2 * width, 2 * height), "white"), np.random.default_rng(1)
    draw = ImageDraw.Draw(image)
    for y in range(80, 880, 100):
        draw.line((80, y, 2 * width - 40, y), fill=(220, 220, 220), width=2)
    for colour in COLOURS:
        values = 40 * np.cumsum(rng.normal(size=60)) + 400
        draw.line([(80 + 19 * i, float(v)) for i, v in enumerate(values)], fill=colour, width=4)
    for i in range(10):
        draw.rectangle((100 + 110 * i, 860 - 30 * i, 150 + 110 * i, 880), fill=(148, 103, 189))
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    ImageDraw.Draw(image).text((200, 8), "Bytes by quality", "black", ImageFont.load_default(16))
    return image


def screenshot() -> Image.Image:
    image = Image.new("RGB", (960, 640), (240, 240, 243))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    draw.rectangle((0, 0, 960, 28), fill=(45, 45, 52))
    for i in range(24):
        draw.rounded_rectangle((10, 40 + 24 * i, 22, 52 + 24 * i), 3, fill=COLOURS[i % 4])
        draw.text((30, 38 + 24 * i), f"folder_{i:02d}/file.py", (40, 40, 40), font)
    image.paste(text(760, 280, "#cdd6f4", "#1e1e2e"), (190, 36))
    image.paste(text(760, 300), (190, 326))
    return image


def line_art(width: int = 640, height: int = 480) -> Image.Image:
    """Strokes of ink with smooth edges, drawn at four times the size, and hatching."""
    image, rng = Image.new("L", (4 * width, 4 * height), 255), np.random.default_rng(2)
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        start, turn = rng.uniform(0, 4) * np.array([width, height]), rng.uniform(0, 2 * math.pi)
        steps = 12 * np.array([np.cos(turn + np.arange(60) / 15), np.sin(turn + np.arange(60) / 9)])
        path = start + steps.T.cumsum(0)
        draw.line([tuple(point) for point in path], fill=0, width=int(rng.integers(4, 12)))
    for x in range(0, 4 * width, 40):
        draw.line((x, 4 * height, x + 4 * width // 6, 3 * height), fill=60, width=5)
    return image.resize((width, height), Image.Resampling.LANCZOS).convert("RGB")


def halftone(width: int = 640, height: int = 480, cell: float = 6.0) -> Image.Image:
    """A scan of a print: clouds in dots of cyan, magenta and yellow, blurred, with noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: 2 * height, : 2 * width] / 2
    planes = []
    for angle in (15, 75, 0):
        turn = math.radians(angle)
        u, v = (x * math.cos(turn) + y * math.sin(turn)), (y * math.cos(turn) - x * math.sin(turn))
        screen = (np.cos(2 * math.pi * u / cell) + np.cos(2 * math.pi * v / cell)) / 4 + 0.5
        cloud = Image.fromarray(rng.integers(0, 255, (6, 8), np.uint8))
        tone = np.asarray(cloud.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)) / 255
        planes.append(np.where(screen < tone, 235, 30).astype(np.uint8))
    image = Image.fromarray(np.stack(planes, axis=2)).resize((width, height), Image.Resampling.BOX)
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)))
    noisy = blurred + rng.normal(0, 3, blurred.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def noise(width: int = 320, height: int = 240) -> Image.Image:
    return Image.fromarray(np.random.default_rng(4).integers(0, 256, (height, width, 3), np.uint8))


def colour_bars() -> Image.Image:
    bars = np.array([[*COLOURS, (0, 0, 0)]], np.uint8)
    return Image.fromarray(bars.repeat(128, axis=1).repeat(480, axis=0))


def checkerboard() -> Image.Image:
    return Image.fromarray(np.indices((240, 320)).sum(0) % 2 == 1).convert("RGB")


def half_a_photograph(photo: str) -> Image.Image:
    page = text(960, 480)
    page.paste(Image.open(photo).convert("RGB").crop((0, 0, 480, 480)))
    return page


PAGES: dict[str, Callable[[], Image.Image]] = {
    "text": text,
    "line art": line_art,
    "chart": chart,
    "screenshot": screenshot,
    "colour bars": colour_bars,
    "checkerboard": checkerboard,
    "noise": noise,
    "halftone": halftone,
}


def avif_curve(image: Image.Image) -> Curve:
    avif = next(rival for rival in rivals() if rival.setting == "4:4:4")
    files = [avif.encode(image, quality) for quality in AVIF_QUALITIES]
    return [len(data) for data in files], [psnr(image, avif.decode(data)) for data in files]


def at_bytes(curve: Curve, n_bytes: int) -> float:
    """PSNR of a curve at a size; infinite if an exact file is no larger, nan below all files."""
    sizes, values = curve
    if any(size <= n_bytes and math.isinf(v) for size, v in zip(sizes, values, strict=True)):
        return math.inf
    bounds, reached = rising(sizes, values)
    if not len(bounds) or n_bytes < bounds[0]:
        return math.nan
    return float(np.interp(math.log(n_bytes), np.log(bounds), reached))


def psnr(image: Image.Image, decoded: Image.Image) -> float:
    return psnr_db(np.array(image), np.array(decoded))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo")
    parser.add_argument("--qualities", default="80,90,100")
    parser.add_argument("--pages", default=",".join(PAGES))
    arguments = parser.parse_args()
    pages = {name: PAGES[name] for name in arguments.pages.split(",")}
    if arguments.photo is not None:
        pages["half a photograph"] = partial(half_a_photograph, arguments.photo)
    codec, choose = load("s", "cpu"), picture_encoder.choose_blocks
    head = ["page", "quality", "without", "with", "AVIF in as many bytes", "with, less AVIF"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name, draw in pages.items():
        image = draw()
        curve = avif_curve(image)
        for quality in map(float, arguments.qualities.split(",")):
            row = []
            for choice in (lambda pixels, weight: None, choose):
                picture_encoder.choose_blocks = choice
                data = codec.encode(image, quality, tune=0)
                row.append((len(data), psnr(image, codec.decode(data))))
            cells = [f"{size} B, {value:.1f} dB" for size, value in row]
            size, ours = row[1]
            other = at_bytes(curve, size)
            less = 0.0 if ours == other else ours - other
            print(f"| {name} | {quality:g} | {' | '.join(cells)} | {other:.1f} dB | "
                  f"{less:+.1f} dB |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
