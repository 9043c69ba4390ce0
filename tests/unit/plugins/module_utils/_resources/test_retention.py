# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots stay, row by row. The dates are those of ISO 8601; 2026-01-01 is a Thursday of week 2026-W01."""

from __future__ import annotations

import calendar
import time

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import retention

HOURS = ["2026-01-02 %02d:%02d" % (hour, minute) for hour in (9, 10, 12) for minute in (0, 30)]
DAYS = ["2025-12-%02d 03:00" % day for day in range(26, 32)] + ["2026-01-01 03:00", "2026-01-02 03:00"]
MONTHS = ["2025-%02d-15 00:00" % month for month in (1, 2, 3, 11, 12)] + ["2025-12-31 23:59", "2026-01-01 00:00"]
TABLE = [
    (HOURS, {"last": 1}, ["2026-01-02 12:30"]),
    (HOURS, {"last": 99}, HOURS),
    (HOURS, {"last": 0, "hourly": 1}, ["2026-01-02 12:30"]),
    # 11 o'clock has none and is not counted
    (HOURS, {"hourly": 2}, ["2026-01-02 10:30", "2026-01-02 12:30"]),
    (HOURS, {"hourly": 9}, ["2026-01-02 09:30", "2026-01-02 10:30", "2026-01-02 12:30"]),
    (HOURS, {"daily": 5}, ["2026-01-02 12:30"]),
    (DAYS, {"daily": 3}, DAYS[-3:]),
    # Friday to Sunday are the week before; the year of a week is that of its Thursday
    (DAYS, {"weekly": 2}, ["2025-12-28 03:00", "2026-01-02 03:00"]),
    (DAYS, {"weekly": 1}, ["2026-01-02 03:00"]),
    (DAYS, {"monthly": 2}, ["2025-12-31 03:00", "2026-01-02 03:00"]),
    (MONTHS, {"monthly": 3}, ["2025-11-15 00:00", "2025-12-31 23:59", "2026-01-01 00:00"]),
    # what any rule keeps is kept; one does not take from another
    (DAYS, {"last": 2, "daily": 2, "weekly": 2}, ["2025-12-28 03:00", "2026-01-01 03:00", "2026-01-02 03:00"]),
    ([], {"last": 1}, []),
]


def at(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize("index", range(len(TABLE)))
def test_what_is_kept(index: int) -> None:
    made, rules, staying = TABLE[index]
    for order in (made, made[::-1]):
        assert sorted(retention.kept({name: at(name) for name in order}, rules)) == sorted(staying)


def test_two_of_one_second_are_told_apart() -> None:
    assert retention.kept({"b": 5, "a": 5, "c": 4}, {"last": 1}) == {"b"}


def test_what_comes_now_counts_and_stays() -> None:
    rows = {"old": {"created_at": "2026-01-01T00:00:00Z"}, "older": {"created_at": "2025-12-31T00:00:00Z"}}
    now = at("2026-01-02 00:00")
    assert retention.pruned(rows, "new", now, {"last": 2, "daily": None}) == ["older"]
    # a clock that was set back takes nothing away from what is made now
    assert retention.pruned(rows, "new", at("2020-01-01 00:00"), {"last": 1}) == ["older"]


@pytest.mark.parametrize(
    "template,name",
    [
        ("daily-%Y-%m-%d", "daily-2026-01-02"),
        ("h%Y%m%d-%H%M%S", "h20260102-123000"),
        ("w%G.%V-%u", "w2026.01-5"),
        ("%j", "002"),
    ],
)
def test_names(template: str, name: str) -> None:
    assert retention.named(template, at("2026-01-02 12:30")) == name


@pytest.mark.parametrize("template", ["%", "%%", "%b", "%-d", "%e", "a%Y/b", "%Y-", "a..%Y", "%Y" * 16, "%c", "A%Y"])
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(StorageError) as caught:
        retention.named(template, 0)
    assert caught.value.code == "invalid"
