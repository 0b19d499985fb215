"""`python -m isthmus` does what `isthmus` does."""

from isthmus.cli import main

if __name__ == "__main__":
    main()
