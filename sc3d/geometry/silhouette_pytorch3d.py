"""The reference soft silhouette: PyTorch3D's SoftSilhouetteShader behind the interface of :mod:`sc3d.geometry.silhouette`.

For machines with a GPU and PyTorch3D; nothing else in the project needs it. ``Aligner(mesh, config, renderer=PyTorch3DRenderer)`` uses it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sc3d.errors import ConfigError
from sc3d.geometry.camera import Camera
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.silhouette import CUT_OFF, SIGMA, canvas_intrinsics, check_pose

# Triangles blended a pixel, as in PyTorch3D's silhouette examples and in the golden numbers of the tests.
FACES_PER_PIXEL = 60


class PyTorch3DSilhouette:
    """A rendered silhouette that remembers how it depends on the parameters."""

    def __init__(self, image: torch.Tensor, inside: torch.Tensor, parameters: torch.Tensor) -> None:
        self._image, self._parameters = image, parameters
        self.coverage: np.ndarray = inside.cpu().numpy()

    @property
    def alpha(self) -> np.ndarray:
        """Soft silhouette (H, W) float32."""
        return self._image.detach().cpu().numpy()

    def areas(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted areas (C,) for ``weights`` (C, H, W), and their derivatives (C, 4) by log scale and t."""
        maps = torch.as_tensor(weights, dtype=torch.float32, device=self._image.device)
        values = torch.einsum("chw,hw->c", maps, self._image)
        slopes = [torch.autograd.grad(value, self._parameters, retain_graph=True)[0] for value in values]
        return values.detach().double().cpu().numpy(), torch.stack(slopes).double().cpu().numpy()


class PyTorch3DRenderer:
    """Soft silhouettes of one mesh at one rotation by PyTorch3D. Arguments as for :class:`~sc3d.geometry.silhouette.OutlineRenderer`.

    Raises:
        ConfigError: PyTorch3D is not installed.
    """

    def __init__(
        self, mesh: Mesh, rotation: np.ndarray, camera: Camera, margin: int = 0, sigma: float = SIGMA, device: str | None = None
    ) -> None:
        self._pytorch3d = _import_pytorch3d()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.rotated = torch.as_tensor(mesh.vertices @ np.asarray(rotation).T, dtype=torch.float32, device=self.device)
        self.nearest = float(self.rotated[:, 2].min())
        self.faces = torch.as_tensor(mesh.faces, dtype=torch.int64, device=self.device)
        height, width = camera.height + 2 * margin, camera.width + 2 * margin
        # The unit is the image's short side; PyTorch3D's is the canvas's.
        self.sigma = sigma * (min(camera.width, camera.height) / min(width, height)) ** 2
        self._renderer = self._make_renderer(canvas_intrinsics(camera, margin), height, width)

    def _make_renderer(self, K: np.ndarray, height: int, width: int) -> Any:
        """Rasteriser for the canvas; the identity pose, since vertices are given in the camera's frame."""
        renderer, utils = self._pytorch3d.renderer, self._pytorch3d.utils
        cameras = utils.cameras_from_opencv_projection(
            R=torch.eye(3, device=self.device)[None],
            tvec=torch.zeros(1, 3, device=self.device),
            camera_matrix=torch.as_tensor(K, dtype=torch.float32, device=self.device)[None],
            image_size=torch.tensor([[height, width]], device=self.device),
        )
        settings = renderer.RasterizationSettings(
            image_size=(height, width), blur_radius=float(np.log(1 / CUT_OFF - 1)) * self.sigma, faces_per_pixel=FACES_PER_PIXEL
        )
        self._shader = renderer.SoftSilhouetteShader(blend_params=renderer.BlendParams(sigma=self.sigma))
        return renderer.MeshRasterizer(cameras=cameras, raster_settings=settings)

    def render(self, log_scale: float, translation: np.ndarray) -> PyTorch3DSilhouette:
        """The silhouette at ``X_cam = exp(log_scale) * R @ X + t`` on the canvas.

        Raises:
            GeometryError: part of the mesh is at or behind the camera, or a parameter is not finite.
        """
        check_pose(log_scale, np.asarray(translation, np.float64), self.nearest)
        parameters = torch.tensor([log_scale, *np.asarray(translation, float)], dtype=torch.float32, device=self.device)
        parameters.requires_grad_(True)
        vertices = torch.exp(parameters[0]) * self.rotated + parameters[1:]
        meshes = self._pytorch3d.structures.Meshes(verts=[vertices], faces=[self.faces])
        fragments = self._renderer(meshes)
        image = self._shader(fragments, meshes)[0, ..., 3]
        # Distances are negative inside a triangle.
        inside = ((fragments.pix_to_face >= 0) & (fragments.dists <= 0)).any(dim=-1)[0]
        return PyTorch3DSilhouette(image, inside, parameters)


def _import_pytorch3d() -> Any:
    try:
        import pytorch3d.renderer
        import pytorch3d.structures
        import pytorch3d.utils
    except ImportError as error:
        raise ConfigError(
            f"PyTorch3D is not usable here ({error}); install it as its documentation says for your torch and CUDA versions, "
            "or use the default renderer, OutlineRenderer, which needs neither"
        ) from error
    return pytorch3d
