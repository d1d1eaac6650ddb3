"""Providers of either SDK and plain callables are asked rightly, and reach other processes without their secrets."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import pickle
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import oss2.credentials
import pytest
from scripts import run_python

from osstorchconnector.credentials import Credentials, credentials_source
from osstorchconnector.credentials.providers import UnavailableCredentials
from osstorchconnector.errors import OssCredentialsError

STATIC = oss2.credentials.StaticCredentialsProvider("LTAI", "CANARY-SECRET", "CANARY-TOKEN")
EXPECTED = Credentials(access_key_id="LTAI", access_key_secret="CANARY-SECRET", security_token="CANARY-TOKEN")


class V2Credentials:
    """As alibabacloud-oss-v2 has them: attributes, and methods that are none of ours."""

    def __init__(self, expiration: object = None) -> None:
        self.access_key_id, self.access_key_secret, self.security_token = "LTAI", "CANARY-SECRET", "CANARY-TOKEN"
        self.expiration = expiration

    def has_keys(self) -> bool:
        return True

    def is_expired(self) -> bool:
        return False


class Giving:
    """A provider with an attribute."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_credentials(self) -> Any:
        return self.answer


class WrittenInCode:
    """The C++ connector's own example: no attributes, the keys stand in the program."""

    def get_credentials(self) -> oss2.credentials.Credentials:
        return oss2.credentials.Credentials("LTAI", "CANARY-" + "SECRET", "CANARY-" + "TOKEN")


class Frozen:
    __slots__ = ("keys",)

    def __init__(self) -> None:
        self.keys = EXPECTED.access_key_secret

    def get_credentials(self) -> Credentials:
        return EXPECTED


class OneAndOnly:
    """Pickles as the name of a global."""

    def __init__(self) -> None:
        self.secret = "CANARY-SECRET"

    def get_credentials(self) -> Credentials:
        return EXPECTED

    def __reduce__(self) -> str:
        return "THE_ONE"


THE_ONE = OneAndOnly()


class Locked(Giving):
    def __init__(self) -> None:
        super().__init__(EXPECTED.access_key_secret)
        self.lock = threading.Lock()


def from_a_function() -> V2Credentials:
    return V2Credentials()


def fetched(provider: object) -> Credentials:
    return credentials_source(cred_provider=provider).fetch()


def crossed(provider: object) -> tuple[bytes, Any]:
    """Return what the provider's source pickles as, and what comes out of it."""
    source = credentials_source(cred_provider=provider)
    text = pickle.dumps(source)
    return text, pickle.loads(text)


@pytest.mark.parametrize(
    "provider",
    [
        STATIC,
        Giving(V2Credentials()),
        Giving(EXPECTED),
        WrittenInCode(),
        from_a_function,
        lambda: oss2.credentials.Credentials("LTAI", "CANARY-SECRET", "CANARY-TOKEN"),
        functools.partial(Giving.get_credentials, Giving(EXPECTED)),
    ],
    ids=lambda provider: type(provider).__name__,
)
def test_methods_attributes_and_callables_all_give_credentials(provider: object) -> None:
    assert fetched(provider) == EXPECTED


def test_a_missing_token_is_no_token() -> None:
    assert fetched(oss2.credentials.StaticCredentialsProvider("a", "b")).security_token == ""
    assert fetched(Giving(SimpleNamespace(access_key_id="a", access_key_secret="b"))).security_token == ""


@pytest.mark.parametrize(
    "expiration", [datetime(2024, 8, 2, 15, 4, 5, tzinfo=timezone.utc), 1722611045, "2024-08-02T15:04:05Z"]
)
def test_the_expiration_is_taken_over_however_it_is_spelled(expiration: object) -> None:
    assert fetched(Giving(V2Credentials(expiration))).expires_at == 1722611045


def test_oss2s_ram_role_credentials_tell_when_they_expire() -> None:
    answer = oss2.credentials.EcsRamRoleCredential("a", "b", "c", 1722611045, 3600)
    assert fetched(Giving(answer)).expires_at == 1722611045


def test_a_client_of_alibabacloud_credentials_is_a_provider() -> None:
    answer = SimpleNamespace(access_key_id="LTAI", access_key_secret="CANARY-SECRET", security_token="CANARY-TOKEN")
    source = credentials_source(cred_provider=SimpleNamespace(get_credential=lambda: answer))
    assert source.fetch() == Credentials(
        access_key_id="LTAI", access_key_secret="CANARY-SECRET", security_token="CANARY-TOKEN"
    )


def test_the_environment_provider_of_oss2_reads_it_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    source = credentials_source(cred_provider=oss2.credentials.EnvironmentVariableCredentialsProvider())
    for name in ("first", "second"):
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", name)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "CANARY-SECRET")
        assert source.fetch().access_key_id == name


@pytest.mark.parametrize(
    ("wrong", "called"),
    [
        ("/root/.alibabacloud/credentials", "another text"),
        ({"AccessKeyId": "CANARY"}, "a dict"),
        (7, "a int"),
        (oss2.credentials.StaticCredentialsProvider, "the class oss2.credentials.StaticCredentialsProvider"),
    ],
)
def test_what_is_no_provider_is_refused_at_once_and_not_shown(wrong: object, called: str) -> None:
    with pytest.raises(OssCredentialsError, match=f"cred_provider must be .* not {called}.*cred_path=") as caught:
        credentials_source(cred_provider=wrong)
    assert "CANARY" not in str(caught.value)


async def asynchronously() -> None:
    """Never awaited."""


@pytest.mark.parametrize(
    ("provider", "complaint"),
    [
        (oss2.credentials.CredentialsProvider(), "returned None, which holds no access_key_id"),
        (Giving({"access_key_id": "CANARY"}), "returned a dict, which holds no access_key_id"),
        (Giving(V2Credentials), "returned the class "),
        (oss2.credentials.StaticCredentialsProvider(), "returned credentials whose access_key_id is missing or empty"),
        (oss2.credentials.StaticCredentialsProvider("a"), "returned credentials whose access_key_secret is missing"),
        (oss2.credentials.StaticCredentialsProvider("a", 7), "returned credentials whose access_key_secret must be a"),
        (Giving(V2Credentials("CANARY")), "returned credentials whose expiration must be a time"),
        (asynchronously, "is asynchronous"),
    ],
)
def test_a_wrong_answer_is_an_error_that_names_the_provider_and_no_value(provider: object, complaint: str) -> None:
    source = credentials_source(cred_provider=provider)
    with pytest.raises(OssCredentialsError) as caught:
        source.fetch()
    assert str(caught.value).startswith(f"{source} {complaint}")
    assert "CANARY" not in str(caught.value)


def test_what_a_provider_raises_is_kept_as_the_cause_and_named_without_known_secrets() -> None:
    def provider() -> Credentials:
        if answers:
            return answers.pop()
        raise KeyError("no such role; CANARY-SECRET with CANARY-TOKEN was refused")

    answers = [EXPECTED]
    source = credentials_source(cred_provider=provider)
    source.fetch()
    with pytest.raises(OssCredentialsError, match=r"provider failed: KeyError: .*no such role; \*\*\* with") as caught:
        source.fetch()
    assert isinstance(caught.value.__cause__, KeyError)
    assert "CANARY" not in str(caught.value)


def test_our_own_errors_pass_through_as_they_are() -> None:
    def provider() -> Credentials:
        raise error

    error = OssCredentialsError("the vault is sealed")
    with pytest.raises(OssCredentialsError) as caught:
        fetched(provider)
    assert caught.value is error


# --- to other processes ----------------------------------------------------------------------------------------------


def test_the_environment_provider_of_oss2_travels_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = oss2.credentials.EnvironmentVariableCredentialsProvider()
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAI")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "CANARY-SECRET")
    fetched(provider)
    text, arrived = crossed(provider)
    assert b"CANARY" not in text
    assert arrived.fetch().access_key_secret == "CANARY-SECRET"


