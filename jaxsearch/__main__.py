"""`python -m jaxsearch`: the command, where its script is not on the path."""

import sys

from jaxsearch.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
