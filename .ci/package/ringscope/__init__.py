"""Ringscope: one guest on an emulator, on this CPU by trap-and-emulate, and on KVM.

    import ringscope as rs

    with rs.Session("hello") as session:
        session.next_exit()
        print(session["trap:native"].registers["rax"])

docs/api.md describes what there is. Nothing is loaded before it is used.
"""

import sys
from pathlib import Path

__all__ = [  # found by __getattr__
    "Comparison", "Core", "Device", "Divergence", "EngineError", "Exit", "Exits", "InputError",
    "Machine", "MemoryDevice", "Program", "RingscopeError", "RunOptions", "Session", "UnavailableError",
    "compare", "trace",
]  # fmt: skip

HERE = Path(__file__).resolve().parent


def source() -> Path:
    """Where the packages lie: below this one in a wheel, in the checkout of an editable install."""
    installed = HERE / "_src"
    return installed if installed.is_dir() else HERE.parents[2]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if "cores" not in sys.modules:  # found once; its submodules are found through it
        sys.path.insert(0, str(source()))
        try:
            import cores  # noqa: F401
        finally:
            sys.path.remove(str(source()))
    try:
        from cores import api
    except ImportError as error:
        raise ImportError("another package called cores stands in the way of Ringscope's") from error
    return getattr(api, name)
