"""State evolution: a gated delta rule over sequences and images, linear in their length."""
from .api import state_evolution
from .flops import MMENGINE_HANDLES
from .scan2d import state_evolution_2d
from .scan_orders import DIRECTIONS

__all__ = ['DIRECTIONS', 'MMENGINE_HANDLES', 'state_evolution', 'state_evolution_2d']
__version__ = '0.1.0'
