"""Evaluator: a number for a checkpoint. CheckpointFormat: other people's files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ssl_core.contracts.data import DataSource

if TYPE_CHECKING:
    from ssl_core.contracts.backbone import Backbone


@dataclass(frozen=True)
class BackboneSpec:
    """Everything needed to build a backbone again, besides its weights.

    Attributes:
        component: qualified name, `beit:vit`.
        options: its options as plain values.
        image_size: pixels it was trained at.
        mean, std: how pixels in [0, 1] are normalised, per channel.
        data: the data set it was trained on, a name that `open_source` takes; None when unknown.
        data_settings: that data set's options, dotted (`dataset.path`).
        source: the file or folder that it was read from.
    """

    component: str
    options: Mapping[str, Any]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    data: str | None = None
    data_settings: Mapping[str, Any] = field(default_factory=dict)
    source: Path | None = None


class Evaluator(ABC):
    """Built as `Evaluator(options, context)`."""

    shares_work: bool = False
    """Whether several processes (`Processes.of_environment()`) share its work. Each calls `run` then, and the result of
    the first one counts. Where it is False, the first process works alone."""

    sets_in_backbone: frozenset[str] = frozenset()
    """Options of the backbone that the evaluation sets by itself: a user's `backbone.OPTION`, which would be lost, is
    refused."""

    @abstractmethod
    def run(self, backbone: Backbone, data: DataSource, out: Path | None) -> dict[str, Any]:
        """Evaluates and returns JSON-ready values: `evaluator`, `protocol`, `metrics`, `baselines`.

        `metrics` is empty where the result is files alone. Besides, where there are any: `files` (paths), `tables`
        (each with `title`, `columns` and `rows`) and `notes` (sentences a reader needs).

        Args:
            backbone: in eval mode; `backbone.spec` says how to normalise pixels, and can be built again
                untrained as a baseline (`build_untrained`).
            data: where images and labels come from.
            out: folder for files that go with the result; None = write nothing.
        """


class CheckpointFormat(ABC):
    """Reads files that another project wrote. Built as `CheckpointFormat(options, context)`.

    The engine reads the tensors, which runs no code, asks each format whether it knows them, and
    loads what `convert` returns into the backbone that it describes. Every tensor must then match in name
    and shape, except those that `ignored` lists.
    """

    ignored: tuple[str, ...] = ()
    """Patterns (`fnmatch`) of tensors that may be in a file and in no backbone: index buffers, heads,
    a mask token. Matched against the names that `convert` returns."""

    general: bool = False
    """Whether it reads what many projects write: it is heard only where no other format matches. Two that
    match otherwise are an error."""

    @abstractmethod
    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool:
        """Returns whether this looks like the format, from the names of its tensors and the metadata alone.

        Args:
            keys: names of the tensors, after unwrapping (`model`, `state_dict`, `module`, `teacher`).
            metadata: what was found beside the tensors: the metadata of a safetensors file; `wrapper`, the key
                the tensors lay under; `args`, the training arguments as JSON; `config.json`, the text of a
                Hugging Face folder's, and `preprocessor_config.json`, where it has one;
                `timm.architecture` and `timm.pretrained_cfg` (JSON) of a timm name.
        """

    @abstractmethod
    def convert(
        self, state: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> tuple[BackboneSpec, dict[str, Tensor]]:
        """Returns the spec and the state dict for that backbone.

        Tensors it does not know pass under their own names, so that the engine can refuse and list them.
        """
