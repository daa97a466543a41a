"""`ssl-bench recipes`: what a tokenizer makes of the fast recipe's views, beside the exact ones.

Two recipes are alike where a tokenizer gives the same codes to the same crop. How much that should be is shown by a
change that nobody minds: the exact recipe with its crop moved by one pixel.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from ssl_benchmarks.bench_help import bench_parser, parse_flags
from ssl_benchmarks.bench_parts import DALLE_SIZE
from ssl_benchmarks.loader_case import VIEWS, files_of, made_files, our_views, two_view
from ssl_core.api import BuildContext, Parser, Registry, Views, at_least, change_colours, progress, validate_options

_CELL = 8
"""Pixels of the view `tokens` that a code stands for."""

_CODES = 512
_MOVED = "exact, crop moved by a pixel"


def command(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Compares, prints the rows, and returns them as JSON-ready values."""
    flags_parser = _parser()
    if "--help" in arguments or "-h" in arguments:
        summary = "How many codes of a tokenizer the fast recipe leaves as the exact one gives them, on the same crops."
        lines = [f"usage: {flags_parser.prog} [flags]", "", summary, "", "flags:", *flags_parser.flag_lines()]
        print("\n".join(lines))
        return {"help": "\n".join(lines)}
    flags = parse_flags(flags_parser, arguments)
    files = made_files(flags.images) if flags.data is None else files_of(flags.data, flags.images)
    found = rows(files, flags.tokenizer)
    for line in found:
        print(
            f"{line['recipe']}: {100 * line['agreement']:.1f} % of the codes of {line['tokenizer']} are those of "
            f"{line['against']}; {line['grey_levels']:.2f} grey levels apart"
        )
    return {"rows": found}


def rows(files: Sequence[bytes], tokenizer: str | None = None) -> list[dict[str, Any]]:
    """Compares the recipes, with and without jitter.

    Args:
        files: JPEGs.
        tokenizer: run or file of a trained dVAE; None = k-means on cells, and an untrained dVAE of DALL-E's size.

    Returns:
        a row for each tokenizer and pair of recipes: `agreement` is the share of equal codes, `grey_levels` the mean
        absolute difference of the view `tokens`.
    """
    found = []
    for jitter in (0.4, 0.0):
        views = {name: _views(files, recipe, jitter, moved) for name, recipe, moved in _CASES}
        exact = views.pop("exact")
        for label, encode in _tokenizers(exact, tokenizer).items():
            codes = encode(exact)
            for name, tokens in views.items():
                found.append(
                    {
                        "recipe": name,
                        "against": f"exact, jitter {jitter:g}",
                        "tokenizer": label,
                        "agreement": round((encode(tokens) == codes).float().mean().item(), 4),
                        "grey_levels": round((tokens.float() - exact.float()).abs().mean().item(), 3),
                        "images": len(files),
                    }
                )
    return found


_CASES = (("exact", "exact", False), ("fast", "fast", False), (_MOVED, "exact", True))


def _views(files: Sequence[bytes], recipe: str, jitter: float, moved: bool) -> Tensor:
    """Returns the view `tokens` of every file, (B, 3, 112, 112) uint8."""
    transform = two_view(recipe, jitter=jitter)
    if not moved:
        return torch.cat([_tokens(our_views(transform, file, number)) for number, file in enumerate(files)])
    return torch.cat([_moved(transform, file, number) for number, file in enumerate(files)])


def _moved(transform: Any, file: bytes, seed: int) -> Tensor:
    """Cuts the same crops of the image after it was moved one pixel to the left."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    image = image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0), Image.Resampling.NEAREST)
    return _tokens(transform(image, VIEWS, lambda name: random.Random(f"{seed} {name}")))


def _tokens(views: dict[str, Tensor] | Views) -> Tensor:
    """Returns the view `tokens` with its colours changed, (1, 3, 112, 112) uint8."""
    if not isinstance(views, Views):
        return views["tokens"]
    tokens = views.pixels["tokens"].contiguous()
    return change_colours(tokens, views.colours["tokens"]).byte() if views.colours else tokens


def _tokenizers(exact: Tensor, checkpoint: str | None) -> dict[str, Callable[[Tensor], Tensor]]:
    """Returns name -> views (B, 3, H, W) uint8 to codes (B, h, w)."""
    if checkpoint is not None:
        return {f"the dVAE of {checkpoint}": _dvae({"checkpoint": checkpoint})}
    return {"k-means": _kmeans(exact), "an untrained dVAE of DALL-E's size": _dvae(DALLE_SIZE)}


def _kmeans(exact: Tensor) -> Callable[[Tensor], Tensor]:
    def cells(views: Tensor) -> Tensor:
        parts = views.unfold(2, _CELL, _CELL).unfold(3, _CELL, _CELL)  # (B, 3, h, w, cell, cell)
        return parts.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).float() / 255  # (B * h * w, 3 * cell * cell)

    found = cells(exact)
    clusters = MiniBatchKMeans(min(_CODES, len(found) // 4), random_state=0, n_init=1, batch_size=4096, max_iter=20)
    clusters.fit(found.numpy())
    return lambda views: torch.from_numpy(clusters.predict(cells(views).numpy()))


def _dvae(options: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    component = Registry.load(safe=True).find("tokenizers:dvae", "tokenizer").component
    torch.manual_seed(0)
    context = BuildContext(image_size=2 * VIEWS["tokens"].size, train_images=1)
    tokenizer = component.load()(validate_options(component.options, options), context).eval()

    @torch.no_grad()
    def encode(views: Tensor) -> Tensor:
        with progress("codes", len(views)) as advance:
            codes = []
            for part in views.split(8):
                codes.append(tokenizer.encode(part.float() / 255))
                advance(len(part))
        return torch.cat(codes)

    return encode


def _parser() -> Parser:
    found = bench_parser("recipes")
    add = found.add_argument
    add("--data", metavar="FOLDER", help="JPEGs to take; made ones of 500x375 pixels by default")
    add("--images", metavar="N", type=at_least(4), default=40, help="how many of them (default 40)")
    add("--tokenizer", metavar="RUN", help="a trained dVAE, in place of k-means and an untrained one")
    add("--json", action="store_true", help="print one JSON object on stdout, everything else on stderr")
    add("--help", "-h", action="store_true", help="this help")
    return found
