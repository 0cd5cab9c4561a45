"""`python -m DeepIterRegLib.cli`."""

from DeepIterRegLib.cli import main

if __name__ == "__main__":
    main()
