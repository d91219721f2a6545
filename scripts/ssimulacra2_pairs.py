"""SSIMULACRA2 here and by libjxl's own program, on real files of other codecs.

    python scripts/ssimulacra2_pairs.py PROGRAM IMAGE...

PROGRAM is libjxl's ``ssimulacra2`` (Debian: package libjxl-devtools). Every image is coded by JPEG,
WebP and AVIF at three qualities. The program blurs by a recursive filter in float32, whose rounding
lowers its scores of smooth and of nearly lossless pictures, by up to 0.2 at 80 and 0.7 at 93: the
exit status is 1 if a score below 75 differs by more than 0.1.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mambaic.imaging.image import read_image
from mambaic.imaging.ssimulacra2 import ssimulacra2

FORMATS = {"JPEG": (10, 50, 85), "WEBP": (10, 50, 85), "AVIF": (15, 40, 70)}


def by_program(program: str, reference: np.ndarray, decoded: np.ndarray) -> float:
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{name}.png") for name in ("reference", "decoded")]
        for file, pixels in zip(files, (reference, decoded), strict=True):
            Image.fromarray(pixels).save(file, compress_level=1)
        result = subprocess.run([program, *files], capture_output=True, text=True, check=True)
    return float(result.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("images", nargs="+")
    given = parser.parse_args()
    worst = 0.0
    for name in given.images:
        reference = read_image(name).pixels
        for format, qualities in FORMATS.items():
            for quality in qualities:
                file = io.BytesIO()
                Image.fromarray(reference).save(file, format, quality=quality)
                decoded = np.asarray(Image.open(file).convert("RGB"))
                here = ssimulacra2(reference, decoded)
                theirs = by_program(given.program, reference, decoded)
                assert here is not None
                print(f"{Path(name).name} {format} {quality}: {here:.3f}, program {theirs:.3f}")
                if theirs < 75:
                    worst = max(worst, abs(here - theirs))
    print(f"largest difference of scores below 75: {worst:.3f}")
    return int(worst > 0.1)


if __name__ == "__main__":
    sys.exit(main())
