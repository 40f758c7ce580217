"""``python -m robustcode``."""

from robustcode.cli import main

if __name__ == "__main__":
    main()
