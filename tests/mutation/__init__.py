"""Mutation tests: one thing of the product is changed at a time, and its tests must fail.

    python -m tests.mutation          a handful, as in CI
    python -m tests.mutation --all    all of them
    python -m tests.mutation WORD...  those whose file or description has one of the words

Works on a copy of the tree. Exit code 0: each was noticed; 1: a mutation survived, no longer applies,
or the tests are red before anything is changed.
"""
