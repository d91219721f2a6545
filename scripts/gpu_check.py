"""All that a GPU with little time should tell: parity, exchange of files, times, training.

    python scripts/gpu_check.py --out report/ [--images kodak/] [--device cuda] [--small]

Every stage is a process of its own with a time limit, so that none can stop the next. Writes
report/gpu_check.json and report/gpu_check.md. ``--small`` asks for as little as a CPU can do, to
test this script. Without --images pictures are made from numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mambaic_kernels.dispatch import BY_DEFINITION

LIMITS_S = {"parity": 60.0, "exchange": 180.0, "stages": 120.0, "times": 240.0, "training": 180.0}
QUALITIES, SMALL_QUALITIES = (10, 30, 50, 70, 90), (50,)
Rows = list[dict[str, Any]]


def made_picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise whose spectrum falls as that of photographs, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    falloff = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    shared = rng.normal(size=(height, width))
    planes = []
    for _ in range(3):
        noise = np.fft.fft2(0.8 * shared + 0.2 * rng.normal(size=(height, width)))
        plane = np.fft.ifft2(noise * falloff).real
        planes.append(128 + 45 * plane / (plane.std() + 1e-9))
    return np.stack(planes, axis=-1).clip(0, 255).round().astype(np.uint8)


def pictures(options: argparse.Namespace) -> list[np.ndarray]:
    if options.images is None:
        if options.small:
            return [made_picture(96, 64)]
        return [made_picture(768, 512, seed) for seed in range(4)]
    from mambaic.imaging.image import read_image

    return [read_image(path).pixels for path in sorted(options.images.glob("*.png"))]


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Best of ``rounds``, after one that is not timed."""
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def parity(options: argparse.Namespace) -> Rows:
    """The device's kernels against their definitions: those that fail are replaced by these in the
    stages that follow."""
    from mambaic_kernels import parity

    device = torch.device(options.device)
    backend = "triton" if device.type == "cuda" else "cpu"
    rows: Rows = []
    for operation, case in parity.CASES.items():
        try:
            off = parity.difference(operation, backend, device)
            said = "ok" if off <= case.tolerance else f"differs by {off:.1e}"
        except Exception as exc:  # whatever a compiler or driver raises is a finding
            said = f"{type(exc).__name__}: {exc}"
        then = backend if said == "ok" else "definition"
        rows.append({"kernel": operation, "result": said, "runs by": then})
        print(json.dumps(rows), flush=True)
    return rows


def failed_kernels(rows: Rows) -> list[str]:
    return [row["kernel"] for row in rows if row.get("runs by") == "definition"]


def exchange(options: argparse.Namespace) -> Rows:
    """Files of the CPU on the device, and the other way round: latents must be equal."""
    import mambaic

    codecs = [mambaic.load(options.model, device) for device in ("cpu", options.device)]
    rows = []
    for quality in SMALL_QUALITIES if options.small else QUALITIES:
        failures, pixels = 0, 0
        for picture in pictures(options):
            for codec in codecs:
                data = codec.encode(picture, quality)
                try:
                    decoded = [np.asarray(one.decode(data), dtype=int) for one in codecs]
                except mambaic.BitstreamError:  # a symbol was another one: the CRC says so
                    failures += 1
                else:
                    pixels = max(pixels, int(np.abs(decoded[0] - decoded[1]).max()))
        rows.append({"quality": quality, "failures": failures, "pixels differ by": pixels})
    return rows


def times(options: argparse.Namespace) -> Rows:
    """Pictures a second by size and batch."""
    import mambaic

    codec = mambaic.load(options.model, options.device)
    sizes = [(96, 64)] if options.small else [(768, 512), (3840, 2160)]
    rows = []
    for width, height in sizes:
        for batch in (1, 2) if options.small else (1, 16):
            images = [made_picture(width, height, seed) for seed in range(min(batch, 4))]
            images = [images[number % len(images)] for number in range(batch)]
            files = codec.encode_batch(images)
            for way, work in (
                ("encode", lambda images=images: codec.encode_batch(images)),
                ("decode", lambda files=files: codec.decode_batch(files)),
            ):
                spent = seconds(work, codec.device, rounds=1 if options.small else 3)
                rows.append(
                    {"size": f"{width}x{height}", "batch": batch, "way": way,
                     "pictures a second": round(batch / spent, 2)}
                )  # fmt: skip
                print(json.dumps(rows), flush=True)  # what is known if time runs out
    return rows


