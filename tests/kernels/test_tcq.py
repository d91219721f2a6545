"""The search through the trellis against all paths, and the code against what is known of it."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mambaic_kernels.tcq import cpu as tcq

WEIGHT = 5.0


def next_state(state: int, symbol: int) -> int:
    """docs/format.md, "States of y"."""
    return (state >> 1) ^ (4084 if state & 1 else 0) ^ (1423 if symbol & 1 else 0)


def value(symbol: int, odd: int) -> float:
    return symbol - 0.5 * odd * np.sign(symbol)


def cost_of(path, x, level, prices, state: int = 0) -> float:
    total = 0.0
    for symbol, target, k in zip(path, x, level, strict=True):
        odd = state & 1
        price = prices[state % len(prices), k, min(abs(symbol), prices.shape[-1] - 1)]
        total += WEIGHT * (target - value(symbol, odd)) ** 2 + price
        state = next_state(state, symbol)
    return total


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("classes", [2, tcq.CLASSES])
def test_no_path_costs_less(seed, classes):
    rng = np.random.default_rng(seed)
    x, level = rng.normal(size=5) * 1.2, rng.integers(0, 2, 5)
    prices = np.sort(rng.uniform(0, 6, (classes, 2, 5)), axis=-1).astype(np.float32)
    state = int(rng.integers(tcq.STATES))
    found = tcq.search(x, level, prices, WEIGHT, state)
    best = min(
        cost_of(path, x, level, prices, state) for path in itertools.product(range(-3, 4), repeat=5)
    )
    assert cost_of(found.tolist(), x, level, prices, state) == pytest.approx(best, rel=1e-5)


def test_classes_follow_the_states():
    symbols = np.random.default_rng(0).integers(-3, 4, 500).astype(np.int32)
    state, expected = 1234, []
    for symbol in symbols.tolist():
        expected.append(state % tcq.CLASSES)
        state = next_state(state, symbol)
    classes, end = tcq.follow(symbols, 1234)
    assert classes.tolist() == expected
    assert end == state
    assert 200 < np.sum(classes % 2) < 300


def test_search_of_a_long_sequence_gains_what_the_code_is_known_to():
    """Flat prices leave the error alone: against 1/12 of a squared spacing at the same rate, 256
    states are known to gain 1.33 dB of a uniform source ([Marcellin1990], Table I) and no number of
    states gains 1.53; these 4,096 gain 1.41."""
    rng = np.random.default_rng(1)
    x = rng.uniform(10, 110, 200_000)  # beyond the zero that both quantisers have
    prices = np.zeros((2, 1, 2), dtype=np.float32)
    symbols = tcq.search(x, np.zeros(len(x), dtype=np.int64), prices, 1.0)
    odd = tcq.follow(symbols)[0] % 2
    error = np.mean((x - (symbols - 0.5 * odd * np.sign(symbols))) ** 2)
    assert 10 * math.log10(1 / 12 / error) == pytest.approx(1.41, abs=0.015)


def test_windows_of_a_long_sequence_decide_as_the_whole(monkeypatch):
    rng = np.random.default_rng(2)
    x, level = rng.laplace(size=5000) * 2, rng.integers(0, 3, 5000)
    prices = np.sort(rng.uniform(0, 9, (2, 3, 12)), axis=-1).astype(np.float32)

    def cost() -> float:
        return cost_of(tcq.search(x, level, prices, WEIGHT).tolist(), x, level, prices)

    whole = cost()
    monkeypatch.setattr(tcq, "WINDOW", 100)
    assert cost() == pytest.approx(whole, rel=1e-4)
    monkeypatch.setattr(tcq, "OVERLAP", 0)  # each window then ends as if nothing followed
    assert cost() > 1.001 * whole


@pytest.mark.usefixtures("threads")
def test_windows_at_a_time_are_those_one_after_the_other(monkeypatch):
    rng = np.random.default_rng(2)
    x, level = rng.laplace(size=9000) * 2, rng.integers(0, 3, 9000)
    prices = np.sort(rng.uniform(0, 9, (2, 3, 12)), axis=-1).astype(np.float32)
    monkeypatch.setattr(tcq, "WINDOW", 1500)
    for ahead in (768, 20):  # 20 do not tell the path: windows are searched again
        monkeypatch.setattr(tcq, "OVERLAP", ahead)
        one, three = (tcq.search(x, level, prices, WEIGHT, 77, threads=n) for n in (1, 3))
        assert np.array_equal(one, three)


def test_paths_begin_in_their_state_even_where_costs_saturate(monkeypatch):
    rng = np.random.default_rng(3)
    x, level = rng.laplace(size=400) * 2, rng.integers(0, 3, 400)
    prices = np.sort(rng.uniform(0, 9, (2, 3, 12)), axis=-1).astype(np.float32)

    def cost() -> float:
        return cost_of(tcq.search(x, level, prices, WEIGHT, 77).tolist(), x, level, prices, 77)

    best = cost()
    monkeypatch.setattr(tcq, "LARGEST", 4000.0)
    assert cost() < 1.2 * best


def test_nothing_to_code():
    empty = np.zeros(0)
    assert len(tcq.search(empty, empty.astype(np.int64), np.zeros((2, 1, 2), "f4"), 1.0)) == 0
    assert len(tcq.follow(empty.astype(np.int32))[0]) == 0


def least_cost(x, level, prices, weight: float) -> float:
    """Of all paths through the 256 states that a GPU trains with, by the definition."""
    costs = np.full(256, np.inf)
    costs[0] = 0.0
    candidates = np.arange(-40, 41)
    magnitude = np.minimum(abs(candidates), prices.shape[-1] - 1)
    for target, k in zip(x, level, strict=True):
        after = np.full(256, np.inf)
        for odd, parity in itertools.product((0, 1), (0, 1)):
            error = (target - value(candidates, odd)) ** 2
            branch = (weight * error + prices[odd, k, magnitude])[candidates % 2 == parity].min()
            states = np.arange(odd, 256, 2)
            reached = (states >> 1) ^ (odd * (0o433 >> 1)) ^ (parity * (0o262 >> 1))
            after[reached] = np.minimum(after[reached], costs[states] + branch)
        costs = after
    return float(costs.min())


def check_not_finite(tcq_triton, device: str) -> None:
    """A step with them is skipped at its end: until then nothing is read beyond the tables."""
    x = torch.tensor([[torch.nan, torch.inf, -torch.inf, 0.0]], device=device)
    index = torch.tensor([[0, -(2**40), 2**40, 1]], device=device)
    rates = torch.ones(2, 2, 3, device=device)
    symbols, odds = tcq_triton.search(x, index, rates, 9.0)
    assert symbols.shape == odds.shape == (1, 4)
    empty = [of[:, :0] for of in (x, index)]
    assert tcq_triton.search(*empty, rates, 9.0)[0].shape == (1, 0)


def check_triton(device: str, chunk: int, length: int) -> None:
    """Every chunk's path is one of the trellis, and none costs less."""
    from mambaic_kernels.tcq import triton as tcq_triton

    tcq_triton.CHUNK = chunk
    rng = np.random.default_rng(3)
    x = (rng.laplace(size=(2, length)) * 2).astype(np.float32)
    level = rng.integers(0, 3, x.shape)
    prices = np.sort(rng.uniform(0, 9, (2, 3, 12)), axis=-1).astype(np.float32)
    operands = (torch.from_numpy(a).to(device) for a in (x, level, prices))
    found = torch.stack(tcq_triton.search(*operands, 9.0)).cpu().numpy()
    check_not_finite(tcq_triton, device)
    for row, first in itertools.product(range(2), range(0, length, chunk)):
        part = (row, slice(first, first + chunk))
        symbols, odds = found[:, row, first : first + chunk]
        state, cost = 0, 0.0
        for symbol, odd, target, k in zip(symbols, odds, x[part], level[part], strict=True):
            assert odd == state & 1
            cost += 9.0 * (target - value(symbol, odd)) ** 2 + prices[odd, k, min(abs(symbol), 11)]
            state = (state >> 1) ^ (odd * (0o433 >> 1)) ^ (symbol % 2 * (0o262 >> 1))
        assert cost == pytest.approx(least_cost(x[part], level[part], prices, 9.0), rel=1e-5)


def test_triton_finds_the_best_path_of_every_chunk():
    """In a process of its own: the interpreter is chosen when triton is imported."""
    pytest.importorskip("triton")
    code = "from test_tcq import check_triton; check_triton('cpu', 48, 70)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent,
        capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_triton_finds_the_best_path_on_cuda():
    check_triton("cuda", 512, 700)
