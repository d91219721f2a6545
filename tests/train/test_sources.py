"""Training images in folders and tar shards that are not quite as they should be."""

from __future__ import annotations

import io
import logging
import tarfile

import numpy as np
import pytest
from conftest import photo_pixels
from PIL import Image

from mambaic.errors import ConfigError
from mambaic_train.data import PhotoSet
from mambaic_train.sources import find_sources


def png(seed):
    file = io.BytesIO()
    Image.fromarray(photo_pixels(64, 80, seed)).save(file, "PNG")
    return file.getvalue()


def tar(members, mode="w"):
    """Bytes of a tar file, and where the data of each member begins."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    if mode != "w":
        return file.getvalue(), []
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as archive:
        return file.getvalue(), [member.offset_data for member in archive]


THREE = {f"{seed}.png": png(seed) for seed in range(3)}


@pytest.mark.parametrize(
    ("behind", "images", "skipped"),
    [(1000, 2, 1), (0, 2, 1), (-1, 2, 0), (-300, 2, 0), (-512, 2, 0)],
    ids=["in-data", "no-data", "in-header", "in-header-or-padding", "between-members"],
)
def test_a_shard_that_is_cut_off_gives_what_is_before(tmp_path, caplog, behind, images, skipped):
    data, starts = tar(THREE)
    (tmp_path / "a.tar").write_bytes(data[: starts[2] + behind])
    caplog.set_level(logging.WARNING)
    photos = PhotoSet([tmp_path], min_side=64)
    assert (len(photos.images), photos.skipped) == (images, skipped)
    assert caplog.text.count("a.tar: cut off or damaged after") == 1
    assert caplog.text.count("the shard ends within it; skipped") == skipped


def test_a_shard_with_a_damaged_header_gives_what_is_before(tmp_path, caplog):
    data, starts = tar(THREE)
    damaged = data[: starts[1] - 512] + b"\xaa" * 512 + data[starts[1] :]
    (tmp_path / "a.tar").write_bytes(damaged)
    assert len(PhotoSet([tmp_path], min_side=64).images) == 1
    assert "a.tar: cut off or damaged after 1 members, 1 images" in caplog.text


def test_a_whole_shard_is_read_without_a_word(tmp_path, caplog):
    (tmp_path / "a.tar").write_bytes(tar(THREE)[0])
    photos = PhotoSet([tmp_path / "a.tar"], min_side=64)
    assert (len(photos.images), photos.skipped, caplog.text) == (3, 0, "")


def test_what_macos_puts_beside_files_is_passed_over(tmp_path, caplog):
    members = {"x/1.png": png(1), "x/._1.png": b"Mac OS X", "__MACOSX/x/._1.png": b"Mac OS X"}
    (tmp_path / "a.tar").write_bytes(tar(members | {"__MACOSX/2.png": png(2)})[0])
    for name, data in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "._b.tar").write_bytes(b"Mac OS X")
    photos = PhotoSet([tmp_path], min_side=64)
    assert (len(photos.images), photos.skipped, caplog.text) == (2, 0, "")


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "X.TGZ", "x.zip"])
def test_compressed_archives_are_called_what_they_are(tmp_path, caplog, name):
    (tmp_path / name).write_bytes(tar(THREE, "w:gz")[0])
    with pytest.raises(ConfigError, match=f"{name}: a compressed archive: unpack it"):
        list(find_sources([tmp_path / name]))
    (tmp_path / "a.png").write_bytes(png(0))
    assert [source.name for source in find_sources([tmp_path])] == ["a.png"]
    assert f"{name}: left out, a compressed archive: unpack it" in caplog.text


def test_reduced_photographs_give_their_share_of_crops(tmp_path):
    for seed in range(2):
        Image.fromarray(photo_pixels(768 + 64 * seed, 900, seed)).save(tmp_path / f"{seed}.png")
    Image.fromarray(photo_pixels(300, 400, 2)).save(tmp_path / "small.png")
    plain, photos = (PhotoSet([tmp_path], min_side=64, reduced=share) for share in (0.0, 0.3))
    assert len(photos) == len(plain) == 3
    assert [photo.reduced for photo in photos.images] == [False] * 3 + [True] * 2
    assert photos.bytes == sum(photo.pixels.size for photo in photos.images)
    for whole, smaller in zip(photos.images[:2], photos.images[3:], strict=True):
        factor = whole.pixels.shape[0] / smaller.pixels.shape[0]
        assert 1.49 <= factor <= 3
        assert min(smaller.pixels.shape[:2]) >= 256
        # the same picture, its means over large blocks
        means = [
            np.asarray(Image.fromarray(photo.pixels).resize((6, 6), Image.Resampling.BOX), float)
            for photo in (whole, smaller)
        ]
        assert np.abs(means[0] - means[1]).max() < 3
    assert photos.images[0].pixels.shape[0] / photos.images[3].pixels.shape[0] != pytest.approx(
        photos.images[1].pixels.shape[0] / photos.images[4].pixels.shape[0], rel=0.05
    )
    rng = np.random.default_rng(0)
    drawn = [photos.draw(rng)[0] for _ in range(2000)]
    assert np.mean([photo.reduced for photo in drawn]) == pytest.approx(0.3, abs=0.04)
    # by pixels among the others
    largest = np.mean([photo is photos.images[1] for photo in drawn if not photo.reduced])
    pixels = [photo.pixels.size for photo in plain.images]
    assert largest == pytest.approx(pixels[1] / sum(pixels), abs=0.05)


def test_reduced_photographs_of_a_streamed_set_come_by(tmp_path):
    for seed in range(3):
        Image.fromarray(photo_pixels(400, 400, seed)).save(tmp_path / f"{seed}.png")
    photos = PhotoSet([tmp_path], min_side=64, reduced=0.5, memory=1_000_000)
    assert photos.streamed
    seen = set()
    for step in range(4):
        photos.seek(step)
        seen |= {(photo.reduced, photo.pixels.shape[0]) for photo in photos.images}
    assert (False, 400) in seen
    assert any(reduced and 256 <= height <= 267 for reduced, height in seen)
