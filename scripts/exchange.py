"""Files made here, decoded under other numerics: failures, drift, and what the records cost.

    python scripts/exchange.py FOLDER [--qualities 10,30,50,70,90] [--cuda]

Encodes every image of FOLDER in this process, then decodes all files in processes with one thread,
without oneDNN, with plain instructions, and with relative noise on every activation of the walk
(and with --cuda on the GPU). Drift is the largest difference between encoder and decoder of any
latent's position on the scale of table indices, in indices; ``coding.step_coder.MARGIN`` must be
ten times it.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from mambaic import load
from mambaic.coding import decoder as decoding
from mambaic.coding import encoder as encoding
from mambaic.encoder.rotation_search import find_rotation
from mambaic.errors import BitstreamError
from mambaic.imaging.image import read_image

VARIANTS = {
    "same process settings": {},
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "no oneDNN": {"EXCHANGE_ONEDNN": "0"},
    "plain instructions": {"ATEN_CPU_CAPABILITY": "default", "EXCHANGE_ONEDNN": "0"},
    "noise 1e-12": {"EXCHANGE_NOISE": "1e-12"},
    "noise 1e-10": {"EXCHANGE_NOISE": "1e-10"},
}
CUDA = {"CUDA": {"EXCHANGE_DEVICE": "cuda"}}


def record_levels(context: type, name: str, keep: list[np.ndarray]) -> None:
    """Have ``context.name(index, ...)`` also keep the indices it is given."""
    original = getattr(context, name)

    def wrapped(self, index, *rest):
        keep.append(index)
        return original(self, index, *rest)

    setattr(context, name, wrapped)


def add_noise(model: torch.nn.Module, relative: float) -> None:
    """Relative noise on the output of every convolution and linear layer."""
    generator = torch.Generator().manual_seed(1)

    def disturb(module, inputs, output):
        noise = torch.rand(output.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return output * (1 + relative * noise.to(output))

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(disturb)


def decode_all(folder: Path) -> None:
    """Decode FOLDER/*.mbic; pickle (failures, largest pixel difference, drift) to stdout."""
    if os.environ.get("EXCHANGE_ONEDNN") == "0":
        torch.backends.mkldnn.enabled = False
    codec = load("s", os.environ.get("EXCHANGE_DEVICE", "cpu"))
    if noise := float(os.environ.get("EXCHANGE_NOISE", "0")):
        model = codec.model.entropy_model
        add_noise(model._double.of(model), noise)
    kept: list[np.ndarray] = []
    record_levels(decoding.Decoder, "_obey_record", kept)
    failures, pixels, drift = [], 0, 0.0
    for file in sorted(folder.glob("*.mbic")):
        kept.clear()
        expected = np.load(file.with_suffix(".npz"))
        try:
            decoded = np.asarray(codec.decode(file.read_bytes()))
        except BitstreamError as exc:
            failures.append(f"{file.name}: {exc}")
            continue
        pixels = max(pixels, int(np.abs(decoded.astype(int) - expected["pixels"]).max()))
        drift = max(drift, float(np.abs(np.concatenate(kept) - expected["indices"]).max()))
    sys.stdout.buffer.write(pickle.dumps((failures, pixels, drift)))


def encode_all(images: Path, qualities: list[float], folder: Path) -> tuple[int, int]:
    """(bytes with boundary records, bytes without) of all files made."""
    codec = load("s", "cpu")
    kept: list[np.ndarray] = []
    record_levels(encoding.Encoder, "_record", kept)
    margin, total, bare = encoding.MARGIN, 0, 0
    for path in sorted(images.glob("*.png")):
        picture = read_image(path)
        for quality in qualities:
            # named, so that the picture is coded once
            rotation = find_rotation(codec.model, picture.pixels, quality)
            kept.clear()
            data = codec.encode(picture, quality, rotation=rotation)
            indices = np.concatenate(kept)
            pixels = np.asarray(codec.decode(data)).astype(np.int16)
            name = folder / f"{path.stem}-{quality:g}"
            name.with_suffix(".mbic").write_bytes(data)
            np.savez(name.with_suffix(".npz"), indices=indices, pixels=pixels)
            total += len(data)
            encoding.MARGIN = 0.0
            bare += len(codec.encode(picture, quality, rotation=rotation))
            encoding.MARGIN = margin
    return total, bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--qualities", default="10,30,50,70,90")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode:
        decode_all(arguments.folder)
        return
    qualities = [float(q) for q in arguments.qualities.split(",")]
    with tempfile.TemporaryDirectory() as made:
        total, bare = encode_all(arguments.folder, qualities, Path(made))
        count = len(list(Path(made).glob("*.mbic")))
        print(f"{count} files, {total} bytes; boundary records {100 * (total / bare - 1):.3f} %")
        print(f"margin {encoding.MARGIN:g} indices")
        for name, settings in {**VARIANTS, **(CUDA if arguments.cuda else {})}.items():
            result = subprocess.run(
                [sys.executable, __file__, made, "--decode"],
                env={**os.environ, **settings}, capture_output=True, check=True,
            )  # fmt: skip
            failures, pixels, drift = pickle.loads(result.stdout)
            print(
                f"{name:24} {len(failures)} failures, pixels within {pixels}, drift {drift:.1e}",
                flush=True,
            )
            for line in failures[:3]:
                print("   ", line)


if __name__ == "__main__":
    main()
