"""``python -m memnb`` is ``memnb``."""

import sys

from memnb.cli import main

# Worker processes import this module again, under another name.
if __name__ == "__main__":
    sys.exit(main())
