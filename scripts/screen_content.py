"""Drawn pages in files of ours, with exact blocks and without, and in AVIF's: bytes and PSNR.

    python scripts/screen_content.py [--photo FILE] [--qualities 60,80,90]

AVIF is Pillow's, 4:4:4, speed 6, the coarsest of some qualities that reaches our PSNR. A photograph
makes the left half of one more page.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mambaic import load
from mambaic.encoder import picture_encoder
from mambaic.imaging.metrics import psnr_db

TEXT = (
    "The quick brown fox jumps over the lazy dog while seventeen wizards pack boxes with liquor "
    "jugs. Rate and distortion are two sides of one coin: every bit that a picture takes must be "
    "paid for, and each error that it keeps is seen by somebody."
)
WORDS = TEXT.split()
COLOURS = [(31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40)]
AVIF_QUALITIES = (50, 65, 75, 85, 92, 97, 100)


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


def pages(photo: str | None) -> Iterator[tuple[str, Image.Image]]:
    yield "text", text()
    yield "chart", chart()
    yield "screenshot", screenshot()
    yield (
        "colour bars",
        Image.fromarray(
            np.array([[*COLOURS, (0, 0, 0)]], np.uint8).repeat(128, axis=1).repeat(480, axis=0)
        ),
    )
    yield "checkerboard", Image.fromarray(np.indices((240, 320)).sum(0) % 2 == 1).convert("RGB")
    if photo is not None:
        half = text(960, 480)
        half.paste(Image.open(photo).convert("RGB").crop((0, 0, 480, 480)))
        yield "half a photograph", half


def avif(image: Image.Image, goal: float) -> tuple[int, float]:
    """Bytes and PSNR of the first file that reaches the goal, or of the best one."""
    size, reached = 0, 0.0
    for quality in AVIF_QUALITIES:
        file = io.BytesIO()
        image.save(file, "avif", quality=quality, subsampling="4:4:4", speed=6)
        size, reached = file.tell(), psnr_db(np.array(image), np.array(Image.open(file)))
        if reached >= goal:
            break
    return size, reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo")
    parser.add_argument("--qualities", default="60,80,90")
    arguments = parser.parse_args()
    codec, choose = load("s", "cpu"), picture_encoder.choose_blocks
    print("| page | quality | without | with | AVIF |\n|---|---|---|---|---|")
    for name, image in pages(arguments.photo):
        for quality in map(float, arguments.qualities.split(",")):
            row = []
            for choice in (lambda pixels, weight: None, choose):
                picture_encoder.choose_blocks = choice
                data = codec.encode(image, quality)
                row.append((len(data), psnr_db(np.array(image), np.array(codec.decode(data)))))
            row.append(avif(image, row[1][1]))
            cells = " | ".join(f"{size} B, {psnr:.1f} dB" for size, psnr in row)
            print(f"| {name} | {quality:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
