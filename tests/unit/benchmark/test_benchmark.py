# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of ``make benchmark``, and the page that it writes; what it measures is not tested."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml

from ansible_collections.bulkhead.storage.tests.benchmark import __main__ as benchmark
from ansible_collections.bulkhead.storage.tests.benchmark import costs, declarations, figures, page, plays

ROUNDS = [
    {"ours": {"cpu": 2.0, "wall": 9.0}, "ping": {"cpu": 1.0, "wall": 3.0}},
    {"ours": {"cpu": 9.0, "wall": 9.0}, "ping": {"cpu": 3.0, "wall": 3.0}},
    {"ours": {"cpu": 4.0, "wall": 9.0}, "ping": {"cpu": 4.0, "wall": 3.0}},
]


def test_ratios_are_taken_within_a_round() -> None:
    """The medians alone, 4 and 3, would say 1.33."""
    assert figures.middle(ROUNDS, "ours") == 4.0
    assert figures.ratio(ROUNDS, "ours", "ping") == 2.0
    assert figures.ratio(ROUNDS, "ours", "ping", "wall") == 3.0
    assert figures.spread(ROUNDS, "ours", "ping") == (1.0, 3.0)


def test_what_one_costs_above_another() -> None:
    assert figures.above(ROUNDS, "ours", "ping") == 1.0
    assert figures.above(ROUNDS, "ping", "ours") == 0.0


def test_extrapolation_keeps_the_start_up() -> None:
    points = [(10, 1.0), (100, 10.0)]
    assert figures.extrapolated(points, 1000) == pytest.approx(100.0)
    assert figures.extrapolated([(10, 2.0), (100, 11.0)], 1000) == pytest.approx(101.0)
    assert figures.extrapolated(points, 55) == pytest.approx(5.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0000712, "71.2 us"),
        (0.0451, "45.1 ms"),
        (0.9996, "1000 ms"),
        (1.234, "1.23 s"),
        (119.0, "119 s"),
        (246.0, "4.10 min"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert figures.seconds(value) == text


def test_times() -> None:
    assert [figures.times(v) for v in (1.046, 12.34, 480.4)] == ["1.05x", "12.3x", "480x"]


def test_a_table_is_one_that_rst_reads() -> None:
    assert figures.table([["a", "bc"], [1, ""]]) == (
        "+---+----+\n| a | bc |\n+===+====+\n| 1 |    |\n+---+----+\n"  # by hand
    )


def test_yaml_says_what_json_says() -> None:
    document = {**declarations.tenants(2), "none": [], "deep": {"a": [[1, 2], {"b": None}]}}
    assert yaml.safe_load(plays.yaml(document)) == document


@pytest.mark.parametrize("kind", declarations.KINDS)
def test_declarations_grow_with_their_number(kind: str) -> None:
    few, many = (sum(map(len, declarations.document(kind, n).values())) for n in (1, 7))
    assert many - few == 6
    loops = [sum(len(task["loop"]) for task in declarations.peers(kind, n)) for n in (1, 7)]
    assert loops[1] == 7 * loops[0]


def test_a_child_is_charged_what_it_and_its_children_use() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', %r]); print('done')" % burn
    cost, text = costs.child([sys.executable, "-c", script], costs.clean({}))
    assert text == b"done\n"
    assert cost["cpu"] >= 0.2
    assert cost["wall"] >= 0.2


def test_a_child_is_not_charged_the_memory_of_the_one_that_measures() -> None:
    ballast = bytearray(200 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    cost, _text = costs.child(["/bin/true"], costs.clean({}))
    assert 0 < cost["rss"] < 60, "far less than the %d MiB held here" % (len(ballast) >> 20)


def test_a_child_that_fails_is_not_a_figure() -> None:
    with pytest.raises(costs.Failed, match="so it goes"):
        costs.child([sys.executable, "-c", "raise SystemExit('so it goes')"], costs.clean({}))


def test_nothing_of_the_callers_python_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setenv("ANSIBLE_PIPELINING", "0")
    env = costs.clean({"ANSIBLE_CONFIG": "ours"})
    assert not [name for name in env if name.startswith("PYTHON")]
    assert [name for name in env if name.startswith("ANSIBLE_")] == ["ANSIBLE_CONFIG"]


def test_the_first_round_does_not_count() -> None:
    told = iter(range(100))
    assert costs.rounds(2, {"a": lambda: {"cpu": next(told)}}) == [{"a": {"cpu": 1}}, {"a": {"cpu": 2}}]


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ('mkdir("/srv/x", 0755) = 0', True),
        ('openat(AT_FDCWD</>, "/srv/x", O_WRONLY|O_CREAT, 0600) = 3', True),
        ('openat(AT_FDCWD</>, "/srv/x", O_RDONLY) = 3', False),
        ('fsetxattr(5</srv/x>, "system.posix_acl_access", "", 4, 0) = 0', True),
        ('fgetxattr(5</srv/x>, "system.posix_acl_access", NULL, 0) = 4', False),
        ('renameat2(5</srv>, "a", 5</srv>, "b", RENAME_NOREPLACE) = 0', True),
        ("ioctl(5</srv>, BTRFS_IOC_QGROUP_LIMIT, 0x1) = 0", True),
        ("ioctl(5</srv>, BTRFS_IOC_TREE_SEARCH_V2, 0x1) = 0", False),
        ("ioctl(1</tmp/#3>(deleted), TCGETS, 0x1) = -1 ENOTTY", False),
        ('write(1</tmp/#3>(deleted), "{}", 2) = 2', False),
        ('write(5</srv/x>, "{}", 2) = 2', True),
        ('mkdir("WORK/tmp/ansible_x_payload_1", 0700) = 0', False),
        ('mkdir("/tmp/x", 0700) = 0', True),
        ('mount("tmpfs", "/srv/x", "tmpfs", 0, NULL) = 0', True),
        ('move_mount(5</srv>, "", AT_FDCWD</>, "/srv/x", 4) = 0', True),
        ("futex(0x1, FUTEX_WAKE, 1) = 0", False),
    ],
)
def test_which_calls_leave_a_trace(line: str, counts: bool, tmp_path: Any) -> None:
    runner = plays.Plays(str(tmp_path), "/nowhere")
    assert runner._changes(line.replace("WORK", str(tmp_path))) is counts


