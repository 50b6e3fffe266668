"""A Matplotlib figure that Jupyter shows."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure of no window, shown as the result of a cell, whatever the backend."""

    def _repr_png_(self) -> bytes:
        """The picture, at the figure's resolution."""
        target = io.BytesIO()
        self.savefig(target, format="png")
        return target.getvalue()
