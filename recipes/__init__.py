"""How the models that ship are made."""
