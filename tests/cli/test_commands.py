"""The command line with the shipped weights, in process: files, exit codes, one line per error."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from metadata_samples import block
from PIL import Image

from mambaic.container.fields import describe
from mambaic.extras import EXTRAS
from mambaic.imaging.tiff_directory import Field
from mambaic_cli.main import main

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    import matplotlib

    source = f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg"
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    with Image.open(source) as image:
        image.convert("RGB").crop((100, 50, 356, 242)).save(path)
    return path


def test_photograph_round_trips_and_rate_follows_quality(photograph, tmp_path):
    sizes, errors = [], []
    for quality in (10, 50, 90):
        file, back = tmp_path / f"{quality}.mbic", tmp_path / f"{quality}.png"
        assert main(["compress", str(photograph), "-o", str(file), "-q", str(quality)]) == 0
        assert main(["decompress", str(file), "-o", str(back)]) == 0
        sizes.append(file.stat().st_size)
        a, b = (np.asarray(Image.open(p)).astype(float) for p in (photograph, back))
        errors.append(np.mean((a - b) ** 2))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 16


def test_more_effort_gives_less_error_in_fewer_bits(photograph, tmp_path):
    """Of a photograph in one strong colour that is not on an axis; what each effort brings is in
    its file."""
    tinted = np.asarray(Image.open(photograph)).astype(float) * (1.0, 0.4, 0.7)
    source, back = tmp_path / "tinted.png", tmp_path / "back.png"
    Image.fromarray(tinted.astype(np.uint8)).save(source)
    sizes, errors = [], []
    for effort, chunks in ((1, set()), (2, {"filter"}), (5, {"filter", "rotation"})):
        file = tmp_path / f"{effort}.mbic"
        options = ["-q", "40", "--effort", str(effort)]
        assert main(["compress", str(source), "-o", str(file), *options]) == 0
        assert set(describe(file.read_bytes())["chunks"]) == chunks
        assert main(["decompress", str(file), "-o", str(back), "--force"]) == 0
        sizes.append(len(file.read_bytes()))
        errors.append(np.mean((np.asarray(Image.open(back)).astype(float) - tinted) ** 2))
    plain, filtered, rotated = zip(sizes, errors, strict=True)
    assert filtered[1] < 0.99 * plain[1]
    assert rotated[0] < plain[0]
    assert rotated[1] < plain[1]


def test_flipped_byte_gives_exit_code_4_one_line_and_no_output(photograph, tmp_path, capsys):
    file, back = tmp_path / "x.mbic", tmp_path / "x.png"
    assert main(["compress", str(photograph), "-o", str(file)]) == 0
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    capsys.readouterr()
    assert main(["decompress", str(file), "-o", str(back)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not back.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compress", "missing.png"], 3),
        (["compress", "{text}"], 3),
        (["decompress", "{text}", "-o", "{text}.out.png"], 4),
        (["compress", "{photo}", "--model", "nowhere"], 5),
        (["compress", "{photo}", "-q", "200"], 2),
        (["compress", "{photo}", "--effort", "10"], 2),
        (["compress", "{photo}", "-q", "20", "--target-bpp", "1"], 2),
        (["unknown"], 2),
    ],
)
def test_bad_input_gives_its_exit_code(arguments, code, photograph, tmp_path, capsys):
    text = tmp_path / "text.png"
    text.write_text("not an image")
    filled = [a.format(text=text, photo=photograph) for a in arguments]
    assert main(filled) == code
    assert "Traceback" not in capsys.readouterr().err


def test_existing_output_is_kept_without_force(photograph, tmp_path):
    out = tmp_path / "out.mbic"
    out.write_bytes(b"precious")
    assert main(["compress", str(photograph), "-o", str(out)]) == 3
    assert out.read_bytes() == b"precious"


def test_one_bad_file_in_a_folder_does_not_stop_the_rest(photograph, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "good.png").write_bytes(photograph.read_bytes())
    (folder / "bad.png").write_text("broken")
    assert main(["compress", str(folder), "-o", str(out)]) == 3
    assert (out / "deep" / "good.mbic").exists()
    assert not (out / "bad.mbic").exists()


def test_formats_keep_alpha_and_metadata_or_say_so(photograph, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    for mode in ("RGB", "RGBA"):
        picture = Image.open(photograph).crop((0, 0, 64, 48)).convert(mode)
        if mode == "RGBA":
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(tmp_path / f"{mode}.webp", lossless=True, exif=exif, xmp=b"<x:xmpmeta/>")
        assert main(["compress", str(tmp_path / f"{mode}.webp")]) == 0
        for suffix in ("png", "webp", "tiff", "jpg", "bmp", "ppm"):
            out = tmp_path / f"{mode}.out.{suffix}"
            able = mode == "RGB" or suffix in ("png", "webp", "tiff")
            capsys.readouterr()
            code = main(["decompress", str(tmp_path / f"{mode}.mbic"), "-o", str(out)])
            said = capsys.readouterr().err
            assert code == (0 if able else 3)
            assert out.exists() == able
            if not able:
                assert "alpha" in said
                continue
            with Image.open(out) as back:
                assert back.mode == mode
                kept = {"exif"} if back.getexif().get(0x010F) == "maker" else set()
                kept |= {"xmp"} & set(back.info)
                if mode == "RGBA":
                    assert np.array_equal(back.getchannel("A"), picture.getchannel("A"))
            assert {"exif", "xmp"} - kept == {word for word in ("exif", "xmp") if word in said}


def test_metadata_too_long_for_a_format_are_left_out_by_strip(photograph, tmp_path, capsys):
    exif = block({0x010F: Field(2, b"m" * 90_000)})
    with Image.open(photograph) as image:
        image.crop((0, 0, 64, 48)).save(tmp_path / "x.png", exif=exif)
    assert main(["compress", str(tmp_path / "x.png")]) == 0
    command = ["decompress", str(tmp_path / "x.mbic"), "-o", str(tmp_path / "x.jpg")]
    capsys.readouterr()
    assert main(command) == 3
    assert "x.jpg: EXIF of 90" in (said := capsys.readouterr().err)
    assert "--strip" in said
    assert not (tmp_path / "x.jpg").exists()
    assert main([*command, "--strip"]) == 0
    with Image.open(tmp_path / "x.jpg") as back:
        assert "exif" not in back.info


def test_one_bar_counts_files_or_the_tiles_of_one(photograph, tmp_path, monkeypatch):
    import tqdm

    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    packed, folder = tmp_path / "x.mbic", tmp_path / "folder"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(photograph.read_bytes())
    assert main(["compress", str(photograph), "--tile", "8", "-o", str(packed)]) == 0
    assert main(["compress", str(folder), "-o", str(tmp_path / "out")]) == 0
    # 256x192 pixels are 16x12 latents: four tiles of at most 8x8
    assert [(bar.unit, bar.n, bar.total) for bar in bars] == [("tile", 4, 4), ("file", 2, 2)]


def test_help_imports_neither_torch_nor_numpy_nor_pillow():
    code = (
        "import sys; from mambaic_cli.main import cli; cli(['--help'], standalone_mode=False);"
        "bad = {'torch', 'numpy', 'PIL'} & set(sys.modules); sys.exit(bool(bad))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_commands_do_not_wait_for_what_they_do_not_need(photograph, tmp_path):
    """torch._dynamo is most of a second of imports, and the first call of an operator does it;
    scipy.optimize is half a second, and encoders alone need it. Extras may be missing."""
    file, back = tmp_path / "x.mbic", tmp_path / "x.png"
    extras = {module for modules in EXTRAS.values() for module in modules}
    unneeded = {
        "compress": {"torch._dynamo", *extras},
        "decompress": {"torch._dynamo", "scipy.optimize", *extras},
    }
    for (name, modules), (source, made) in zip(
        unneeded.items(), [(photograph, file), (file, back)], strict=True
    ):
        code = (
            "import sys; from mambaic_cli.main import main;"
            f"done = main([{name!r}, {str(source)!r}, '-o', {str(made)!r}]);"
            f"sys.exit(done or bool({modules!r} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert back.exists()


def test_file_decodes_under_other_numerics(photograph, tmp_path):
    """One thread, plain instructions and no oneDNN against this process: same symbols, and pixels
    within 1 of 255."""
    file = tmp_path / "x.mbic"
    assert main(["compress", str(photograph), "-o", str(file), "-q", "60"]) == 0
    here, there = tmp_path / "here.png", tmp_path / "there.png"
    assert main(["decompress", str(file), "-o", str(here)]) == 0
    code = (
        "import sys, torch; torch.backends.mkldnn.enabled = False; torch.set_num_threads(1);"
        "from mambaic_cli.main import main;"
        f"sys.exit(main(['decompress', {str(file)!r}, '-o', {str(there)!r}]))"
    )
    import os

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
    a, b = (np.asarray(Image.open(p)).astype(int) for p in (here, there))
    assert np.abs(a - b).max() <= 1
