# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, names and paths: every wrong one of the data files is ``invalid``, every right one means its bytes."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, octal, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

DATA = Path(__file__).resolve().parents[4] / "data"


def cases(name: str, part: str) -> list[Any]:
    """The entries of a data file: ``{repeat: [text, count]}`` is a long one, ``{escaped: text}`` not for YAML."""
    found: list[Any] = _plain(yaml.safe_load((DATA / name).read_text(encoding="utf-8"))[part])
    return found


def _plain(case: Any) -> Any:
    if isinstance(case, list):
        return [_plain(each) for each in case]
    if isinstance(case, dict) and "repeat" in case:
        return case["repeat"][0] * case["repeat"][1]
    if isinstance(case, dict) and "escaped" in case:
        return case["escaped"].encode("ascii").decode("unicode_escape")
    return case


def refused(call: Any, *args: Any, **more: Any) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call(*args, **more)
    assert caught.value.code == "invalid"
    return caught.value


# -- sizes


@pytest.mark.parametrize("wrong", cases("wrong_sizes.yml", "wrong"), ids=repr)
def test_wrong_sizes(wrong: Any) -> None:
    error = refused(size.parse, wrong, "inodes")
    assert error.details == {"option": "inodes"} and error.message.startswith("inodes ")


@pytest.mark.parametrize("text,expected", cases("wrong_sizes.yml", "right"), ids=repr)
def test_right_sizes(text: Any, expected: int) -> None:
    assert size.parse(text) == expected and isinstance(size.parse(text), int)


def test_sizes_have_bounds_and_units() -> None:
    assert size.parse("1KiB", minimum=1024) == 1024 and size.parse(1024, maximum=1024) == 1024
    assert (
        size.parse("1000", unit=4096) == 4096
        and size.parse(4096, unit=4096) == 4096
        and size.parse("4097", unit=4096) == 8192
    )
    assert refused(size.parse, "1023", minimum=1024).hint == "a bare number is bytes; did you mean 1023GiB?"
    assert refused(size.parse, 10, minimum=1024).hint == "a bare number is bytes; did you mean 10GiB?"
    assert refused(size.parse, "1B", minimum=1024).hint == "the least is 1024 bytes"
    assert "less than 1024 bytes" in refused(size.parse, "1", minimum=1024).message
    assert "more than 10 bytes" in refused(size.parse, "11", maximum=10).message
    assert "more than %d bytes" % size.MAXIMUM in refused(size.parse, "9E", maximum=2**80).message
    assert "greater than zero" in refused(size.parse, "0B").message and refused(size.parse, "0").hint == ""
    assert "is not a size" in refused(size.parse, "x").message and refused(size.parse, "x").hint == (
        "write an integer number of bytes, or for example 10GiB"
    )
    assert size.parse(size.MAXIMUM) == 2**63 - 1 and "more than" in refused(size.parse, 2**63).message
    assert len(refused(size.parse, "9" * 500).message) < 140


@given(st.integers(1, size.MAXIMUM))
def test_what_is_printed_is_read_back(number: int) -> None:
    assert size.parse(size.human(number)) == number == size.parse(str(number)) == size.parse(number)


@given(st.integers(1, 2**20), st.sampled_from("KMGTPE"), st.sampled_from(["", "B", "i", "iB"]), st.booleans())
def test_every_unit_is_a_power_of_1024(number: int, letter: str, rest: str, spaced: bool) -> None:
    expected = number * 1024 ** (1 + "KMGTPE".index(letter))
    text = "%d%s%s%s" % (number, " " * spaced, letter, rest)
    for each in (text, text.lower(), text.upper()):
        if expected <= size.MAXIMUM:
            assert size.parse(each) == expected
        else:
            refused(size.parse, each)


@given(st.text(max_size=12) | st.floats() | st.booleans() | st.none() | st.binary(max_size=4) | st.lists(st.integers()))
def test_anything_is_a_size_or_invalid(junk: Any) -> None:
    try:
        assert 1 <= size.parse(junk) <= size.MAXIMUM
        assert isinstance(junk, str) and junk[0] in string.digits
    except StorageError as error:
        assert error.code == "invalid"


def test_the_shortest_exact_text() -> None:
    texts = [size.human(n) for n in (0, 1, 1023, 1024, 1536, 1610612736, 2**60, 2**62, 2**70)]
    assert texts == ["0B", "1B", "1023B", "1KiB", "1536B", "1536MiB", "1EiB", "4EiB", "1024EiB"]


# -- names


@pytest.mark.parametrize("wrong", cases("wrong_names.yml", "wrong"), ids=ascii)
def test_wrong_names(wrong: Any) -> None:
    error = refused(names.identifier, wrong, "volume")
    assert error.details == {"option": "volume"} and error.message.startswith("volume ") and "\n" not in error.message


