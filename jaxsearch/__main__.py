"""`python -P -m jaxsearch`: the command, where its script is not on the path.

Without -P, Python looks for modules in the current folder first, and a file there that
is named like one of Python's (`random.py`, `select.py`) takes its place.
"""

import sys

from jaxsearch.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
