"""The scores of all heads as a table by layer and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_benchmarks.linear.scores import HeadScore, choose
from ssl_core.api import new_figure


def best_of_inputs(scores: Sequence[HeadScore]) -> dict[tuple[str, str], HeadScore]:
    """Returns (layer, feature) -> the head that held-out images choose among its learning rates."""
    inputs = dict.fromkeys((score.layer, score.feature) for score in scores)
    return {key: choose([score for score in scores if (score.layer, score.feature) == key]) for key in inputs}


def sweep_table(scores: Sequence[HeadScore]) -> dict[str, Any]:
    """Returns a table for a result: a row for each layer, a column for each feature, test accuracy in percent."""
    best = best_of_inputs(scores)
    layers = list(dict.fromkeys(layer for layer, _ in best))
    features = list(dict.fromkeys(feature for _, feature in best))
    rows = [
        [layer, *(round(best[layer, name].accuracy, 3) if (layer, name) in best else "-" for name in features)]
        for layer in layers
    ]
    return {"title": "layers (test accuracy, percent)", "columns": ["layer", *features], "rows": rows}


def draw_sweep(
    scores: Sequence[HeadScore], chosen: HeadScore, baselines: Mapping[str, float], title: str, file: Path
) -> None:
    """Writes the table as a picture: accuracy over the layers, a line for each feature, baselines dashed.

    Args:
        scores: of all heads of the model.
        chosen: which one is reported.
        baselines: name -> accuracy in percent.
        title: above the picture.
        file: PNG; written beside and moved into place.
    """
    best = best_of_inputs(scores)
    layers = list(dict.fromkeys(layer for layer, _ in best))
    figure = new_figure()
    axes = figure.add_subplot()
    for name in dict.fromkeys(feature for _, feature in best):
        own = [layer for layer in layers if (layer, name) in best]
        places = [layers.index(layer) for layer in own]
        axes.plot(places, [best[layer, name].accuracy for layer in own], marker="o", markersize=3, label=name)
    axes.plot(layers.index(chosen.layer), chosen.accuracy, "k*", markersize=12, label="chosen on held-out images")
    for number, (name, accuracy) in enumerate(baselines.items()):
        axes.axhline(accuracy, linestyle="--", linewidth=1, color=f"{0.3 + 0.2 * number}", label=name.replace("_", " "))
    axes.set_xticks(range(len(layers)), layers)
    axes.set_xlabel("block (before the final norm), and final = after it")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(title)
    axes.legend(fontsize="small")
    partial = file.with_name(f".tmp-{file.name}")
    figure.savefig(partial, format="png")
    partial.replace(file)
