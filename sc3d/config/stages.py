"""The stages from a photo to labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sc3d.config.options import STRICT, Count, Fraction, Positive

TransferName = Literal["nearest", "registration", "transport", "functional_map"]
DEVICE_TRANSFERS: tuple[TransferName, ...] = ("nearest", "registration")
"""Those that run on a GPU."""

BUILT_IN = "toys"
"""As ``reconstruct.template``: the shapes of the toys' categories."""

Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class ReconstructConfig:
    """Mask, mesh, camera and aligned pose of each image."""

    mask: Annotated[
        str,
        Field(
            description="file_or_activation: mask files where there are any, else GrabCut where EfficientNet-Lite0 sees an object; "
            "activation: that alone; file: files, else GrabCut; grabcut; file_or_foreground, foreground: files, else the network of "
            "models.foreground, or that alone; file_or_sam3, sam3: files, else SAM 3, asked for the category, or that alone"
        ),
    ] = "file_or_activation"
    mesh: Annotated[
        str,
        Field(
            description="where meshes come from: inflate, template, sam3d, or disturbed_truth, the dataset's own, disturbed; auto: these "
            "where it has them, else inflate"
        ),
    ] = "auto"
    align: Annotated[AlignConfig, Field(description="render and compare")] = AlignConfig()
    max_vertices: Annotated[int, Field(ge=100, description="meshes are decimated to this many vertices")] = 8000
    wrong_yaw: Annotated[Fraction, Field(description="share of simulated reconstructions turned by a quarter turn")] = 0.06
    template: Annotated[
        str | None,
        Field(
            description="for mesh = template: a mesh file (.glb, .gltf, .obj, .ply), or a folder with CATEGORY.glb or CATEGORY/*.glb; "
            "toys: built-in shapes of the toys' categories"
        ),
    ] = None
    template_up: Annotated[Axis, Field(description="axis of template files that points up; the default is glTF's")] = "+y"
    template_front: Annotated[
        Axis, Field(description="axis of template files that the object faces along; the default is glTF's")
    ] = "+z"
    template_misfit: Annotated[
        Literal["inflate", "stop"],
        Field(description="what to do for a category that no template fits: inflate its masks instead, or stop"),
    ] = "inflate"
    min_template_fit: Annotated[
        float,
        Field(
            description="least sum of the mean best render cosine over a category's photos and its lead on the mean view at which a "
            "template fits; -2: any does"
        ),
    ] = 0.48
    min_confidence: Annotated[
        float,
        Field(ge=0, description="margin below which a template's pose is unsure, and its photo is not labelled; 0: all count"),
    ] = 1.0

    @property
    def takes_mask_files(self) -> bool:
        """Whether a mask file of the data set comes before what finds masks."""
        return self.mask.startswith("file")

    def __post_init__(self) -> None:
        if self.template_up[1] == self.template_front[1]:
            raise ValueError(f"template_up = {self.template_up} and template_front = {self.template_front} lie on one line")


@dataclass(frozen=True, config=STRICT)
class OrientConfig:
    """Yaw canonicalisation (3D-SC, stage 1)."""

    estimator: Annotated[
        str,
        Field(
            description="what tells which way meshes face. joint: what EfficientNet-Lite0 sees all around, learned from the category; "
            "joint_normals: the same of surface normals; consensus: votes of views for what most meshes look like; orient_anything_v1, "
            "orient_anything_v2: votes of views; none: all face forward"
        ),
    ] = "joint"
    anchors: Annotated[
        Count, Field(description="joint: meshes of a category that are solved together, and that all others are told by; about 100")
    ] = 100
    min_certainty: Annotated[
        Fraction,
        Field(
            description="joint: probability of the likeliest turn below which a mesh is unsure, and its photo not labelled; 0: all count"
        ),
    ] = 0.8
    views: Annotated[Count, Field(description="rendered views that vote")] = 8
    min_votes: Annotated[Count, Field(description="agreeing votes below which the mesh is left alone")] = 4
    references: Annotated[Count, Field(description="meshes of the category that the consensus compares with")] = 12


@dataclass(frozen=True, config=STRICT)
class DescribeConfig:
    """Per-image features, surface hits and geodesic balls. A model of one's own is ``module:Class`` or an entry point of sc3d.sources."""

    dino: Annotated[
        str,
        Field(description="2D features of one layer, where the paper has DINO: lite0, daisy, dinov2, dinov2_registers or dinov3"),
    ] = "lite0"
    sd: Annotated[
        str,
        Field(description="more of them, in the place of Stable Diffusion: lite0, hog, stable_diffusion, dift"),
    ] = "lite0"
    shape: Annotated[str, Field(description="descriptor of a vertex, where the paper has PartField: spectral or partfield")] = (
        "spectral"
    )
    ball_radius: Annotated[Positive, Field(description="radius of the stored geodesic balls, in mesh diagonals")] = 0.4


