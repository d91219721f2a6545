"""The check of a GPU: no stage can stop the next, and all of it runs on a CPU in a small form."""

from __future__ import annotations

import json
import sys

import gpu_check
import pytest


def test_a_stage_that_takes_too_long_keeps_what_it_said():
    code = "import time; print('[{\"a\": 1}]', flush=True); time.sleep(60)"
    found = gpu_check.limited([sys.executable, "-c", code], 3.0)
    assert found["ended"] == "stopped after 3 s"
    assert found["rows"] == [{"a": 1}]


def test_a_stage_that_fails_says_why():
    found = gpu_check.limited([sys.executable, "-c", "raise ValueError('no such GPU')"], 30.0)
    assert found["ended"] == "failed: ValueError: no such GPU"
    assert found["rows"] == []


def test_a_failed_stage_does_not_stop_the_next(monkeypatch, tmp_path):
    ends = iter(["failed: x", "done", "done", "stopped after 1 s", "done"])
    rows = [{"batch": 1, "crops a second": 2.5}]
    monkeypatch.setattr(
        gpu_check,
        "limited",
        lambda command, limit_s, by_definition: {"ended": next(ends), "seconds": 1.0, "rows": rows},
    )
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    stages = json.loads((tmp_path / "gpu_check.json").read_text())["stages"]
    assert list(stages) == list(gpu_check.STAGES)
    page = (tmp_path / "gpu_check.md").read_text()
    assert "## times: stopped after 1 s" in page
    assert "| 1 | 2.5 |" in page


def test_kernels_that_fail_run_by_their_definition_from_then_on(monkeypatch, tmp_path):
    given = []

    def limited(command, limit_s, by_definition):
        given.append(list(by_definition))
        rows = [{"kernel": "fixed_scan", "result": "differs", "runs by": "definition"}]
        return {"ended": "done", "seconds": 1.0, "rows": rows if "parity" in command else []}

    monkeypatch.setattr(gpu_check, "limited", limited)
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 0
    assert given == [[], *[["fixed_scan"]] * (len(gpu_check.STAGES) - 1)]


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu_in_a_small_form(tmp_path):
    arguments = ["--small", "--device", "cpu", "--patience", "5", "--out", str(tmp_path)]
    assert gpu_check.main(arguments) == 0, (tmp_path / "gpu_check.md").read_text()
    stages = json.loads((tmp_path / "gpu_check.json").read_text())["stages"]
    assert all(row["result"] == "ok" for row in stages["parity"]["rows"])
    assert all(row["failures"] == 0 for row in stages["exchange"]["rows"])
    assert {row["batch"] for row in stages["times"]["rows"]} == {1, 2}
    assert stages["training"]["rows"]
    parts = [row["part"] for row in stages["stages"]["rows"]]
    assert {"walk, networks alone", "g_s and filter", "copy of its operands"} <= set(parts)