def found(count: int = 1000) -> dict[str, Any]:
    """Figures of a machine on which everything takes as many seconds as it says here."""

    def cost(cpu: float) -> dict[str, float]:
        return {"cpu": cpu, "wall": 2 * cpu, "rss": 30.0, "inside": cpu / 2}

    plays_of = {"ping": 1.0, "empty": 0.5, "file": 1.1, "json": 1.5, "host": 1.7, "yaml": 2.5}
    loads = dict.fromkeys(("load json", "load yaml", "load host"), 1.25)
    return {
        "date": "2026-01-02",
        "machine": {
            "cpu": "A processor",
            "cores": 2,
            "memory_gib": 8,
            "kernel": "6.1",
            "ansible-core": "2.19",
            "controller_python": "3.13",
            "target_python": "3.11",
        },
        "plays": {"count": count, "rounds": [{k: cost(v) for k, v in {**plays_of, **loads}.items()}]},
        "module": {
            "count": count,
            "rounds": [{"ping": cost(0.1), "file": cost(0.12), "json": cost(0.2)}],
            "sent": {"ping": 1024, "file": 2048, "json": 4096},
            "calls": {name: {"programs": [], "changes": []} for name in ("file", "json")},
        },
        "loops": [
            {"kind": "directories", "count": n, "changed": 0, "rounds": [{"ours": cost(1.0), "peers": cost(n)}]}
            for n in (10, 100)
        ],
        "floor": [
            {
                "kind": "directories",
                "count": 1000,
                "first": [{"ping": cost(0.1), "bare": cost(0.05), "module": cost(0.3)}],
                "again": [{"ping": cost(0.1), "bare": cost(0.01), "module": cost(0.15)}],
            }
        ],
        "left_out": [["filesystems", 1000]],
    }


