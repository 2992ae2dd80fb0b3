"""Ringscope: one guest on an emulator, on this CPU by trap-and-emulate, and on KVM."""
