# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate on skipped tests: with --skip-gate a run fails unless exactly the tests of tests/skipped.txt skip."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--skip-gate", action="store_true", help="fail unless exactly the tests of tests/skipped.txt skip")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--skip-gate"):
        config.pluginmanager.register(SkipGate(config), "skip-gate")


class SkipGate:
    """Compares what was skipped, or failed as expected, with the list for the folders of this run."""

    def __init__(self, config: pytest.Config) -> None:
        folders = tuple(name.rstrip("/") + "/" for name in config.args)
        lines = Path(config.rootpath, "tests", "skipped.txt").read_text(encoding="utf-8").splitlines()
        self.allowed = {line for line in lines if line.startswith(folders)}
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.skipped.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped != self.allowed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in sorted(self.skipped - self.allowed):
            terminalreporter.write_line("skipped, but not listed in tests/skipped.txt: " + nodeid, red=True)
        for nodeid in sorted(self.allowed - self.skipped):
            terminalreporter.write_line("listed in tests/skipped.txt, but not skipped: " + nodeid, red=True)