def test_the_ram_role_provider_of_oss2_travels_as_its_constructor_arguments() -> None:
    provider = oss2.credentials.EcsRamRoleCredentialsProvider("http://100.100.100.200/role", max_retries=5, timeout=3)
    provider.credentials = oss2.credentials.EcsRamRoleCredential("a", "CANARY-SECRET", "CANARY-TOKEN", 2**32, 3600)
    text, arrived = crossed(provider)
    assert b"CANARY" not in text
    again = arrived._provider()
    assert (type(again), again.fetcher.auth_host, again.max_retries, again.timeout, again.credentials) == (
        oss2.credentials.EcsRamRoleCredentialsProvider,
        "http://100.100.100.200/role",
        5,
        3,
        None,
    )


@pytest.fixture
def v2_environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The environment provider of alibabacloud-oss-v2, which reads the environment once, when it is made."""

    class EnvironmentVariableCredentialsProvider(Giving):
        def __init__(self) -> None:
            super().__init__(
                SimpleNamespace(
                    access_key_id=os.environ["OSS_ACCESS_KEY_ID"],
                    access_key_secret=os.environ["OSS_ACCESS_KEY_SECRET"],
                )
            )

    module = ModuleType("alibabacloud_oss_v2.credentials")
    kind: Any = EnvironmentVariableCredentialsProvider
    kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
    module.EnvironmentVariableCredentialsProvider = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "alibabacloud_oss_v2", ModuleType("alibabacloud_oss_v2"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAI")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "CANARY-SECRET")
    return kind


def test_the_environment_provider_of_v2_is_made_again_where_it_arrives(
    v2_environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pickle.dumps(credentials_source(cred_provider=v2_environment()))
    assert b"CANARY" not in text
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "OTHER")
    assert pickle.loads(text).fetch().access_key_id == "OTHER"


def test_an_environment_that_is_missing_where_a_provider_arrives_is_told_at_first_use(
    v2_environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pickle.dumps(credentials_source(cred_provider=v2_environment()))
    monkeypatch.delenv("OSS_ACCESS_KEY_SECRET")
    arrived = pickle.loads(text)
    assert str(arrived).startswith("the cred_provider alibabacloud_oss_v2.")
    with pytest.raises(OssCredentialsError, match="KeyError: 'OSS_ACCESS_KEY_SECRET'.* give cred_path="):
        arrived.fetch()


@pytest.mark.parametrize(
    "provider", [from_a_function, WrittenInCode(), THE_ONE], ids=lambda provider: type(provider).__name__
)
def test_what_has_no_state_travels_by_name_and_leaves_no_file(provider: object, handovers: Path) -> None:
    text, arrived = crossed(provider)
    assert b"CANARY" not in text
    assert arrived.fetch() == EXPECTED
    assert list(handovers.iterdir()) == []


@pytest.mark.parametrize(
    "provider",
    [
        STATIC,
        Giving(V2Credentials()),
        Frozen(),
        functools.partial(Giving.get_credentials, Giving(V2Credentials())),
        Giving(V2Credentials()).get_credentials,
    ],
    ids=lambda provider: type(provider).__name__,
)
def test_what_has_state_travels_through_a_file_that_only_its_owner_reads(provider: object, handovers: Path) -> None:
    text, arrived = crossed(provider)
    assert b"CANARY" not in text
    assert arrived.fetch() == EXPECTED
    (file,) = handovers.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_builtin_function_travels_by_name_too() -> None:
    text, arrived = crossed(time.time)
    assert b"time" in text
    assert str(arrived) == "the cred_provider time.time"


def test_a_source_that_is_pickled_again_and_again_leaves_one_file(handovers: Path) -> None:
    source = credentials_source(cred_provider=STATIC)
    texts = {pickle.dumps(source) for _ in range(3)}
    assert len(texts) == len(list(handovers.iterdir())) == 1
    assert [pickle.loads(*texts).fetch() for _ in range(2)] == [EXPECTED] * 2


def test_copies_within_a_process_are_the_source_itself(handovers: Path) -> None:
    source = credentials_source(cred_provider=STATIC)
    assert copy.copy(source) is copy.deepcopy([source])[0] is source
    assert list(handovers.iterdir()) == []


@pytest.mark.parametrize("provider", [lambda: None, Locked()], ids=["lambda", "lock"])
def test_what_cannot_be_pickled_is_an_error_that_names_cred_path(provider: Any, handovers: Path) -> None:
    source = credentials_source(cred_provider=provider)
    with pytest.raises(OssCredentialsError, match=r"can't be sent to another process \(.*\): .*cred_path="):
        pickle.dumps(source)
    assert list(handovers.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OssCredentialsError, match=r"No such file.*nowhere.*cred_path="):
        pickle.dumps(credentials_source(cred_provider=STATIC))


def test_what_arrives_after_its_sender_ended_says_so_when_it_is_used(handovers: Path) -> None:
    text = pickle.dumps(credentials_source(cred_provider=STATIC))
    (file,) = handovers.iterdir()
    file.unlink()
    arrived = pickle.loads(pickle.dumps(pickle.loads(text)))
    assert isinstance(arrived, UnavailableCredentials)
    with pytest.raises(OssCredentialsError, match=r"Static.* did not reach .*No such file.*cred_path="):
        arrived.fetch()


RECEIVE = "import pickle, sys, hashlib; source = pickle.loads(bytes.fromhex(sys.argv[1])); "
FINGERPRINT = "print(hashlib.sha256(source.fetch().access_key_secret.encode()).hexdigest())"


def test_a_static_provider_reaches_a_process_that_shares_nothing_with_this_one(handovers: Path) -> None:
    text = pickle.dumps(credentials_source(cred_provider=STATIC))
    printed, _ = run_python("-c", RECEIVE + FINGERPRINT, text.hex())
    assert printed.strip() == hashlib.sha256(b"CANARY-SECRET").hexdigest()
    assert len(list(handovers.iterdir())) == 1


SEND = """
import os, pickle, sys
from oss2.credentials import StaticCredentialsProvider
from osstorchconnector.credentials import credentials_source
source = credentials_source(cred_provider=StaticCredentialsProvider("LTAI", "CANARY-SECRET"))
print(pickle.dumps(source).hex(), flush=True)
"""


FORK = """
if os.fork() == 0:
    pickle.loads(pickle.dumps(source)).fetch()
    assert len(os.listdir(os.environ["TMPDIR"])) == 2  # a child may outlive its parent
    sys.exit()
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert pickle.loads(pickle.dumps(source)).fetch().access_key_id == "LTAI"
"""


def test_a_sender_that_ends_takes_its_file_away(handovers: Path) -> None:
    sent, _ = run_python("-c", SEND)
    assert list(handovers.iterdir()) == []
    with pytest.raises(OssCredentialsError, match="did not reach this process"):
        pickle.loads(bytes.fromhex(sent)).fetch()


def test_a_forked_child_that_ends_leaves_its_parents_file(handovers: Path) -> None:
    run_python("-c", SEND + FORK)
    assert list(handovers.iterdir()) == []


RAM_ROLE_AFTER_FORK = """
import os, sys
from oss2.credentials import EcsRamRoleCredentialsProvider
from osstorchconnector.credentials import credentials_source
from osstorchconnector.errors import OssCredentialsError
provider = EcsRamRoleCredentialsProvider("not-an-address", max_retries=1)
source = credentials_source(cred_provider=provider)
provider._EcsRamRoleCredentialsProvider__lock.acquire()  # as a thread that is fetching has it
child = os.fork()
if child == 0:
    try:
        source.fetch()
    except OssCredentialsError as error:
        os._exit(0 if "Failed to get credentials" in str(error) else 1)
    os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_wait_for_the_lock_of_a_thread_it_does_not_have() -> None:
    run_python("-c", RAM_ROLE_AFTER_FORK)