def stages(options: argparse.Namespace) -> Rows:
    """Milliseconds of what a decoding consists of, one picture at a time; scans against copies."""
    import mambaic
    from mambaic.coding.batch import BatchDecoder
    from mambaic.container.fields import latent_size, read, tile_grid
    from mambaic.fixed_point.exactness import exact_arithmetic
    from mambaic.numerics import own_numerics
    from mambaic.picture_decoder import decode_tile
    from mambaic.reconstruction.filter_taps import TAPS
    from mambaic.reconstruction.post_filter import PostFilter
    from mambaic.reconstruction.rotation import IDENTITY
    from mambaic.tiling.synthesis import Synthesis
    from mambaic_kernels import transfers

    codec = mambaic.load(options.model, options.device)
    width, height = (96, 64) if options.small else (768, 512)
    rounds, quality = 1 if options.small else 5, 60.0
    size, grid = latent_size(width, height), tile_grid(width, height, 0)
    data = codec.encode(made_picture(width, height), quality)
    file = read(data)
    model, walk = codec.model, codec.model.entropy_model
    weights = model.error_weights(quality)
    every = PostFilter(tuple(tuple(0.01 for _ in taps) for taps in TAPS))
    rows: Rows = []

    def timed(part: str, work: Callable[[], object]) -> None:
        spent = seconds(work, codec.device, rounds)
        rows.append({"part": part, "ms": round(1000 * spent, 2)})
        print(json.dumps(rows), flush=True)

    def networks() -> object:
        with exact_arithmetic(codec.device):
            coder = BatchDecoder([Silent()])  # type: ignore[list-item]
            return list(walk._walk_in_fixed_point(coder, 1, size, quality, weights))

    with own_numerics(codec.device):
        latents = decode_tile(model, file, 0)
        indices = np.zeros((1, latents[0].numel()), dtype=np.float32)

        def drawn(post_filter: PostFilter) -> Callable[[], object]:
            parts = model, width, height, grid, quality, IDENTITY, post_filter
            return lambda: list(Synthesis(*parts).run(lambda index: latents))

        timed("walk, networks alone", networks)
        timed("walk with symbols", lambda: decode_tile(model, file, 0))
        timed("g_s", drawn(PostFilter()))
        timed("g_s and filter", drawn(every))
        timed("all latents to the device", lambda: transfers.to_device(indices, codec.device))
        timed("all latents to the host", lambda: transfers.to_host(latents))
        timed("a picture", lambda: codec.decode(data))
        rows += scan_bandwidth(codec.device, rounds, small=options.small)
    return rows


class Silent:
    """A decoder whose symbols are zero, and take no time."""

    def read(self, site: object, indices: np.ndarray) -> np.ndarray:
        return np.zeros(indices.shape, dtype=np.float32)


def scan_bandwidth(device: torch.device, rounds: int, *, small: bool) -> Rows:
    """The fixed-point scan against a copy of what it reads and writes."""
    from mambaic_kernels.fixed_scan import fixed_scan

    side, channels, states = (16, 32, 4) if small else (128, 160, 4)
    shape = 1, side * side
    u, dt = torch.ones(*shape, channels, device=device), torch.ones(*shape, 4, channels)
    dt, rates = dt.to(device), torch.ones(4, states, channels, device=device)
    B = torch.ones(*shape, 4, states, device=device)

    def scan() -> torch.Tensor:
        return fixed_scan(u, dt, rates, B, B, (side, side), reset=True, span=32, skip=u[0, 0])

    spent = seconds(scan, device, rounds)
    copied = seconds(lambda: (u.clone(), u.clone(), dt.clone(), B.clone()), device, rounds)
    return [
        {"part": f"scan of {side}x{side}x{channels}", "ms": round(1000 * spent, 3)},
        {"part": "copy of its operands", "ms": round(1000 * copied, 3)},
    ]


