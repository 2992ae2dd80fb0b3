"""The measurements by name, each imported when it is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from cores.errors import RingscopeError

from .figures import Result, Skipped


@dataclass(frozen=True, slots=True)
class Measurement:
    """module, function: where it is. arguments: for the function. by_name: made only when it is
    named."""

    summary: str
    module: str
    function: str
    arguments: tuple[str, ...] = ()
    by_name: bool = False

    def measure(self, name: str) -> list[Result]:
        """Make it. What this host lacks, and what went wrong, is a Skipped, never an error."""
        try:
            found: Callable[..., list[Result]] = getattr(
                importlib.import_module(f"app.bench.{self.module}"), self.function
            )
        except ImportError as missing:
            return [Skipped(name, f"the Python package {missing.name!r} is not installed")]
        try:
            return found(*self.arguments)
        except (RuntimeError, RingscopeError) as error:
            return [Skipped(name, str(error))]


MEASUREMENTS = {
    "direct": Measurement("a loop at full speed", "execution", "direct"),
    "direct:kvm": Measurement("the same loop on KVM", "execution", "direct_kvm"),
    "exit:native": Measurement("one exit under ptrace", "execution", "native_exit"),
    "exit:kinds": Measurement("exits under ptrace by kind", "mechanisms", "kinds"),
    "exit:portable": Measurement("one exit of the stand-in", "execution", "portable_exit"),
    "exit:kvm": Measurement("one exit of KVM", "execution", "kvm_exit"),
    "step:interpreter": Measurement("exact steps", "execution", "steps", ("interpreter",)),
    "step:native": Measurement("exact steps", "execution", "native_steps"),
    "step:portable": Measurement("exact steps", "execution", "steps", ("portable",)),
    "step:kvm": Measurement("exact steps", "execution", "steps", ("kvm",)),
    "counts": Measurement("the interpreter at full speed, counting", "counting", "counts"),
    "lockstep": Measurement("all cores, compared at each step", "sessions", "lockstep"),
    "lockstep:led": Measurement("the same where nothing exits", "sessions", "led"),
    "shadow": Measurement("shadow page fills", "mechanisms", "shadow"),
    "sizes": Measurement("long loops and much RAM", "mechanisms", "sizes"),
    "peers": Measurement("QEMU and Bochs on the same guest", "mechanisms", "emulators"),
    "net": Measurement("packets by each kind of card", "network", "net"),
    "snapshot": Measurement("checkpoints and going back", "sessions", "snapshot"),
    "start": Measurement("start-up", "interface", "start_up"),
    "screen": Measurement("frames, and a key's way to the screen", "interface", "screen"),
    "density": Measurement(
        "the cost of an instruction by how rarely one exits, as a curve",
        "density",
        "density",
        by_name=True,
    ),
    "memory": Measurement("of an idle and of a busy session", "sessions", "memory"),
}
