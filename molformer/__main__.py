"""`python -m molformer`."""

from molformer.cli import main

if __name__ == "__main__":
    main()
