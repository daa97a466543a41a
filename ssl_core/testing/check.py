"""One check: its name, the kinds it is for, and its verdict on a part."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NoReturn, get_args

from ssl_core.errors import SslError
from ssl_core.plugins.component import Kind
from ssl_core.plugins.registry import Registry
from ssl_core.testing.conformance import Request
from ssl_core.testing.source import place_of, raised_at
from ssl_core.testing.subject import NotBuilt, Subject, find_subject

State = Literal["ok", "failed", "skipped"]


class Failed(Exception):
    """A part breaks a promise.

    Args:
        what: what was seen, one clause.
        fix: what to change, in the imperative.
    """

    def __init__(self, what: str, fix: str):
        super().__init__(what)
        self.fix = fix


class Skipped(Exception):
    """A check that does not apply to a part; the text says why."""


def require(condition: Any, what: str, fix: str) -> None:
    """Raises `Failed` unless the condition holds."""
    if not condition:
        raise Failed(what, fix)


def skip(reason: str) -> NoReturn:
    """Ends a check that does not apply."""
    raise Skipped(reason)


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Attributes:
        check: its name.
        state: `ok`, `failed` or `skipped`.
        what: what was seen, or why it was skipped; empty if ok.
        fix: what to change; empty unless failed.
        part: the part with its class and the line of its source.
    """

    check: str
    state: State
    part: str
    what: str = ""
    fix: str = ""

    @property
    def message(self) -> str:
        """Returns what a failed test prints."""
        return f"{self.part}\n  wrong:  {self.what}\n  change: {self.fix}"


@dataclass(frozen=True)
class Check:
    """A promise that parts of some kinds must keep.

    Attributes:
        name: of the function that checks it, in plain words.
        kinds: that make the promise.
        promise: one sentence, the function's docstring.
        function: raises `Failed` or `Skipped`.
    """

    name: str
    kinds: tuple[Kind, ...]
    promise: str
    function: Callable[[Subject], None]


@dataclass(frozen=True)
class BoundCheck:
    """A check together with the part that it is made on."""

    check: Check
    subject: Subject

    @property
    def name(self) -> str:
        return self.check.name

    def run(self) -> Verdict:
        """Makes the check."""
        part = self.subject.described
        reason = self.subject.leave_out.get(self.name)
        if reason is not None:
            return Verdict(self.name, "skipped", part, f"left out: {reason}")
        try:
            self.check.function(self.subject)
        except Skipped as skipped:
            return Verdict(self.name, "skipped", part, str(skipped))
        except NotBuilt as error:
            return Verdict(self.name, "skipped", part, f"it could not be built, see can_be_built: {error}")
        except Failed as failed:
            return Verdict(self.name, "failed", part, str(failed), failed.fix)
        except SslError as error:
            fix = "an error of a user must not come from options and images that are right; see its message"
            return Verdict(self.name, "failed", part, f"{type(error).__name__}: {_line(error)}", fix)
        except Exception as error:
            what = f"{type(error).__name__}: {_line(error)}"
            return Verdict(self.name, "failed", part, what, f"look at {_raised(error, self.subject)}")
        return Verdict(self.name, "ok", part)


_CHECKS: list[Check] = []


def check(*kinds: Kind) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Registers a function as a check of these kinds; without any, of all kinds."""

    def register(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        promise = " ".join((function.__doc__ or "").split())
        _CHECKS.append(Check(function.__name__, kinds or ALL_KINDS, promise, function))
        return function

    return register


ALL_KINDS: tuple[Kind, ...] = get_args(Kind)


@cache
def all_checks() -> tuple[Check, ...]:
    """Returns every check, the cheap ones first."""
    from ssl_core.testing import checks

    for module in sorted(pkgutil.iter_modules(checks.__path__), key=lambda item: (item.name == "runs", item.name)):
        importlib.import_module(f"{checks.__name__}.{module.name}")
    return tuple(_CHECKS)


def bound_checks(request: Request, registry: Registry | None = None) -> list[BoundCheck]:
    """Returns the checks of the part that a request names.

    Args:
        registry: where it is found; None = the installed plugins and the request's files.

    Raises:
        PluginError: no such part, several of that name, or its plugin is broken.
        UsageError: a check is left out that does not exist.
    """
    subject = find_subject(request, registry or Registry.load(files=request.files))
    checks = [one for one in all_checks() if subject.kind in one.kinds]
    subject.refuse_unknown([one.name for one in checks])
    return [BoundCheck(one, subject) for one in checks]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _raised(error: BaseException, subject: Subject) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return raised_at(frames, subject.files) or place_of(subject.target)
