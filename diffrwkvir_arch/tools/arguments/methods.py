"""What the help of verbs that take one method says of it."""
NETWORKS = """\
  WEIGHTS.pth             a checkpoint; checkpoints trained here name their network, for others it is taken from the
                          experiment they lie in, from a shipped option file that fits, or recognised by spandrel
                          (pip install 'diffrwkvir[peers]')
  FILE.yml:WEIGHTS.pth    a checkpoint for the network of an option file
  FILE.yml                the same with the weights of its path.pretrain_network_g"""
# Of the weights that come with the package, where --scale does not say it.
SHIPPED_SCALE = 4
SHIPPED = ('Without -m, DiffRWKVIR-tiny with the weights that come with the package, for --scale 2, 3 or 4 '
           f'(default: {SHIPPED_SCALE}).')
