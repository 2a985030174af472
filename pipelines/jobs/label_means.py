"""What made the masks, meshes and features of a run, in words that need no knowledge of its options."""

from __future__ import annotations

from actors.models import chosen_value
from sc3d.config import RunConfig

MEANS: dict[str, tuple[str, dict[str, str]]] = {
    "reconstruct.mask": (
        "masks",
        {
            "file": "mask files; GrabCut, which goes by colours, where there are none",
            "grabcut": "GrabCut, which goes by colours",
            "file_or_activation": "mask files; GrabCut where EfficientNet-Lite0 sees an object, where there are none",
            "activation": "GrabCut where EfficientNet-Lite0 sees an object",
            "file_or_foreground": "mask files; a salient-object network where there are none",
            "foreground": "a salient-object network",
            "file_or_sam3": "mask files; SAM 3, asked for the category, where there are none",
            "sam3": "SAM 3, asked for the category",
        },
    ),
    "reconstruct.mesh": (
        "meshes",
        {
            "auto": "the data set's own meshes, disturbed, where it has them; else inflated silhouettes, whose far side is unknown",
            "inflate": "inflated silhouettes, whose far side is unknown",
            "template": "one mesh for all photos, posed in each: no reconstruction of the object that a photo shows",
            "disturbed_truth": "the data set's own meshes, disturbed as reconstructions are",
            "sam3d": "reconstructed by SAM 3D Objects, each from one photo",
        },
    ),
    "orient.estimator": (
        "which way meshes face",
        {
            "joint": "learned from renders of all meshes of a category through EfficientNet-Lite0",
            "joint_normals": "learned from the surface normals of all meshes of a category",
            "consensus": "votes of views for what most meshes of a category look like",
            "orient_anything_v1": "votes of views, by OrientAnything V1",
            "orient_anything_v2": "votes of views, by OrientAnything V2",
            "none": "all are taken to face forward",
        },
    ),
    "describe.dino": (
        "2D features, first half",
        {
            "lite0": "EfficientNet-Lite0, a small network for ImageNet's classes",
            "daisy": "DAISY, hand-made descriptors",
            "dinov2": "DINOv2",
            "dinov2_registers": "DINOv2 with registers",
            "dinov3": "DINOv3",
        },
    ),
    "describe.sd": (
        "2D features, second half",
        {
            "lite0": "EfficientNet-Lite0, a small network for ImageNet's classes",
            "hog": "HOG with colour and texture, hand-made descriptors",
            "stable_diffusion": "Stable Diffusion 1.5",
            "dift": "DIFT, of Stable Diffusion 2.1",
        },
    ),
    "describe.shape": (
        "3D descriptors",
        {"spectral": "of the mesh's shape alone, hand-made (spectral)", "partfield": "PartField"},
    ),
    "match.transfer": (
        "places from mesh to mesh",
        {
            "nearest": "the nearest 3D descriptor",
            "registration": "meshes warped onto references of their category",
            "functional_map": "functional maps",
            "transport": "optimal transport of 3D descriptors",
        },
    ),
}
"""Option -> what it decides, and what its values mean. Values that are not named are somebody's own: they stand for themselves."""


def means_of(config: RunConfig) -> list[tuple[str, str]]:
    """What, and how it was made, of everything that the labels of a configuration come from."""
    found = []
    for option, (what, words) in MEANS.items():
        value = chosen_value(config, option)
        found.append((what, words.get(value, value)))
    if config.models.variant == "tiny":
        found.append(("models", "small random ones in place of all foundation models: the labels mean nothing"))
    return found