def training(options: argparse.Namespace) -> Rows:
    """Crops a second of whole training steps, by batch size, with and without a CUDA graph."""
    from mambaic import checkpoint
    from mambaic.config import PRESETS
    from mambaic.models.model import MambaIC
    from mambaic_train.auto import images_per_second
    from mambaic_train.batches import Batches
    from mambaic_train.config import TrainConfig
    from mambaic_train.data import PhotoSet

    device = torch.device(options.device)
    if options.small:
        model = MambaIC(PRESETS["unit"])
        model.entropy_model.update()
    else:
        model = checkpoint.load_model(options.model)
    side, sizes = (64, (1, 2)) if options.small else (256, (16, 32, 64, 128, 256))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            picture = Image.fromarray(made_picture(3 * side, 2 * side, number))
            picture.save(Path(folder) / f"{number}.png")
        photos = PhotoSet([Path(folder)], min_side=64)
    rows = []
    batches = Batches(photos, 0, device)
    for batch in sizes:
        for graph in (False, True) if device.type == "cuda" else (False,):
            config = TrainConfig(
                steps=1, batch=batch, crop=side, large_crop=side, cuda_graph=graph,
                precision="bf16" if device.type == "cuda" else "fp32",
            )  # fmt: skip
            try:
                found = str(round(images_per_second(model, config, batches, device), 1))
            except RuntimeError as exc:  # no memory, or no recording
                found = f"{type(exc).__name__}: {str(exc).splitlines()[0]}"
            rows.append({"batch": batch, "CUDA graph": graph, "crops a second": found})
            print(json.dumps(rows), flush=True)
    return rows


STAGES: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "parity": parity, "exchange": exchange, "stages": stages, "times": times, "training": training
}  # fmt: skip


def limited(
    command: Sequence[str], limit_s: float, by_definition: Sequence[str] = ()
) -> dict[str, Any]:
    """What a process says on its last line, in JSON, and how it ended; some kernels run by their
    definition."""
    environment = {**os.environ, BY_DEFINITION: ",".join(by_definition)}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=limit_s, check=False, env=environment
        )
        out, error = done.stdout, done.stderr.decode(errors="replace").strip()
        last = error.splitlines()[-1] if error else f"exit code {done.returncode}"
        ended = f"failed: {last}" if done.returncode else "done"
    except subprocess.TimeoutExpired as exc:
        out, ended = exc.stdout or b"", f"stopped after {limit_s:g} s"
    rows: Rows = []
    for line in out.decode(errors="replace").splitlines():
        if line.startswith("["):
            rows = json.loads(line)
    return {"ended": ended, "seconds": round(time.perf_counter() - start, 1), "rows": rows}


def table(rows: Rows) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(found: dict[str, Any]) -> str:
    """Markdown of what was found."""
    parts = [f"# GPU check: {found['device']}, torch {found['torch']}"]
    for name, stage in found["stages"].items():
        parts.append(f"## {name}: {stage['ended']}, {stage['seconds']} s")
        parts += [table(stage["rows"])] if stage["rows"] else []
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check"))
    parser.add_argument("--images", type=Path, help="folder of PNG files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="s")
    parser.add_argument("--small", action="store_true", help="as little as a CPU can do")
    parser.add_argument("--patience", type=float, default=1.0, help="times the time limits")
    parser.add_argument("--stage", choices=STAGES, help="this one alone, in this process")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(arguments)
    if options.stage:
        print(json.dumps(STAGES[options.stage](options)), flush=True)
        return 0
    cuda = options.device.startswith("cuda") and torch.cuda.is_available()
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name()
        if cuda
        else f"{options.device}, {platform.machine()}",
        "torch": torch.__version__,
        "stages": {},
    }
    failed: list[str] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for name, limit_s in LIMITS_S.items():
        command = [sys.executable, __file__, *arguments, "--stage", name]
        found["stages"][name] = limited(command, options.patience * limit_s, failed)
        failed += failed_kernels(found["stages"][name]["rows"])
        (options.out / "gpu_check.json").write_text(json.dumps(found, indent=1))
        (options.out / "gpu_check.md").write_text(report(found))
        print(f"{name}: {found['stages'][name]['ended']}", flush=True)
    return int(any(stage["ended"] != "done" for stage in found["stages"].values()))


if __name__ == "__main__":
    sys.exit(main())