def row(text: str, *words: str) -> list[str]:
    """The cells of the one row that has all these words."""
    (line,) = [line for line in text.splitlines() if line.startswith("|") and all(word in line for word in words)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_holds_goals_against_figures() -> None:
    text = page.written(found())
    assert row(text, "nothing, a file on the target")[1:] == ["1.15x of a ping play", "1.10x", "yes"]
    assert row(text, "nothing, JSON, ``host_vars``")[1:] == ["1.60x of a ping play", "1.70x", "**no**"]
    assert row(text, "JSON variables: CPU")[2:] == ["2.00x", "**no**"]
    assert row(text, "Loops of others at 100 ")[2:] == ["100x", "yes"]
    assert row(text, "Loops of others at 1000")[2:] == ["667x (extrapolated)", "yes"], "1000 s over 1.5 s"
    assert row(text, "First converge")[2:] == ["4.00x", "**no**"], "(0.3 - 0.1) / 0.05"
    told = found()
    told["floor"][0]["first"][0]["careful"] = {"cpu": 0.08, "wall": 0.08, "rss": 0.0}
    reached = row(page.written(told), "First converge")[2]
    assert reached == "4.00x (safe calls alone: 1.60x)", "0.08 / 0.05"
    assert row(page.written(told), "owner, mode, ACL", "first")[4] == "80.0 ms"
    assert "1,000 ext4 filesystems" in text
    assert "**Calculated**" in text


def test_a_program_that_was_run_is_a_goal_missed() -> None:
    figures_of = found()
    figures_of["module"]["calls"]["json"]["programs"].append("execve(...)")
    assert row(page.written(figures_of), "Programs run")[2:] == ["1", "**no**"]


def test_mitogen_is_measured_where_it_ran() -> None:
    def both(n: int) -> list[dict[str, dict[str, float]]]:
        return [{"ping": {"cpu": 1.0}, "ours": {"cpu": 1.0}, "peers": {"cpu": 1.0 + n / 10}}]

    sizes: list[dict[str, Any]] = [{"count": n, "rounds": both(n)} for n in (10, 100)]
    sizes.append({"count": 1000, "rounds": [{"ping": {"cpu": 1.0}, "ours": {"cpu": 2.0}}]})
    text = page.written({**found(), "mitogen": {"sizes": sizes}})
    assert "Calculated" not in text
    assert row(text, "101 s (extrapolated)")[-1] == "50.5x"


def test_what_failed_is_named_on_the_page() -> None:
    assert "missing here: loops over 10 tmpfs" in page.written({**found(), "failed": {"loops over 10 tmpfs": "..."}})


def test_quotas_of_a_guest_are_told_when_they_were_measured() -> None:
    guest = {"count": 1000, "kernel": "6.12", "layout": [9.0, 10.0, 12.0], "loops": {"5": 15.0, "20": 60.0}}
    guest.update(ping=[2.0], extrapolated=3000.0, ratio=300.0, calls={"programs": 0, "next": 1000, "set": 0})
    text = page.written({**found(), "guest": guest})
    assert "300x" in text and "10.0 s" in text and "(extrapolated)" in text and "1,000 steps, 0 programs" in text
    assert "xfs_quota" not in page.written(found())


def test_jobs_of_a_guest_are_told_with_the_share_of_systemd() -> None:
    one = dict.fromkeys(("attach", "detach", "mounts", "service", "walled", "start", "systemd", "again", "end"), 1.0)
    rounds = [{**one, "start": 4.0, "systemd": 1.0}, {**one, "start": 2.0}, {**one, "start": 10.0, "systemd": 9.0}]
    text = page.written({**found(), "jobs": {"kernel": "6.12", "systemd": "257", "rounds": rounds}})
    assert row(text, "start a job with a volume")[1:] == ["4.00 s", "4.00x of that"]
    assert row(text, "of it ``systemctl start``")[1:] == ["1.00 s", "0.50x of the whole"]
    assert "Volumes and jobs in a guest" not in page.written(found())


def test_thin_volumes_of_a_guest_are_told_when_they_were_measured() -> None:
    def both(value: float) -> dict[str, float]:
        return {"wall": value, "cpu": value / 2}

    loops = {"2": [both(5.0)] * 3, "10": [both(21.0)] * 3}
    thin = {"count": 50, "kernel": "6.12", "lvm": "2.03", "load": 1.0, "programs": 1, "loops": loops}
    thin["firsts"] = [{"bare": both(100.0), "ours": both(120.0)}, {"bare": both(100.0), "ours": both(140.0)}]
    thin["quiet"] = [{"ping": both(2.0), "layout": both(3.0)}]
    text = page.written({**found(), "thin": thin})
    assert row(text, "times the bare commands")[2:] == ["1.30x", "1.30x"]
    assert row(text, "times a ping")[2:] == ["1.50x", "1.50x"]
    assert row(text, "the same, extrapolated")[1:] == ["50", "5.05 min", "2.52 min"], (
        "63 s at 10, and 6 s for each more"
    )
    assert row(text, "times layout")[2:] == ["101x", "101x"]
    assert "lvol" not in page.written(found())


def test_the_page_is_the_one_of_the_newest_figures() -> None:
    """Written by the same run, never by hand; and it is one of the guides."""
    kept = sorted((benchmark.HERE / "results").glob("*.json"))
    guides = (benchmark.PAGE.parents[1] / "extra-docs.yml").read_text(encoding="utf-8")
    assert benchmark.PAGE.is_file() == bool(kept) == ("- performance\n" in guides)
    if kept:
        assert benchmark.newest() == kept[-1]
        assert benchmark.PAGE.read_text(encoding="utf-8") == page.written(benchmark.kept())


def test_network_storage_of_a_guest_is_told_as_ratios() -> None:
    cost = {"wall": 2.0, "cpu": 1.0}
    runs = [{"ours": cost, "theirs": {"wall": 30.0, "cpu": 8.0}}]
    kinds = {"firsts": runs, "quiet": runs}
    told = {"kernel": "6.12", "load": 0.5, "count": 20, "nfs4": kinds, "ext4": kinds}
    text = page.written({**found(), "network": told})
    assert text.count("| *times layout*") == 4 and text.count("15.0x") == text.count("8.00x") == 4
    assert "benchmark/network.py" not in page.written(found())
