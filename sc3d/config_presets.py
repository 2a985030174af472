"""What a name in a configuration stands for: profiles, kinds of meshes, and presets of training."""

from __future__ import annotations

from typing import Any

PROFILES: dict[str, dict[str, Any]] = {
    "light": {
        "reconstruct": {"mask": "file_or_activation", "mesh": "auto"},
        "orient": {"estimator": "joint"},
        "describe": {"dino": "lite0", "sd": "lite0", "shape": "spectral"},
        "match": {"transfer": "registration"},
        "train": {"preset": "position"},
    },
    "offline": {
        "reconstruct": {"mask": "file", "mesh": "auto"},
        "orient": {"estimator": "joint_normals"},
        "describe": {"dino": "daisy", "sd": "hog", "shape": "spectral"},
        "match": {"transfer": "registration"},
        "train": {"preset": "position"},
    },
    "foundation": {
        "reconstruct": {"mask": "sam3", "mesh": "sam3d"},
        "orient": {"estimator": "orient_anything_v2"},
        "describe": {"dino": "dinov2", "sd": "stable_diffusion", "shape": "partfield"},
        "match": {"transfer": "nearest"},
        "train": {"preset": "3d-sc"},
    },
}
"""What a profile chooses where neither file nor option says otherwise."""

MESHES: dict[str, dict[str, Any]] = {
    "template": {
        "orient": {"estimator": "none"},
        "match": {"tau_reprojection": 0.06, "transfer": "nearest"},
        "label": {"min_agreement": 0.15},
    }
}
"""What ``reconstruct.mesh`` chooses of other stages where neither file nor option says otherwise: a template is posed with its front, and
fits all photos so alike that only its pairs tell which of its poses are wrong. Its own numbering needs no transfer."""

PRESETS: dict[str, dict[str, Any]] = {
    "3d-sc": {
        "labels_per_pair": 50,
        "draws": "every_step",
        "learning_rate": 5e-3,
        "weight_decay": 1e-3,
        "dropout": 0.2,
        "window": 7,
        "noise": 0.5,
        "noise_unit": "cells",
        "duplicates": "mask",
        "negatives": "labels",
        "confidence": "none",
        "both_ways": False,
        "start_from_features": False,
        "soft_targets": 0.0,
        "dense_weight": 1.0,
        "keep_features": 0.0,
    },
    # What was measured in docs/training.md on features that stand in for the paper's.
    "position": {
        "labels_per_pair": 50,
        "draws": "every_step",
        "learning_rate": 5e-3,
        "weight_decay": 1e-3,
        "dropout": 0.0,
        "window": 7,
        "noise": 0.0,
        "noise_unit": "cells",
        "duplicates": "mask",
        "negatives": "position",
        "confidence": "none",
        "both_ways": True,
        "start_from_features": True,
        "soft_targets": 0.0,
        "dense_weight": 0.0,
        "keep_features": 0.5,
    },
    # Its train_spair.yaml and the defaults of its pck_train.py.
    "diy-sc": {
        "labels_per_pair": 50,
        "draws": "once",
        "learning_rate": 5e-3,
        "weight_decay": 1e-3,
        "dropout": 0.2,
        "window": 0,
        "noise": 0.05,
        "noise_unit": "reach",
        "duplicates": "keep",
        "negatives": "labels",
        "confidence": "none",
        "both_ways": False,
        "start_from_features": False,
        "soft_targets": 0.0,
        "dense_weight": 1.0,
        "keep_features": 0.0,
    },
}
"""What ``train.preset`` chooses where neither file nor option says otherwise. All train 200,000 steps of one pair."""
