"""Engines, which execute a guest's instructions: in software, on this CPU at ring 3, or with KVM."""
