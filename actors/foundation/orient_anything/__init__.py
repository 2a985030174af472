"""OrientAnything (Wang et al. 2024 and 2025): which side of an object a picture shows, in the slot of the orientation model.

Version 1 is DINOv2 with a head and runs natively. Version 2 runs from its own repository in a process of its own, since the top-level
packages ``vggt`` and ``utils`` of that repository would collide with others.
"""
