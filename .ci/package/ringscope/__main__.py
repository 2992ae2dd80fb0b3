"""``ringscope`` and ``python -m ringscope``: the one name that is installed.

The packages app, cores, lessons and assets lie in ``_src`` of a wheel, for as top-level packages they
would collide with any project's own ``app``; an editable install takes those of the checkout.
"""

import sys

from ringscope import source

sys.path.insert(0, str(source()))

from app.main import main

if __name__ == "__main__":
    sys.exit(main())
