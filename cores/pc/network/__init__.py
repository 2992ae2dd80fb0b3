"""Networks: what a guest's network card leads to. Nothing of it leaves this computer.

One file a network; ``link.py`` is what a card sees of each.
"""
