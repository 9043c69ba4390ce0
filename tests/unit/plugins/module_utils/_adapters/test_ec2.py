# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who this is at AWS, and what its refusals mean. How it changes volumes: tests/integration/test_ebs_volume.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.exceptions as raised
import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.afar import Afar
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret


def said(code: str) -> Exception:
    return raised.ClientError({"Error": {"Code": code, "Message": "no"}}, "AttachVolume")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (said("UnauthorizedOperation"), "denied"),
        (said("AuthFailure"), "denied"),
        (said("ExpiredToken"), "denied"),
        (said("RequestLimitExceeded"), "limit_exceeded"),
        (said("VolumeModificationRateExceeded"), "limit_exceeded"),
        (said("VolumeInUse"), "in_use"),
        (said("InvalidVolume.NotFound"), "not_found"),
        (said("InsufficientVolumeCapacity"), "no_space"),
        (said("Unheard.Of"), "failed"),
        (raised.EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), "unreachable"),
        (raised.ConnectTimeoutError(endpoint_url="http://127.0.0.1:9"), "unreachable"),
        (raised.ConnectionClosedError(endpoint_url="http://127.0.0.1:9"), "unreachable"),
        (raised.SSLError(endpoint_url="https://127.0.0.1:9", error="no"), "unreachable"),
        (raised.ReadTimeoutError(endpoint_url="http://127.0.0.1:9"), "timeout"),
        (raised.NoCredentialsError(), "denied"),
        (raised.PartialCredentialsError(provider="env", cred_var="x"), "denied"),
        (raised.NoRegionError(), "invalid"),
        (raised.ProfileNotFound(profile="x"), "not_found"),
        (ValueError("Invalid endpoint: x"), "invalid"),
        (RuntimeError("x"), "failed"),
    ],
)
def test_what_a_refusal_means(error: Exception, code: str) -> None:
    found = ec2.problem(error, "attach_volume")
    assert found.code == code and len(found.message) > 5
    if isinstance(error, raised.ClientError):
        assert found.details["api_code"] == error.response["Error"]["Code"]


def test_a_pattern_is_no_name() -> None:
    assert ec2.escaped(r"a*b?c\d") == r"a\*b\?c\\d"


def keys(monkeypatch: pytest.MonkeyPatch, to: dict[str, Any], **environment: str) -> Any:
    for name in sum(ec2.ENVIRON.values(), ()):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = ec2._client({"region": "us-east-1", **to}, 300)
    found = client._request_signer._credentials
    return client.meta, found and (found.access_key, found.secret_key, found.token)


class TestWhoThisIs:
    @pytest.fixture(autouse=True)
    def files(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "credentials").write_text("[store]\naws_access_key_id = kept\naws_secret_access_key = s\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def test_what_the_task_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        to = {"access_key": "mine", "secret_key": Secret("s"), "session_token": Secret("t")}
        assert keys(monkeypatch, to)[1] == ("mine", "s", "t")
        assert keys(monkeypatch, {"profile": "store"})[1] == ("kept", "s", None)

    def test_the_task_counts_before_the_environment_and_nothing_is_mixed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = {"access_key": "mine", "secret_key": Secret("s")}
        other = {"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "o", "AWS_SESSION_TOKEN": "t"}
        assert keys(monkeypatch, mine, AWS_PROFILE="store", AWS_SESSION_TOKEN="t")[1] == ("mine", "s", None)
        assert keys(monkeypatch, {"profile": "store"}, **other)[1] == ("kept", "s", None)
        assert keys(monkeypatch, {}, **other)[1] == ("other", "o", "t")
        assert keys(monkeypatch, {}, **other, AWS_PROFILE="store")[1] == ("other", "o", "t")
        assert keys(monkeypatch, {}, AWS_PROFILE="store")[1] == ("kept", "s", None)

    def test_both_in_the_task_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(StorageError, match="exclude each other"):
            keys(monkeypatch, {"profile": "store", "access_key": "mine"})

    def test_where_it_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        meta, _keys = keys(monkeypatch, {"region": None}, AWS_DEFAULT_REGION="eu-west-1", AWS_URL="http://127.0.0.1:9")
        assert (meta.region_name, meta.endpoint_url) == ("eu-west-1", "http://127.0.0.1:9")
        assert keys(monkeypatch, {"endpoint_url": "http://127.0.0.1:8"})[0].endpoint_url == "http://127.0.0.1:8"

    def test_half_of_the_time_is_left_however_often_it_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for wait in (1, 10, 59, 60, 300):
            config = ec2._client({"region": "us-east-1"}, wait)._client_config
            tries = config.retries["total_max_attempts"]
            assert config.read_timeout * tries <= max(wait / 2, tries) and config.connect_timeout <= config.read_timeout
        told = {"region": "us-east-1", "aws_config": {"read_timeout": 7}}
        assert ec2._client(told, 300)._client_config.read_timeout == 7
        with pytest.raises(StorageError, match="aws_config"):
            ec2._client({"region": "us-east-1", "aws_config": {"no_such": 1}}, 300)


def test_a_way_is_a_link_of_its_own() -> None:
    made: list[Any] = []
    port = ec2.Volumes(lambda to, wait: made.append(to) or object())
    first = Afar("a", {"to": {"region": "x", "secret_key": Secret("1")}, "wait": 1})
    again = Afar("b", {"to": {"region": "x", "secret_key": Secret("1")}, "wait": 1})
    other = Afar("a", {"to": {"region": "x", "secret_key": Secret("2")}, "wait": 1})
    assert port.link(first) is port.link(again) is not port.link(other) and len(made) == 2
    assert first == other and hash(first) == hash(other)
