"""Metrics that BasicSR lacks: importing this package registers every `*_metric.py` beside this file."""
from diffrwkvir_arch.registration import import_modules

import_modules(__name__, '_metric')
