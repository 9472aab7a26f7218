"""From files and molecules to graphs: structures, stores, readers, conformers, splits, batches.

Import from the modules: most need only numpy, and RDKit is imported by those that use it.
"""
