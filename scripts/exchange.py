"""Files made here, decoded under other numerics: every latent must be the same.

    python scripts/exchange.py FOLDER [--qualities 10,30,50,70,90] [--side 768] [--cuda]
                               [--python NAME=COMMAND] [--only-python]

Encodes every PNG of FOLDER in this process, then decodes all files in processes with one thread and
two, without oneDNN, with the instructions of older machines (in torch, oneDNN, MKL and the compiled
kernels), with --cuda on the GPU, and with every Python that is named: of an emulated machine, as in
``scripts/emulated.sh``. Prints how many files do not decode, how many latents differ from the
encoder's, and by how much pixels do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from mambaic import load
from mambaic.entropy_model.walk import EntropyModel
from mambaic.errors import BitstreamError

PLAIN = {"ATEN_CPU_CAPABILITY": "default", "EXCHANGE_ONEDNN": "0"}
HASWELL = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
}
SSE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "NUMBA_CPU_NAME": "core2",
}
VARIANTS = {
    "same process settings": {},
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "no oneDNN": {"EXCHANGE_ONEDNN": "0"},
    "plain instructions, no oneDNN": PLAIN,
    "AVX-512 with VNNI, without AMX": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX2 with VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"},
    "AVX-512 without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "a Haswell of 2013 (AVX2)": HASWELL,
    "SSE 4.1, 1 thread": {**SSE, "OMP_NUM_THREADS": "1"},
}
CUDA = {"CUDA": {"EXCHANGE_DEVICE": "cuda"}}


class Found(NamedTuple):
    """What decoding some files gave: the failures, files whose latents differ, the largest
    difference of a pixel."""

    failures: list[str]
    different: list[str]
    pixels: int


def keep_latents(kept: list[bytes]) -> None:
    """Have every decoding also keep a digest of the latents of each tile."""
    decode = EntropyModel.decode

    def wrapped(self, *arguments, **options):
        decoded = decode(self, *arguments, **options)
        latents = [part.cpu().contiguous().numpy() for part in (decoded.y_hat, decoded.colours)]
        kept.append(hashlib.sha256(b"".join(part.tobytes() for part in latents)).digest())
        return decoded

    EntropyModel.decode = wrapped


def decode_all(folder: Path) -> None:
    """Decode FOLDER/*.mbic; pickle what was ``Found`` to stdout."""
    if os.environ.get("EXCHANGE_ONEDNN") == "0":
        torch.backends.mkldnn.enabled = False
    codec = load("s", os.environ.get("EXCHANGE_DEVICE", "cpu"))
    kept: list[bytes] = []
    keep_latents(kept)
    failures, different, pixels = [], [], 0
    for file in sorted(folder.glob("*.mbic")):
        kept.clear()
        expected = np.load(file.with_suffix(".npz"))
        try:
            decoded = np.asarray(codec.decode(file.read_bytes()))
        except BitstreamError as exc:
            failures.append(f"{file.name}: {exc}")
            continue
        if b"".join(kept) != expected["latents"].tobytes():
            different.append(file.name)
        pixels = max(pixels, int(np.abs(decoded.astype(int) - expected["pixels"]).max()))
    sys.stdout.buffer.write(pickle.dumps(tuple(Found(failures, different, pixels))))


def encode_all(images: Path, qualities: list[float], side: int, folder: Path) -> int:
    """Bytes of all files made, of pictures or of their middle of at most ``side`` pixels a side."""
    codec = load("s", "cpu")
    kept: list[bytes] = []
    keep_latents(kept)
    total = 0
    for path in sorted(images.glob("*.png")):
        picture = Image.open(path).convert("RGB")
        left, top = (max(0, (length - side) // 2) for length in picture.size)
        picture = picture.crop((left, top, picture.width - left, picture.height - top))
        for quality in qualities:
            data = codec.encode(picture, quality)
            kept.clear()
            pixels = np.asarray(codec.decode(data)).astype(np.int16)
            name = folder / f"{path.stem}-{quality:g}"
            name.with_suffix(".mbic").write_bytes(data)
            latents = np.frombuffer(b"".join(kept), dtype=np.uint8)
            np.savez(name.with_suffix(".npz"), latents=latents, pixels=pixels)
            total += len(data)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--qualities", default="10,30,50,70,90")
    parser.add_argument("--side", type=int, default=1 << 20, help="larger pictures: their middle")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--only-python", action="store_true", help="no others than the named ones")
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode:
        decode_all(arguments.folder)
        return
    qualities = [float(q) for q in arguments.qualities.split(",")]
    ways = {} if arguments.only_python else {**VARIANTS, **(CUDA if arguments.cuda else {})}
    runs = {name: ([sys.executable], settings) for name, settings in ways.items()}
    for named in arguments.python:
        name, command = named.split("=", 1)
        runs[name] = shlex.split(command), {}
    with tempfile.TemporaryDirectory() as made:
        total = encode_all(arguments.folder, qualities, arguments.side, Path(made))
        print(f"{len(list(Path(made).glob('*.mbic')))} files, {total} bytes", flush=True)
        for name, (python, settings) in runs.items():
            result = subprocess.run(
                [*python, __file__, made, "--decode"],
                env={**os.environ, **settings}, stdout=subprocess.PIPE, check=True,
            )  # fmt: skip
            found = Found(*pickle.loads(result.stdout))
            print(
                f"{name:40} {len(found.failures)} failures, {len(found.different)} files with "
                f"other latents, pixels within {found.pixels}",
                flush=True,
            )
            for line in (found.failures + found.different)[:3]:
                print("   ", line)


if __name__ == "__main__":
    main()
