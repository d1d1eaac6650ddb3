"""What a save or load switches off for itself, and on again at its end: the user's torch contexts, garbage collection.

Users set contexts of torch for their models: a default device, a mode that intercepts calls, `torch.inference_mode`,
transforms of `torch.func`, a region of `torch.compile`. In one of them our buffers could be made on another device,
without memory, or not writable later. Contexts belong to a thread, so threads that we start have none. Garbage
collection belongs to the process.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.overrides
from torch.utils._python_dispatch import _disable_current_modes

_Function = TypeVar("_Function", bound=Callable[..., Any])

# torch does not type these.
_overrides: Any = torch.overrides
_compiler: Any = torch.compiler


def outside_contexts(function: _Function) -> _Function:
    """Have a function run in `plain_torch`, and not be compiled as a part of the user's region."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        with plain_torch():
            return function(*arguments, **options)

    return uncompiled(cast(_Function, run))


def uncompiled(function: _Function) -> _Function:
    """Have a function not be compiled as a part of the user's region."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        # Nothing was compiled if the compiler was not imported, and importing it takes seconds.
        called = _compiler.disable(function) if "torch._dynamo" in sys.modules else function
        return called(*arguments, **options)

    return cast(_Function, call)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Switch all of torch's contexts of this thread off, and on again at the end."""
    with ExitStack() as contexts:
        contexts.enter_context(_no_transforms())
        contexts.enter_context(_no_function_modes())
        contexts.enter_context(_disable_current_modes())
        contexts.enter_context(torch.inference_mode(False))
        contexts.enter_context(torch.no_grad())
        contexts.enter_context(torch._C._DisableAutocast())
        yield


@contextmanager
def _no_transforms() -> Iterator[None]:
    """Leave the levels of vmap, grad and the like."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        yield
        return
    from torch._functorch import pyfunctorch

    with ExitStack() as levels:
        while torch._C._functorch.peek_interpreter_stack() is not None:
            # Leaves one level. There is a function that leaves all from torch 2.4 on only.
            levels.enter_context(pyfunctorch.temporarily_pop_interpreter_stack())
        yield


@contextmanager
def _no_function_modes() -> Iterator[None]:
    """Switch off what intercepts calls of torch's functions; a default device does."""
    modes = _overrides._get_current_function_mode_stack()
    for _ in modes:
        _overrides._pop_mode()
    try:
        yield
    finally:
        for mode in modes:
            _overrides._push_mode(mode)


# Saves and loads of several threads may overlap: the first pauses the collection, the last resumes it.
_lock = threading.Lock()
_pauses = 0
_was_enabled = False


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause Python's garbage collection in all threads; if the user has disabled it, it stays disabled.

    For code that makes very many objects which all stay for a while. Each full collection looks through all objects of
    the process: beside torch that takes 0.1 s and more, and the plan of 5,000 tensors alone causes several (measured:
    half the time of loading them). Reference counting still frees what is not in a cycle.
    """
    _pause()
    try:
        yield
    finally:
        _resume()


class CollectionPause:
    """Garbage collection is paused, as in `garbage_collection_paused`, from when this is made until `end`."""

    def __init__(self) -> None:
        self._is_over = False
        _pause()

    def end(self) -> None:
        """Resume the collection; any thread may call this, and a second time nothing happens."""
        with _lock:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            _resume()


def _pause() -> None:
    global _pauses, _was_enabled
    with _lock:
        _pauses += 1
        if _pauses == 1 and gc.isenabled():
            _was_enabled = True
            gc.disable()


def _resume() -> None:
    global _pauses, _was_enabled
    with _lock:
        _pauses = max(_pauses - 1, 0)  # already 0 in a child that was forked during the pause
        if not _pauses and _was_enabled:
            _was_enabled = False
            gc.enable()


def _resume_in_child() -> None:
    """Collect garbage in a forked child: the threads that paused it are in the parent."""
    global _lock, _pauses, _was_enabled
    _lock, _pauses = threading.Lock(), 0
    if _was_enabled:
        _was_enabled = False
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resume_in_child)
