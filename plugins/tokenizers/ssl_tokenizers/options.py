"""Options of this plugin's parts. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ssl_core.api import Options


class KMeansOptions(Options):
    """k-means on small windows of the image."""

    vocab_size: int = Field(512, ge=2)
    """Codes. With a checkpoint, the checkpoint's."""
    window: int | None = Field(None, ge=1)
    """Pixels of the square window around each patch cell; None = the cell itself. As fitted, with a checkpoint."""
    whiten: bool = True
    """Normalise each window's contrast, whiten it (PCA) and keep its direction only, so that codes stand for
    structure and not for brightness. With a checkpoint, as it was fitted."""
    images: int = Field(20_000, ge=1)
    """Most training images it is fitted on."""
    iterations: int = Field(10, ge=1)
    """Passes of k-means over the windows."""
    batch_size: int | None = Field(None, ge=1)
    """Windows after which the centroids move (mini-batch k-means, which needs one or two passes where a large codebook
    on many windows takes long); None = after each pass (Lloyd)."""
    size: int | None = Field(None, ge=4)
    """Pixels of the image it sees, a multiple of the backbone's patches per side; None = what the backbone sees."""
    checkpoint: Path | None = None
    """Run folder or exported file of one that was fitted before; None = fit on the training images first."""


class DvaeOptions(Options):
    """A discrete VAE. What is None follows from the backbone and the number of training images."""

    vocab_size: int | None = Field(None, ge=2)
    """Codes; None = 8192 from a million training images on, 2048 from 100,000, 512 from 10,000, else 256.
    With a checkpoint, the checkpoint's, as for the rest of its architecture."""
    hidden: int | None = Field(None, ge=8, multiple_of=4)
    """Channels before the first halving, doubled at each, at most eightfold; None = 256 from a million training images
    on, else 128."""
    blocks: int | None = Field(None, ge=1)
    """Residual blocks at each resolution; None = 2 from 100,000 training images on, else 1."""
    stem: Literal[1, 2, 4] | None = None
    """Pixels per side that the first convolution takes at a stride, at most `downsample`: 1 is DALL-E's, 4 is about ten
    times faster; None = 1 from a million training images on, 2 from 100,000, else 4."""
    downsample: Literal[2, 4, 8, 16] | None = None
    """Pixels of its view per token and side; None = 8 for a backbone with patches of 8 pixels or more, else 4, or 2
    below that; without a backbone 8 for images above 64 pixels, else 4."""
    logits: Literal["distance", "linear"] = "distance"
    """How codes are scored: by their distance from the encoding, with a learnt scale, or by DALL-E's 1x1
    convolution."""
    checkpoint: Path | None = None
    """Run folder or exported file of a trained one; None = train it on the same images first."""


class DalleOptions(Options):
    """OpenAI's discrete VAE: 8192 codes, 8 pixels of its view per token and side."""

    checkpoint: Path | None = None
    """File that `ssl-tokenizer import` wrote; None = the one in the cache, which is fetched from OpenAI where it is
    missing."""


class DvaeTrainingOptions(Options):
    """The loss of the discrete VAE. The defaults keep a small one alive; the recipe `dalle` has the paper's."""

    loss: Literal["mse", "l1", "logit_laplace"] = "mse"
    """Reconstruction loss: on pixels in [-1, 1], or the paper's logit-Laplace likelihood."""
    tau_start: float = Field(1.0, gt=0)
    """Temperature of the Gumbel-softmax at the start."""
    tau_end: float = Field(0.25, gt=0)
    """Temperature at the end of a cosine."""
    tau_steps: int | None = Field(None, ge=1)
    """Updates of that cosine; None = the whole run."""
    straight_through: bool = True
    """Decode one code per cell and pass the gradient of the soft mixture."""
    kl_weight: float = Field(0.0, ge=0)
    """The paper's beta: weight of KL(codes | uniform), summed over cells, beside the loss summed over pixels."""
    kl_steps: int | None = Field(None, ge=1)
    """Updates over which `kl_weight` rises from 0 in a cosine; None = the whole run."""
    usage_bonus: float = Field(0.005, ge=0)
    """Weight of the entropy of the mean code distribution, which is rewarded: use every code."""
    doubt_penalty: float = Field(0.0, ge=0)
    """Weight of the mean entropy of the code distributions, which is penalised: be certain of each."""
    kmeans_start: bool = True
    """Start the codebook from k-means on the first batch's encodings. Only with logits=distance."""
    restart_dead: bool = True
    """Move codes that are hardly used to encodings of the current batch. Only with logits=distance."""
    restart_every: int = Field(25, ge=1)
    """Updates between two restarts; none happen in the last fifth of a run."""


