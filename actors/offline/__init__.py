"""Stand-ins for the foundation models that need no weights, no network and no GPU.

They keep the contracts of the models whose slots they fill, so that a whole run works, and can be tested, anywhere. What they
compute is real but weak: colour segmentation, inflated silhouettes or a known mesh made worse on purpose, hand-made descriptors.
Numbers of such a run say how the geometry and the matching behave, not how good the method is with foundation models.
"""
