"""Telling a wrongly turned mesh without a learned orientation model: by what the other meshes of its category look like.

Right only as long as most meshes of the category are turned rightly; nothing here knows a front, all follows the majority. So a category
whose reconstructions share one error keeps it. A vote of views also needs meshes that look alike: of bodies of several kinds it turns
the rarer ones round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from actors.base import Actor, Row
from sc3d.config import OrientConfig
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.yaw import TURNS, ConsensusEstimator, OrientationEstimates, render_yaw_views, vote_yaw

# A turn that is less likely than all others together is not made.
_LIKELY = 0.5


class KeepOrientation(Actor):
    """Leaves every mesh as it is, without a look: for reconstructions that are known to be turned rightly."""

    requires: ClassVar[Mapping[str, str]] = {}
    provides: ClassVar[Mapping[str, str]] = {
        "turn": "0",
        "votes": "no votes (0,)",
        "uncertain": "False",
        "symmetric": "False",
        "posterior": "none",
    }
    version: ClassVar[str] = "keep-1"

    def process(self, row: Row) -> Row:
        """No turn, no votes, no doubt."""
        return {"turn": 0, "votes": np.zeros(0, np.int32), "uncertain": False, "symmetric": False, "posterior": None}


class JointOrient(Actor):
    """The orientation model's slot: what a compass of the category, which its anchors made, says of a mesh."""

    requires: ClassVar[Mapping[str, str]] = {
        "descriptor": "(8, D) what the mesh looks like all around",
        "numbering": "hash of the template that the mesh is numbered as; empty for a mesh of its own",
        "compass": "what the anchors of the category have taught",
        "anchored": "of an anchor the probabilities (4,) of its turns, told by the others; None for another mesh",
    }
    provides: ClassVar[Mapping[str, str]] = {
        "turn": "degrees the mesh is to be turned by about its y axis: 0, 90, 180 or 270",
        "votes": "none (0,)",
        "uncertain": "no turn is likely enough",
        "symmetric": "False",
        "posterior": "(4,) probability of each turn",
    }
    version: ClassVar[str] = "joint-1"
    options: ClassVar[tuple[str, ...]] = ("orient.min_certainty",)

    def process(self, row: Row) -> Row:
        """Orient one mesh. One that was posed as a template is as it is: the template faces forward.

        Raises:
            InputError: the descriptor is not one that the compass was made of.
        """
        if row["numbering"]:
            posterior = np.eye(len(TURNS))[0]
        elif row["anchored"] is not None:
            posterior = np.asarray(row["anchored"])
        else:
            posterior = row["compass"].posterior(row["descriptor"])
        best = int(posterior.argmax())
        return {
            "turn": TURNS[best] if posterior[best] > _LIKELY else 0,
            "votes": np.zeros(0, np.int32),
            "uncertain": bool(posterior[best] < self.config.orient.min_certainty),
            "symmetric": False,
            "posterior": posterior.astype(np.float32),
        }


class ConsensusOrient(Actor):
    """The orientation model's slot: renders the mesh at known yaws, compares with reference views, and lets the views vote."""

    requires: ClassVar[Mapping[str, str]] = {
        "vertices": "(V, 3) welded mesh, canonical frame",
        "faces": "(F, 3) triangles, vertex indices",
        "reference_views": "(R, views, h, w) views of other meshes of the category, without the row's own",
    }
    provides: ClassVar[Mapping[str, str]] = {
        "turn": "degrees the mesh is to be turned by about its y axis: 0, 90, 180 or 270",
        "votes": "(views,) the correction that each rendered view asks for; -1 abstains",
        "uncertain": "tie or too few agreeing votes: the mesh was left alone",
        "symmetric": "no view has a front at all",
        "posterior": "none",
    }
    version: ClassVar[str] = "consensus-1"
    options: ClassVar[tuple[str, ...]] = ("orient.views", "orient.min_votes", "orient.references")

    def process(self, row: Row) -> Row:
        """Vote on one mesh. Without references it is left alone as uncertain.

        Raises:
            GeometryError: the mesh cannot be rendered.
            InputError: the reference views do not fit the rendered ones.
        """
        yaws = view_yaws(self.config.orient)
        views = render_yaw_views(Mesh(row["vertices"], row["faces"]), yaws)
        estimates = ConsensusEstimator(np.asarray(row["reference_views"], np.float32)).estimate(views)
        return voted(estimates, self.config.orient)


def view_yaws(options: OrientConfig) -> list[float]:
    """The yaws, in degrees, of the views that vote on a mesh."""
    return [360.0 * view / options.views for view in range(options.views)]


def voted(estimates: OrientationEstimates, options: OrientConfig) -> Row:
    """The provided keys of an orientation actor, from what an estimator says about the views at :func:`view_yaws`."""
    vote = vote_yaw(estimates.yaw_degrees, np.array(view_yaws(options)), estimates.symmetry, options.min_votes)
    return {
        "turn": vote.turn,
        "votes": vote.votes,
        "uncertain": vote.uncertain,
        "symmetric": vote.symmetric,
        "posterior": None,
    }
