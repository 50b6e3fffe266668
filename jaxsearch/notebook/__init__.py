"""What notebooks/ uses: virtual devices, and drawings of shardings and rollouts.

Drawings need Matplotlib, which is imported when one is made.
"""
