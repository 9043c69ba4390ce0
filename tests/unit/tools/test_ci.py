# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import ci
import packages
import pytest
import trees

GATE = "ansible_collections.bulkhead.storage.tests.support.skip_gate"
OUTCOMES = """\
import pytest

def test_runs():
    pass

def test_skips():
    pytest.skip("no such thing here")

@pytest.mark.xfail(strict=True)
def test_fails_as_expected():
    raise ValueError
"""
BOTH = ["tests/unit/test_it.py::test_skips", "tests/unit/test_it.py::test_fails_as_expected"]


def gated(project: Path, listed: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project of its own, with our gate and a list of allowed skips."""
    (project / "tests" / "unit").mkdir(parents=True, exist_ok=True)
    (project / "tests" / "unit" / "test_it.py").write_text(OUTCOMES)
    (project / "tests" / "skipped.txt").write_text("# why\n" + "".join(line + "\n" for line in listed))
    argv = [sys.executable, "-m", "pytest", "-p", GATE, "--rootdir", str(project), "-c", "/dev/null", *arguments]
    env = dict(os.environ, PYTHONPATH=str(trees.linked()))
    return subprocess.run(argv, cwd=project, env=env, stdout=-1, stderr=-2, encoding="utf-8", check=False)


def test_listed_skips_pass_the_gate(tmp_path: Path) -> None:
    run = gated(tmp_path, [*BOTH, "tests/integration/test_other.py::test_elsewhere"], "tests/unit", "--skip-gate")
    assert run.returncode == 0, run.stdout


def test_a_skip_that_is_not_listed_fails_the_run(tmp_path: Path) -> None:
    run = gated(tmp_path, BOTH[1:], "tests/unit", "--skip-gate")
    assert run.returncode == 1
    assert "skipped, but not listed in tests/skipped.txt: " + BOTH[0] in run.stdout


def test_an_expected_failure_that_is_not_listed_fails_the_run(tmp_path: Path) -> None:
    run = gated(tmp_path, BOTH[:1], "tests/unit", "--skip-gate")
    assert run.returncode == 1
    assert "skipped, but not listed in tests/skipped.txt: " + BOTH[1] in run.stdout


def test_a_listed_test_that_is_not_skipped_fails_the_run(tmp_path: Path) -> None:
    gone = "tests/unit/test_it.py::test_gone"
    run = gated(tmp_path, [*BOTH, gone], "tests/unit", "--skip-gate")
    assert run.returncode == 1
    assert "listed in tests/skipped.txt, but not skipped: " + gone in run.stdout


def test_a_skipped_file_is_seen_by_the_gate(tmp_path: Path) -> None:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_whole.py").write_text("import pytest\npytest.importorskip('no_such_thing')\n")
    run = gated(tmp_path, BOTH, "tests/unit", "--skip-gate")
    assert run.returncode == 1
    assert "not listed in tests/skipped.txt: tests/unit/test_whole.py" in run.stdout


def test_without_the_option_nobody_is_asked(tmp_path: Path) -> None:
    assert gated(tmp_path, [], "tests/unit").returncode == 0


def test_a_failed_step_fails_what_needs_it_and_nothing_else() -> None:
    ran = []

    def fail() -> None:
        raise ci.Failed("broken")

    def lack() -> None:
        raise packages.Missing("acl")

    def exit_with_two() -> None:
        raise subprocess.CalledProcessError(2, ["x"])

    results = ci.perform(
        [
            ci.Step("base", fail, "test"),
            ci.Step("upon", lambda: ran.append("upon"), "test", ("base",)),
            ci.Step("beside", lambda: ran.append("beside"), "test", ("elsewhere",)),
            ci.Step("lacking", lack, "test"),
            ci.Step("two", exit_with_two, "test"),
        ]
    )
    assert ran == ["beside"]
    assert [outcome for outcome, _seconds in results.values()] == [
        "FAILED (broken)",
        "FAILED (not run, because this failed before: base)",
        "ok",
        "FAILED (acl)",
        "FAILED (exit status 2)",
    ]


def test_steps_run_beside_the_others_and_are_told_in_one_piece(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = os.getpid()

    def wait_for(name: str) -> None:
        for _turn in range(500):
            if (tmp_path / name).exists():
                return
            time.sleep(0.01)
        raise ci.Failed("nobody made " + name)

    def beside() -> None:
        assert os.getpid() != here
        (tmp_path / "beside").touch()
        wait_for("third")
        raise ci.Failed("as it should")

    def third() -> None:
        wait_for("rest")
        (tmp_path / "third").touch()

    def rest() -> None:
        assert os.getpid() == here
        wait_for("beside")
        (tmp_path / "rest").touch()

    chosen = [
        ci.Step("base", lambda: None, "test"),
        ci.Step("beside", beside, "test", ("base",), beside="x"),
        ci.Step("upon", lambda: None, "test", ("beside",), beside="x"),
        ci.Step("third", third, "test", ("base",), beside="y"),
        ci.Step("rest", rest, "test", ("base",)),
    ]
    results = ci.perform(chosen)
    assert [(name, outcome) for name, (outcome, _seconds) in results.items()] == [
        ("base", "ok"),
        ("beside", "FAILED (as it should)"),
        ("upon", "FAILED (not run, because this failed before: beside)"),
        ("third", "ok"),
        ("rest", "ok"),
    ]
    results = ci.perform([ci.Step("alone", lambda: None, "test", beside="x")])
    assert results["alone"][0] == "ok", "nothing to be beside of"


def test_what_runs_beside_is_told_in_one_piece() -> None:
    script = """if True:
        import subprocess, time, ci
        def slow():
            subprocess.run(["echo", "from a program"], check=True)
            time.sleep(0.5)
        steps = [ci.Step("beside", slow, "test", beside="x"), ci.Step("rest", lambda: time.sleep(0.2), "test")]
        ci.perform(steps)
    """
    env = dict(os.environ, PYTHONPATH=str(trees.ROOT / "tools"))
    told = subprocess.run([sys.executable, "-c", script], env=env, stdout=-1, encoding="utf-8", check=True).stdout
    assert "\n== beside\nfrom a program\n-- beside: ok" in told
    assert "\n== rest\n-- rest: ok" in told


def test_a_second_process_that_dies_is_a_failure() -> None:
    steps = [ci.Step("dies", lambda: os._exit(3), "test", beside="x"), ci.Step("rest", lambda: None, "test")]
    with pytest.raises(ci.Failed, match="without a word"):
        ci.perform(steps)


def test_no_step_needs_one_that_runs_beside_it(tmp_path: Path) -> None:
    chosen = [step for step in ci.steps(ci.Workshop(tmp_path)) if "test" in step.targets.split()]
    split = next(index for index, step in enumerate(chosen) if step.beside)
    lane = {step.name: step.beside for step in chosen[split:]}
    assert all(lane[need] == step.beside for step in chosen[split:] for need in step.needs if need in lane)


def test_the_last_line_counts_all_reports(tmp_path: Path) -> None:
    suite = '<testsuites><testsuite errors="%d" failures="%d" skipped="%d" tests="%d"/></testsuites>'
    (tmp_path / "unit.xml").write_text(suite % (1, 2, 3, 10))
    (tmp_path / "integration.xml").write_text(suite % (0, 0, 1, 5))
    assert ci.counted(tmp_path) == "8 passed, 3 failed, 4 skipped"


@pytest.mark.parametrize("target", ci.TARGETS)
def test_every_target_has_steps_and_what_they_need_comes_first(target: str, tmp_path: Path) -> None:
    chosen = [step for step in ci.steps(ci.Workshop(tmp_path)) if target in step.targets.split()]
    names = [step.name for step in chosen]
    assert names
    for step in chosen:
        assert all(need in names[: names.index(step.name)] for need in step.needs), step.name


@pytest.mark.parametrize("folder", ["tests/benchmark", "tests/integration/test_fidelity.py"])
def test_a_folder_of_tests_that_is_not_there_is_a_failure(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ci.Failed, match="does not exist"):
        ci.Workshop(tmp_path).pytest(folder + "-of-nothing")