class PixelOptions(Options):
    """Pixels in place of visual tokens."""

    normalize: bool = True
    """Subtract each patch's mean and divide by its standard deviation, as MAE does with `norm_pix_loss`;
    false = the pixels as the backbone sees them, as in SimMIM and BEiT's ablation."""


class HogOptions(Options):
    """Histograms of oriented gradients in place of visual tokens."""

    bins: int = Field(9, ge=2)
    """Orientations that are told apart, between 0 and 180 degrees."""
    cell: int | None = Field(None, ge=1)
    """Pixels per side of the cells that have a histogram each, a divisor of the patch; None = its largest divisor up
    to 8, as in MaskFeat."""


PIXELS = "pixels"
"""The teacher's name where there is none, and pixels are reconstructed."""


class VqkdOptions(Options):
    """Vector-quantised distillation, or a plain VQ-VAE. What is None follows from the number of training images."""

    teacher: str = PIXELS
    """What its codes learn to reconstruct: `pixels`, or the features of a trained backbone: a run folder, an exported
    file, a checkpoint, somebody else's file, or `timm:NAME`. It must divide images into the same grid of patches."""
    teacher_size: int | None = Field(None, ge=4)
    """Pixels of the teacher's view, of the same crop, for which its positions are resized; None = as it was
    trained."""
    vocab_size: int | None = Field(None, ge=2)
    """Codes; None = 8192 from a million training images on, 2048 from 100,000, 512 from 10,000, else 256.
    With a checkpoint, the checkpoint's, as for the rest of its architecture."""
    patch_size: int | None = Field(None, ge=1)
    """Pixels of its view per token and side; None = the backbone's; without one 16 for images above 96 pixels, 8 above
    48, else 4."""
    width: int | None = Field(None, ge=8)
    """D, of encoder and decoder; None = 768 from a million training images on, 384 from 100,000, else 128."""
    depth: int | None = Field(None, ge=1)
    """Blocks of the encoder; None = 12 from 100,000 training images on, else 4."""
    heads: int | None = Field(None, ge=1)
    """Attention heads of encoder and decoder; None = one for each 64 of the width."""
    code_width: int = Field(32, ge=2)
    """Width of a code."""
    decoder_depth: int | None = Field(None, ge=1)
    """Blocks of the decoder; None = 3 from a million training images on, else 1, which uses more of the codes."""
    checkpoint: Path | None = None
    """Run folder or exported file of a trained one; None = train it on the same images first."""

    @field_validator("teacher")
    @classmethod
    def _absolute(cls, teacher: str) -> str:
        """Makes a path absolute, so that the run can be resumed from elsewhere."""
        path = Path(teacher).expanduser()
        return str(path.absolute()) if teacher != PIXELS and path.exists() else teacher


class VqkdTrainingOptions(Options):
    """How codes and encoder follow each other. The defaults are BEiT v2's, besides the revival of dead codes."""

    commitment: float = Field(1.0, ge=0)
    """Weight of the encoder's distance from its codes."""
    decay: float = Field(0.99, ge=0, lt=1)
    """Share of a code that stays at each update; the rest is the mean of what it stood for."""
    kmeans_start: bool = True
    """Start the codes from k-means on the first batch's encodings."""
    restart_dead: bool = True
    """Move codes that are hardly used to encodings of the current batch."""
    restart_every: int = Field(25, ge=1)
    """Updates between two restarts; none happen in the last fifth of a run."""
