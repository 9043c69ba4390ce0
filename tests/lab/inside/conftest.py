# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests beneath run inside a guest, by its own pytest: the folder is the guest's name.

On the host each stands for itself: the first one that runs has all that were chosen run in the guest in one go, and
each then shows what became of it there.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.support import lab

INSIDE = Path(__file__).resolve().parent
OUTCOMES = "/run/lab-outcomes"
WITHIN = "BULKHEAD_LAB_GUEST" in os.environ
DEADLINE = 14400.0 if os.environ.get("BULKHEAD_SOAK") else 4200.0  # seconds for all tests of a guest


class Elsewhere(pytest.Item):
    """A test that runs in a guest."""

    def runtest(self) -> None:
        """Show what became of it there."""
        every = self.config.stash.setdefault(RESULTS, {})
        guest = self.path.resolve().relative_to(INSIDE).parts[0]
        if guest not in every:
            items = [item for item in self.session.items if isinstance(item, Elsewhere)]
            chosen = [item.nodeid for item in items if item.path.resolve().relative_to(INSIDE).parts[0] == guest]
            every[guest] = {"": ("failed", "the guest was not to be had for the first of these tests")}
            every[guest] = run(guest, chosen, self.config)
        outcome, text = every[guest].get(self.nodeid, ("failed", every[guest][""][1]))
        if outcome == "skipped":
            pytest.skip(text)
        if outcome != "passed":
            raise AssertionError(text)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name

    def repr_failure(self, excinfo: Any, style: Any = None) -> str:
        return str(excinfo.value)


RESULTS = pytest.StashKey[dict[str, dict[str, tuple[str, str]]]]()
SLOWEST = pytest.StashKey[dict[str, list[str]]]()


def run(name: str, chosen: list[str], config: pytest.Config) -> dict[str, tuple[str, str]]:
    """Outcome and text of each test; under the empty name what pytest said in all."""
    guest = lab.brought_up(name)
    argv = [
        "env",
        "-C",
        lab.PLACE,
        "BULKHEAD_LAB_GUEST=" + name,
        *(["BULKHEAD_SOAK=1"] if os.environ.get("BULKHEAD_SOAK") else []),
        "PYTHONPATH=" + lab.TOP,
        "python3",
        "-m",
        "pytest",
        "-q",
        "--durations=12",
        "--durations-min=5",
        "--",
        *chosen,
    ]
    done = guest.run(argv, check=False, timeout=DEADLINE)
    slowest = re.findall(r"^ *[0-9.]+s (?:call|setup|teardown) .*", done.stdout, re.M)
    config.stash.setdefault(SLOWEST, {})[name] = slowest
    results = {"": ("failed", "it did not run in the guest; pytest there said:\n" + done.stdout + done.stderr)}
    for line in guest.run(["cat", OUTCOMES], check=False).stdout.splitlines():
        nodeid, outcome, text = json.loads(line)
        if results.get(nodeid, ("passed", ""))[0] == "passed":  # set up, call and clean up each report
            results[nodeid] = (outcome, text)
    return results


if WITHIN:

    def pytest_configure(config: pytest.Config) -> None:
        Path(OUTCOMES).unlink(missing_ok=True)

    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            text += "".join("\n--- %s\n%s" % section for section in report.sections)
            with open(OUTCOMES, "a", encoding="utf-8") as f:
                f.write(json.dumps([report.nodeid, report.outcome, text]) + "\n")

else:

    def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
        for guest, lines in config.stash.get(SLOWEST, {}).items():
            if lines:
                terminalreporter.section("slowest in guest " + guest)
                terminalreporter.write_line("\n".join(lines))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        for index, item in enumerate(items):
            if INSIDE in item.path.resolve().parents:
                items[index] = Elsewhere.from_parent(item.parent, name=item.name)
