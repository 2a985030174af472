"""SAM 3 (Carion et al. 2025): masks of all objects of a category, found by its name, with the model of the library transformers.

The published weights are gated, and under the SAM License.
"""
