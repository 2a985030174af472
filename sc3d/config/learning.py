"""Training, evaluation, comparisons and the search."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sc3d.config.options import STRICT, Count, Positive


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """Adapter training. The defaults are those of the preset ``position``; what others change is in :mod:`sc3d.config_presets`."""

    preset: Annotated[
        Literal["position", "3d-sc", "diy-sc"],
        Field(
            description="settings of the losses: those that keep the features and ask for the position, the paper's, or DIY-SC's; other "
            "options override them"
        ),
    ] = "position"
    labels: Annotated[
        str | None, Field(description="recipe of the labels in the run folder, such as an import prints; none: the run's own")
    ] = None
    steps: Annotated[Count, Field(description="optimiser steps")] = 200_000
    pairs_per_step: Annotated[Count, Field(description="pairs in one step")] = 1
    labels_per_pair: Annotated[Count, Field(description="labels of a pair in one step, at most")] = 50
    draws: Annotated[
        Literal["every_step", "once"], Field(description="when these labels are drawn: anew at every step, or once and for all")
    ] = "every_step"
    learning_rate: Annotated[Positive, Field(description="peak of the one-cycle schedule")] = 5e-3
    weight_decay: Annotated[float, Field(ge=0, description="AdamW weight decay")] = 1e-3
    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout on the input features")] = 0.0
    channels: Annotated[Count, Field(description="output channels of the adapter")] = 768
    window: Annotated[int, Field(ge=0, description="half window of the dense loss's soft-argmax in cells; 0: the whole map")] = 7
    noise: Annotated[float, Field(ge=0, description="standard deviation of the Gaussian noise on the dense target")] = 0.0
    noise_unit: Annotated[
        Literal["cells", "reach"],
        Field(description="of what: cells, or the largest coordinate of the pair's labels in the target (DIY-SC)"),
    ] = "cells"
    duplicates: Annotated[
        Literal["mask", "keep"],
        Field(description="labels that share a cell with another are left out of its negatives, or are negatives of it (DIY-SC)"),
    ] = "mask"
    negatives: Annotated[
        Literal["labels", "map", "position"],
        Field(
            description="what the sparse loss tells a label's partner from: the other labels (the paper's), every cell, or every cell by "
            "its distance, as a Gaussian around the partner"
        ),
    ] = "position"
    sigma_start: Annotated[Positive, Field(description="width of that Gaussian at first, in cells")] = 1.2
    sigma_end: Annotated[
        Positive, Field(description="and from two thirds of the steps on; between them it falls as half a cosine")
    ] = 0.5
    soft_targets: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of what the other labels of a pair have in the sparse loss's target, by a balanced Sinkhorn plan of the "
            "present cosines (Shape-of-You: 0.3); negatives=labels alone reads it",
        ),
    ] = 0.0
    dense_weight: Annotated[float, Field(ge=0, description="weight of the dense loss beside the sparse one; 0: it is left out")] = (
        0.0
    )
    confidence: Annotated[
        Literal["none", "geodesic"],
        Field(description="weight of a label in both losses: the same for all (the paper's), or falling with its geodesic error"),
    ] = "none"
    both_ways: Annotated[bool, Field(description="the dense loss also predicts sources from targets (the paper's does not)")] = True
    keep_features: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of the features' own cosine in that of the descriptors, which the adapter's is added to; 0: the "
            "adapter alone (the paper's)",
        ),
    ] = 0.5
    start_from_features: Annotated[
        bool, Field(description="start each block as its shortcut alone, so that training starts from the features")
    ] = True
    initial: Annotated[
        str | None, Field(description="local file of an adapter, ours or a published one, to start from; none: random weights")
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="of the adapter's activations in training; auto: bfloat16 on a GPU, float32 on a CPU"),
    ] = "auto"
    validate_every: Annotated[
        int | None, Field(ge=0, description="steps between validations; 0: never; none: an eighth of the steps, at least 500")
    ] = None
    validation_pairs: Annotated[Count, Field(description="validation pairs of a category, at most")] = 20
    validation_share: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the labelled pairs held out for validation where none of a val split is annotated"),
    ] = 0.05
    trackers: Annotated[
        tuple[Literal["tensorboard", "wandb", "mlflow"], ...],
        Field(description="where curves go; wandb and mlflow must be installed, and read their own environment variables"),
    ] = ("tensorboard",)
    cache: Annotated[
        str | None, Field(description="folder of a node for labels, and for features of runs on s3; none: ~/.cache/sc3d/training")
    ] = None
    cache_gb: Annotated[Positive, Field(description="size of that folder; what was not used for longest goes first")] = 50.0
    workers: Annotated[int, Field(ge=0, description="Ray Train workers; 0 trains in the calling process")] = 0


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    """PCK and filter quality."""

    methods: Annotated[
        tuple[str, ...],
        Field(
            description="what predicts the keypoints, by name (sc3d methods); none: copy-position, a control, zero-shot, and the adapter "
            "if one was trained"
        ),
    ] = ()
    alphas: Annotated[
        tuple[Positive, ...],
        Field(description="PCK thresholds; none: those of the data set's papers, 0.10, 0.05 and 0.01 for most"),
    ] = ()
    unit: Annotated[
        Literal["auto", "box", "image", "keypoints"],
        Field(
            description="what a threshold is a share of: the longer side of the target's box, of the image, or of the box around its "
            "keypoints; auto: as the data set's papers have it"
        ),
    ] = "auto"
    window: Annotated[int, Field(ge=0, description="half window of the soft-argmax in cells; 0: the whole map")] = 7
    temperature: Annotated[Positive, Field(description="softmax temperature of the window soft-argmax")] = 0.02
    masking: Annotated[
        Literal["zero", "infinity"],
        Field(description="similarities outside the window count as 0, as in GeoAware-SC's code, or not at all"),
    ] = "zero"
    template_prior: Annotated[
        Positive,
        Field(
            description="of the methods light-template and template: weight of the squared distance from where the template's pose puts a "
            "point, in boxes of the target's object; 10 suits rigid things, 1 animals"
        ),
    ] = 10.0
    direct: Annotated[
        bool,
        Field(
            description="of the methods through class shapes: the features' own cosines have a say too; false: the published form, the "
            "class shape alone"
        ),
    ] = True
    flip: Annotated[
        Literal["none", "mutual", "mask"],
        Field(
            description="adaptive flip of zero-shot methods: also try the mirrored source, and take what is nearer, by mutual nearest "
            "neighbours or over the objects' masks"
        ),
    ] = "none"
    filter_pairs: Annotated[
        int,
        Field(ge=0, description="the quality of filters is judged on at most so many pairs of a category and split; 0: not at all"),
    ] = 60
    labellings: Annotated[
        tuple[str, ...],
        Field(
            description="labellings (sc3d compare), and filters of one's own, that are judged beside the filters, such as diy-sc"
        ),
    ] = ()
    max_pairs_per_category: Annotated[int | None, Field(description="evaluate at most so many test pairs per category")] = None


@dataclass(frozen=True, config=STRICT)
class RepresentConfig:
    """Class shapes, the 3D shapes of categories of SemAlign3D."""

    features: Annotated[
        Literal["zero-shot", "adapter"],
        Field(description="what cells are told by: the run's 2D features, fused with its weights, or its trained adapter"),
    ] = "zero-shot"
    landmarks: Annotated[
        Literal["annotated", "registered"],
        Field(
            description="the points that a class shape is built on: annotated keypoints of the split trn, or points of a reference mesh, "
            "found by registrations, which nobody annotated"
        ),
    ] = "annotated"
    depth: Annotated[
        str,
        Field(
            description="the depth that class shapes read: mesh, of the posed meshes; depth_anything_v2_small, depth_anything_v2_base or "
            "depth_anything_v2_large, of a network; or toys, the known depth of toys, disturbed as that of a network is"
        ),
    ] = "mesh"
    poses: Annotated[
        bool,
        Field(
            description="the poses of the meshes, whatever the depth is of, are among those that are tried, and count as far as they agree "
            "on the images that a class shape is built from"
        ),
    ] = True
    images: Annotated[Count, Field(description="images of a category that its class shape is built from, at most")] = 100
    points: Annotated[Count, Field(description="points of a class shape beside its keypoints, at most")] = 1000
    hypotheses: Annotated[Count, Field(description="poses from which a class shape is fitted to an image")] = 16


@dataclass(frozen=True, config=STRICT)
class CompareConfig:
    """Labels made in another way than the project's own."""

    labelling: Annotated[
        str,
        Field(
            description="how labels are made; sc3d compare lists the names; of one's own: a filter, module:Name or an entry point of "
            "sc3d.filters"
        ),
    ] = "3d-cycle-geodesic"
    spheres: Annotated[
        str | None,
        Field(description="folder of spherical maps <image_id>.npy (side, side, 3), for DIY-SC's filter; none: it is left out"),
    ] = None


