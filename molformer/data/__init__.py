"""Data sets: readers, conformers, stores, splits, batches.

Import from the modules: most need only numpy, and RDKit is imported by those that use it.
"""
