"""``--device`` takes names of devices; what is not there is code 6, what is no name code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mambaic_cli.main import main

GOLDEN = Path(__file__).parents[1] / "golden" / "v6"
FILE = next(GOLDEN.glob("*.mbic"))


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:x", "cpu:0:0"])
def test_no_name_of_a_device_is_a_usage_error(tmp_path, capsys, device):
    arguments = ["decompress", str(FILE), "-o", str(tmp_path / "x.png"), "--device", device]
    assert main(arguments) == 2
    assert "none of auto, cpu, cuda, cuda:0" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "found"), [(0, "no CUDA device"), (2, "cpu, cuda:0, cuda:1")])
def test_a_device_that_is_not_there_is_code_6(tmp_path, capsys, monkeypatch, count, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    arguments = ["decompress", str(FILE), "-o", str(tmp_path / "x.png")]
    assert main([*arguments, "--model", str(GOLDEN / "unit"), "--device", "cuda:7"]) == 6
    assert found in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
