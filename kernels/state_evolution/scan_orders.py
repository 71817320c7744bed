"""The four ways to scan an image."""
import torch

DIRECTIONS = ('forward', 'backward', 'downward', 'upward')


def scan_orders(height, width, directions, device=None):
    """(D, L): the pixel, counted row by row, that each scan visits as its t-th; scans by their place in DIRECTIONS."""
    rows = torch.arange(height * width, device=device)
    columns = rows.view(height, width).mT.flatten()
    orders = rows, rows.flip(0), columns, columns.flip(0)
    return torch.stack([orders[direction] for direction in directions])
