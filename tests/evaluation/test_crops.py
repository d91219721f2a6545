"""``mambaic eval --crops``: where crops are taken, and that all codecs get the same bytes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.checkpoint import save_model
from mambaic.evaluation.contenders import at_size
from mambaic.evaluation.crops import SIDE, place_of_detail
from mambaic_cli.main import main


def test_the_place_of_detail_is_texture_and_not_one_strong_edge():
    pixels = np.full((400, 600, 3), 90, np.uint8)
    pixels[:, 150:] = 220  # an edge of the full height
    texture = np.random.default_rng(0).integers(-9, 10, (100, 100, 1))
    pixels[280:380, 460:560] = np.clip(200 + texture, 0, 255)
    left, top = place_of_detail(pixels, side=128)
    assert left <= 460
    assert left + 128 >= 560
    assert top <= 280
    assert top + 128 >= 380


def test_a_picture_smaller_than_a_crop_is_shown_whole():
    assert place_of_detail(photo_pixels(40, 300)) in {(x, 0) for x in range(0, 45)}
    assert place_of_detail(photo_pixels(40, 30)) == (0, 0)


def test_the_largest_file_that_fits():
    asked = []

    def encode(quality):
        asked.append(quality)
        return bytes(int(10 * quality))

    assert 637 - 950 / 128 <= len(at_size(encode, 637, 5, 100)) <= 637
    assert len(asked) == 7
    assert len(at_size(encode, 3, 5, 100)) == 50  # none fits: the smallest


@pytest.fixture(scope="module")
def page(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("crops")
    save_model(request.getfixturevalue("unit_model"), folder / "unit")
    (folder / "photos").mkdir()
    Image.fromarray(photo_pixels(300, 280)).save(folder / "photos" / "a.png")
    (folder / "photos" / "broken.png").write_bytes(b"not an image")
    command = ["eval", str(folder / "photos"), "-o", str(folder / "out"), "--crops", "1,2"]
    options = ["--codecs", "mbic,jpeg", "--model", str(folder / "unit"), "--place", "a.png:20,900"]
    assert main([*command, *options]) == 3  # complete, but one image could not be read
    return folder / "out"


def test_a_page_of_crops_at_equal_bytes(page):
    """The original first, moved into the picture; then each codec in no more bytes than asked."""
    html = (page / "crops.html").read_text()
    found = re.findall(r'<img src="(crops/[^"]+)" alt="([^"]+)"', html)
    assert [label.split(",")[0] for _, label in found] == ["original", "mbic", "jpeg"] * 2
    for (_, label), most in zip(found, [0, 1, 1, 0, 2, 2], strict=True):
        if label != "original":
            assert float(re.search(r"([\d.]+) bpp", label)[1]) <= most * 1.01
    cuts = [np.asarray(Image.open(page / file)) for file, _ in found]
    assert {cut.shape for cut in cuts} == {(SIDE, SIDE, 3)}
    np.testing.assert_array_equal(cuts[0], photo_pixels(300, 280)[44:, 20 : 20 + SIDE])
    assert (cuts[1] != cuts[2]).any()


@pytest.mark.parametrize("place", ["a.png:1", "a.png:x,2", "b.png:1,2", "1,2"])
def test_places_that_are_none_are_refused(tmp_path, place, capsys):
    Image.fromarray(photo_pixels(20, 20)).save(tmp_path / "a.png")
    command = ["eval", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--codecs", "jpeg"]
    assert main([*command, "--crops", "1", "--place", place]) == 2
    assert "--place" in capsys.readouterr().err
