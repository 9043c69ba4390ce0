# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of this collection, run by `make test` and its smaller siblings.

`python3 tools/ci.py test` makes what it needs (Debian packages, environments, trees), runs every step, goes on
after a step that failed, and ends with the seconds each took and one line that counts the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple
from xml.etree import ElementTree

import environments
import interpreters
import packages
import sanity
import trees

MITOGEN = "mitogen==0.3.54"  # what many fleets run with: only measured against
TARGETS = ("test", "lint", "unit", "integration", "sanity", "benchmark", "soak", "format", "lab-test")


class Failed(Exception):
    """A step found something wrong; the text says what."""


class Step(NamedTuple):
    name: str
    run: Callable[[], None]
    targets: str
    needs: tuple[str, ...] = ()


class Workshop:
    """What steps share: the Pythons found, the environment of the tools, the copied tree, the reports of the tests."""

    def __init__(self, reports: Path) -> None:
        self.pythons = interpreters.found()
        self.cores = sanity.chosen(self.pythons)
        self.venv = trees.CACHE / "venv-test"
        self.copy = trees.CACHE / "copy" / trees.PLACE
        self.reports = reports
        self.building: subprocess.Popen[bytes] | None = None

    # what the steps stand on

    def debian(self) -> None:
        packages.install("test")

    def tools(self) -> None:
        python = interpreters.newest(self.pythons, (3, 11), (3, 13))
        if python is None:
            raise Failed("the tools need Python 3.11, 3.12 or 3.13 with venv; found: %s" % sorted(self.pythons))
        environments.made("test", python, ["-r", "tests/requirements.txt"])

    def ansibles(self) -> None:
        """The oldest and the newest core, for what must hold on every supported one."""
        for core in self.cores:
            sanity.environment(core, self.pythons)

    def tree(self) -> None:
        trees.copied()
        print("%d files" % len(trees.files()))

    def tool(self, *argv: str, cwd: Path | None = None, **extra: str) -> None:
        """Run a program of the test environment in the copied tree, or in `cwd` with the linked one."""
        collections = trees.linked() if cwd else self.copy.parents[2]
        env = environments.variables(self.venv, collections)
        env.update(extra)
        environments.call([str(self.venv / "bin" / argv[0]), *argv[1:]], cwd or self.copy, env)

    # checks of the text

    def ruff(self) -> None:
        self.tool("ruff", "check", "--output-format=concise", ".", cwd=trees.ROOT)

    def layout(self) -> None:
        self.tool("ruff", "format", "--check", "--output-format=concise", ".", cwd=trees.ROOT)

    def mypy(self) -> None:
        top = trees.linked()
        checked = [str(top / trees.PLACE / "plugins"), str(trees.ROOT / "tools")]
        config = ["--config-file", str(trees.ROOT / ".mypy.ini"), "--cache-dir", str(trees.CACHE / "mypy")]
        self.tool("mypy", *config, *checked, cwd=trees.ROOT, MYPYPATH="%s:%s" % (top, trees.ROOT / "tools"))

    def licences(self) -> None:
        self.tool("reuse", "lint", "--lines")

    def changelog(self) -> None:
        self.tool("antsibull-changelog", "lint")

    def ansible_lint(self) -> None:
        self.tool("ansible-lint", "--offline", "--profile", "production", "--strict")

    def documentation(self) -> None:
        self.tool("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs=self", ".")

    # the artifact

    def build(self) -> None:
        folder = trees.CACHE / "build"
        if folder.exists():
            shutil.rmtree(folder)
        self.tool("ansible-galaxy", "collection", "build", "--output-path", str(folder))

    def importer(self) -> None:
        (archive,) = (trees.CACHE / "build").iterdir()
        self.tool("python", "-m", "galaxy_importer.main", str(archive), cwd=self.copy.parents[2])

    def sanity(self, core: sanity.Core) -> None:
        sanity.run(core, self.pythons, self.copy)

    # tests

    def pytest(self, folder: str, **extra: str) -> None:
        """The tests of a folder, or of one file."""
        if not (trees.ROOT / folder).exists():
            raise Failed("%s does not exist: there is nothing to run" % folder)
        report = self.reports / (folder.replace("/", "-") + ".xml")
        programs = [trees.CACHE / ("venv-core-" + core.release) / "bin" / "ansible-playbook" for core in self.cores]
        more = {"BULKHEAD_ANSIBLE_PLAYBOOKS": os.pathsep.join(map(str, programs))}
        more["BULKHEAD_TARGET_PYTHON"] = min(p for p in self.pythons.values() if p.version >= (3, 8)).path
        more.update(extra)
        self.tool("pytest", folder, "--skip-gate", "--junit-xml", str(report), cwd=trees.ROOT, **more)

    def lab_begun(self) -> None:
        """The lab's image is made in the background: that waits for a mirror, and for one guest to boot."""
        argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, "tests/lab", "build"]
        with open(self.lab_log(), "wb") as log:
            self.building = subprocess.Popen(argv, cwd=trees.ROOT, stdin=-3, stdout=log, stderr=log)

    def lab_log(self) -> Path:
        return trees.CACHE / "lab-build.log"

    def lab_built(self) -> None:
        if self.building is None:
            raise Failed("nobody has begun it")
        status = self.building.wait(environments.DEADLINE)
        print(self.lab_log().read_text(encoding="utf-8", errors="replace"), end="")
        if status:
            raise Failed("tests/lab build ended with %d" % status)

    def benchmark(self) -> None:
        """Not a test: it measures, keeps the figures and writes a page. Mitogen is measured where it can be had."""
        collections = str(trees.linked())
        more = {"PYTHONPATH": collections, "BENCHMARK_COLLECTIONS": collections}
        mitogen = trees.CACHE / "mitogen"
        if not mitogen.is_dir():
            pip = [str(self.venv / "bin" / "python"), "-m", "pip", "-q", "--disable-pip-version-check", "install"]
            subprocess.run([*pip, "--no-deps", "--target", str(mitogen), MITOGEN], check=False)
        strategies = mitogen / "ansible_mitogen" / "plugins" / "strategy"
        argv = ["python", "-m", "ansible_collections.bulkhead.storage.tests.benchmark"]
        self.tool(*argv, *(["--mitogen", str(strategies)] if strategies.is_dir() else []), cwd=trees.ROOT, **more)

    def mutants(self, *arguments: str) -> None:
        self.tool("python", "tools/mutate.py", *arguments, cwd=trees.ROOT)

    def reformat(self) -> None:
        self.tool("ruff", "check", "--fix", "--exit-zero", "--quiet", ".", cwd=trees.ROOT)
        self.tool("ruff", "format", ".", cwd=trees.ROOT)


def steps(shop: Workshop) -> list[Step]:
    """All steps, cheap ones first; `targets` are the words of the command line that run them."""
    debian, tools, tree, archive = "debian packages", "environment of the tools", "copied tree", "collection build"
    cores, image = "environments of the cores", "lab image, done"
    return [
        Step(debian, shop.debian, "test unit integration benchmark soak lab-test"),
        Step("lab image, begun", shop.lab_begun, "test lab-test soak", (debian,)),
        Step(tools, shop.tools, "test lint unit integration benchmark soak format lab-test"),
        Step(cores, shop.ansibles, "test integration"),
        Step("format", shop.reformat, "format", (tools,)),
        Step("ruff check", shop.ruff, "test lint", (tools,)),
        Step("ruff format", shop.layout, "test lint", (tools,)),
        Step("mypy", shop.mypy, "test lint", (tools,)),
        Step(tree, shop.tree, "test lint sanity"),
        Step("reuse lint", shop.licences, "test lint", (tools, tree)),
        Step("antsibull-changelog lint", shop.changelog, "test lint", (tools, tree)),
        Step("ansible-lint", shop.ansible_lint, "test lint", (tools, tree)),
        Step("antsibull-docs lint", shop.documentation, "test lint", (tools, tree)),
        Step(archive, shop.build, "test lint", (tools, tree)),
        Step("galaxy-importer", shop.importer, "test lint", (tools, archive)),
        Step("unit tests", partial(shop.pytest, "tests/unit"), "test unit", (tools, debian)),
        Step(
            "integration tests", partial(shop.pytest, "tests/integration"), "test integration", (tools, debian, cores)
        ),
        Step(image, shop.lab_built, "test lab-test soak", ("lab image, begun",)),
        Step("lab tests", partial(shop.pytest, "tests/lab"), "test lab-test", (tools, debian, image)),
        Step("mutants, a sample", partial(shop.mutants, "--sample", "100", "--seed", "1"), "test", (tools,)),
        Step("lab killed", partial(shop.pytest, "tests/lab/test_lab.py", BULKHEAD_SOAK="1"), "soak", (tools, image)),
        Step("mutants", shop.mutants, "soak", (tools,)),
        Step("benchmark", shop.benchmark, "benchmark", (tools, debian)),
        Step(
            "fidelity, 10,000 hosts",
            partial(shop.pytest, "tests/integration/test_fidelity.py", BULKHEAD_SEQUENCES="10000"),
            "soak",
            (tools, debian),
        ),
        Step(
            "every call fails with every error",
            partial(shop.pytest, "tests/integration/test_crash.py", BULKHEAD_SOAK="1", BULKHEAD_CRASH="all"),
            "soak",
            (tools, debian),
        ),
        *(Step("sanity on " + core.release, partial(shop.sanity, core), "test sanity", (tree,)) for core in shop.cores),
    ]


def perform(chosen: list[Step]) -> dict[str, tuple[str, float]]:
    """Run the steps in order; what each came to, and its seconds."""
    results: dict[str, tuple[str, float]] = {}
    for step in chosen:
        print("\n== %s" % step.name, flush=True)
        start = time.monotonic()
        lacking = [need for need in step.needs if results.get(need, ("ok", 0.0))[0] != "ok"]
        outcome = "ok"
        try:
            if lacking:
                raise Failed("not run, because this failed before: " + ", ".join(lacking))
            step.run()
        except subprocess.CalledProcessError as error:
            outcome = "FAILED (exit status %d)" % error.returncode
        except subprocess.TimeoutExpired as error:
            outcome = "FAILED (not done after %d s)" % error.timeout
        except (Failed, packages.Missing) as error:
            outcome = "FAILED (%s)" % error
        results[step.name] = (outcome, time.monotonic() - start)
        print("-- %s: %s, %.1f s" % (step.name, *results[step.name]), flush=True)
    return results


def counted(reports: Path) -> str:
    """One line over all test reports. A run that wrote none has been shown as a failed step."""
    tests = failed = skipped = 0
    for report in sorted(reports.iterdir()):
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            tests += int(suite.attrib["tests"])
            failed += int(suite.attrib["failures"]) + int(suite.attrib["errors"])
            skipped += int(suite.attrib["skipped"])
    return "%d passed, %d failed, %d skipped" % (tests - failed - skipped, failed, skipped)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the checks of this collection.")
    parser.add_argument("target", choices=TARGETS)
    target = parser.parse_args().target
    apart = environments.locked("copy") if target in ("test", "lint", "sanity") else contextlib.nullcontext()
    with apart, tempfile.TemporaryDirectory() as reports:
        shop = Workshop(Path(reports))
        results = perform([step for step in steps(shop) if target in step.targets.split()])
        tests = counted(shop.reports)
    print("\n== %.0f s in all" % sum(seconds for _outcome, seconds in results.values()))
    for name, (outcome, seconds) in results.items():
        print("%8.1f s  %-26s %s" % (seconds, name, outcome))
    if target not in ("lint", "sanity", "format"):
        print(tests)
    return 0 if all(outcome == "ok" for outcome, _seconds in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
