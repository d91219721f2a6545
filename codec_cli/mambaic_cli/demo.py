"""``mambaic demo``: one photograph, three qualities, and what other codecs make of the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambaic_cli.console import tell
from mambaic_cli.device import device_option
from mambaic_cli.inputs import GivenPath

if TYPE_CHECKING:
    from PIL import Image

QUALITIES = (20.0, 45.0, 70.0)
BESIDE = ("jpeg", "webp", "avif")


@click.command()
@click.argument("image", required=False, type=GivenPath(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=GivenPath(path_type=Path),
    default=Path("mambaic-demo"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--model", default="s", show_default=True)
@device_option
def command(image: Path | None, out: Path, model: str, device: str) -> int:
    """Compress IMAGE (by default a photograph that matplotlib ships) at three qualities, beside
    JPEG, WebP and AVIF at the same size."""
    from mambaic.extras import require

    require("eval")
    from mambaic.codec import load
    from mambaic.imaging.atomic_files import atomic_write
    from mambaic.imaging.image import Picture, read_image, to_pil

    source = _sample() if image is None else image
    picture = read_image(source)
    picture = Picture(pixels=picture.pixels)
    codec = load(model, device)
    tell(f"{source}: {picture.size[0]}x{picture.size[1]} pixels, weights {model!r}")
    tell("")
    tell(f"{'':12}{'bytes':>9}{'bpp':>8}{'PSNR dB':>9}{'MS-SSIM':>9}{'enc s':>8}{'dec s':>8}")
    original = to_pil(picture)
    codec.decode(codec.encode(picture, 50.0))  # first use compiles the kernels: not timed
    rows: list[dict[str, Any]] = []
    for quality in QUALITIES:
        ours, data = _timed(partial(codec.encode, picture, quality), codec.decode)
        rows.append(_row(f"mambaic q{quality:.0f}", original, ours, len(data)))
        atomic_write(out / f"{Path(source).stem}-q{quality:.0f}.mbic", data, force=True)
        rows += _rivals(original, len(data))
        tell("")
    target = out / f"{Path(source).stem}-side-by-side.png"
    atomic_write(target, _side_by_side(original, rows), force=True)
    tell(f"pictures: {target}; files: {out}/*.mbic (mambaic decompress turns them back)")
    return 0


def _sample() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def _timed(
    encode: Callable[[], bytes], decode: Callable[[bytes], Image.Image]
) -> tuple[dict[str, Any], bytes]:
    started = time.perf_counter()
    data = encode()
    encoded = time.perf_counter()
    decoded = decode(data)
    ended = time.perf_counter()
    return {"image": decoded, "enc_s": encoded - started, "dec_s": ended - encoded}, data


def _row(name: str, original: Image.Image, result: dict[str, Any], n_bytes: int) -> dict[str, Any]:
    import numpy as np

    from mambaic.container.fields import bpp_from_bytes
    from mambaic.imaging.metrics import ms_ssim, psnr_db

    a, b = np.asarray(original), np.asarray(result["image"].convert("RGB"))
    bpp = bpp_from_bytes(n_bytes, *original.size)
    similarity = ms_ssim(a, b)
    shown = "-" if similarity is None else f"{similarity:.4f}"
    psnr = psnr_db(a, b)
    tell(
        f"{name:12}{n_bytes:>9}{bpp:>8.3f}{psnr:>9.2f}{shown:>9}"
        f"{result['enc_s']:>8.2f}{result['dec_s']:>8.2f}"
    )
    return {"name": name, "bpp": bpp, "psnr_db": psnr, "bytes": n_bytes, **result}


def _rivals(original: Image.Image, n_bytes: int) -> list[dict[str, Any]]:
    """Each rival at the quality whose file is nearest to ``n_bytes``."""
    from mambaic.evaluation.rivals import rivals

    rows = []
    known = {rival.name: rival for rival in rivals()}
    for name in BESIDE:
        rival = known[name]
        if rival.missing:
            tell(f"{name:12} not measured: {rival.missing}")
            continue
        low, high = 0, 100
        while high - low > 1:
            middle = (low + high) // 2
            if len(rival.encode(original, middle)) <= n_bytes:
                low = middle
            else:
                high = middle
        sizes = {q: abs(len(rival.encode(original, q)) - n_bytes) for q in (low, high)}
        nearest = min(sizes, key=lambda q: sizes[q])
        result, data = _timed(partial(rival.encode, original, nearest), rival.decode)
        rows.append(_row(name, original, result, len(data)))
    return rows


def _side_by_side(original: Image.Image, rows: list[dict[str, Any]]) -> bytes:
    """PNG: one line per quality; the original, then each codec, cut to a detail and labelled."""
    import io

    from PIL import Image, ImageDraw, ImageFont

    detail, label = 256, 22
    width, height = original.size
    left, top = max(0, (width - detail) // 2), max(0, (height - detail) // 4)
    box = (left, top, min(width, left + detail), min(height, top + detail))
    per_line = len(rows) // len(QUALITIES)
    sheet = Image.new("RGB", ((per_line + 1) * detail, len(QUALITIES) * (detail + label)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for line in range(len(QUALITIES)):
        cells = [("original", original)]
        for row in rows[line * per_line : (line + 1) * per_line]:
            text = f"{row['name']}  {row['bpp']:.2f} bpp  {row['psnr_db']:.1f} dB"
            cells.append((text, row["image"].convert("RGB")))
        for column, (text, picture) in enumerate(cells):
            at = (column * detail, line * (detail + label))
            draw.text((at[0] + 4, at[1] + 2), text, fill="black", font=font)
            sheet.paste(picture.crop(box), (at[0], at[1] + label))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
