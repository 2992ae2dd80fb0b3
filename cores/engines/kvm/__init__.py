"""The KVM engine: the guest in the CPU's guest mode (SDM vol. 3, ch. 24; AMD APM vol. 2, ch. 15)."""

from .engine import KvmEngine

__all__ = ["KvmEngine"]
