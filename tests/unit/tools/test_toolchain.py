# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import environments
import interpreters
import packages
import pytest
import sanity
import trees


def git(folder: Path, *argv: str) -> None:
    subprocess.run(["git", "-C", str(folder), *argv], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a folder name that says nothing about the collection."""
    root = tmp_path / "some clone"
    (root / "plugins" / "module_utils").mkdir(parents=True)
    (root / "plugins" / "module_utils" / "known.py").write_text("VALUE = 7\n")
    (root / ".gitignore").write_text("*.log\n")
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", ".")
    return root


def test_bindep_lines_are_chosen_by_platform_and_profile() -> None:
    text = "acl [platform:dpkg platform:rpm]\nlvm2\n# no\nxfs [platform:rpm]\ngit [platform:dpkg test]  # why\n\n"
    assert packages.wanted(text) == ["acl", "lvm2"]
    assert packages.wanted(text, "test") == ["acl", "lvm2", "git"]


def test_a_bindep_line_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="acl >=2"):
        packages.wanted("acl >=2 [platform:dpkg]")


def test_missing_packages_are_those_dpkg_does_not_hold() -> None:
    assert packages.missing(["dpkg", "no-such-package-here"]) == ["no-such-package-here"]


def test_plugins_import_from_a_checkout_of_any_name(checkout: Path, tmp_path: Path) -> None:
    top = trees.linked(checkout, tmp_path / "cache")
    program = "from ansible_collections.bulkhead.storage.plugins.module_utils import known; print(known.VALUE)"
    env = dict(os.environ, PYTHONPATH=str(top))
    assert subprocess.run([sys.executable, "-c", program], env=env, check=True, stdout=-1).stdout == b"7\n"


def test_links_follow_the_checkout(checkout: Path, tmp_path: Path) -> None:
    place = trees.linked(checkout, tmp_path / "cache") / trees.PLACE
    assert os.listdir(place) == ["plugins"]
    (checkout / "plugins").rename(checkout / "roles")
    assert os.listdir(trees.linked(checkout, tmp_path / "cache") / trees.PLACE) == ["roles"]
    (place / "roles").unlink()
    (place / "roles").symlink_to(tmp_path)
    trees.linked(checkout, tmp_path / "cache")
    assert (place / "roles").resolve() == checkout / "roles"


def test_a_copy_holds_what_git_would_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    (checkout / "noise.log").write_text("ignored")
    (checkout / "new.yml").write_text("--- not tracked yet")
    (checkout / "plugins" / "module_utils" / "known.py").unlink()
    place = trees.copied(checkout, tmp_path / "cache")
    assert trees.files(place) == [".gitignore", "new.yml"]
    (checkout / "new.yml").unlink()
    assert trees.files(trees.copied(checkout, tmp_path / "cache")) == [".gitignore"]


def test_interpreters_are_found_with_what_they_can(tmp_path: Path) -> None:
    here = interpreters.probe(Path(sys.executable))
    assert here is not None
    assert here.version == sys.version_info[:2]
    assert here.path != sys.executable, "an environment's Python stands for the one it was made from"
    refuses = tmp_path / "python3"
    refuses.write_text("#!/bin/sh\nexit 127\n")
    refuses.chmod(0o755)
    assert interpreters.probe(refuses) is None
    assert interpreters.probe(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("minors", "releases"),
    [
        ([8, 11, 12, 13], ["2.17.14", "2.21.5"]),
        ([11], ["2.17.14", "2.19.14"]),
        ([13], ["2.18.19", "2.21.5"]),
        ([10], ["2.17.14"]),
    ],
)
def test_the_oldest_and_the_newest_core_that_run_here(minors: list[int], releases: list[str]) -> None:
    pythons = {(3, minor): interpreters.Interpreter((3, minor), "python") for minor in minors}
    assert [core.release for core in sanity.chosen(pythons)] == releases


def test_without_a_fitting_python_there_is_no_sanity() -> None:
    with pytest.raises(LookupError):
        sanity.chosen({(3, 8): interpreters.Interpreter((3, 8), "python3.8")})


def test_pip_settings_reach_the_private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    conf = tmp_path / "pip.conf"
    conf.write_text("[global]\ncert = /from/the/file\n[install]\nextra-index-url =\n    file:///a\n    file:///b\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    monkeypatch.setenv("PIP_CERT", "/from/the/variable")
    home = tmp_path / "home"
    environments.carry_pip_settings(home, Path(sys.prefix))
    argv = [sys.executable, "-m", "pip", "config", "list"]
    env = {"HOME": str(home), "PIP_QUIET": "0"}
    lines = subprocess.run(argv, env=env, check=True, stdout=-1, encoding="utf-8").stdout.splitlines()
    assert "global.cert='/from/the/variable'" in lines
    assert "install.extra-index-url='\\nfile:///a\\nfile:///b'" in lines
    assert (home / ".config/pip/pip.conf").stat().st_mode & 0o777 == 0o600


def test_a_failing_program_is_an_error_and_a_good_one_is_not(tmp_path: Path) -> None:
    environments.call([sys.executable, "-c", "pass"], tmp_path, dict(os.environ))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        environments.call([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, dict(os.environ))
    assert caught.value.returncode == 3


def test_a_program_past_its_deadline_ends(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        environments.call(["sleep", "60"], tmp_path, dict(os.environ), deadline=0.2)
