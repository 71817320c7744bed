"""A user's own package, as text, and the registries that it writes to."""
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

PACKAGE = '''
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from own_helper import measure


@LOSS_REGISTRY.register()
class OwnLoss(torch.nn.L1Loss):

    def __init__(self, weight=1.0):
        super().__init__()


@METRIC_REGISTRY.register()
def calculate_own(img, img2, crop_border):
    return measure(img, img2, crop_border)


@METRIC_REGISTRY.register()
def calculate_blind(img, weight=1.0):
    return weight * len(img)


@METRIC_REGISTRY.register()
def calculate_failing(img, img2, threshold):
    return 1.0


@ARCH_REGISTRY.register()
class OwnNet(torch.nn.Module):

    def __init__(self, scale=2, feats=4):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 3 * scale**2, 3, 1, 1), torch.nn.PixelShuffle(scale))

    def forward(self, x):
        return self.body(x)


@ARCH_REGISTRY.register()
class Twofold(OwnNet):

    def forward(self, x):
        return self.body(x), x


@ARCH_REGISTRY.register()
class Doubling(torch.nn.Module):

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, 1, 1), torch.nn.PixelShuffle(2))

    def forward(self, x):
        return self.body(x)


@ARCH_REGISTRY.register()
class Needy(OwnNet):

    def forward(self, x, text):
        return self.body(x)


@ARCH_REGISTRY.register()
class Raising(OwnNet):

    def forward(self, x):
        return {}['body'](x)


@MODEL_REGISTRY.register()
class OwnModel(SRModel):
    pass


@DATASET_REGISTRY.register()
class OwnSet(torch.utils.data.Dataset):

    def __init__(self, opt):
        self.opt = opt

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {'lq': torch.rand(3, 8, 8), 'gt': torch.rand(3, 16, 16), 'lq_path': f'{index}.png'}


@DATASET_REGISTRY.register()
class OwnPairs(PairedImageDataset):
    pass


class Items:
    paths = ['a.png']

    def __init__(self, opt):
        pass

    def __len__(self):
        return 1


@DATASET_REGISTRY.register()
class RaisingItems(Items):

    def __getitem__(self, index):
        return [][index]


@DATASET_REGISTRY.register()
class TwoChannelItems(Items):

    def __getitem__(self, index):
        return {'lq': torch.rand(2, 8, 8)}


@DATASET_REGISTRY.register()
class NumberedItems(Items):
    paths = [1]


@DATASET_REGISTRY.register()
class NeedyItems(Items):

    def __init__(self, opt):
        opt['folder']
'''

HELPER = '''
def measure(img, img2, crop_border):
    return 100 * len(img) + crop_border
'''

REGISTRIES = ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
