"""`python -m diffrwkvir_arch` is the `basicsr` command; `torchrun -m diffrwkvir_arch` starts it once per GPU."""
import sys

from diffrwkvir_arch.cli import main

if __name__ == '__main__':
    sys.exit(main())
