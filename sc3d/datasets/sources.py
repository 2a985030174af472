"""Where the data sets come from, and how much a whole copy holds. Nothing here is ever downloaded by the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sc3d.datasets.segmentation import VOC_CLASSES


@dataclass(frozen=True)
class Source:
    """A data set's name, what a whole copy holds, and how to get one.

    Attributes:
        pairs: subset ("" where there are none) -> pairs that each split lists.
        images: annotated images.
        categories: the categories that a whole copy has.
        get: what to do, a line a step; ``{root}`` stands for the folder.
    """

    name: str
    get: tuple[str, ...]
    pairs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    images: int | None = None
    categories: tuple[str, ...] = ()


_SPAIR_CATEGORIES = tuple(name for name in VOC_CLASSES if name not in ("diningtable", "sofa"))
_WILLOW = "http://www.di.ens.fr/willow/research"

SOURCES = {
    "spair": Source(
        "SPair-71k",
        (
            "download http://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz",
            "unpack it on Linux or macOS, since names of pairs hold a colon: tar -xzf SPair-71k.tar.gz",
            "give the folder SPair-71k, which holds ImageAnnotation, PairAnnotation, JPEGImages and Layout, as --root",
        ),
        {"large": {"trn": 53_340, "val": 5_384, "test": 12_234}, "small": {"trn": 10_652, "val": 1_070, "test": 2_438}},
        images=1_800,
        categories=_SPAIR_CATEGORIES,
    ),
    "spair-u": Source(
        "SPair-U",
        (
            "get SPair-71k first, whose photos it uses: sc3d data spair",
            "download https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip",
            "unpack it as a folder SPair-U in or beside the folder SPair-71k, and give either as --root",
        ),
    ),
    "ap10k": Source(
        "AP-10K",
        (
            "download ap-10k.zip; its link is in https://github.com/AlexTheBad/AP-10K, and data/prepare_ap10k.sh of "
            "https://github.com/Junyi42/GeoAware-SC has it too",
            "unpack it: the folder ap-10k holds annotations and data",
            "copy data/ap-10k_is_crowd.txt of https://github.com/Junyi42/GeoAware-SC into it or beside it",
            "give the folder ap-10k as --root; one that prepare_ap10k.ipynb has rearranged will do as well",
        ),
    ),
    "pf-pascal": Source(
        "PF-PASCAL",
        (
            f"download {_WILLOW}/proposalflow/dataset/PF-dataset-PASCAL.zip and unpack it",
            f"download {_WILLOW}/cnngeometric/other_resources/test_pairs_pf_pascal.csv and val_pairs_pf_pascal.csv from the same place",
            "for the training pairs, train_pairs.csv in datasets/pf-pascal/image_pairs of https://github.com/ignacio-rocco/ncnet",
            "put the lists into the folder PF-dataset-PASCAL, and give it as --root",
        ),
        {"": {"trn": 2_940, "val": 308, "test": 299}},
    ),
    "pf-willow": Source(
        "PF-WILLOW",
        (
            f"download {_WILLOW}/proposalflow/dataset/PF-dataset.zip and unpack it",
            f"download {_WILLOW}/cnngeometric/other_resources/test_pairs_pf.csv",
            "put the list into the folder PF-dataset, and give it as --root",
        ),
        {"": {"test": 900}},
    ),
    "tss": Source(
        "TSS",
        (
            "download http://www.hci.iis.u-tokyo.ac.jp/datasets/data/JointCorrCoseg/TSS_CVPR2016.zip and unpack it",
            "give the folder TSS_CVPR2016, which holds FG3DCar, JODS and PASCAL, as --root",
        ),
        {"": {"test": 800}},
    ),
}
