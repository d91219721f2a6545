"""The search through the trellis against all paths, and the code against what is known of it."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mambaic_kernels import trellis

WEIGHT = 5.0


def next_state(state: int, symbol: int) -> int:
    """docs/format.md, "States of y"."""
    return (state >> 1) ^ (565 if state & 1 else 0) ^ (453 if symbol & 1 else 0)


def value(symbol: int, odd: int) -> float:
    return symbol - 0.5 * odd * np.sign(symbol)


def cost_of(path, x, level, prices) -> float:
    state, total = 0, 0.0
    for symbol, target, k in zip(path, x, level, strict=True):
        odd = state & 1
        price = prices[odd, k, min(abs(symbol), prices.shape[-1] - 1)]
        total += WEIGHT * (target - value(symbol, odd)) ** 2 + price
        state = next_state(state, symbol)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_no_path_costs_less(seed):
    rng = np.random.default_rng(seed)
    x, level = rng.normal(size=5) * 1.2, rng.integers(0, 2, 5)
    prices = np.sort(rng.uniform(0, 6, (2, 2, 5)), axis=-1).astype(np.float32)
    found = trellis.search(x, level, prices, WEIGHT)
    best = min(
        cost_of(path, x, level, prices) for path in itertools.product(range(-3, 4), repeat=5)
    )
    assert cost_of(found.tolist(), x, level, prices) == pytest.approx(best, rel=1e-5)


def test_quantisers_follow_the_states():
    symbols = np.random.default_rng(0).integers(-3, 4, 500).astype(np.int32)
    state, expected = 0, []
    for symbol in symbols.tolist():
        expected.append(state & 1)
        state = next_state(state, symbol)
    assert trellis.follow(symbols).tolist() == expected
    assert 200 < sum(expected) < 300


def test_search_of_a_long_sequence_gains_what_the_code_is_known_to():
    """Flat prices leave the error alone: against 1/12 of a squared spacing at the same rate, 256
    states are known to gain 1.33 dB of a uniform source ([Marcellin1990], Table I) and no number of
    states gains 1.53; these 1,024 gain 1.38."""
    rng = np.random.default_rng(1)
    x = rng.uniform(10, 110, 200_000)  # beyond the zero that both quantisers have
    prices = np.zeros((2, 1, 2), dtype=np.float32)
    symbols = trellis.search(x, np.zeros(len(x), dtype=np.int64), prices, 1.0)
    odd = trellis.follow(symbols)
    error = np.mean((x - (symbols - 0.5 * odd * np.sign(symbols))) ** 2)
    assert 10 * math.log10(1 / 12 / error) == pytest.approx(1.38, abs=0.015)


def test_windows_of_a_long_sequence_decide_as_the_whole(monkeypatch):
    rng = np.random.default_rng(2)
    x, level = rng.laplace(size=5000) * 2, rng.integers(0, 3, 5000)
    prices = np.sort(rng.uniform(0, 9, (2, 3, 12)), axis=-1).astype(np.float32)
    def cost() -> float:
        return cost_of(trellis.search(x, level, prices, WEIGHT).tolist(), x, level, prices)

    whole = cost()
    monkeypatch.setattr(trellis, "WINDOW", 100)
    assert cost() == pytest.approx(whole, rel=1e-4)
    monkeypatch.setattr(trellis, "AHEAD", 0)  # each window then ends as if nothing followed
    assert cost() > 1.001 * whole


def test_nothing_to_code():
    empty = np.zeros(0)
    assert len(trellis.search(empty, empty.astype(np.int64), np.zeros((2, 1, 2), "f4"), 1.0)) == 0
    assert len(trellis.follow(empty.astype(np.int32))) == 0


TRITON_CHECK = """
import numpy as np, torch
from mambaic_kernels import trellis, trellis_triton
trellis_triton.CHUNK = 48
rng = np.random.default_rng(3)
x, level = rng.laplace(size=(2, 70)) * 2, rng.integers(0, 3, (2, 70))
prices = np.sort(rng.uniform(0, 9, (2, 3, 12)), axis=-1).astype(np.float32)
operands = (torch.from_numpy(x).float(), torch.from_numpy(level), torch.from_numpy(prices))
symbols, odd = trellis_triton.search(*operands, 9.0)
for row in range(2):
    for part in (slice(0, 48), slice(48, 70)):
        expected = trellis.search(x[row, part], level[row, part], prices, 9.0)
        assert symbols[row, part].tolist() == expected.tolist()
        assert odd[row, part].tolist() == trellis.follow(expected).tolist()
print("parity holds")
"""


def test_triton_finds_the_same_path_in_every_chunk():
    """In a process of its own: the interpreter is chosen when triton is imported."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRITON_CHECK],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert "parity holds" in done.stdout, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_triton_finds_the_same_path_on_cuda():
    from mambaic_kernels import trellis_triton

    rng = np.random.default_rng(4)
    n = trellis_triton.CHUNK
    x, level = rng.laplace(size=(8, n)) * 2, rng.integers(0, 3, (8, n))
    prices = np.sort(rng.uniform(0, 9, (2, 3, 12)), axis=-1).astype(np.float32)
    operands = [torch.from_numpy(a).cuda() for a in (x.astype(np.float32), level, prices)]
    symbols, _ = trellis_triton.search(*operands, 9.0)
    expected = [trellis.search(*row, prices, 9.0) for row in zip(x, level, strict=True)]
    assert np.mean(symbols.cpu().numpy() != np.stack(expected)) < 1e-3  # rounding may decide a tie
