"""What lossless files would take: a file of ours and its residual, beside PNG, WebP and JPEG XL.

    python scripts/lossless_estimate.py IMAGE... [--qualities 60,75,85,93]

The residual of the decoded picture is in reversible YCgCo; a least-squares fit to neighbours that
are known already takes its mean off, and their size is the context of an adaptive code (Dirichlet,
1/2), whose length is exact. No file is written: what is missing for one is in
docs/design/lossless.md.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import gammaln

from mambaic import load
from mambaic.evaluation.rivals import rivals

CONTEXTS = 32
Ints = NDArray[np.int32]


def reversible_planes(rgb: Ints) -> list[Ints]:
    """Y, Cg and Co of integers (H, W, 3), by lifting steps: 8 bits and two planes of 9."""
    red, green, blue = np.moveaxis(rgb, 2, 0)
    orange = red - blue
    middle = blue + (orange >> 1)
    difference = green - middle
    return [middle + (difference >> 1), difference, orange]


def neighbours(plane: Ints, before: list[Ints]) -> NDArray[np.float64]:
    """(pixels, count): left, upper left, upper, upper right, two steps left and up, of a plane;
    the pixel and those around it in the planes before."""
    padded = np.pad(plane, 2)
    height, width = plane.shape
    steps = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, -2), (-2, 0)]
    found = [padded[2 + y : 2 + y + height, 2 + x : 2 + x + width] for y, x in steps]
    for other in before:
        padded = np.pad(other, 1)
        around = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]
        found += [padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in around]
    return np.stack(found, axis=-1).reshape(plane.size, -1).astype(np.float64)


def plane_bits(plane: Ints, before: list[Ints]) -> float:
    known, values = neighbours(plane, before), plane.ravel()
    weights = np.linalg.lstsq(known, values, rcond=None)[0]
    left = (values - np.rint(known @ weights)).astype(np.int64)
    sizes = np.abs(known) @ np.linalg.lstsq(np.abs(known), np.abs(left), rcond=None)[0]
    edges = np.quantile(sizes, np.linspace(0, 1, CONTEXTS + 1)[1:-1])
    context = np.searchsorted(edges, sizes)
    return sum(adaptive_bits(left[context == number]) for number in range(CONTEXTS))


def adaptive_bits(symbols: NDArray[np.int64]) -> float:
    """Of the code that learns counts as it goes, each starting at 1/2."""
    if not symbols.size:
        return 0.0
    counts = np.bincount(symbols - symbols.min())
    start = np.full(counts.size, 0.5)
    total = gammaln(start.sum()) - gammaln(start.sum() + symbols.size)
    return float(-(total + (gammaln(counts + start) - gammaln(start)).sum()) / np.log(2))


def residual_bytes(rgb: Ints) -> float:
    planes = reversible_planes(rgb)
    return sum(plane_bits(planes[i], planes[:i]) for i in range(3)) / 8


def others(image: Image.Image) -> dict[str, int]:
    """Bytes of lossless files; JPEG XL of effort 7."""
    if missing := next(rival.missing for rival in rivals() if rival.name == "jxl"):
        raise SystemExit(missing)
    ways = {
        "PNG": {"format": "PNG", "optimize": True},
        "WebP": {"format": "WEBP", "lossless": True, "method": 6, "quality": 100},
        "JPEG XL": {"format": "JXL", "lossless": True, "effort": 7},
    }
    found = {}
    for name, options in ways.items():
        file = io.BytesIO()
        image.save(file, **options)
        found[name] = file.tell()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--qualities", default="60,75,85,93")
    arguments = parser.parse_args()
    qualities = [float(quality) for quality in arguments.qualities.split(",")]
    codec, rows = load("s", "cpu"), []
    head = ["bits per pixel", "PNG", "WebP", "JPEG XL", "no picture below"]
    head += [f"{quality:g}: file + residual" for quality in qualities]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for path in arguments.images:
        image = Image.open(path).convert("RGB")
        pixels = np.asarray(image).astype(np.int32)
        parts = [(size, 0.0) for size in others(image).values()]
        parts.append((residual_bytes(pixels), 0.0))
        for quality in qualities:
            data = codec.encode(image, quality, tune=0.0)
            decoded = np.asarray(codec.decode(data)).astype(np.int32)
            parts.append((len(data), residual_bytes(pixels - decoded)))
        rows.append(8 * np.array(parts) / (image.width * image.height))
        print_row(path.stem, rows[-1], len(qualities))
    print_row("mean", np.mean(rows, axis=0), len(qualities))


def print_row(name: str, row: NDArray[np.float64], of_ours: int) -> None:
    cells = [f"{total:.2f}" for total in row.sum(axis=1)]
    for number in range(len(row) - of_ours, len(row)):
        file, residual = row[number]
        cells[number] += f" ({file:.2f} + {residual:.2f})"
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
