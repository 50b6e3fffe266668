"""Small figures for notebooks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 80  # small files: outputs of notebooks are committed
COLOURS = ("#8ecae6", "#f4a261", "#a3b18a", "#cdb4db", "#e9c46a", "#b0b0b0")


def new_figure(
    width: float, height: float, *, rows: int = 1, columns: int = 1
) -> "tuple[Figure, Any]":
    """A figure of this size in inches, and its axes.

    It is a `Picture`, which Jupyter shows as the result of a cell.

    Raises:
      ModuleNotFoundError: if Matplotlib is not installed.
    """
    try:
        from jaxsearch.notebook.picture import Picture
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "drawing needs Matplotlib: pip install 'jaxsearch[notebooks]'"
        ) from None
    figure = Picture(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns)
    for one in figure.axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes
