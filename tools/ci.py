# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of this collection, run by `make test` and its smaller siblings.

`python3 tools/ci.py test` makes what it needs (Debian packages, environments, trees), runs every step, goes on
after a step that failed, and ends with the seconds each took and one line that counts the tests. What leaves this
host's kernel alone (texts, guests) runs beside the tests that do not.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, NamedTuple
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
    beside: str = ""  # with others of this word in a process of their own, unseen by the tests of this host's kernel


class Workshop:
    """What steps share: the Pythons found, the environment of the tools, the copied tree, the reports of the tests."""

    def __init__(self, reports: Path) -> None:
        self.pythons = interpreters.found()
        self.cores = sanity.chosen(self.pythons)
        self.venv = trees.CACHE / "venv-test"
        self.copy = trees.CACHE / "copy" / trees.PLACE
        self.reports = reports

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
        more = {"GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false"}  # it has a step of its own
        self.tool("python", "-m", "galaxy_importer.main", str(archive), cwd=self.copy.parents[2], **more)

    def sanity(self, core: sanity.Core) -> None:
        sanity.run(core, self.pythons, self.copy)

    # tests

    def pytest(self, folder: str, *but: str, **extra: str) -> None:
        """The tests of a folder, or of one file; ``but``: not those of a folder in it."""
        if not (trees.ROOT / folder).exists():
            raise Failed("%s does not exist: there is nothing to run" % folder)
        report = self.reports / (folder.replace("/", "-") + ".xml")
        programs = [trees.CACHE / ("venv-core-" + core.release) / "bin" / "ansible-playbook" for core in self.cores]
        more = {"BULKHEAD_ANSIBLE_PLAYBOOKS": os.pathsep.join(map(str, programs))}
        more["BULKHEAD_TARGET_PYTHON"] = min(p for p in self.pythons.values() if p.version >= (3, 8)).path
        more.update(extra)
        slow: tuple[str, ...] = ("--durations=12", "--durations-min=5")  # what takes the time is told with every run
        slow += tuple("--ignore=" + name for name in but)
        self.tool("pytest", folder, "--skip-gate", "--junit-xml", str(report), *slow, cwd=trees.ROOT, **more)

    def lab_image(self) -> None:
        environments.call([sys.executable, "tests/lab", "build"], trees.ROOT, dict(os.environ))

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
    cores, image, inside = "environments of the cores", "lab image", "tests/lab/inside"
    server, selinux, cluster = inside + "/server", inside + "/selinux", "tests/lab/ceph_cluster"
    # of the server's guest alone: what several guests take is the longest chain
    served = ("tests/lab/test_iscsi_server.py", "tests/lab/test_nfs_server.py")
    return [
        Step(debian, shop.debian, "test unit integration benchmark soak lab-test"),
        Step(tools, shop.tools, "test lint unit integration benchmark soak format lab-test"),
        Step(cores, shop.ansibles, "test integration"),
        Step(tree, shop.tree, "test lint sanity"),
        Step("format", shop.reformat, "format", (tools,)),
        Step("ruff check", shop.ruff, "test lint", (tools,), beside="texts"),
        Step("ruff format", shop.layout, "test lint", (tools,), beside="texts"),
        Step("mypy", shop.mypy, "test lint", (tools,), beside="texts"),
        Step("reuse lint", shop.licences, "test lint", (tools, tree), beside="texts"),
        Step("antsibull-changelog lint", shop.changelog, "test lint", (tools, tree), beside="texts"),
        Step("ansible-lint", shop.ansible_lint, "test lint", (tools, tree), beside="texts"),
        Step("antsibull-docs lint", shop.documentation, "test lint", (tools, tree), beside="texts"),
        Step(archive, shop.build, "test lint", (tools, tree), beside="texts"),
        Step("galaxy-importer", shop.importer, "test lint", (tools, archive), beside="texts"),
        Step(image, shop.lab_image, "test lab-test soak", (debian,), beside="guests"),
        Step(
            "lab, in guests",
            partial(shop.pytest, inside, server, selinux),
            "test lab-test",
            (tools, debian, image),
            beside="guests",
        ),
        Step(
            "lab, from outside",
            partial(shop.pytest, "tests/lab", inside, cluster, *served),
            "test lab-test",
            (tools, debian, image),
            beside="guests",
        ),
        Step(
            "molecule", partial(shop.pytest, "tests/molecule"), "test lab-test", (tools, debian, image), beside="guests"
        ),
        *(
            Step("sanity on " + core.release, partial(shop.sanity, core), "test sanity", (tree,), beside="texts")
            for core in shop.cores
        ),
        Step(
            "mutants, a sample",
            partial(shop.mutants, "--sample", "100", "--seed", "1"),
            "test",
            (tools,),
            beside="texts",
        ),
        Step("lab, in the server", partial(shop.pytest, server), "test lab-test", (tools,), beside="texts"),
        *(
            Step("lab, " + Path(file).stem[5:], partial(shop.pytest, file), "test lab-test", (tools,), beside="texts")
            for file in served
        ),
        Step("lab, under SELinux", partial(shop.pytest, selinux), "test lab-test", (tools,), beside="texts"),
        Step("unit tests", partial(shop.pytest, "tests/unit"), "test unit", (tools, debian)),
        Step("cluster of Ceph", partial(shop.pytest, cluster), "test lab-test", (tools, debian)),
        Step(
            "integration tests", partial(shop.pytest, "tests/integration"), "test integration", (tools, debian, cores)
        ),
        Step("lab, every kill", partial(shop.pytest, "tests/lab", BULKHEAD_SOAK="1"), "soak", (tools, image)),
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
    ]


