"""Which keys of a teacher may be others when a run goes on: of one inside another too."""

import json

import pytest

from rlkd import config as configs
from rlkd.resume import _differences

SERVER = {"use": "rlkd.teacher.server:ServerTeacher", "url": "http://old:8000", "patience": 9.0}
MODEL = {"path": "configs/models/tiny_teacher"}


def within(block):
    """The block at several depths, under names that are keys of a server."""
    alone = {"use": "rlkd.teacher.cached:Cached", "path": "c.db", "of": "s", "inner": block}
    several = {
        "use": "rlkd.teacher.several:Mixed",
        "teachers": {"url": MODEL, "far.away": block},
        "weights": {"url": 1.0, "far.away": 2.0},
    }
    deep = {"use": "rlkd.teacher.privileged:Privileged", "template": "{prompt}{a}"}
    return {"outer": block, "inner": alone, "several": several, "deep": deep | {"inner": several}}


def read(block, *words):
    return configs.load("configs/quickstart.yaml", [f"--teacher={json.dumps(block)}", *words])


def differing(one, other):
    return set(_differences(read(one), read(other)))


@pytest.mark.parametrize("where", ["outer", "inner", "several", "deep"])
def test_a_server_may_move_wherever_it_is(where):
    moved = SERVER | {"url": "http://new:1", "timeout": 3.0, "patience": 1.0, "concurrency": 2,
                      "canary_every": 7, "api_key_env": "KEY"}  # fmt: skip
    assert differing(within(SERVER)[where], within(moved)[where]) == set()


@pytest.mark.parametrize(
    ("where", "place"),
    [("outer", ""), ("inner", "inner."), ("several", "teachers.far.away."),
     ("deep", "inner.teachers.far.away.")],
)  # fmt: skip
def test_and_nothing_else_of_it_may_change(where, place):
    other = SERVER | {"model": "m", "tokenizer": "t", "temperature": 1.0}
    assert differing(within(SERVER)[where], within(other)[where]) == {
        f"teacher.{place}{name}" for name in ("model", "tokenizer", "temperature")
    }


def test_nor_what_only_has_the_name_of_such_a_key():
    block = within(SERVER)["several"]
    other = block | {"weights": {"url": 3.0, "far.away": 2.0}}
    assert differing(block, other) == {"teacher.weights.url"}
    other = block | {"teachers": block["teachers"] | {"url": {"path": "configs/models/x"}}}
    assert differing(block, other) == {"teacher.teachers.url.path"}
    other = block | {"teachers": block["teachers"] | {"url": SERVER}}
    assert "teacher.teachers.url.use" in differing(block, other)


def test_a_key_is_changed_on_the_command_line():
    old = read(within(SERVER)["inner"])
    new = read(within(SERVER)["inner"], "--teacher.inner.url=http://new:1")
    assert new.teacher.settings["inner"]["url"] == "http://new:1"
    assert _differences(old, new) == {}


def test_of_a_class_that_is_no_server_these_keys_say_what_it_is():
    own = {"use": "tests.unit.test_trainer:Echo", "value": -1.0, "url": "http://old:1"}
    assert differing(own, own | {"url": "http://new:1"}) == {"teacher.url"}
    assert differing(own, own | {"check": "warn"}) == set()
