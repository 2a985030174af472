"""The configuration of a run: one frozen, validated dataclass a stage, and one that holds them all.

A run is configured by YAML and by ``--set stage.option=value`` overrides (:mod:`sc3d.config_file`). Unknown options, wrong types and values
out of range raise :class:`~sc3d.errors.ConfigError` with the option's name. Defaults are the paper's numbers where it gives them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sc3d.config.data import DatasetConfig, DownloadConfig
from sc3d.config.learning import CompareConfig, EvaluateConfig, RepresentConfig, SweepConfig, TrainConfig
from sc3d.config.machines import ModelsConfig, PoolConfig, RayConfig
from sc3d.config.options import STRICT, Fraction
from sc3d.config.stages import (
    DEVICE_TRANSFERS,
    AlignConfig,
    DescribeConfig,
    LabelConfig,
    MatchConfig,
    OrientConfig,
    PairsConfig,
    ReconstructConfig,
    TransferName,
)

__all__ = [
    "DEVICE_TRANSFERS",
    "AlignConfig",
    "CompareConfig",
    "DatasetConfig",
    "DescribeConfig",
    "DownloadConfig",
    "EvaluateConfig",
    "LabelConfig",
    "MatchConfig",
    "ModelsConfig",
    "OrientConfig",
    "PairsConfig",
    "PoolConfig",
    "RayConfig",
    "ReconstructConfig",
    "RepresentConfig",
    "RunConfig",
    "SweepConfig",
    "TrainConfig",
    "TransferName",
]


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """A whole run."""

    run: Annotated[str, Field(description="run folder: a local path or s3://bucket/prefix")] = "runs/default"
    profile: Annotated[
        Literal["light", "offline", "foundation"],
        Field(description="light: small learned models of installed packages; offline: no weights at all; foundation: the paper's"),
    ] = "light"
    seed: Annotated[int, Field(ge=0, description="seed of everything random")] = 0
    max_reject_fraction: Annotated[Fraction, Field(description="share of rejected records that stops the run")] = 0.05
    dataset: DatasetConfig = DatasetConfig()
    reconstruct: ReconstructConfig = ReconstructConfig()
    orient: OrientConfig = OrientConfig()
    describe: DescribeConfig = DescribeConfig()
    pairs: PairsConfig = PairsConfig()
    match: MatchConfig = MatchConfig(transfer="registration")
    label: LabelConfig = LabelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    represent: RepresentConfig = RepresentConfig()
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
