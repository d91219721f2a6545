"""The comparison that a GPU is checked by, on a CPU."""

from __future__ import annotations

import pytest
import torch

from mambaic_kernels import dispatch, fixed_scan, parity

CPU = torch.device("cpu")
BACKENDS = [name for name in parity.CASES if name != "filter_maps"]


@pytest.mark.parametrize("operation", BACKENDS)
def test_backends_for_cpus_are_as_the_definition(operation):
    assert parity.difference(operation, "cpu", CPU) <= parity.CASES[operation].tolerance


def test_a_difference_is_seen(monkeypatch):
    from mambaic_kernels.fixed_scan import cpu

    right = cpu.fixed_scan
    monkeypatch.setattr(cpu, "fixed_scan", lambda *a, **k: right(*a, **k) + 2.0**-10)
    assert parity.difference("fixed_scan", "cpu", CPU) > 0


def test_operations_run_by_their_definition_where_the_environment_says_so(monkeypatch):
    monkeypatch.setattr(dispatch, "_by_definition", frozenset({"sub_groups"}))
    x = torch.zeros(1)
    module = dispatch.module_for("mambaic_kernels.sub_groups", x)
    assert module.__name__ == "mambaic_kernels.sub_groups.reference"
    assert dispatch.module_for("mambaic_kernels.fixed_product", x).__name__.endswith(".cpu")
    assert not dispatch.by_definition(fixed_scan.__name__)
