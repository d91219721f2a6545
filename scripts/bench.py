"""Times of encoding and decoding beside one of CompressAI's models, and of the stages of both ways.

    python scripts/bench.py photo.png --quality 60 --rounds 5

Both code the same picture in one process on the same threads, in turn, so that whatever else the
machine does bears on both alike. CompressAI's model is the large one of its architecture with
random weights, whose times are nearly those of trained ones: hardly anything in it depends on
values. Files are made and read in memory; ``--rival none`` leaves it out.
"""

from __future__ import annotations

import argparse
import pkgutil
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from PIL import Image

import mambaic
from mambaic.codec import Codec
from mambaic.encoder.options import EncodeOptions
from mambaic.evaluation.compressai_models import SEED, CompressAIContender
from mambaic.imaging.image import Picture, read_image

RIVAL = "mbt2018-mean"
LARGE = 8  # CompressAI's quality of its large models, (N, M) = (192, 320)
# functions of a stage; time within another stage counts there alone
STAGES = {
    "encode": {
        "rotation": ["mambaic.encoder.picture_encoder:find_rotation"],
        "g_a": ["mambaic.encoder.tile_encoder:analyse"],
        "finest colours": [
            "mambaic.encoder.tile_encoder:colours_worth_a_try",
            "mambaic.encoder.fine_colour:Colours.missed",
            "mambaic.entropy_model.colour_blocks:encode",
        ],
        "walk": ["mambaic.entropy_model.walk:EntropyModel.encode_batch"],
        "TCQ search": ["mambaic.coding.quantiser:Search.find"],
        "entropy coding": [
            f"mambaic.coding.symbols:SymbolWriter.{name}" for name in ("symbols", "finish")
        ],
        "g_s": ["mambaic.encoder.fit_regions:reconstruct"],
        "filter fit": [
            "mambaic.encoder.picture_encoder:fit_tile",
            "mambaic.encoder.picture_encoder:_filter_chunk",
        ],
    },
    "decode": {
        "walk": ["mambaic.entropy_model.walk:EntropyModel.decode_batch"],
        "finest colours": ["mambaic.entropy_model.colour_blocks:decode"],
        "entropy coding": ["mambaic.coding.symbols:SymbolReader.symbols"],
        "g_s": ["mambaic.tiling.synthesis:reconstruct"],
        "filter": ["mambaic.reconstruction.post_filter:PostFilter.apply"],
    },
}


class StageClock:
    """Seconds in each stage, without those in the stages that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._thread = threading.local()  # of every thread: seconds in stages within this one

    @contextmanager
    def watching(self, stages: dict[str, list[str]]) -> Iterator[None]:
        with ExitStack() as stack:
            for stage, functions in stages.items():
                self.seconds[stage] = 0.0
                for function in functions:
                    owner, name = function.replace(":", ".").rsplit(".", 1)
                    original = pkgutil.resolve_name(function)
                    watched = self._watched(stage, original)
                    stack.enter_context(
                        mock.patch.object(pkgutil.resolve_name(owner), name, watched)
                    )
            yield

    def _watched(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._thread, "within", 0.0)
            self._thread.within = 0.0
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[stage] += spent - self._thread.within
                self._thread.within = outer + spent

        return watched


class Contender(NamedTuple):
    """Two calls without arguments; ``decode`` is of what ``encode`` returned last."""

    encode: Callable[[], object]
    decode: Callable[[], object]


def ours(codec: Codec, picture: Picture, quality: float) -> Contender:
    data = b""

    def encode() -> None:
        nonlocal data
        data = codec.encode_picture(picture, EncodeOptions(quality=quality)).data

    return Contender(encode, lambda: codec.decode(data))


def rival(picture: Picture, quality: int = LARGE) -> Contender:
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # packages that CompressAI imports
        from compressai.zoo import image_models

        torch.manual_seed(SEED)
        model = image_models[RIVAL](quality, pretrained=False).eval()
    model.update()
    contender = CompressAIContender(RIVAL, {float(quality): model}, "", times_only=True)
    data = b""

    def encode() -> None:
        nonlocal data
        data, _ = contender.encode(picture, float(quality))

    return Contender(encode, lambda: contender.decode(data))


def interleaved(contenders: Sequence[Contender], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of every round, by direction, of each contender; after a round that is not timed."""
    found: dict[str, list[list[float]]] = {way: [[] for _ in contenders] for way in STAGES}
    for turn in range(rounds + 1):
        for way, of_contenders in found.items():
            for contender, seconds in zip(contenders, of_contenders, strict=True):
                start = time.perf_counter()
                getattr(contender, way)()
                if turn:
                    seconds.append(time.perf_counter() - start)
    return found


def stage_times(contender: Contender, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of every stage, by direction, and of what is in none."""
    found = {}
    for way, stages in STAGES.items():
        of_rounds = []
        for _ in range(rounds):
            clock = StageClock()
            with clock.watching(stages):
                start = time.perf_counter()
                getattr(contender, way)()
                spent = time.perf_counter() - start
            of_rounds.append({**clock.seconds, "rest": spent - sum(clock.seconds.values())})
        found[way] = {
            name: statistics.median(one[name] for one in of_rounds) for name in of_rounds[0]
        }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("image")
    parser.add_argument("--model", default="s", help="name or folder of a checkpoint")
    parser.add_argument("--quality", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--rival", choices=[RIVAL, "none"], default=RIVAL)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    picture = read_image(Image.open(options.image))
    contenders = [ours(mambaic.load(options.model, "cpu"), picture, options.quality)]
    if options.rival != "none":
        contenders.append(rival(picture))
    width, height = picture.size
    print(f"{width}x{height}, {torch.get_num_threads()} threads, {options.rounds} rounds; seconds")
    for way, times in interleaved(contenders, options.rounds).items():
        for name, seconds in zip((options.model, RIVAL), times, strict=False):
            print(
                f"{way} {name:14} best {min(seconds):.3f}  median {statistics.median(seconds):.3f}"
            )
        if len(times) > 1:
            best, median = (of(times[0]) / of(times[1]) for of in (min, statistics.median))
            print(f"{way} {'ratio':14} best {best:.3f}  median {median:.3f}")
    for way, stages in stage_times(contenders[0], options.rounds).items():
        print(f"{way}: " + ", ".join(f"{name} {seconds:.3f}" for name, seconds in stages.items()))


if __name__ == "__main__":
    main()
