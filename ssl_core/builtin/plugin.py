"""What this plugin, `core`, offers. Imports no torch."""

from __future__ import annotations

from ssl_core.api import Component, NoOptions, hookimpl
from ssl_core.builtin.options import (
    AugmentOptions,
    FolderOptions,
    RandomMaskerOptions,
    ShardOptions,
    SingleImageOptions,
    StoredOptions,
    TexturesOptions,
    TimmDatasetOptions,
    TimmVitOptions,
)
from ssl_core.builtin.vit_names import SHORT_NAMES


@hookimpl
def register_backbones() -> list[Component]:
    return [
        Component(
            kind="backbone",
            name="vit",
            summary="any of timm's ViTs, DeiTs and BEiTs, by timm's name or a short one",
            target="ssl_core.builtin.vit:TimmVit",
            options=TimmVitOptions,
            names=tuple(SHORT_NAMES),
            name_option="model",
            answers="ssl_core.builtin.vit_names:is_timm_vit",
            provides=("any_size", "cls", "drop_tokens"),
            references=("ViT (Dosovitskiy et al. 2020), arXiv 2010.11929",),
        )
    ]


@hookimpl
def register_maskers() -> list[Component]:
    return [
        Component(
            kind="masker",
            name="random",
            summary="hides single patches uniformly, equally many in each image",
            target="ssl_core.builtin.random_masker:RandomMasker",
            options=RandomMaskerOptions,
            references=("MAE (He et al. 2021), arXiv 2111.06377", "SimMIM (Xie et al. 2021), arXiv 2111.09886"),
        )
    ]


@hookimpl
def register_transforms() -> list[Component]:
    return [
        Component(
            kind="transform",
            name="augment",
            summary="random resized crops and flips; colour jitter, grey and blur as options",
            target="ssl_core.builtin.augment:Augment",
            options=AugmentOptions,
        )
    ]


@hookimpl
def register_datasets() -> list[Component]:
    return [
        Component(
            kind="dataset",
            name="folder",
            summary="a folder of image files, with or without classes",
            target="ssl_core.builtin.folder:FolderSource",
            options=FolderOptions,
        ),
        Component(
            kind="dataset",
            name="shards",
            summary="tar archives of images in WebDataset's layout, with random access; nothing in them is run",
            target="ssl_core.builtin.shards:ShardSource",
            options=ShardOptions,
        ),
        Component(
            kind="dataset",
            name="textures",
            summary="generated grey textures, 10 classes, 32 px: a demonstration that needs no files",
            target="ssl_core.builtin.textures:TexturesSource",
            options=TexturesOptions,
        ),
        Component(
            kind="dataset",
            name="digits",
            summary="scikit-learn's handwritten digits, 1,797 images, 16 px, comes with the installation",
            target="ssl_core.builtin.digits:DigitsSource",
            options=NoOptions,
            references=("Alpaydin and Kaynak 1998, doi 10.24432/C50P49",),
        ),
        Component(
            kind="dataset",
            name="cifar10",
            summary="CIFAR-10, 60,000 colour images, 32 px; fetched once",
            target="ssl_core.builtin.cifar:Cifar10Source",
            options=StoredOptions,
            references=("Learning Multiple Layers of Features from Tiny Images (Krizhevsky 2009)",),
        ),
        Component(
            kind="dataset",
            name="cifar100",
            summary="CIFAR-100, 60,000 colour images, 32 px; fetched once",
            target="ssl_core.builtin.cifar:Cifar100Source",
            options=StoredOptions,
            references=("Learning Multiple Layers of Features from Tiny Images (Krizhevsky 2009)",),
        ),
        Component(
            kind="dataset",
            name="fashion_mnist",
            summary="Fashion-MNIST, 70,000 grey images, 28 px; Debian's files, or fetched once",
            target="ssl_core.builtin.fashion_mnist:FashionMnistSource",
            options=StoredOptions,
            references=("Fashion-MNIST (Xiao et al. 2017), arXiv 1708.07747",),
        ),
        Component(
            kind="dataset",
            name="image",
            summary="one image file, to look at what a backbone makes of it",
            target="ssl_core.builtin.single_image:SingleImageSource",
            options=SingleImageOptions,
        ),
        Component(
            kind="dataset",
            name="timm",
            summary="any data set that timm opens by a name with a prefix: hfds/, torch/, tfds/, hfids/, wds/",
            target="ssl_core.builtin.timm_data:TimmSource",
            options=TimmDatasetOptions,
            name_option="source",
            answers="ssl_core.builtin.timm_names:is_timm_dataset",
        ),
    ]


@hookimpl
def register_checkpoint_formats() -> list[Component]:
    return [
        Component(
            kind="checkpoint_format",
            name="timm_vit",
            summary="plain ViTs in timm's names: timm's, DeiT's, and the encoders that MAE and DINO publish",
            target="ssl_core.builtin.vit_formats:TimmVitFormat",
        ),
        Component(
            kind="checkpoint_format",
            name="huggingface_vit",
            summary="folders of transformers' ViTModel: Google's ViTs, DINO's",
            target="ssl_core.builtin.vit_formats:VitModelFormat",
        ),
    ]