@pytest.mark.parametrize("right", cases("wrong_names.yml", "right"), ids=ascii)
def test_right_names(right: str) -> None:
    assert names.identifier(right) == right


@given(st.text(max_size=6) | st.text(string.ascii_lowercase + "0._-", max_size=66))
def test_a_name_is_safe_wherever_it_is_put(text: str) -> None:
    try:
        names.identifier(text)
    except StorageError:
        return
    assert (
        1 <= len(text) <= 63 and text.isascii() and not set(text) - set(string.ascii_lowercase + string.digits + "._-")
    )
    assert text[0] not in "._-" and text[-1] not in "._-" and ".." not in text
    assert names.join("/srv", text) == "/srv/" + text


# -- paths


@pytest.mark.parametrize("wrong", cases("wrong_paths.yml", "wrong"), ids=ascii)
def test_wrong_paths(wrong: Any) -> None:
    error = refused(names.path, wrong, "where")
    assert error.details == {"option": "where"} and error.message.startswith("where ")
    assert not set(error.message) & set("\n\r\x1b\u2028\u202e"), "what is refused does no harm in a terminal"


@pytest.mark.parametrize("given,expected", cases("wrong_paths.yml", "right"), ids=ascii)
def test_right_paths(given: str, expected: str) -> None:
    assert names.path(given) == expected and names.path(expected) == expected


@pytest.mark.parametrize("wrong", cases("wrong_paths.yml", "wrong_relative"), ids=ascii)
def test_paths_that_leave(wrong: Any) -> None:
    refused(names.relative, wrong)
    if isinstance(wrong, str):
        refused(names.join, "/srv/t", wrong)
        refused(names.join, "/srv/t", "a", wrong)


PARTS = st.lists(st.sampled_from(["a", "b", "ab", "a.b", "..a", "é", "a b", "\udcff"]), max_size=5)


@given(PARTS, PARTS)
def test_what_is_joined_lies_within(base: list[str], rest: list[str]) -> None:
    root = "/" + "/".join(base)
    joined = names.join(root, *rest)
    assert names.path(joined) == joined and names.within(joined, root) and names.within(joined, "/")
    assert names.within(root, joined) == (not rest)
    assert joined == names.join(root, "/".join(rest) or ".") == names.join(root, ".", *rest, "./")
    assert root in [joined, *names.ancestors(joined)]
    assert list(names.ancestors(joined))[-1:] == ["/"] * (joined != "/")
    assert names.parent(joined) == next(names.ancestors(joined), "/")


@given(PARTS, PARTS)
def test_within_is_by_component(one: list[str], two: list[str]) -> None:
    assert names.within("/" + "/".join(one), "/" + "/".join(two)) == (one[: len(two)] == two)


def test_relatives() -> None:
    assert [names.relative(p) for p in (".", "./", "a", "a/", "a/b")] == [".", ".", "a", "a", "a/b"]
    assert names.join("/srv/x", "a") == "/srv/x/a"
    assert names.join("/", "a") == "/a" and names.join("/a/") == "/a/" and names.join("/a", ".") == "/a"
    assert names.parent("/a") == "/" == names.parent("/") and names.parent("/a/b") == "/a"
    assert list(names.ancestors("/a/b/c")) == ["/a/b", "/a", "/"] and list(names.ancestors("/")) == []
    assert refused(names.relative, "/a").hint == "write it relative to the root"
    assert "plain absolute" in refused(names.path, "a").hint and "1 to 63" in refused(names.identifier, "A").hint


def test_lengths_are_of_bytes() -> None:
    assert names.path("/" + "a" * 255) and names.path("/" + "é" * 127 + "a")
    assert "is too long" in refused(names.path, "/" + "é" * 128).message
    longest = "/" + "/".join(["a" * 200] * 20) + "/" + "b" * 74
    assert len(longest) == 4095 and names.path(longest) and names.path(longest + "/") == longest
    assert "is too long" in refused(names.path, longest + "b").message


@pytest.mark.parametrize(
    "value,expected",
    [
        ("0750", 0o750),
        ("750", 0o750),
        ("7777", 0o7777),
        ("00755", 0o755),
        ("000", 0),
        (0o750, 0o750),
        (0, 0),
        (0o7777, 0o7777),
    ],
)
def test_modes(value: Any, expected: int) -> None:
    assert octal.mode(value) == expected


@pytest.mark.parametrize(
    "wrong",
    ["", "75", "0o750", "888", "u=rwx", "10000", "000750", "-750", "7 5 0", "٧٥٠", None, 1.5, True, -1, 0o10000],
)
def test_wrong_modes(wrong: Any) -> None:
    assert "is not an octal mode" in refused(octal.mode, wrong, "mode").message
    with pytest.raises(StorageError) as caught:
        octal.mode(wrong)
    assert caught.value.details["option"] == "mode"
