"""Every error survives the journeys that errors make, is what Python programs catch, and stands in the drawn tree."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import re

import pytest
from torch._utils import ExceptionWrapper

from osstorchconnector import errors

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.OssError)]
SERVICE_CLASSES = [each for each in CLASSES if issubclass(each, errors.OssServiceError)]
TEXT = "GetObject oss://bucket/key: 404 NoSuchKey (request id 5F3A0B1C2D)"

every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def drawn_tree() -> dict[str, str]:
    """Return each class of the module's drawing with the one it hangs on."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ├└─]*)(Oss\w+)", line)
        if found:
            depth = len(found.group(1)) // 4
            path[depth:] = [found.group(2)]
            parents[found.group(2)] = path[depth - 1] if depth else ""
    return parents


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    ours = {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}
    ours["OssError"] = ""
    assert drawn_tree() == ours


def test_the_builtin_parents_are_those_that_are_drawn() -> None:
    drawn = dict(re.findall(r"(Oss\w+) +also (\w+)", errors.__doc__ or ""))
    ours = {kind.__name__: kind.__bases__[1].__name__ for kind in CLASSES if len(kind.__bases__) > 1}
    assert drawn == ours


@every_class
def test_a_class_is_made_of_one_text(kind: type[errors.OssError]) -> None:
    error = kind(TEXT)
    assert str(error) == TEXT
    assert TEXT in repr(error)
    assert kind.__doc__
    assert not hasattr(error, "message")  # torch would pass the text by that name


@every_class
def test_an_error_of_a_loaders_worker_keeps_its_class_and_text(kind: type[errors.OssError]) -> None:
    try:
        raise kind(TEXT)
    except errors.OssError:
        wrapped = pickle.loads(pickle.dumps(ExceptionWrapper(where="in DataLoader worker process 0")))
    with pytest.raises(errors.OssError, match=re.escape(TEXT)) as caught:
        wrapped.reraise()
    assert type(caught.value) is kind


@every_class
def test_an_error_survives_pickling_and_copying(kind: type[errors.OssError]) -> None:
    for twin in (pickle.loads(pickle.dumps(kind(TEXT))), copy.copy(kind(TEXT)), copy.deepcopy(kind(TEXT))):
        assert type(twin) is kind
        assert str(twin) == TEXT


@pytest.mark.parametrize("kind", SERVICE_CLASSES, ids=lambda kind: kind.__name__)
def test_what_the_service_said_survives_pickling_and_copying(kind: type[errors.OssServiceError]) -> None:
    error = kind(TEXT, status=404, code="NoSuchKey", request_id="5F3A0B1C2D")
    for twin in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (twin.status, twin.code, twin.request_id) == (404, "NoSuchKey", "5F3A0B1C2D")
        assert (str(twin), twin.args) == (TEXT, (TEXT,))


@pytest.mark.parametrize(
    ("kind", "number"), [(errors.OssNotFoundError, errno.ENOENT), (errors.OssPermissionError, errno.EACCES)]
)
def test_what_an_os_error_is_asked_for_is_there(kind: type[errors.OssServiceError], number: int) -> None:
    assert kind(TEXT).errno == number
    assert pickle.loads(pickle.dumps(kind(TEXT))).errno == number


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.OssPermissionError),
        (403, errors.OssPermissionError),
        (404, errors.OssNotFoundError),
        (409, errors.OssConflictError),
        (412, errors.OssObjectChangedError),
        (429, errors.OssThrottledError),
        (503, errors.OssThrottledError),
        (400, errors.OssServiceError),
        (500, errors.OssServiceError),
        (304, errors.OssServiceError),
    ],
)
def test_a_status_has_its_class(status: int, kind: type[errors.OssServiceError]) -> None:
    error = errors.service_error(TEXT, status=status, code="Code", request_id="id")
    assert type(error) is kind
    assert (str(error), error.status, error.code, error.request_id) == (TEXT, status, "Code", "id")
