"""Run by torchrun from a test: two SGD steps of stage 2 on a fixed batch of four that the processes share out."""
import sys
from pathlib import Path

import diffrwkvir_arch  # noqa: F401
import torch
from basicsr.models import build_model
from basicsr.utils.dist_util import get_dist_info, init_dist

sys.path.insert(0, str(Path(__file__).parent))
from test_two_stages import options  # noqa: E402

init_dist('pytorch')
rank, world_size = get_dist_info()
opt = options(2, Path.cwd(), ema_decay=0, optim_g={'type': 'SGD', 'lr': 0.1})
opt |= {'is_train': True, 'dist': True, 'rank': rank, 'world_size': world_size}
opt['path'] |= {'models': 'unused', 'training_states': 'unused'}
torch.manual_seed(0)
model = build_model(opt)
# Every process draws the same start noise for an image, whatever else it has in its batch.
noise = torch.Generator().manual_seed(1)
lq, gt = torch.rand(4, 3, 8, 8, generator=noise), torch.rand(4, 3, 32, 32, generator=noise)
share = slice(rank, None, world_size)
torch.randn_like = torch.zeros_like
for step in (1, 2):
    model.feed_data({'lq': lq[share], 'gt': gt[share]})
    model.optimize_parameters(step)
if rank == 0:
    torch.save(model.get_bare_model(model.net_g).state_dict(), sys.argv[1])
torch.distributed.destroy_process_group()
