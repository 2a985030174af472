"""SemAlign3D (Wandel and Wang, 2025): the 3D shape of a category, learned from sparse annotations and depth, and aligned to images.

A class shape is a sparse cloud of K keypoints, a dense cloud of N points that follows it linearly (``X = M C``), the statistics of the
keypoints' geometry, and a feature prototype for every point. It is built from annotated images, aligned to a new one by minimising an
energy, and carries matches between two aligned images.

The authors have published how a class shape is built, not how it is aligned or matched. Docstrings say **exact** of what follows their
code, **prototype** of what follows an older prototype of the author's, and **ours** of what was chosen and measured here.
"""
