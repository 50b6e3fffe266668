"""Virtual devices, and pictures of shardings and rollouts, for notebooks/.

Pictures need Matplotlib, which is imported when one is drawn.
"""

from jaxsearch.notebook.devices import use_virtual_devices

__all__ = ["use_virtual_devices"]
