"""The end of a run: its export, its report, its result and the closing lines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssl_core.errors import ResourceError
from ssl_core.runner.closing import closing_lines
from ssl_core.runner.data_wait import DataWait
from ssl_core.runner.export import export_parts
from ssl_core.runner.reporter import duration
from ssl_core.runner.run_state import RunState

if TYPE_CHECKING:
    from ssl_core.runner.session import Session


@dataclass(frozen=True)
class Outcome:
    """What a run that was not stopped has come to.

    Attributes:
        state: after the last update.
        metrics: the last logged values.
        bad_images: how many could not be read.
        images_seen: in all updates.
        verdict: the monitor's; None where there was none.
        saved: whether the last checkpoint is on the disk.
        waiting: for images.
        labelled: whether the data has classes.
    """

    state: RunState
    metrics: Mapping[str, float]
    bad_images: int
    images_seen: int
    verdict: str | None
    saved: bool
    waiting: DataWait
    labelled: bool


def finish_run(session: Session, outcome: Outcome) -> dict[str, Any]:
    """Exports, writes the report, says the closing lines, and returns the result. Every process must call it.

    Raises:
        ResourceError: the export could not be written.
    """
    seconds = time.perf_counter() - session.started
    state, folder, first = outcome.state, session.folder, session.processes.first
    result = {
        "method": session.config.method.match.component.name,
        "out": None if folder is None else str(folder.path),
        "step": state.step,
        "seconds": round(seconds, 1),
        "images_seen": outcome.images_seen,
        "metrics": outcome.metrics,
        "bad_images": outcome.bad_images,
        "data_wait": round(outcome.waiting.share, 4),
        "data_advice": outcome.waiting.advice,
        **({} if outcome.verdict is None else {"verdict": outcome.verdict}),
    }
    if folder is not None:
        weights = state.weights()
        if first:
            try:
                files = export_parts(session.config, state.method, state.method.export(), weights, folder)
            except OSError as error:
                raise _not_exported(error, outcome, session) from None
            result["export"] = {slot: str(file) for slot, file in files.items()}
            folder.write_status("finished", state.step, 0)
            folder.append_report(_report(result, outcome, seconds))
        session.processes.barrier()
    if first and not session.stage:
        for line in closing_lines(session.config, result, outcome.waiting, outcome.labelled):
            session.reporter.say(line)
    return result


def _not_exported(error: OSError, outcome: Outcome, session: Session) -> ResourceError:
    both = f"neither the checkpoint of step {outcome.state.step} nor the export could"
    what = "the export could not" if outcome.saved else both
    why = f"{what} be written: {error.strerror or error}"
    return ResourceError(f"{why}. Make room, then go on with: ssl-train --resume {session.resume_path}")


def _report(result: Mapping[str, Any], outcome: Outcome, seconds: float) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in result["metrics"].items() if name != "eta")
    advice = outcome.waiting.advice
    waited = f"{outcome.waiting.describe()}{f'; {advice}' if advice else ''}."
    verdict = f"\nVerdict: {result['verdict']}\n" if "verdict" in result else ""
    return (
        f"# {result['method']}: {result['step']} updates, {result['images_seen']:,} images in {duration(seconds)}\n\n"
        f"Last logged values: {metrics}\n\n{waited}\n{verdict}"
    )
