"""Which way the meshes of a category face, as one learned, joint problem of the category.

A mesh is seen from all around and described (:mod:`~sc3d.geometry.orientation.renders`, :mod:`~sc3d.geometry.orientation.pooling`). Ridge
regression learns from some of the category's meshes what one looks like that faces forward, while those that look turned are turned
(:mod:`~sc3d.geometry.orientation.joint`). What it has learned is a :class:`~sc3d.geometry.orientation.compass.Compass`: one weight vector,
by which any other mesh is oriented in one pass.
"""
