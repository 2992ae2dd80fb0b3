"""The lesson format: text and TOML blocks to a script of typed steps.

May import lessons/glossary.py and cores.
"""
