"""`python -m caloric app.handler`: the drop-in for `python -m awslambdaric`."""

import sys

from caloric.runtime import main

if __name__ == "__main__":
    main(sys.argv)
