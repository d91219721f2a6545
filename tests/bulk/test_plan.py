"""What a call is to do, by the names on both sides."""

from __future__ import annotations

import pytest

from mambaic.bulk.plan import Unit, plan
from mambaic.errors import OutputError


def planned(names, there=(), packed=None, *, layout="same", per_shard=2, force=False):
    return plan(
        names,
        set(there),
        packed or {},
        suffixes={".png", ".jpg"},
        new_suffix=".mbic",
        layout=layout,
        per_shard=per_shard,
        force=force,
    )


def test_files_keep_their_tree_and_what_is_there_is_left():
    names = ["b/x.PNG", "a.jpg", "notes.txt", "b/._x.png"]
    both = [Unit("a.jpg", "a.mbic"), Unit("b/x.PNG", "b/x.mbic")]
    assert planned(names) == both
    assert planned(names, ["a.mbic"]) == both[1:]
    assert planned(names, ["a.mbic"], force=True) == both


def test_files_of_one_stem_are_told_apart():
    targets = [unit.target for unit in planned(["a.jpg", "a.png", "b.png"])]
    assert targets == ["a.jpg.mbic", "a.png.mbic", "b.mbic"]


def test_shards_stay_shards():
    names = ["x/1.tar", "2.tar"]
    assert planned(names, ["2.tar"]) == [Unit("x/1.tar", "", "x/1.tar")]
    assert len(planned(names, names, force=True)) == 2


def test_members_become_files_but_for_those_that_are_there():
    (unit,) = planned(["x.tar"], ["x/a.mbic", "xy/b.mbic"], layout="files")
    assert unit == Unit("x.tar", "x", "", frozenset({"x/a.mbic"}))


def test_files_are_packed_behind_the_shards_that_are_there():
    names = [f"{i}.png" for i in range(5)]
    first = planned(names, layout="shards")
    shards = [unit.shard for unit in first]
    assert shards == [f"shard-00000{i}.tar" for i in (0, 0, 1, 1, 2)]
    packed = {unit.name: unit.shard for unit in first}
    there = ["shard-000000.tar", "shard-000002.tar"]  # the call was killed, say
    second = planned([*names, "new.png"], there, packed, layout="shards")
    assert [(unit.name, unit.shard) for unit in second] == [
        ("2.png", "shard-000003.tar"),
        ("3.png", "shard-000003.tar"),
        ("new.png", "shard-000004.tar"),
    ]


def test_packed_shards_without_their_manifest_are_refused():
    with pytest.raises(OutputError, match=r"shard-000000\.tar.*packed twice"):
        planned(["a.png"], ["shard-000000.tar"], layout="shards")
