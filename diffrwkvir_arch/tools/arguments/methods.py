"""What the help of verbs that take one method says of it."""
NETWORKS = """\
  WEIGHTS.pth             a checkpoint; its network is what it says itself, as those that are trained here do, that of
                          the experiment it lies in, a shipped option file's that fits, or one that spandrel recognises
                          (pip install 'diffrwkvir[peers]')
  FILE.yml:WEIGHTS.pth    a checkpoint of the network of an option file
  FILE.yml                the same with the weights of its path.pretrain_network_g"""
# Of the weights that come with the package, where --scale does not say it.
SHIPPED_SCALE = 4
SHIPPED = ('Without -m it is DiffRWKVIR-tiny with the weights that come with the package, for --scale 2, 3 or 4 '
           f'(default: {SHIPPED_SCALE}).')
