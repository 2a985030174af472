"""SAM 3D Objects: a mesh and its pose from one photo and a mask.

Upstream's conventions end here. Its mesh is z up; its pose maps that mesh into PyTorch3D's camera (x left, y up, z forward) with row
vectors, ``p_cam = (p * scale) @ R(q) + t``, q real part first; and it keeps the intrinsics of its depth model to itself. So the depth
model is run first and its result handed to the pipeline, and mesh, pose and intrinsics belong together.

The pipeline lives in an environment of its own (:mod:`actors.foundation.sam3d_upstream`, ``cluster/environments/sam3d.yml``); only numpy
arrays enter and leave :class:`Sam3d`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from actors.base import Resources, free_memory, is_out_of_memory
from actors.foundation.image_to_3d import ImageTo3DReconstruct, PosedMesh, y_up
from actors.foundation.sam3d_tiny import SilhouettePipeline
from actors.foundation.sam3d_upstream import DEPTH_FILES, FILES, check_installed, load_pipeline
from actors.weights import fetch_weights
from sc3d.config import ModelsConfig, RunConfig
from sc3d.errors import GeometryError, InputError, PreflightError
from sc3d.geometry.camera import Camera, Pose

# OpenCV's camera and PyTorch3D's differ by a half turn about the z axis.
_PYTORCH3D = np.array([-1.0, -1.0, 1.0])
# Upstream's scale is one number written three times.
_ISOTROPIC = 1e-3


@dataclass(frozen=True)
class Sampling:
    """How upstream samples.

    Attributes:
        structure_steps: diffusion steps of the first stage, which makes voxels and pose; ``None``: upstream's own, 25.
        detail_steps: diffusion steps of the second stage, which makes the surface; ``None``: upstream's own, 25.
        distilled: both stages in the distilled mode, without guidance: half the work a step, and made for few steps.
    """

    structure_steps: int | None = None
    detail_steps: int | None = None
    distilled: bool = False


@dataclass(frozen=True, eq=False)
class Observation:
    """A photo as the depth model sees it, for all of its objects.

    Attributes:
        rgb: (H, W, 3) uint8.
        points: (H, W, 3) float32, OpenCV camera, of unknown unit; NaN where there is no depth.
        camera: the depth model's camera.
    """

    rgb: np.ndarray
    points: np.ndarray
    camera: Camera


class Sam3d:
    """SAM 3D Objects behind :class:`~actors.foundation.image_to_3d.ImageTo3D`.

    Args:
        pipeline: upstream's ``InferencePipelinePointMap``, as :func:`~actors.foundation.sam3d_upstream.load_pipeline` builds it.
        sampling: how many steps, and whether distilled; ``None``: as upstream does.
    """

    def __init__(self, pipeline: Any, sampling: Sampling | None = None) -> None:
        self.pipeline, self.sampling = pipeline, sampling or Sampling()

    def reconstruct(self, rgb: np.ndarray, mask: np.ndarray, seed: int) -> PosedMesh:
        """Reconstruct one object of a photo; see :meth:`reconstruct_object`. For several objects, :meth:`observe` the photo once."""
        return self.reconstruct_object(self.observe(rgb), mask, seed)

    def observe(self, rgb: np.ndarray) -> Observation:
        """Run the depth model on a photo (H, W, 3) uint8.

        Raises:
            InputError: the photo is of another kind.
            GeometryError: the depth model returned no intrinsics.
            PreflightError: the GPU's memory is full.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise InputError(f"a photo must be (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
        frame = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float() / 255
        seen = self._guarded(lambda: self._depth(frame))
        if "intrinsics" not in seen:
            raise GeometryError(
                "the depth model returned no intrinsics, so the pose has no camera; use MoGe, which SAM 3D Objects comes with"
            )
        height, width = rgb.shape[:2]
        # Normalised to the image's width and height, whose corner is (0, 0): so are the pixels here.
        K = _numbers(seen["intrinsics"], (3, 3), "intrinsics") * np.array([[width], [height], [1.0]])
        points = _numbers(seen["pointmaps"], (height, width, 3), "point map").astype(np.float32)
        return Observation(
            rgb, np.where(np.isfinite(points).all(axis=2, keepdims=True), points, np.float32(np.nan)), Camera(K, width, height)
        )

    def reconstruct_object(self, observation: Observation, mask: np.ndarray, seed: int) -> PosedMesh:
        """Reconstruct the object under ``mask`` (H, W) bool.

        Returns:
            The mesh as upstream makes it (hundreds of thousands of faces), y up, with its pose and the depth model's camera.

        Raises:
            InputError: the mask is empty or of another size than the photo.
            GeometryError: no depth on the object, no faces, or a pose that is none.
            PreflightError: the GPU's memory is full.
        """
        if mask.shape != observation.rgb.shape[:2] or not mask.any():
            raise InputError(f"the mask is empty, or is not of the photo's size ({mask.shape} for {observation.rgb.shape[:2]})")
        if not np.isfinite(observation.points[mask]).any():
            raise GeometryError(
                "the depth model sees no surface under the mask (sky, or a mirror): nothing tells where the object is"
            )
        out = self._guarded(lambda: self._sample(observation, mask, seed))
        mesh = out["mesh"][0] if out["mesh"] else None
        if mesh is None or len(mesh.faces) == 0:
            raise GeometryError(
                "SAM 3D Objects returned a mesh without faces: its voxels were empty; look at the mask, or try another seed"
            )
        vertices, R = y_up(_numbers(mesh.vertices, (-1, 3), "vertices"), _PYTORCH3D[:, None] * _rotation(out["rotation"]).T)
        scale = _numbers(out["scale"], (-1,), "scale")
        if not np.ptp(scale) <= _ISOTROPIC * np.abs(scale).max():
            raise GeometryError(
                f"SAM 3D Objects returned the scale {scale.tolist()}, which is not one number: the pose is no similarity"
            )
        t = _PYTORCH3D * _numbers(out["translation"], (3,), "translation")
        faces = mesh.faces.detach().cpu().numpy().astype(np.int64)
        return PosedMesh(vertices, faces, Pose(R, t, float(scale.mean())), observation.camera)

    def _depth(self, frame: torch.Tensor) -> Any:
        device = torch.device(self.pipeline.device)
        with torch.no_grad(), torch.autocast(device.type, self.pipeline.dtype, enabled=device.type == "cuda"):
            return self.pipeline.depth_model(frame)

    def _sample(self, observation: Observation, mask: np.ndarray, seed: int) -> Any:
        rgba = np.dstack([observation.rgb, mask.astype(np.uint8) * 255])
        # A point map that is handed over gets no change of axes upstream. `decode_formats` is left alone: without Gaussians, whose
        # colours its GLB takes, upstream fails with a KeyError. Its own alignment is left out: it is done by the mask later.
        pointmap = torch.from_numpy(observation.points * _PYTORCH3D.astype(np.float32))
        return self.pipeline.run(
            rgba,
            None,
            seed,
            stage1_only=False,
            with_mesh_postprocess=False,
            with_texture_baking=False,
            with_layout_postprocess=False,
            use_vertex_color=True,
            stage1_inference_steps=self.sampling.structure_steps,
            stage2_inference_steps=self.sampling.detail_steps,
            use_stage1_distillation=self.sampling.distilled,
            use_stage2_distillation=self.sampling.distilled,
            pointmap=pointmap,
        )

    def _guarded(self, call: Any) -> Any:
        try:
            return call()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).strip().split("\n")[0][:200]
        # Only now the exception is gone, and with it upstream's frames and the tensors in them.
        free_memory()
        raise PreflightError(
            f"SAM 3D Objects ran out of memory ({reason}); it is made for GPUs of 32 GB and more: "
            "use one, and let nothing else run on it"
        )


