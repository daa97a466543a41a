"""`ssl-train --print-config`: the resolved config as YAML, with the origin of each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ssl_core.config.messages import dotted
from ssl_core.config.run_config import RunConfig

_COMMENT_COLUMN = 40


def config_text(config: RunConfig) -> str:
    """Returns YAML that `--config` takes, with `# from ...` behind each value."""
    lines = [f"# {adjustment}" for adjustment in config.adjustments]
    lines += _lines(config.as_dict(), "", config.sources, "")
    return "\n".join(lines)


def _lines(values: Mapping[str, Any], section: str, sources: Mapping[str, str], indent: str) -> list[str]:
    lines = []
    for key, value in values.items():
        name = dotted(section, key)
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, name, sources, f"{indent}  ")]
            continue
        # The name of a part has the source of its slot.
        source = sources.get(section if key == "name" else name)
        text = f"{indent}{_scalar(key)}: {_scalar(value)}"
        lines.append(f"{text:<{_COMMENT_COLUMN}} # from {source}" if source else text)
    return lines


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
