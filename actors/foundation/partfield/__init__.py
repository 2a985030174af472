"""PartField (Liu et al. 2025): part features of mesh vertices, from a network over a point cloud and three feature planes.

The published weights are under a licence that allows non-commercial research only; the code here is not derived from theirs.
"""
