"""Nothing is lost: interruptions, full disks, unwritable places, pipes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mambaic_cli.main import main

pytestmark = pytest.mark.weights
COMMAND = [sys.executable, "-m", "mambaic_cli"]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    import matplotlib

    source = f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg"
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    with Image.open(source) as image:
        image.convert("RGB").crop((100, 50, 292, 178)).save(path)
    return path


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_interrupted_run_leaves_no_part(number, code, photograph, tmp_path):
    """Many files; the signal arrives when the first is done."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(200):
        (folder / f"{index:03d}.png").write_bytes(photograph.read_bytes())
    process = subprocess.Popen(
        [*COMMAND, "compress", str(folder), "-o", str(out)], stderr=subprocess.PIPE, text=True,
        # tests in the background of a shell inherit a SIGINT that is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not list(out.glob("*.mbic")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    files = list(out.iterdir())
    assert 0 < len(files) < 200
    assert all(file.suffix == ".mbic" for file in files)
    assert main(["info", "--verify", str(sorted(files)[-1])]) == 0


def test_pipes(photograph, tmp_path):
    """compress - | decompress - equals the files."""
    data = subprocess.run(
        [*COMMAND, "compress", "-", "-q", "30"],
        input=photograph.read_bytes(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    png = subprocess.run(
        [*COMMAND, "decompress", "-"], input=data, capture_output=True, check=True
    ).stdout
    file, back = tmp_path / "x.mbic", tmp_path / "x.png"
    assert main(["compress", str(photograph), "-o", str(file), "-q", "30"]) == 0
    assert main(["decompress", str(file), "-o", str(back)]) == 0
    assert data == file.read_bytes()
    piped = tmp_path / "piped.png"
    piped.write_bytes(png)
    assert np.array_equal(np.asarray(Image.open(piped)), np.asarray(Image.open(back)))


def test_full_disk_keeps_the_old_output_and_the_source(photograph, tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "a.png", tmp_path / "a.mbic"
    source.write_bytes(photograph.read_bytes())
    out.write_bytes(b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["compress", str(source), "--force", "--delete-source"]) == 3
    assert "No space left" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mbic", "a.png"]


def test_source_is_deleted_only_when_its_file_is_verified(photograph, tmp_path, monkeypatch):
    source = tmp_path / "a.png"
    source.write_bytes(photograph.read_bytes())
    assert main(["compress", str(source), "--delete-source", "--no-verify"]) == 2
    from mambaic.codec import Codec
    from mambaic.errors import DesyncError

    def refuse(self, data):
        raise DesyncError("not what was written")

    with monkeypatch.context() as patch:
        patch.setattr(Codec, "verify", refuse)
        assert main(["compress", str(source), "--delete-source"]) == 4
    assert source.exists()
    assert not (tmp_path / "a.mbic").exists()
    assert main(["compress", str(source), "--delete-source"]) == 0
    assert not source.exists()


def test_source_that_holds_more_than_its_file_is_never_deleted(photograph, tmp_path, capsys):
    source = tmp_path / "animation.png"
    frames = [Image.open(photograph).crop((0, 0, 64, 48)).rotate(angle) for angle in (0, 180)]
    frames[0].save(source, save_all=True, append_images=frames[1:])
    assert main(["compress", str(source), "--delete-source", "-o", "-"]) == 2
    capsys.readouterr()
    assert main(["compress", str(source), "--delete-source"]) == 0
    assert "kept" in capsys.readouterr().err
    assert source.exists()
    assert (tmp_path / "animation.mbic").exists()


def test_output_that_is_the_input_is_refused(photograph, tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(photograph.read_bytes())
    assert main(["compress", str(file), "-o", str(file), "--force"]) == 3
    assert file.read_bytes() == photograph.read_bytes()


def test_unwritable_place_is_named(photograph, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert main(["compress", str(photograph), "-o", str(tmp_path / "file" / "x.mbic")]) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_files_of_one_stem_are_told_apart(photograph, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").write_bytes(photograph.read_bytes())
    Image.open(photograph).save(folder / "a.jpg")
    assert main(["compress", str(folder), "-o", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg.mbic", "a.png.mbic"]


def test_targets_are_met(photograph, tmp_path):
    from mambaic.imaging.metrics import psnr_db

    out = tmp_path / "x.mbic"
    pixels = np.asarray(Image.open(photograph))
    for option, value in (("--target-bpp", 0.8), ("--target-size", 3000), ("--target-psnr", 33)):
        arguments = ["-o", str(out), "--force", option, str(value)]
        assert main(["compress", str(photograph), *arguments]) == 0
        size = out.stat().st_size
        if option == "--target-psnr":
            back = tmp_path / "x.png"
            assert main(["decompress", str(out), "-o", str(back), "--force"]) == 0
            assert psnr_db(pixels, np.asarray(Image.open(back))) == pytest.approx(value, abs=0.05)
        else:
            bpp = value if option == "--target-bpp" else None
            goal = bpp * pixels.shape[0] * pixels.shape[1] / 8 if bpp else value
            assert size == pytest.approx(goal, rel=0.01)
