"""Evaluation while training: k-NN, RankMe and feature std on a few training images, and a verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from ssl_benchmarks.bootstrap import accuracy_interval
from ssl_benchmarks.knn.scorer import vote
from ssl_benchmarks.knn.search import TorchSearch, nearest, unit_rows
from ssl_benchmarks.online.features import OnlineFeatures, ProbeImages, choose_images
from ssl_benchmarks.online.options import OnlineOptions
from ssl_benchmarks.online.plan import Plan, plan_evaluations
from ssl_benchmarks.online.rankme import feature_std, rankme
from ssl_benchmarks.online.verdict import Evaluation, judge
from ssl_core.api import Backbone, BuildContext, Method, Progress, RunAccess, TrainingHook, UsageError

_QUERY_SHARE = 5
"""One image in so many is a query, the others are the bank."""


class OnlineMonitor(TrainingHook):
    """Evaluates the backbone at the start of a run, now and then, and at its end.

    What was measured before a run was stopped is read back from its metrics, so that the start stays the start.

    Raises:
        UsageError: `feature` needs a CLS token, and the backbone has none.
    """

    def __init__(self, options: OnlineOptions, context: BuildContext):
        assert context.run is not None, "a monitor is built for a run"
        self._options = options
        self._context = context
        self._run: RunAccess = context.run
        self._embed = OnlineFeatures(options.feature, context.mean, context.std, self._run.device)
        self._plan: Plan | None = None
        self._images: ProbeImages | None = None
        self._history: dict[int, Evaluation] = {}
        self._losses: dict[int, float] = {}
        self._began = time.perf_counter()
        self._spent = self._last = 0.0
        self._first_step = 0

    def before_run(self, method: Method, progress: Progress, out: Path | None) -> None:
        self._plan = plan_evaluations(self._options, progress, self._context.train_images)
        if self._plan is None:
            if self._options.every_epochs != 0:
                self._run.say("monitor   off: too short a run, or too few images, for monitor.max_share of its time")
            return
        backbone = _backbone(method)
        if self._options.feature != "mean" and "cls" not in backbone.provides:
            raise UsageError(
                f"monitor.feature={self._options.feature}: this backbone has no CLS token; set monitor.feature=mean"
            )
        self._began, self._first_step = time.perf_counter(), progress.step
        if progress.step == 0:
            self._evaluate(backbone, progress, self._plan)
        else:
            self._remember(self._plan)

    def after_step(self, method: Method, progress: Progress) -> None:
        if self._plan is None or progress.step not in self._plan.steps:
            return
        if progress.step == progress.total_steps or self._affordable(progress):
            self._evaluate(_backbone(method), progress, self._plan)

    def after_log(self, values: Mapping[str, float], progress: Progress) -> None:
        if "loss" in values:
            self._losses[progress.step] = values["loss"]

    def after_run(self, method: Method, progress: Progress) -> None:
        if len(self._history) < 2:
            return
        first, *_, last = self._history.values()
        about = f"on {last.images:,} training images"
        self._run.conclude(f"{judge(first, last, list(self._losses.values()))} ({about})")

    def _affordable(self, progress: Progress) -> bool:
        """Whether this evaluation, and the one at the end, keep to the share of the whole run that is allowed."""
        elapsed = time.perf_counter() - self._began
        training = (elapsed - self._spent) / (progress.step - self._first_step)  # seconds an update
        whole = elapsed + training * (progress.total_steps - progress.step)
        return self._options.max_share == 1 or self._spent + 2 * self._last <= self._options.max_share * whole

    def _remember(self, plan: Plan) -> None:
        """Reads what the run measured before it was stopped, as far as the same images were looked at."""
        for line in self._run.logged():
            if line.get("event") == "monitor" and line.get("images") == plan.images:
                self._history[line["step"]] = Evaluation.of_line(line)
            elif "event" not in line and line.get("loss") is not None:
                self._losses[line["step"]] = line["loss"]

    def _evaluate(self, backbone: Backbone, progress: Progress, plan: Plan) -> None:
        started = time.perf_counter()
        if self._images is None:
            context = self._context
            self._images = choose_images(self._run.images, plan.images, context.seed, context.image_size)
        embedding = time.perf_counter()
        found = self._measure(backbone, self._images, progress.step, plan.images)
        now = time.perf_counter()
        self._last = now - embedding
        self._spent += now - started
        self._history[progress.step] = found
        self._run.log({**found.values(), "seconds": now - started})
        if progress.step < progress.total_steps:  # the verdict is about to follow
            self._run.say(f"monitor   {self._line(found)}")

    def _measure(self, backbone: Backbone, images: ProbeImages, step: int, wanted: int) -> Evaluation:
        features = self._embed(backbone, images.pixels)
        spread = (feature_std(features), rankme(features))
        if images.labels is None:
            return Evaluation(step, wanted, *spread)
        queries = max(1, len(images) // _QUERY_SHARE)
        correct = self._correct(features, images.labels, queries, images.classes)
        low, high = accuracy_interval(correct, queries)
        return Evaluation(step, wanted, *spread, 100 * correct / queries, low, high)

    def _correct(self, features: torch.Tensor, labels: torch.Tensor, queries: int, classes: int) -> int:
        """Returns how many of the last `queries` images are classified rightly by the ones before them."""
        units = unit_rows(features)
        bank, asked = units[:-queries], units[-queries:]
        found = nearest(TorchSearch(bank), bank, asked, min(self._options.k, len(bank)))
        answers = vote(found.similarities, labels[found.ids], self._options.temperature, classes)
        return int((answers == labels[-queries:]).sum())

    def _line(self, now: Evaluation) -> str:
        start = next(iter(self._history.values()))
        if now is not start:
            return f"step {now.step}: {judge(start, now, list(self._losses.values()))}"
        knn = "" if now.knn is None else f"k-NN {now.knn:.1f} % [{now.knn_low:.1f}, {now.knn_high:.1f}], "
        return (
            f"step {now.step}: {knn}RankMe {now.rankme:.3g}, feature std {now.feature_std:.3g} "
            f"(on {now.images:,} training images)"
        )


def _backbone(method: Method) -> Backbone:
    backbone = method.export()["backbone"]
    assert isinstance(backbone, Backbone)  # the engine makes no monitor for other methods
    return backbone
