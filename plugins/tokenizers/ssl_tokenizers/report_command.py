"""`ssl-tokenizer report`: numbers and pictures that say how good a tokenizer is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_core.api import ConfigError, Parser, Registry, UsageError, at_least, make_writable

_OWN = "tokenizer."
_LARGEST = 256
"""Pixels of the view of large images, unless `--size` says otherwise."""


def report_command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Measures a tokenizer on images; prints the numbers, writes them and the pictures, and returns the numbers."""
    parser = _parser()
    words = [item for item in arguments if not item.startswith("-")]
    if not words or "--help" in arguments or "-h" in arguments:
        text = _help_text(parser)
        print(text)
        return {"help": text}
    flags, settings = parser.parse_with_settings(arguments)
    wrong = [key for key in settings if not key.startswith((_OWN, "dataset."))]
    if wrong:
        raise ConfigError(f"{key}: only tokenizer.* and dataset.* can be set here" for key in wrong)
    own = {key.removeprefix(_OWN): value for key, value in settings.items() if key.startswith(_OWN)}
    data_settings = {key: value for key, value in settings.items() if not key.startswith(_OWN)}
    registry = Registry.load(flags.no_plugin, flags.plugin, flags.safe)

    # torch is imported from here on.
    from ssl_core.api import RuntimeOptions, choose_device, median_size, open_source
    from ssl_tokenizers.report import measure

    source = open_source(flags.data, registry, data_settings)
    split = flags.split or next(name for name in ("test", "val", "train") if name in source.splits)
    if split not in source.splits:
        raise UsageError(f"--split {split}: the data has {', '.join(source.splits)}")
    images = source.open(split)
    size = flags.size or _size_for(median_size(images))
    tokenizer = _open(flags.tokenizer, registry, own, size)
    if flags.size is None:
        size = getattr(tokenizer, "size", size)  # some see images of one size only
    out = flags.out or _folder_for(flags.tokenizer)
    make_writable(out)
    count = min(flags.images, len(images))
    indices = [place * len(images) // count for place in range(count)]
    report = measure(tokenizer, images, indices, size, choose_device(RuntimeOptions()))
    if not report.indices:
        raise UsageError(f"split '{split}': not one of {count} images can be read")
    result = {
        "tokenizer": flags.tokenizer,
        "data": flags.data or source.describe(),
        "split": split,
        "images": len(report.indices),
        "unreadable": list(report.unreadable),
        "size": size,
        "grid": list(report.ids.shape[1:]),
        "vocab_size": tokenizer.vocab_size,
        "metrics": {name: round(value, 5) for name, value in report.metrics.items()},
        "out": str(out),
    }
    result["pictures"] = _draw(tokenizer, images, report, size, out)
    file = out / "report.json"
    partial = out / ".tmp-report.json"
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(file)
    for line in _lines(result):
        print(line)
    return result


def _open(what: str, registry: Registry, settings: Mapping[str, Any], size: int) -> Any:
    from ssl_tokenizers.open_tokenizer import open_tokenizer

    try:
        return open_tokenizer(what, registry, settings, size)
    except ConfigError as error:
        # What a run calls data.image_size is a flag here.
        raise ConfigError(line.replace("data.image_size=", "--size ") for line in error.problems) from None


def _draw(tokenizer: Any, images: Any, report: Any, size: int, out: Path) -> list[str]:
    from torchvision.utils import save_image

    from ssl_core.api import code_histogram
    from ssl_tokenizers.report_pictures import code_sheet, reconstruction_sheet

    pictures = {"histogram": code_histogram(report.counts), "codes": code_sheet(tokenizer, images, report, size)}
    if tokenizer.can_decode:
        pictures["reconstructions"] = reconstruction_sheet(tokenizer, images, report, size)
    for name, picture in pictures.items():
        partial = out / f".tmp-{name}.png"
        save_image(picture, partial)
        partial.replace(out / f"{name}.png")
    return [f"{name}.png" for name in pictures]


def _lines(result: Mapping[str, Any]) -> list[str]:
    metrics = result["metrics"]
    grid = "x".join(map(str, result["grid"]))
    where = f"{result['images']:,} images of '{result['split']}' at {result['size']} pixels, {grid} tokens each"
    lines = [f"tokenizer {result['tokenizer']} on {result['data']}: {where}"]
    if "psnr" in metrics:
        lines += [
            f"  PSNR {metrics['psnr']:.2f} dB, {metrics['psnr_gain']:+.2f} dB against patch means "
            f"({metrics['psnr_patch_mean']:.2f} dB)",
            f"  mean absolute error {metrics['mae_normalized']:.4f} of RGB in [-1, 1] ({metrics['mae']:.4f} in [0, 1])",
        ]
    lines.append(
        f"  codes {result['vocab_size']}: {metrics['codes_used']:.1%} used, {metrics['dead_codes']:.0f} dead, "
        f"perplexity {metrics['perplexity']:.0f}, entropy {metrics['code_entropy']:.1%} of uniform"
    )
    if result["unreadable"]:
        lines.append(f"  {len(result['unreadable'])} images cannot be read: {', '.join(result['unreadable'][:3])}")
    return [*lines, f"written: {result['out']}/report.json, {', '.join(result['pictures'])}"]


def _size_for(median: float) -> int:
    """Returns the view's pixels: the images' own, a multiple of 32 where they are that large, 256 at most."""
    size = min(int(median), _LARGEST)
    return size // 32 * 32 if size >= 32 else max(8, size // 8 * 8)


def _folder_for(tokenizer: str) -> Path:
    path = Path(tokenizer).expanduser()
    if path.is_dir():
        return path / "tokenizer-report"
    return path.with_name(f"{path.stem}-report") if path.is_file() else Path("runs") / f"{tokenizer}-report"


def _parser() -> Parser:
    parser = Parser(prog="ssl-tokenizer report")
    add = parser.add_argument
    add("tokenizer", metavar="TOKENIZER")
    add("--data", metavar="PATH_OR_NAME", help="images; without it, the embedded demonstration")
    add("--split", metavar="NAME", help="which split; test, else val, else train by default")
    add("--images", metavar="N", type=at_least(1), default=10_000, help="most images, evenly spaced (default 10,000)")
    add("--size", metavar="PIXELS", type=at_least(1), help="seen; by default the tokenizer's, or the images' up to 256")
    add("--out", metavar="DIR", type=Path, help="for the report; by default RUN/tokenizer-report, or beside a file")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--plugin", metavar="FILE", type=Path, action="append", default=[], help="load a single-file plugin too")
    add("--no-plugin", metavar="NAME", action="append", default=[], help="leave an installed plugin out")
    add("--safe", action="store_true", help="load only the plugins of this distribution, no others")
    add("--help", "-h", action="store_true", help="this help")
    return parser


def _help_text(parser: Parser) -> str:
    lines = [
        "usage: ssl-tokenizer report TOKENIZER [--data PATH_OR_NAME] [flags] [tokenizer.key=value ...]",
        "",
        "Says how good a tokenizer is: reconstruction error, PSNR, use of its codes, a sheet of",
        "image | reconstruction, a histogram of the codes, and a picture of what some of them stand for.",
        "TOKENIZER is a run folder, an exported file, or a name (dalle).",
        "",
        "flags:",
    ]
    lines += parser.flag_lines()
    return "\n".join(lines)
