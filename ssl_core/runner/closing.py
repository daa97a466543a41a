"""The last lines of a run: what came out, where it lies and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_core.config.run_config import RunConfig
from ssl_core.runner.data_wait import DataWait
from ssl_core.runner.reporter import duration


def closing_lines(config: RunConfig, result: Mapping[str, Any], waiting: DataWait, labelled: bool) -> list[str]:
    """Returns the lines.

    Args:
        result: what `Session.run` returns.
        waiting: for images.
        labelled: whether the data has classes to score by.
    """
    lines = [f"done      {result['step']:,} updates, {result['images_seen']:,} images in {duration(result['seconds'])}"]
    if result["bad_images"]:
        lines.append(f"          {result['bad_images']} unreadable images were replaced; bad_files.txt lists them")
    if result["out"] is None:
        return [*lines, "          a dry run: everything builds and one update works; nothing was written"]
    lines.append(f"data      {waiting.describe()}")
    if waiting.advice is not None:
        lines.append(f"          {waiting.advice}")
    if "verdict" in result:
        lines.append(f"verdict   {result['verdict']}")
    for slot, file in result["export"].items():
        python = f'   in Python: ssl_core.load("{result["out"]}")' if slot == "backbone" else ""
        lines.append(f"export    {file}{python}")
    if "tokenizer" in result["export"]:
        lines.append(f"next      train on its codes with tokenizer.checkpoint={result['out']}")
    if "backbone" not in result["export"]:
        return lines
    if labelled:
        lines.append(f"next      ssl-eval knn {result['out']}")
    else:
        lines += [
            f"next      ssl-eval attention {result['out']}",
            f"          a score needs labels: ssl-eval knn {result['out']} --data FOLDER, with a folder for each class",
        ]
    if config.demonstration:
        method, backbone = config.method.written_name, config.parts["backbone"].written_name
        lines += [
            "demo      That was a demonstration, on generated textures. ssl-eval prints the k-NN accuracy of the model",
            "          beside random initialisation and raw pixels: read the first number against the other two.",
            f"          Your own images: ssl-train --method {method} --backbone {backbone} --data FOLDER",
        ]
    return lines
