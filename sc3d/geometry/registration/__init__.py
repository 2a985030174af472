"""Registration: a mesh warped smoothly onto a reference mesh of its category, so that places on different meshes can be compared.

The authors of 3D-SC (arXiv 2605.30093) name denser registration as their natural next step; the algorithm here is this project's own.
"""
