"""The help of `ssl-eval`: which evaluators there are, and the options of one. Imports no torch."""

from __future__ import annotations

from ssl_benchmarks.protocols import SharedOptions
from ssl_core.api import Component, Parser, Registry, format_rows, option_rows

_WIDTH = 110


def help_text(parser: Parser, registry: Registry, evaluator: Component | None) -> str:
    """Returns the help.

    Args:
        parser: of the command, for its flags.
        registry: where the evaluators are found.
        evaluator: the one whose options are shown; None = list them all.
    """
    name = "EVALUATOR" if evaluator is None else evaluator.name
    lines = [
        f"usage: ssl-eval {name} CKPT [--data PATH_OR_NAME] [flags] [key=value ...]",
        "",
        "Puts a number on a trained backbone. CKPT is a run folder, an export or a checkpoint; a safetensors or torch",
        "file or a Hugging Face folder of another project; or timm:NAME, weights that timm fetches.",
        "",
    ]
    if evaluator is None:
        lines.append("evaluators (ssl-eval EVALUATOR --help shows the options of one):")
        for match in registry.components("evaluator"):
            lines.append(f"  {match.component.name:<22} {match.component.summary}")
    else:
        lines += [f"{name}: {evaluator.summary}", *(f"  {reference}" for reference in evaluator.references), ""]
        lines += ["options:", *format_rows(_rows(evaluator), _WIDTH)]
        lines += ["  (lists are written with commas, as in k=10,20)"]
        lines += ["  backbone.OPTION=VALUE   rebuilds the backbone with another option, as backbone.heads=6"]
        lines += ["  dataset.OPTION=VALUE    sets an option of the data set"]
        if evaluator.recipes:
            lines += ["", "protocols (protocol=NAME):"]
            lines += [f"  {recipe.name:<14} {recipe.summary}" for recipe in evaluator.recipes]
    lines += ["", "flags:"]
    lines += parser.flag_lines()
    return "\n".join(lines)


def _rows(evaluator: Component) -> list:
    """Returns the rows of the evaluator's options, then those that every evaluator takes."""
    own = option_rows(evaluator.options, "")
    return [*own, *(row for row in option_rows(SharedOptions, "") if row.name not in {taken.name for taken in own})]
