"""Metrics that BasicSR lacks: importing this package registers every `*_metric.py` beside this file.

Those modules score one image at a time, as BasicSR's validation does; `inception_metric` names FID and KID, which
belong to a set. Beside them: `protocols` names the ways in which the field measures PSNR and SSIM, `set_metrics`
computes FID and KID, `tables` prints what was measured.
"""
from diffrwkvir_arch.registration import import_modules

import_modules(__name__, '_metric')
