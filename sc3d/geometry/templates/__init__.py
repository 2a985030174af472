"""Template meshes: the shape of a category, posed in every photo by render and compare.

:func:`~sc3d.geometry.templates.load.load_template` reads a mesh file, :class:`~sc3d.geometry.templates.views.TemplateViews` renders it all
around, :func:`~sc3d.geometry.templates.pose.compare` finds the best view of a photo and the best one on another side,
:func:`~sc3d.geometry.templates.fit.fit_template` stretches them onto the photo's mask, and
:func:`~sc3d.geometry.templates.decide.pose_template` chooses between the two. :mod:`sc3d.geometry.templates.choose` says which of
several templates fits a collection, and whether any does.
"""