Results = dict[str, tuple[str, float]]


def perform(chosen: list[Step], together: bool = True) -> Results:
    """Run the steps; what each came to, and its seconds.

    They run in order; with `together`, from the first one on that may, those with a word of their own beside the rest.
    """
    results: Results = {}
    split = next((index for index, step in enumerate(chosen) if step.beside), len(chosen))
    lanes: dict[str, list[Step]] = {"": []}
    for step in chosen[split:]:
        lanes.setdefault(step.beside if together else "", []).append(step)
    _in_turn(chosen[:split], results)
    rest = lanes.pop("")
    with contextlib.ExitStack() as held:
        others = [held.enter_context(_apart(lane, dict(results))) for lane in lanes.values() if rest]
        for lane in lanes.values() if not rest else [rest]:
            _in_turn(lane, results)
        for theirs in others:
            results.update(theirs())
    return {step.name: results[step.name] for step in chosen}


def _in_turn(chosen: list[Step], results: Results) -> None:
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


@contextlib.contextmanager
def _apart(chosen: list[Step], results: Results) -> Iterator[Callable[[], Results]]:
    """Steps in a process of their own, which is interrupted when we end; a call waits for what they came to."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(reading)
            ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG, linux/prctl.h
            if os.getppid() == parent:
                for step in chosen:
                    with _gathered():
                        _in_turn([step], results)
                os.write(writing, json.dumps({step.name: results[step.name] for step in chosen}).encode())
                status = 0
        finally:
            os._exit(status)
    os.close(writing)

    def told() -> Results:
        text = stream.read()
        if not text:
            raise Failed("a process beside ended without a word")
        return {name: (outcome, seconds) for name, (outcome, seconds) in json.loads(text).items()}

    with open(reading, encoding="utf-8") as stream:
        try:
            yield told
        except BaseException:
            os.kill(pid, signal.SIGINT)
            raise
        finally:
            os.waitpid(pid, 0)


@contextlib.contextmanager
def _gathered() -> Iterator[None]:
    """What is printed meanwhile, by us and by our programs, comes out in one piece."""
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as log:
        for fd in (1, 2):
            os.dup2(log.fileno(), fd)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for fd, before in zip((1, 2), kept):
                os.dup2(before, fd)
                os.close(before)
            log.seek(0)
            while part := log.read(1 << 16):
                os.write(1, part)


def ticks() -> list[int]:
    """Of all cores since the boot: what they did, and how long they did nothing (proc(5), /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as stream:
        user, nice, system, idle, waiting, *others = map(int, stream.readline().split()[1:9])
    return [user + nice + system + sum(others), idle + waiting]


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
        shop, start, before = Workshop(Path(reports)), time.monotonic(), ticks()
        # a soak looks for what is rare: nothing beside it
        results = perform([step for step in steps(shop) if target in step.targets.split()], together=target == "test")
        tests = counted(shop.reports)
    busy, idle = (now - then for now, then in zip(ticks(), before))
    print("\n== %.0f s in all, cores busy %d %%" % (time.monotonic() - start, 100 * busy // max(busy + idle, 1)))
    for name, (outcome, seconds) in results.items():
        print("%8.1f s  %-26s %s" % (seconds, name, outcome))
    if target not in ("lint", "sanity", "format"):
        print(tests)
    return 0 if all(outcome == "ok" for outcome, _seconds in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
