"""Backbones of LPIPS with random weights, saved as torchvision's files are."""
import torch
import torchvision

TORCHVISION = {'alex': 'alexnet', 'vgg': 'vgg16', 'squeeze': 'squeezenet1_1'}


def save_backbone(net, path):
    """Without the large classifier, which is not read; -> the path as text."""
    torch.manual_seed(0)
    features = getattr(torchvision.models, TORCHVISION[net])(weights=None).features.state_dict()
    torch.save({f'features.{key}': value for key, value in features.items()}, path)
    return str(path)
