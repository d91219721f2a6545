"""Where bfloat16 is used: on processors that are faster with it."""

from __future__ import annotations

import pytest
import torch

from mambaic.nn import precision


@pytest.mark.parametrize(
    ("name", "features", "faster"),
    [
        ("znver5", {"avx512bf16": True}, True),
        ("znver3", {"avx512bf16": False}, False),
        ("sapphirerapids", {"avx512bf16": True, "amx-bf16": True}, True),
        ("emeraldrapids", {"avx512bf16": True, "amx-bf16": False}, False),
        ("apple-m1", {}, False),
    ],
)
def test_processors(monkeypatch, name, features, faster):
    monkeypatch.setattr(precision, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(precision, "get_host_cpu_features", lambda: features)
    assert precision.multiplies_bfloat16(torch.device("cpu")) is faster
