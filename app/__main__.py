"""``python app``: the program from the packages beside this one, whatever else is installed.

``run`` starts it so, and so does Ringscope itself where it needs a second process of its own.
"""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
if sys.path[0] != ROOT:
    sys.path.insert(0, ROOT)

if __name__ == "__main__":
    from app.main import main

    sys.exit(main())
