"""``python -m inference``: see `inference.commands`."""

import sys

from inference.commands import main

if __name__ == "__main__":
    sys.exit(main())
