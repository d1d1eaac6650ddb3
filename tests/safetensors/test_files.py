"""Files of tensors, saved and loaded on the emulator, beside what the safetensors library makes of the same bytes."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import safetensors.torch
import torch
from dcp.test_isolation import CONTEXTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loaders import needs_torch
from safetensors import SafetensorError

from osstorchconnector import OssIntegrityError, OssNotFoundError, OssObjectChangedError, OssSafetensor, OssUriError
from osstorchconnector.safetensors import OssSafetensorError, OssTensorNotFoundError
from osstorchconnector.tensors.dtypes import SAFETENSORS_DTYPES
from osstorchconnector.testing import OssBucket

LARGE = {f"layer{number}": torch.arange(number, number + 1_500_000) for number in range(3)}


def octets(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def random_tensor(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    count = torch.Size(shape).numel() * dtype.itemsize
    made = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8).view(dtype)
    return made.view(shape)


EVERY_DTYPE = {name: random_tensor(dtype, 5, 4) for name, dtype in SAFETENSORS_DTYPES.items()}
KINDS = {
    **EVERY_DTYPE,
    "no dimension": torch.tensor(3.5),
    "no elements": torch.zeros(3, 0, 2),
    "one byte": torch.tensor([7], dtype=torch.uint8),
    "parameter": torch.nn.Parameter(torch.ones(3)),
    "part of a storage": torch.arange(20)[5:9],
    'ü"\n\\ name': torch.ones(2, 3),
}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert octets(found[name]) == octets(tensor.detach()), name


def test_tensors_of_every_kind_are_saved_as_the_library_saves_them_and_come_back(
    files: OssSafetensor, oss_bucket: OssBucket
) -> None:
    uri = oss_bucket.uri + "a.safetensors"
    files.save_file(KINDS, uri, {"format": "pt"})
    assert oss_bucket.get("a.safetensors") == safetensors.torch.save(KINDS, {"format": "pt"})
    found = files.load_file(uri)
    assert_same(found, KINDS)
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in found.values())
    with files.safe_open(uri) as file:
        assert file.metadata() == {"format": "pt"}
        assert_same({name: file.get_tensor(name) for name in KINDS}, KINDS)
        assert_same({name: file.get_slice(name)[...] for name in KINDS}, KINDS)


tensors = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(lambda name: name != "__metadata__"),
    st.builds(
        lambda dtype, shape: random_tensor(dtype, *shape),
        st.sampled_from(list(SAFETENSORS_DTYPES.values())),
        st.lists(st.integers(0, 4), min_size=1, max_size=3),
    ),
    max_size=6,
)
# The library writes several texts in an order that changes from file to file.
metadata = st.none() | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.just("x"), max_size=1)


@given(tensors, metadata)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tensors_are_saved_with_the_bytes_of_the_library(
    files: OssSafetensor, oss_bucket: OssBucket, made: dict[str, torch.Tensor], texts: dict[str, str] | None
) -> None:
    files.save_file(made, oss_bucket.uri + "any", texts)
    if made or texts != {}:  # of neither tensors nor texts the library makes a file that it can't read
        assert oss_bucket.get("any") == safetensors.torch.save(made, texts)
    assert_same(files.load_file(oss_bucket.uri + "any"), made)


def test_several_texts_of_metadata_keep_their_order(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    texts = {"z": "1", "a": "2", "m": "3"}
    files.save_file({"w": torch.ones(1)}, oss_bucket.uri + "a", texts)
    with files.safe_open(oss_bucket.uri + "a") as file:
        assert list(file.metadata().items()) == list(texts.items())
    assert len(oss_bucket.get("a")) == len(safetensors.torch.save({"w": torch.ones(1)}, texts))


def test_large_tensors_are_saved_in_parts_and_loaded_by_ranges_each_byte_once(
    files: OssSafetensor, oss_bucket: OssBucket
) -> None:
    files.save_file(LARGE, oss_bucket.uri + "large")
    assert oss_bucket.get("large") == safetensors.torch.save(LARGE)
    oss_bucket.server.reset_counters()
    assert_same(files.load_file(oss_bucket.uri + "large"), LARGE)
    counters = oss_bucket.server.counters()
    assert counters.requests.keys() == {"GetObject"} and counters.requests["GetObject"] > 3
    assert counters.sent["GetObject"] == len(oss_bucket.get("large"))


def test_a_header_longer_than_the_first_request_is_read(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    many = {f"tensor number {number:05}": torch.tensor([number]) for number in range(2000)}
    files.save_file(many, oss_bucket.uri + "many")
    assert len(oss_bucket.get("many")) > 2 * 65536
    assert_same(files.load_file(oss_bucket.uri + "many"), many)


def test_a_file_in_an_order_of_its_own_without_padding_is_loaded(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    """As 1.2.3 writes them: tensors begin anywhere, and the header names them in another order than the bytes."""
    parts = {"bytes": torch.tensor([1, 2, 3], dtype=torch.uint8), "floats": torch.tensor([1.5, 2.5])}
    head = (
        b'{"floats":{"dtype":"F32","shape":[2],"data_offsets":[3,11]},'
        b'"bytes":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}'
    )
    oss_bucket.put("odd", len(head).to_bytes(8, "little") + head + octets(parts["bytes"]) + octets(parts["floats"]))
    found = files.load_file(oss_bucket.uri + "odd")
    assert list(found) == ["floats", "bytes"]
    assert_same(found, parts)
    with files.safe_open(oss_bucket.uri + "odd") as file:
        assert (file.keys(), file.offset_keys(), file.metadata()) == (["floats", "bytes"], ["bytes", "floats"], {})


@pytest.mark.parametrize("made", [{}, {"a": torch.zeros(0)}])
def test_a_file_without_bytes_is_saved_and_loaded(
    files: OssSafetensor, oss_bucket: OssBucket, made: dict[str, torch.Tensor]
) -> None:
    files.save_file(made, oss_bucket.uri + "empty")
    assert oss_bucket.get("empty") == safetensors.torch.save(made)
    assert_same(files.load_file(oss_bucket.uri + "empty"), made)


# slices


def test_a_slice_fetches_the_rows_that_it_needs(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    matrix = torch.arange(4000 * 1000, dtype=torch.int32).view(4000, 1000)
    oss_bucket.put("matrix", safetensors.torch.save({"m": matrix}))
    with files.safe_open(oss_bucket.uri + "matrix") as file:
        part = file.get_slice("m")
        assert (part.get_shape(), part.get_dtype()) == ([4000, 1000], "I32")
        oss_bucket.server.reset_counters()
        for index, requests, most in (
            (slice(1000, 1010), 1, 66_000),
            ([2000, 2001, 3000, 3999], 3, 17_000),
            ((slice(500, 502), slice(0, 10)), 1, 5000),
            ((slice(0, 4000, 1000), 7), 4, 17),
            ((slice(100, 3000), slice(0, 900)), 3, 2900 * 4000),
        ):
            assert torch.equal(part[index], matrix[index])
            counters = oss_bucket.server.counters()
            assert (counters.requests["GetObject"], counters.sent["GetObject"] <= most) == (requests, True), index
            oss_bucket.server.reset_counters()


@pytest.mark.parametrize("name", [*SAFETENSORS_DTYPES])
def test_slices_of_every_dtype(name: str, files: OssSafetensor, oss_bucket: OssBucket) -> None:
    whole = random_tensor(SAFETENSORS_DTYPES[name], 6, 8)
    oss_bucket.put("a", safetensors.torch.save({"a": whole}))
    plain = whole.view(torch.uint8).view(6, 8, -1)
    with files.safe_open(oss_bucket.uri + "a") as file:
        for index in (slice(1, 3), [0, 5], (slice(None), slice(2, 5)), (slice(0, 6, 2), 3), ([1, 0], [2, 3])):
            found = file.get_slice("a")[index]
            assert found.dtype == whole.dtype and octets(found) == octets(plain[index]), index


@needs_torch(2, 8)
def test_a_file_of_four_bits_states_its_elements_and_gives_pairs(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    whole = random_tensor(torch.uint8, 3, 4).view(torch.float4_e2m1fn_x2)
    files.save_file({"a": whole}, oss_bucket.uri + "a")
    with files.safe_open(oss_bucket.uri + "a") as file:
        assert (file.get_slice("a").get_shape(), file.get_tensor("a").shape) == ([3, 8], (3, 4))


@pytest.mark.parametrize(("dtype", "shape"), [("F6_E2M3", [4]), ("F4", [2, 3])])
def test_what_torch_has_no_tensor_for_is_named_and_the_rest_is_read(
    dtype: str, shape: list[int], files: OssSafetensor, oss_bucket: OssBucket
) -> None:
    head = (
        f'{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,3]}},'
        '"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}'
    ).encode()
    oss_bucket.put("a", len(head).to_bytes(8, "little") + head + b"xxxy")
    with files.safe_open(oss_bucket.uri + "a") as file:
        assert file.get_tensor("b").tolist() == [ord("y")]
        for call in (lambda: file.get_tensor("a"), lambda: file.get_slice("a"), file.get_tensors):
            with pytest.raises(OssSafetensorError, match=f"tensor 'a' .*{dtype}"):
                call()


# another device, and torch's contexts


def test_tensors_go_to_the_device_that_is_asked_for(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    """No other device is at hand in most places: `meta` takes the same way, without content."""
    devices = ["meta", *(["cuda:0"] if torch.cuda.is_available() else [])]
    made = {**LARGE, "empty": torch.zeros(0, 2), "small": torch.ones(3)}
    oss_bucket.put("large", safetensors.torch.save(made))
    for device in devices:
        found = files.load_file(oss_bucket.uri + "large", device)
        with files.safe_open(oss_bucket.uri + "large", device=device) as file:
            single = {name: file.get_tensor(name) for name in made}
            part = file.get_slice("layer1")
            parts = [part[:10], part[::300_000], part[100:1_400_000], part[[1, 5]]]
        shown = [*found.values(), *single.values(), *parts]
        assert {tensor.device for tensor in shown} == {torch.device(device)}
        assert [tensor.shape for tensor in parts] == [(10,), (5,), (1_399_900,), (2,)]
        assert {name: tensor.shape for name, tensor in found.items()} == {n: tensor.shape for n, tensor in made.items()}
        if device != "meta":
            assert_same({name: tensor.cpu() for name, tensor in found.items()}, made)


@pytest.mark.parametrize("name", CONTEXTS)
def test_torch_contexts_change_nothing(name: str, files: OssSafetensor, oss_bucket: OssBucket) -> None:
    made, uri = {"w": torch.arange(40_000.0), "h": torch.ones(3, dtype=torch.bfloat16)}, oss_bucket.uri + "a"
    found: dict[str, torch.Tensor] = {}

    def run() -> None:
        files.save_file(made, uri)
        found.update(files.load_file(uri))
        with files.safe_open(uri) as file:
            found["part"] = file.get_slice("w")[[3, 1]]
            found["one"] = file.get_tensor("w")

    CONTEXTS[name](run)
    assert oss_bucket.get("a") == safetensors.torch.save(made)
    assert_same(found, {**made, "part": torch.tensor([3.0, 1.0]), "one": made["w"]})
    assert {type(tensor) for tensor in found.values()} == {torch.Tensor}
    assert not any(tensor.is_inference() for tensor in found.values())


# what is refused


SHARED = torch.ones(6)
UNSAVEABLE: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "no dict": ([torch.ones(1)], None, ValueError, "expected a dict of tensors, not list"),
    "no tensor": ({"a": 5}, None, ValueError, "'a' is no tensor but int"),
    "a name that is no text": ({1: torch.ones(1)}, None, TypeError, "name must be a text, not int"),
    "the metadata's name": ({"__metadata__": torch.ones(1)}, None, ValueError, "can't be named __metadata__"),
    "not contiguous": ({"a": torch.ones(2, 3).t()}, None, ValueError, r"'a' is not contiguous.*contiguous\(\)"),
    "sparse": ({"a": torch.ones(2).to_sparse()}, None, ValueError, r"'a' is sparse.*to_dense\(\)"),
    "without content": ({"a": torch.ones(2, device="meta")}, None, ValueError, "'a' is on the meta device"),
    "complex128": ({"a": torch.ones(2, dtype=torch.complex128)}, None, ValueError, "'a' has dtype torch.complex128"),
    "shared": ({"a": SHARED, "b": SHARED}, None, RuntimeError, r"'a' and 'b' share memory.*clone\(\).*save_model"),
    "overlapping": ({"a": SHARED[:4], "b": SHARED[3:]}, None, RuntimeError, "'a' and 'b' share memory"),
    "metadata of numbers": ({"a": SHARED}, {"a": 1}, TypeError, "metadata must be a dict of texts, but it has 1"),
    "metadata for numbers": ({"a": SHARED}, {1: "a"}, TypeError, "metadata must be a dict of texts, but it has 1"),
    "a list for metadata": ({"a": SHARED}, [], TypeError, "metadata must be a dict of texts, not list"),
}


@pytest.mark.parametrize("name", UNSAVEABLE)
def test_what_a_file_can_not_have_is_refused_before_anything_is_sent(
    name: str, files: OssSafetensor, oss_bucket: OssBucket
) -> None:
    tensors, metadata, kind, words = UNSAVEABLE[name]
    oss_bucket.put("old", b"old")
    oss_bucket.server.reset_counters()
    with pytest.raises(kind, match=words):
        files.save_file(tensors, oss_bucket.uri + "old", metadata)
    assert oss_bucket.get("old") == b"old" and not oss_bucket.server.counters().requests


def test_parts_of_one_storage_that_do_not_overlap_are_saved(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    made = {"a": SHARED[:3], "b": SHARED[3:], "c": SHARED[:0], "d": torch.ones(2, dtype=torch.complex64).conj()}
    files.save_file(made, oss_bucket.uri + "a")
    assert_same(files.load_file(oss_bucket.uri + "a"), {**made, "d": made["d"].resolve_conj()})


@needs_torch(2, 3)
def test_a_tensor_that_decides_what_its_operations_do_is_refused(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    with pytest.raises(ValueError, match="'a' is a TwoTensor.*full_tensor"):
        files.save_file({"a": TwoTensor(torch.ones(2), torch.ones(2))}, oss_bucket.uri + "a")


def test_an_invalid_file_is_our_error_and_the_library_s(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("text", b"this is not a file of tensors")
    for call in (files.load_file, files.safe_open):
        with pytest.raises(SafetensorError, match="text is not a valid safetensors file") as caught:
            call(oss_bucket.uri + "text")
        assert isinstance(caught.value, OssSafetensorError)


def test_an_empty_object_is_no_file(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("nothing", b"")
    with pytest.raises(OssSafetensorError, match="has 0 bytes"):
        files.load_file(oss_bucket.uri + "nothing")


def test_a_missing_object_is_told_at_once(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    for call in (files.load_file, files.safe_open):
        with pytest.raises(OssNotFoundError, match="missing"):
            call(oss_bucket.uri + "missing")
    for call in (files.load_file, files.safe_open, lambda uri: files.save_file({}, uri)):
        with pytest.raises(OssUriError):
            call("oss://bucket-without-key")


def test_a_name_that_is_not_there_is_a_key_error_with_words(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("a", safetensors.torch.save(EVERY_DTYPE))
    with files.safe_open(oss_bucket.uri + "a") as file:
        for call in (file.get_tensor, file.get_slice):
            with pytest.raises(KeyError) as caught:
                call("nobody")
            assert isinstance(caught.value, (OssTensorNotFoundError, SafetensorError))
            assert str(caught.value).endswith(f"has no tensor 'nobody'; keys() names the {len(EVERY_DTYPE)} it has")


def test_a_closed_file_fetches_nothing(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("a", safetensors.torch.save({"w": torch.ones(3)}))
    file = files.safe_open(oss_bucket.uri + "a")
    part = file.get_slice("w")
    assert repr(file) == f"<OpenedSafetensors '{oss_bucket.uri}a'>"
    file.close()
    file.close()
    assert repr(file).endswith(" closed>") and file.keys() == ["w"]
    calls: list[Callable[[], object]] = [lambda: file.get_tensor("w"), file.get_tensors, lambda: part[0]]
    for call in calls:
        with pytest.raises(ValueError, match="closed file"):
            call()


# the network, threads, processes


def test_wrong_bytes_are_fetched_again_once_and_never_given_out(
    files: OssSafetensor, oss_bucket: OssBucket, caplog: pytest.LogCaptureFixture
) -> None:
    oss_bucket.put("large", safetensors.torch.save(LARGE))
    oss_bucket.server.fail("GetObject", "flip", key="large", times=1, after=2)
    with caplog.at_level(logging.WARNING, "osstorchconnector"):
        assert_same(files.load_file(oss_bucket.uri + "large"), LARGE)
    assert "it is loaded once more" in caplog.text
    oss_bucket.server.fail("GetObject", "flip", key="large", after=2)
    with pytest.raises(OssIntegrityError, match="have CRC-64"):
        files.load_file(oss_bucket.uri + "large")


@pytest.mark.parametrize("at", [0, 7, 9, 14])  # in the length; of the JSON its first quote, and a tensor's name
def test_a_header_that_arrives_wrong_is_fetched_again(at: int, files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("large", safetensors.torch.save(LARGE))
    oss_bucket.server.fail("GetObject", "flip", key="large", times=1, at=at)
    assert_same(files.load_file(oss_bucket.uri + "large"), LARGE)


@pytest.mark.parametrize("fault", ["500", "reset", "reset_body", "truncate"])
def test_what_the_network_does_is_made_good(fault: str, files: OssSafetensor, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "large"
    if fault in ("500", "reset"):
        oss_bucket.server.fail("UploadPart", fault, times=2)
    files.save_file(LARGE, uri)
    oss_bucket.server.fail("GetObject", fault, times=3, after=1)
    assert_same(files.load_file(uri), LARGE)


def test_an_object_that_is_replaced_meanwhile_is_an_error(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "large"
    oss_bucket.put("large", safetensors.torch.save(LARGE))
    oss_bucket.server.fail("GetObject", "replace", data=b"another", times=1, after=2)
    with pytest.raises(OssObjectChangedError):
        files.load_file(uri)
    oss_bucket.put("large", safetensors.torch.save(LARGE))
    with files.safe_open(uri) as file:
        oss_bucket.put("large", safetensors.torch.save({name: tensor + 1 for name, tensor in LARGE.items()}))
        with pytest.raises(OssObjectChangedError):
            file.get_tensor("layer1")


def test_a_save_that_fails_leaves_the_old_file(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("large", b"old")
    oss_bucket.server.fail("UploadPart", "403", after=1)
    with pytest.raises(PermissionError):
        files.save_file(LARGE, oss_bucket.uri + "large")
    assert oss_bucket.get("large") == b"old"
    assert not oss_bucket.server.uploads(oss_bucket.name)


def test_several_threads_read_one_file(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("a", safetensors.torch.save(EVERY_DTYPE))
    together = threading.Barrier(4)

    def read(name: str) -> torch.Tensor:
        return file.get_tensor(name)

    with files.safe_open(oss_bucket.uri + "a") as file, ThreadPoolExecutor(4, initializer=together.wait) as pool:
        assert_same(dict(zip(EVERY_DTYPE, pool.map(read, EVERY_DTYPE), strict=True)), EVERY_DTYPE)


def test_small_tensors_side_by_side_take_few_requests(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    many = {f"{number:04}": torch.full((100,), number) for number in range(1000)}
    oss_bucket.put("many", safetensors.torch.save(many))
    with files.safe_open(oss_bucket.uri + "many") as file:
        assert_same({name: file.get_tensor(name) for name in many}, many)
    assert oss_bucket.server.counters().requests["GetObject"] < 20


def test_what_opens_files_can_be_pickled(files: OssSafetensor, oss_bucket: OssBucket) -> None:
    oss_bucket.put("a", safetensors.torch.save({"w": torch.ones(3)}))
    assert pickle.loads(pickle.dumps(files)).load_file(oss_bucket.uri + "a")["w"].tolist() == [1, 1, 1]
