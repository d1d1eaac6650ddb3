from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.dcp.folder import (
    HashedPrefixes,
    RoundRobinPrefixes,
    checkpoint_uri,
    is_data,
    is_rank_metadata,
    make_ticket,
    member,
    metadata_name,
    new_token,
    token_of,
)
from osstorchconnector.errors import OssConfigError
from osstorchconnector.uri import OssUri


@pytest.mark.parametrize("text", ["oss://bucket/a/b", "oss://bucket/a/b/", "/bucket/a/b", "oss://bucket/a/b//"])
def test_a_checkpoint_is_a_folder_however_it_is_written(text: str) -> None:
    assert checkpoint_uri(text) == OssUri("bucket", "a/b/")


def test_a_whole_bucket_can_be_a_checkpoint() -> None:
    assert checkpoint_uri("oss://bucket") == OssUri("bucket", "")


@given(st.integers(0, 10_000), st.integers(0, 100), st.integers(0, 2**43))
def test_a_data_file_is_known_by_its_name_and_tells_its_save(rank: int, number: int, milliseconds: int) -> None:
    token = new_token(milliseconds)
    for strategy in (None, HashedPrefixes(), RoundRobinPrefixes(["x/y"])):
        for suffix in (".distcp", ".safetensors"):
            name = make_ticket(rank, token, strategy).file_name(number, suffix)
            assert is_data(name)
            assert token_of(name) == token


def test_names_of_others_are_told_apart() -> None:
    assert is_data("__0_0.distcp")
    assert token_of("__0_0.distcp") == ""
    assert not is_data(".metadata")
    assert not is_data("model.safetensors")
    assert token_of("model.safetensors") == ""
    assert is_rank_metadata(metadata_name(12))
    assert not is_rank_metadata(metadata_name())


def test_tokens_sort_by_time_and_differ_at_the_same_time() -> None:
    assert new_token(1_700_000_000_000) < new_token(1_700_000_000_001)
    assert new_token(5) != new_token(5)


def test_ranks_take_prefixes_in_turn() -> None:
    strategy = RoundRobinPrefixes(["a/", "b"])
    assert [make_ticket(rank, "t", strategy).prefix for rank in range(3)] == ["a/__0_", "b/__1_", "a/__2_"]


def test_hashed_prefixes_spread_and_stay() -> None:
    strategy = HashedPrefixes(2)
    prefixes = [strategy(rank) for rank in range(200)]
    assert prefixes == [HashedPrefixes(2)(rank) for rank in range(200)]
    assert {len(prefix) for prefix in prefixes} == {2}
    assert len(set(prefixes)) > 100


@pytest.mark.parametrize(
    "make", [lambda: RoundRobinPrefixes([]), lambda: RoundRobinPrefixes(["/"]), lambda: HashedPrefixes(0)]
)
def test_strategies_that_spread_nothing_are_refused(make: object) -> None:
    with pytest.raises(OssConfigError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("name", ["", "../x", "a/../../x", "/etc/passwd"])
def test_a_name_that_leads_elsewhere_is_no_member(name: str) -> None:
    with pytest.raises(OssConfigError):
        member(OssUri("bucket", "ckpt/"), name)