@dataclass(frozen=True, config=STRICT)
class PairsConfig:
    """Which pairs of images are matched."""

    strategy: Annotated[
        Literal["all", "random", "nearest", "azimuth"],
        Field(
            description="all ordered pairs; k random targets for each source; its k nearest by global descriptor; "
            "or chains of images seen from neighbouring sides"
        ),
    ] = "random"
    targets: Annotated[Count, Field(description="targets for each source; for the azimuth strategy on average")] = 4
    azimuth_bins: Annotated[Count, Field(description="bins of the circle for the azimuth strategy")] = 8
    chain_length: Annotated[int, Field(ge=2, description="neighbouring bins that a chain of the azimuth strategy goes through")] = 4
    max_per_category: Annotated[int | None, Field(description="cap on the pairs of a category; none: no cap")] = None

    @property
    def needs_cues(self) -> bool:
        """Whether the plan goes by what the stages found out about the images, and so follows them."""
        return self.strategy in ("nearest", "azimuth")


@dataclass(frozen=True, config=STRICT)
class MatchConfig:
    """Candidates and their evidence (3D-SC, stage 2)."""

    alpha: Annotated[Fraction, Field(description="weight of the features that describe.sd names")] = 1 / 2
    beta: Annotated[Fraction, Field(description="weight of those of describe.dino; the 3D descriptor has the rest")] = 1 / 3
    tau_cc: Annotated[Positive, Field(description="widest cycle error that is stored, in object extents")] = 0.1
    tau_geo: Annotated[Positive, Field(description="widest geodesic error that is stored, in mesh diagonals")] = 0.2
    device: Annotated[
        Literal["cpu", "cuda"],
        Field(description="cuda: match actors ask Ray for GPUs; the transfer must be nearest or registration"),
    ] = "cpu"
    transfer: Annotated[
        TransferName,
        Field(
            description="prediction across meshes: registration warps each onto three references of its category, nearest (the paper's) "
            "takes the nearest shape descriptor; functional_map; transport, which needs the extra sc3d[transport]"
        ),
    ] = "nearest"
    tau_reprojection: Annotated[
        float,
        Field(
            ge=0,
            description="where both photos show one template: widest distance of a match from where the template puts its point in the "
            "other photo, in object extents, the mean of both ways; 0: it is not looked at. With reconstruct.mesh=template 0.06",
        ),
    ] = 0.0
    template_prior: Annotated[
        float,
        Field(
            ge=0,
            description="between photos of one template candidates are found near where its pose puts them: weight of the squared distance "
            "from there, in boxes; 10 suits rigid things, 1 animals. Such labels are not verified independently, since the pose that "
            "verifies them proposed them; 0: cosines alone",
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        if self.alpha + self.beta > 1 + 1e-9:
            raise ValueError(f"alpha + beta must be at most 1, got {self.alpha + self.beta:.3f}")
        if self.device == "cuda" and self.transfer not in DEVICE_TRANSFERS:
            raise ValueError(
                f"transfer = {self.transfer} runs on the CPU alone: set device = cpu, or transfer = {' or '.join(DEVICE_TRANSFERS)}"
            )

    @property
    def gamma(self) -> float:
        """Weight of the 3D descriptor."""
        return max(0.0, 1.0 - self.alpha - self.beta)


@dataclass(frozen=True, config=STRICT)
class LabelConfig:
    """Which matches become labels. The thresholds are at most the match stage's."""

    tau_cc: Annotated[Positive, Field(description="relaxed cycle threshold, in object extents; at least one cell")] = 0.05
    tau_geo: Annotated[Positive, Field(description="bicyclic geodesic error threshold, in mesh diagonals")] = 0.05
    min_agreement: Annotated[
        Fraction,
        Field(
            description="share of the source's cells that must be matched to where both meshes agree, to within 0.05, for a pair to give "
            "labels: where fewer do, the photos share too little or a pose is wrong; 0: every pair counts. With "
            "reconstruct.mesh=template 0.15"
        ),
    ] = 0.0
    max_mask_signs: Annotated[
        int,
        Field(
            ge=0,
            description="signs of a bad mask (all round, in pieces, low contrast) that a photo may have at most; those with more get no "
            "labels; 3: all get them",
        ),
    ] = 0
