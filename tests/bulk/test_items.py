"""From a folder or shard to another one, without Ray between the steps."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from conftest import photo_pixels
from picture_bytes import saved
from PIL import Image

from mambaic.bulk.coding import Compression, Decompression, code
from mambaic.bulk.manifest import Manifest
from mambaic.bulk.places import Place, sources
from mambaic.bulk.plan import plan
from mambaic.bulk.reading import read
from mambaic.bulk.writing import write
from mambaic.codec import load
from mambaic.encoder.options import EncodeOptions
from mambaic.errors import ConfigError, ImageError, OutputError

UNIT = str(Path(__file__).parents[1] / "golden" / "v6" / "unit")
FAST = Compression(model=UNIT, options=EncodeOptions(effort=1))
PNG = saved(Image.fromarray(photo_pixels(24, 40)), "PNG")


def tar(path: Path, members: dict[str, bytes]) -> bytes:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def untar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def bulk(source, target, task=FAST, *, layout="same", force=False, per_shard=2):
    """What the command does, in one process: lines of this call by source."""
    place, names = sources(str(source))
    destination = Place(str(target))
    log = Path(source if destination.is_local is False else target, "manifest.jsonl")
    with Manifest(log) as manifest:
        units = plan(
            names,
            destination.names(),
            manifest.packed(),
            suffixes=task.suffixes,
            new_suffix=task.new_suffix,
            layout=layout,
            per_shard=per_shard,
            force=force,
        )
        coded = (
            code(item, task, "cpu")
            for unit in units
            for item in read(place, unit, task.suffixes, task.new_suffix)
        )
        items = list(write(coded, destination, manifest, force=force))
    last = {line["source"]: line for line in map(json.loads, log.read_text().splitlines())}
    for item in items:
        assert last[item.source] == item.line()
        assert item.data is None  # not kept
    return {item.source: item.line() for item in items}


@pytest.fixture
def src(tmp_path) -> Path:
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a.png").write_bytes(PNG)
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def test_files_there_and_back(src, tmp_path):
    lines = bulk(src, tmp_path / "dst")
    assert lines["bad.png"]["target"] is None
    assert (lines["bad.png"]["code"], "Pillow" in lines["bad.png"]["error"]) == (3, True)
    file = (tmp_path / "dst/sub/a.mbic").read_bytes()
    assert file == load(UNIT, "cpu").encode(PNG, effort=1)
    assert lines["sub/a.png"] | {"seconds": 0} == {
        "source": "sub/a.png", "target": "sub/a.mbic", "bytes": len(file), "seconds": 0,
        "notes": [], "error": None, "code": 0,
    }  # fmt: skip
    assert list(bulk(src, tmp_path / "dst")) == ["bad.png"]  # a second call
    back = bulk(tmp_path / "dst", tmp_path / "back", Decompression(model=UNIT))
    assert list(back) == ["sub/a.mbic"]
    with Image.open(tmp_path / "back/sub/a.png") as image:
        assert image.size == (40, 24)


def test_shards_keep_their_order_and_captions(tmp_path):
    (tmp_path / "src").mkdir()
    members = {"1.png": PNG, "1.txt": b"a caption", "2.png": b"bad", "a/3.png": PNG, "1.jpg": PNG}
    tar(tmp_path / "src/x.tar", members)
    lines = bulk(tmp_path / "src", tmp_path / "dst")
    found = untar(tmp_path / "dst/x.tar")
    assert list(found) == ["1.mbic", "1.txt", "a/3.mbic", "1.jpg.mbic"]
    assert found["1.txt"] == b"a caption"
    assert lines["x.tar/1.png"]["target"] == "x.tar/1.mbic"
    assert lines["x.tar/2.png"]["code"] == 3
    assert not bulk(tmp_path / "src", tmp_path / "dst")
    assert len(bulk(tmp_path / "src", tmp_path / "dst", force=True)) == 5


def test_shards_become_files_and_a_lost_one_is_made_again(tmp_path):
    (tmp_path / "src").mkdir()
    tar(tmp_path / "src/x.tar", {"1.png": PNG, "2.png": PNG})
    bulk(tmp_path / "src", tmp_path / "dst", layout="files")
    (tmp_path / "dst/x/2.mbic").unlink()
    assert list(bulk(tmp_path / "src", tmp_path / "dst", layout="files")) == ["x.tar/2.png"]
    assert len(list((tmp_path / "dst/x").iterdir())) == 2


@pytest.mark.parametrize("cut", [512, 1024, 1536, -512])
def test_a_cut_shard_makes_none(tmp_path, cut):
    """Within a member, between two, and at the end: the blocks of zeros are missing."""
    (tmp_path / "src").mkdir()
    path = tmp_path / "src/x.tar"
    data = tar(path, {"1.txt": bytes(300), "2.txt": bytes(300)})
    path.write_bytes(data[:cut] if cut > 0 else data[:2048])
    lines = bulk(tmp_path / "src", tmp_path / "dst")
    assert list(lines) == ["x.tar"]
    assert "x.tar: cannot be read" in lines["x.tar"]["error"]
    assert [path.name for path in (tmp_path / "dst").iterdir()] == ["manifest.jsonl"]


def test_files_are_packed_once(src, tmp_path):
    for name in "bcd":
        (src / f"{name}.png").write_bytes(PNG)
    bulk(src, tmp_path / "dst", layout="shards")
    (src / "e.png").write_bytes(PNG)
    second = bulk(src, tmp_path / "dst", layout="shards")
    assert list(second) == ["bad.png", "e.png"]
    shards = sorted((tmp_path / "dst").glob("*.tar"))
    members = [name for shard in shards for name in untar(shard)]
    assert sorted(members) == ["b.mbic", "c.mbic", "d.mbic", "e.mbic", "sub/a.mbic"]


def test_a_killed_call_leaves_lines_that_count_only_with_their_shard(src, tmp_path):
    bulk(src, tmp_path / "dst", layout="shards")
    (tmp_path / "dst/shard-000000.tar").unlink()
    with (tmp_path / "dst/manifest.jsonl").open("a") as file:
        file.write('{"source": "sub/')
    assert list(bulk(src, tmp_path / "dst", layout="shards")) == ["bad.png", "sub/a.png"]


@pytest.mark.parametrize("content", [b"some text", b"some text\n", b"{}\n", b'["source"]\n'])
def test_a_file_that_is_no_manifest_is_left(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(OutputError, match="is no manifest"):
        Manifest(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content


@pytest.mark.parametrize("layout", ["same", "shards"])
def test_what_cannot_be_written_is_an_error_of_each_picture(src, tmp_path, layout):
    (tmp_path / "dst").mkdir()
    blocked = "sub" if layout == "same" else "shard-000000.tar"
    with Manifest(tmp_path / "dst/manifest.jsonl") as manifest:
        units = plan(
            ["sub/a.png"], (), {}, suffixes=FAST.suffixes, new_suffix=".mbic", layout=layout,
            per_shard=2, force=False,
        )  # fmt: skip
        (tmp_path / "dst" / blocked).write_bytes(b"in the way")
        items = (code(i, FAST, "cpu") for i in read(Place(str(src)), units[0], {".png"}, ".mbic"))
        (item,) = write(items, Place(str(tmp_path / "dst")), manifest, force=False)
    assert item.code == OutputError.exit_code
    assert item.line()["target"] is None
    assert sorted(path.name for path in (tmp_path / "dst").iterdir()) == ["manifest.jsonl", blocked]
    assert (tmp_path / "dst" / blocked).read_bytes() == b"in the way"


def test_a_bug_is_told_with_its_traceback(monkeypatch, src, tmp_path):
    monkeypatch.setattr("mambaic.imaging.image.read_image", lambda *_, **__: 1 / 0)
    line = bulk(src, tmp_path / "dst")["sub/a.png"]
    assert line["code"] == 1
    assert "Traceback" in line["error"]
    assert line["error"].endswith("ZeroDivisionError: division by zero\n")


def test_other_file_systems(src):
    """One that is in memory stands for object stores."""
    lines = bulk(src, "memory://bucket/dst")
    assert Place("memory://bucket/dst").names() == {"sub/a.mbic"}
    back = src.parent / "back"
    bulk("memory://bucket/dst", back, Decompression(model=UNIT, format="ppm"))
    assert (back / "sub/a.ppm").exists()
    tar(src / "x.tar", {"1.txt": b"text"})
    bulk(src, "memory://bucket/dst")
    with Place("memory://bucket/dst").open("x.tar") as file:
        assert b"1.txt" in file.read()
    assert lines["sub/a.png"]["target"] == "sub/a.mbic"


def test_other_stores_that_show_what_is_not_finished_get_it_under_another_name(monkeypatch):
    monkeypatch.setattr("mambaic.bulk.places.OBJECT_STORES", set())
    place = Place("memory://moved")
    seen = []

    def broken(path, data):
        seen.append(path)
        raise OSError("the line is down")

    place.write("a/b", b"1", force=False)
    with pytest.raises(OutputError, match="exists already"):
        place.write("a/b", b"2", force=False)
    monkeypatch.setattr(place.files, "pipe_file", broken, raising=False)
    with pytest.raises(OutputError, match="the line is down"):
        place.write("a/c", b"2", force=False)
    assert seen[0].endswith(".part")
    assert place.names() == {"a/b"}


def test_names_that_are_no_text(tmp_path):
    (tmp_path / "src").mkdir()
    with open(os.fsencode(tmp_path) + b"/src/\xff.png", "wb") as file:
        file.write(PNG)
    bulk(tmp_path / "src", tmp_path / "dst")
    assert b"\xff.mbic" in os.listdir(os.fsencode(tmp_path / "dst"))


def test_sources_are_folders_files_and_globs(src):
    assert sources(str(src))[1] == {"sub/a.png", "bad.png"}
    assert sources(str(src / "bad.png"))[1] == {"bad.png"}
    place, names = sources(f"{src}/*/*.png")
    assert (place.path, names) == (str(src), {"sub/a.png"})
    with pytest.raises(ImageError, match="no such file or folder"):
        sources(str(src / "none"))
    with pytest.raises(ConfigError, match="nowhere"):
        sources("nowhere://x")
