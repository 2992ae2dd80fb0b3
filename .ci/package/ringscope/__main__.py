"""``ringscope`` and ``python -m ringscope``: the one name that is installed.

The packages app, cores, lessons and assets lie in ``_src`` of a wheel, for as top-level packages they
would collide with any project's own ``app``; an editable install takes those of the checkout.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_INSTALLED = _HERE / "_src"
sys.path.insert(0, str(_INSTALLED if _INSTALLED.is_dir() else _HERE.parents[2]))

from app.main import main  # noqa: E402 - found on the path set above

if __name__ == "__main__":
    sys.exit(main())