def _rotation(quaternion: Any) -> np.ndarray:
    """PyTorch3D's ``quaternion_to_matrix``: (1, 4), real part first -> (3, 3)."""
    w, x, y, z = _numbers(quaternion, (4,), "rotation")
    if w * w + x * x + y * y + z * z < 1e-12:
        raise GeometryError("SAM 3D Objects returned the quaternion 0, which is no rotation")
    matrix: np.ndarray = Rotation.from_quat([x, y, z, w]).as_matrix()
    return matrix


def _numbers(tensor: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """A tensor of upstream's on the CPU as float64, of ``shape``. All but the point map must be finite."""
    values = tensor.detach().float().cpu().numpy().astype(np.float64)
    try:
        values = values.reshape(shape)
    except ValueError:
        raise GeometryError(
            f"SAM 3D Objects returned a {what} of the shape {values.shape}, expected {shape}; is it the pinned version?"
        ) from None
    if what != "point map" and not np.isfinite(values).all():
        raise GeometryError(f"SAM 3D Objects returned a {what} that is not finite; try another seed, or look at the mask")
    return values


def sampling_of(models: ModelsConfig) -> Sampling:
    """The configured sampling."""
    return Sampling(models.sam3d_steps, models.sam3d_steps, models.sam3d_distilled)


class Sam3dReconstruct(ImageTo3DReconstruct):
    """SAM 3D Objects in the reconstruction slot.

    A node that can run it offers the custom resource ``sam3d``, as many as it has GPUs. The tiny variant runs anywhere and is no model:
    it inflates the mask, and tries the way from upstream's conventions to ours.
    """

    # Not the whole GPU: on a machine with one, the segmenter of the same stage has to have its share.
    resources: ClassVar[Resources] = Resources(num_cpus=1, num_gpus=0.75, custom={"sam3d": 1})
    version: ClassVar[str] = "sam3d-1"
    options: ClassVar[tuple[str, ...]] = (*ImageTo3DReconstruct.options, "models.sam3d_steps", "models.sam3d_distilled")
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.sam3d": FILES, "models.sam3d_depth": DEPTH_FILES}

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Build upstream's pipeline, or the stand-in for it."""
        sampling = sampling_of(models)
        if models.variant == "tiny":
            self.model = Sam3d(SilhouettePipeline(), sampling)
            return
        # Before 13 GB are fetched.
        check_installed()
        folder = fetch_weights(models.sam3d, FILES, models.cache)
        depth = fetch_weights(models.sam3d_depth, DEPTH_FILES, models.cache)
        self.model = Sam3d(load_pipeline(folder, depth, None if models.dtype == "auto" else models.dtype), sampling)

    @classmethod
    def needs(cls, config: RunConfig) -> Resources:
        """A GPU on a node that offers ``sam3d``, or with the configured environment; the tiny variant runs on any CPU."""
        if config.models.variant == "tiny":
            return Resources(cls.resources.num_cpus)
        environment = config.models.sam3d_environment
        return replace(cls.resources, custom={}, environment=environment) if environment else cls.resources
