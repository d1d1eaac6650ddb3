"""torch outside of the contexts that the user's code has switched on.

Users set these contexts for their models: a default device, a mode that intercepts calls, `torch.inference_mode`,
transforms of `torch.func`, a region of `torch.compile`. In one of them our buffers could be made on another device,
without memory, or not writable later. Contexts belong to a thread, so threads that we start have none.
"""

from __future__ import annotations

import functools
import sys
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


@contextmanager
def plain_torch() -> Iterator[None]:
    """Switch all contexts of this thread off, and on again at the end."""
    with ExitStack() as contexts:
        contexts.enter_context(_no_transforms())
        contexts.enter_context(_no_function_modes())
        contexts.enter_context(_disable_current_modes())
        contexts.enter_context(torch.inference_mode(False))
        contexts.enter_context(torch.no_grad())
        contexts.enter_context(torch._C._DisableAutocast())
        yield


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
        # Nothing is compiled before the compiler was imported, and to import it takes seconds.
        called = _compiler.disable(function) if "torch._dynamo" in sys.modules else function
        return called(*arguments, **options)

    return cast(_Function, call)


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


@contextmanager
def _no_transforms() -> Iterator[None]:
    """Leave the levels of vmap, grad and the like."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        yield
        return
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    with temporarily_clear_interpreter_stack():
        yield
