"""``mambaic eval``: reproducible, resumable, tolerant of bad images; its files and its page."""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.checkpoint import save_model
from mambaic.evaluation.curves import (
    Curve,
    bd_rate_between,
    bd_rate_by_third,
    delta_table,
    published,
)
from mambaic.imaging.metrics import bd_psnr, bd_rate
from mambaic_cli.main import main

ARGUMENTS = ["--qualities", "20,50,80", "--codecs", "mbic,jpeg", "--gallery", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two pictures of different sizes and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    for name, size in {"a.png": (192, 176), "below/b.png": (70, 90)}.items():
        Image.fromarray(photo_pixels(*size, seed=len(name))).save(folder / name)
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("model") / "unit"
    save_model(request.getfixturevalue("unit_model"), folder)
    return folder


def evaluate(photos: Path, model: Path, out: Path, *more: str) -> int:
    return main(["eval", str(photos), "-o", str(out), "--model", str(model), *ARGUMENTS, *more])


@pytest.fixture(scope="module")
def report(photos, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "r"
    assert evaluate(photos, model, out) == 3  # complete, but one image could not be read
    return out


def rows(report: Path) -> list[dict[str, str]]:
    with (report / "points.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_point_is_a_real_file(report):
    found = rows(report)
    assert {row["image"] for row in found} == {"a.png", "below/b.png"}
    assert len(found) == 2 * (3 + 6)
    for row in found:
        bpp = 8 * int(row["bytes"]) / (int(row["width"]) * int(row["height"]))
        assert float(row["bpp"]) == pytest.approx(bpp)
        assert (row["estimated_bpp"] != "") == (row["codec"] == "mbic")
        assert (row["ms_ssim"] != "") == (row["image"] == "a.png")
        assert float(row["ssimulacra2"]) <= 100


def test_second_run_reproduces_bytes_and_psnr(report, photos, model, tmp_path):
    assert evaluate(photos, model, tmp_path / "again", "--jobs", "2") == 3
    for first, second in zip(rows(report), rows(tmp_path / "again"), strict=True):
        for key in ("image", "codec", "quality", "bytes", "psnr_db", "ms_ssim", "ssimulacra2"):
            assert first[key] == second[key]


def test_resume_keeps_what_was_measured(report, photos, model, tmp_path, monkeypatch):
    out = tmp_path / "cut"
    out.mkdir()
    (out / "run.json").write_text((report / "run.json").read_text())
    lines = (report / "points.jsonl").read_text().splitlines()
    (out / "points.jsonl").write_text("\n".join(lines[:10]) + "\n" + lines[10][:20])
    import mambaic.evaluation.run as run

    measured = []
    original = run.measure
    monkeypatch.setattr(run, "measure", lambda *a: measured.append(a) or original(*a))
    assert evaluate(photos, model, out) == 3  # refused: a report is there
    assert not measured
    assert evaluate(photos, model, out, "--resume") == 3
    assert len(measured) == len(lines) - 10
    strip = ("encode_s", "decode_s")
    for first, second in zip(rows(report), rows(out), strict=True):
        assert {k: v for k, v in first.items() if k not in strip} == {
            k: v for k, v in second.items() if k not in strip
        }


def test_resume_with_other_settings_is_refused(report, photos, model, capsys):
    assert evaluate(photos, model, report, "--resume", "--qualities", "10") == 5
    assert "other codecs, qualities" in capsys.readouterr().err


def test_efforts_are_curves_of_their_own(photos, model, tmp_path):
    options = ["--codecs", "mbic", "--qualities", "50", "--effort", "5,1"]
    assert evaluate(photos, model, tmp_path / "efforts", *options) == 3
    found = [row for row in rows(tmp_path / "efforts") if row["image"] == "a.png"]
    assert [row["codec"] for row in found] == ["mbic-effort1", "mbic"]
    assert found[0]["bytes"] != found[1]["bytes"]


@pytest.mark.parametrize("effort", ["1.5", "0", "10", "much"])
def test_efforts_are_whole_numbers_from_1_to_9(photos, model, tmp_path, effort, capsys):
    assert evaluate(photos, model, tmp_path / "efforts", f"--effort={effort}") == 2
    assert "--effort" in capsys.readouterr().err


def test_a_codec_of_one_setting(photos, tmp_path):
    options = ["eval", str(photos / "below"), "-o", str(tmp_path / "r"), "--gallery", "0"]
    assert main([*options, "--codecs", "avif:4:2:0,jpeg"]) == 0
    settings = json.loads((tmp_path / "r" / "run.json").read_text())["codecs"]
    assert list(settings) == ["avif 4:2:0", "jpeg"]
    assert main([*options[:3], str(tmp_path / "s"), "--codecs", "avif:4:1:1"]) == 2


def test_compare_runs(report, capsys):
    file = str(report / "mbic.json")
    assert main(["eval", "--compare", file, file]) == 0
    text = capsys.readouterr().out
    assert "+0.0 %" in text
    assert "below/b.png" in text
    assert main(["eval", "--compare", file, str(report / "run.json")]) == 5


@pytest.fixture(scope="module")
def compressai_plot():
    """``compressai.utils.plot``, without the seconds that the packages around it take."""
    compressai = importlib.util.find_spec("compressai")
    (folder,) = compressai.submodule_search_locations
    path = Path(folder) / "utils" / "plot" / "__main__.py"
    spec = importlib.util.spec_from_file_location("compressai_plot", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compressai_plot_reads_the_report(report, compressai_plot, tmp_path):
    pyplot = compressai_plot.plt
    pyplot.switch_backend("agg")
    files = [str(report / name) for name in ("mbic.json", "jpeg.json")]
    out = tmp_path / "plot.png"
    compressai_plot.main(["-f", *files, "-m", "psnr-rgb", "-o", str(out)])
    (axes,) = pyplot.gcf().axes
    assert [line.get_label() for line in axes.lines] == ["mbic", "jpeg"]
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 6]
    pyplot.close()
    Image.open(out).load()


def test_no_overlap_is_no_number():
    low, high = ([0.1, 0.2, 0.3], [20.0, 21.0, 22.0]), ([1.0, 1.5, 2.0], [30.0, 31.0, 32.0])
    assert bd_rate(low, high) is None
    assert bd_psnr(low, high) is None
    assert bd_rate_by_third(low, high) == [None, None, None]


def test_bd_rate_of_a_known_shift():
    """Ten percent more rate at every PSNR is +10 %, in each third too."""
    psnr = [28.0, 30.0, 33.0, 36.0, 40.0]
    bpp = [0.1, 0.2, 0.45, 0.9, 1.8]
    more = [1.1 * rate for rate in bpp]
    assert bd_rate((bpp, psnr), (more, psnr)) == pytest.approx(10.0, abs=1e-6)
    assert bd_rate_by_third((bpp, psnr), (more, psnr)) == pytest.approx([10.0] * 3, abs=0.05)


def test_published_points_only_for_kodak():
    names = [f"kodim{number:02d}.png" for number in range(1, 25)]
    known = published(names)
    assert "VTM-18.0" in known
    assert all(len(entry["bpp"]) == len(entry["psnr"]) for entry in known.values())
    assert all(entry["source"] for entry in known.values())
    assert published(names[:-1]) == {}


def test_plots_and_tables(report):
    for stem in ("rd-psnr", "rd-ms-ssim", "rd-ssimulacra2", "encode-time", "decode-time"):
        with Image.open(report / f"{stem}.png") as plot:
            assert plot.size[0] > 500
        assert (report / f"{stem}.svg").read_text().startswith("<?xml")
    table = json.loads((report / "bd.json").read_text())
    assert table["anchor"] == "jpeg"
    rates = table["rows"][0]["bd_rate"]
    assert set(rates) == {"psnr_db", "ms_ssim", "ssimulacra2"}
    assert all(value is None or math.isfinite(value) for value in rates.values())
    text = (report / "report.md").read_text()
    assert "by SSIMULACRA2" in text
    assert "worst picture" in text
    for duel in table["pictures"]:
        assert (duel["codec"], duel["against"]) == ("mbic", "jpeg")
        assert duel["bd_rate"][duel["worst"]] == max(duel["bd_rate"].values())
    assert "at equal bytes" in text
    for entry in table["at_equal_bytes"]:
        assert entry["differences"][entry["worst"]] == min(entry["differences"].values())


def test_rates_at_equal_ms_ssim_are_of_measured_curves_alone():
    """Ten percent more rate at every MS-SSIM; a published curve has none."""
    bpp, psnr, similar = [0.1, 0.2, 0.5, 1.0], [25.0, 28, 31, 34], [0.9, 0.95, 0.98, 0.99]
    rest = {"encode_s": bpp, "decode_s": bpp, "qualities": bpp, "images": 1, "rates": {}}
    values = {"psnr_db": psnr, "ms_ssim": similar}
    first = Curve(name="first", bpp=bpp, values=values, **rest)
    second = Curve(
        name="second",
        bpp=[1.1 * rate for rate in bpp],
        values=values | {"psnr_db": psnr[::-1]},
        **rest,
    )
    measured, known = {"first": first, "second": second}, {"VTM": {"bpp": bpp, "psnr": psnr}}
    rows = {row["codec"]: row for row in delta_table(measured, known, "first")}
    assert rows["second"]["bd_rate"]["ms_ssim"] == pytest.approx(10.0, abs=1e-6)
    assert set(rows["VTM"]["bd_rate"]) == {"psnr_db"}
    assert all(set(row["bd_rate"]) == {"psnr_db"} for row in delta_table(measured, known, "VTM"))


def test_rate_at_high_scores_counts_those_alone():
    """Equal below a score of 60, twice the rate above."""
    score = [20.0, 40.0, 60.0, 70.0, 80.0, 90.0]
    bpp = [0.1, 0.2, 0.4, 0.6, 1.0, 1.8]
    more = [rate * (1 if value <= 60 else 2) for rate, value in zip(bpp, score, strict=True)]
    low, high = bd_rate_between((bpp, score), (more, score), [20, 55, 100])
    assert low == pytest.approx(0.0, abs=6)
    assert 60 < high < 100
    assert bd_rate_between((bpp, score), (more, score), [95, 100]) == [None]


def test_page_needs_no_network(report):
    html = (report / "index.html").read_text()
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "broken.png" in html


def test_page_holds_what_its_script_asks_for(report):
    """Every element by its id; plots and pictures decode."""
    html = (report / "index.html").read_text()
    asked = set(re.findall(r"""\bat\(["']([\w-]+)["']\)""", html))
    assert {"zoom", "divide", "picture"} <= asked <= set(re.findall(r'id="([\w-]+)"', html))
    kinds = set()
    for kind, encoded in re.findall(r"data:image/([\w+]+);base64,([\w+/=]+)", html):
        kinds.add(kind)
        data = base64.b64decode(encoded)
        if kind == "svg+xml":
            assert ElementTree.fromstring(data).tag.endswith("svg")
        else:
            Image.open(io.BytesIO(data)).load()
    assert kinds == {"svg+xml", "webp"}


@pytest.fixture(scope="module")
def browser():
    """Chromium of PyQt6-WebEngine; on some systems its libraries are missing."""
    check = [sys.executable, "-c", "import PyQt6.QtWebEngineWidgets"]
    found = subprocess.run(check, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no browser here: {found.stderr.strip().splitlines()[-1]}")
    return str(Path(__file__).parent / "browser.py")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desktop"])
def test_page_in_a_browser(report, browser, width):
    """The slider works, every picture loads, and nothing is wider than the screen."""
    script = """(() => {
      const at = (id) => document.getElementById(id);
      at('zoom').value = 2; at('zoom').oninput();
      at('divide').value = 25; at('divide').oninput();
      return JSON.stringify({
        fits: document.documentElement.scrollWidth <= innerWidth,
        loaded: [...document.images].every((i) => i.complete && i.naturalWidth > 0),
        clip: at('left-layer').style.clipPath, move: at('left-image').style.transform});
    })()"""
    page = str(report / "index.html")
    command = [sys.executable, browser, page, str(width), "844"]
    result = subprocess.run([*command, script], capture_output=True, text=True, check=True)
    line = next(x for x in result.stdout.splitlines() if x.startswith("RESULT"))
    state = json.loads(line.removeprefix("RESULT "))
    assert state["fits"]
    assert state["loaded"]
    assert "75%" in state["clip"]
    assert state["move"] == "translate(-50%, -50%) scale(2)"