@dataclass(frozen=True, config=STRICT)
class SweepConfig:
    """Searches on annotated validation pairs: of the fusion weights and thresholds, and of what an adapter is trained with. Without such
    pairs, of the widest threshold at a wanted precision."""

    level: Annotated[
        Literal["labels", "adapter"],
        Field(description="labels: weights and thresholds, each setting counted; adapter: each setting is trained with"),
    ] = "labels"
    objective: Annotated[
        Literal["fpr", "pck", "cycles"],
        Field(
            description="of the label level: the share of wrong labels, or PCK@0.10 of the fused features under each weights; cycles, and "
            "fpr where nothing is annotated: the widest tau_geo at the precision, estimated from chains of three matches"
        ),
    ] = "fpr"
    precision: Annotated[
        float,
        Field(gt=0, lt=1, description="of cycles: least share of right labels, by the low end of its 95 % interval"),
    ] = 0.95
    triangles: Annotated[Count, Field(description="of cycles: triangles of images of a category that chains go round, at most")] = (
        400
    )
    steps: Annotated[Count, Field(description="alpha, beta and gamma take multiples of 1 / steps")] = 6
    tau_cc: Annotated[tuple[Positive, ...], Field(description="cycle thresholds to try", min_length=1)] = (0.03, 0.05, 0.08)
    tau_geo: Annotated[tuple[Positive, ...], Field(description="geodesic thresholds to try", min_length=1)] = (
        0.02,
        0.03,
        0.05,
        0.08,
    )
    min_kept: Annotated[
        Positive, Field(description="labels per pair that the best setting must keep, in those of the present one")
    ] = 1.0
    labels: Annotated[
        float | None,
        Field(gt=0, description="labels per pair that the best setting must keep, as a number; none: min_kept decides"),
    ] = None
    pairs_per_category: Annotated[Count, Field(description="validation pairs of a category that are used")] = 10
    space: Annotated[
        dict[str, Any],
        Field(
            description="options of the adapter level and what they may be: a list of values, or {low, high} with log: true for an even "
            "spread of magnitudes; none: weights that are matched, thresholds, learning rate and losses"
        ),
    ] = field(default_factory=dict)
    method: Annotated[
        Literal["random", "optuna"], Field(description="what chooses the next setting; optuna needs the extra sc3d[search]")
    ] = "random"
    trials: Annotated[Count, Field(description="settings that the adapter level trains with")] = 30
    hours: Annotated[float | None, Field(gt=0, description="time after which it stops; none: when all trials are done")] = None
    trial_steps: Annotated[int | None, Field(ge=1, description="steps of a trial; none: a tenth of train.steps")] = None
    validations: Annotated[Count, Field(description="validations of a trial; early stopping decides after some of them")] = 9
    early_stopping: Annotated[
        bool, Field(description="stop trials that are worse than two thirds of the others at the same step (ASHA)")
    ] = True
    trial_gpus: Annotated[
        float | None, Field(ge=0, description="GPUs, or the share of one, of a trial in one process; none: one where there are any")
    ] = None
