"""`basicsr doctor`: runs operator and network on every device, and looks for what is optional."""
import platform
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

import cv2
import torch
from state_evolution import DIRECTIONS, state_evolution_2d
from state_evolution.backends import choose_backend, why_not

from diffrwkvir_arch.errors import InputError, counted, first_line
from diffrwkvir_arch.lpips_network import BACKBONES
from diffrwkvir_arch.metrics.set_metrics import INCEPTION_URL
from diffrwkvir_arch.option_checkpoints import SHIPPED_WEIGHTS
from diffrwkvir_arch.pretrained import find_pretrained

from .arguments.doctor import argument_parser
from .call_cost import device_name, milliseconds
from .export import PACKAGES as PACKAGES_OF_ONNX
from .networks import from_checkpoint
from .scores import markdown_table

PACKAGES = ('diffrwkvir', 'basicsr', 'torch', 'torchvision', 'triton', 'numba', 'numpy', 'scipy', 'lmdb', 'mmengine',
            'lpips', 'scikit-image', 'tifffile')
# Modules -> what they are for, and how they are installed.
OPTIONAL = {
    ('spandrel', ): ('HAT, checkpoints of other projects', "pip install 'diffrwkvir[peers]'"),
    PACKAGES_OF_ONNX: ('basicsr export to ONNX', "pip install 'diffrwkvir[onnx]'"),
    ('torch_fidelity', ): ('FID and KID', "pip install 'diffrwkvir[metrics]'"),
    ('mamba_ssm', ): ('MambaIR at speed, on CUDA', 'pip install mamba-ssm'),
    ('tensorboard', ): ('logger.use_tb_logger', 'pip install tensorboard'),
    ('wandb', ): ('logger.wandb', 'pip install wandb'),
}
BACKENDS = ('triton', 'numba', 'chunked')
# What the operator is checked on, and what it is timed on: heads, channels, side.
SMALL, LARGE = (2, 16, 24), (6, 32, 64)
CALLS = 5
NETWORK, SIDES = 'DiffRWKVIR-tiny_x4.pth', (40, 32)
# Of values in [0, 1]; a step of 8 bits is 4e-3.
NETWORK_TOLERANCE = 2e-3


class Tolerance(NamedTuple):
    """The largest error of outputs and gradients, relative to the largest value of each."""
    dtype: torch.dtype
    most: float


TOLERANCES = {'cpu': [Tolerance(torch.float32, 1e-5)],
              'cuda': [Tolerance(torch.float32, 1e-4), Tolerance(torch.bfloat16, 2e-2), Tolerance(torch.float16, 3e-3)]}


def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def devices():
    return [torch.device('cpu'), *(torch.device('cuda', number) for number in range(torch.cuda.device_count()))]


def described(device):
    """A line about a device."""
    if device.type == 'cpu':
        return f'cpu: {device_name(device)}'
    try:
        properties = torch.cuda.get_device_properties(device)
    except Exception as failure:
        return f'{device}: FAILED: {first_line(failure)}'
    return (f'{device}: {properties.name}, compute capability {properties.major}.{properties.minor}, '
            f'{properties.total_memory / 2**30:.0f} GiB')


def operands(size, device, dtype):
    """q, k, v (1, L, H, D), log_decay and step_size (1, L, H), and a gradient of the output, always the same."""
    heads, channels, side = size
    generator = torch.Generator().manual_seed(0)
    q, k, v, d_o = torch.randn(4, 1, side * side, heads, channels, generator=generator).unbind()
    log_decay, step_size = torch.rand(2, 1, side * side, heads, generator=generator).unbind()
    k = torch.nn.functional.normalize(k, dim=-1)
    return [x.to(dtype).to(device) for x in (q, k, v, -log_decay, step_size, d_o)]


def run_operator(inputs, side, backend):
    """Four scans of an image, forward and backward; -> the output and the gradients of all inputs."""
    *inputs, d_o = inputs
    inputs = [x.detach().requires_grad_() for x in inputs]
    output = state_evolution_2d(*inputs, side, side, directions=DIRECTIONS, backend=backend)
    return [output.detach(), *torch.autograd.grad(output, inputs, d_o)]


def error_of(found, truth):
    """The largest difference of any pair of tensors, relative to the largest value of the second."""
    errors = [(one.double().cpu() - other).abs().max() / other.abs().max() for one, other in zip(found, truth)]
    # nan is larger than any number.
    return max(float(error) if torch.isfinite(error) else float('inf') for error in errors)


def check_backend(backend, device, tolerance):
    """A row of the operator's table."""
    row = {'device': str(device), 'backend': backend, 'dtype': str(tolerance.dtype).removeprefix('torch.')}
    try:
        if choose_backend('auto', device, torch.float32) == backend:
            row['backend'] += ' (auto)'
        reason = why_not(backend, device, torch.float32)
        if reason:
            return {**row, 'error': '-', 'ms': '-', 'verdict': f'not here: {reason}'}
        inputs, side = operands(SMALL, device, tolerance.dtype), SMALL[2]
        # The definition, from the same rounded values.
        truth = run_operator([x.double().cpu() for x in inputs], side, 'recurrent')
        error = error_of(run_operator(inputs, side, backend), truth)
        inputs, side = operands(LARGE, device, tolerance.dtype), LARGE[2]
        run_operator(inputs, side, backend)
        times = [milliseconds(lambda: run_operator(inputs, side, backend), device) for _ in range(CALLS)]
    except Exception as failure:
        return {**row, 'error': '-', 'ms': '-', 'verdict': f'FAILED: {first_line(failure)}'}
    return {**row, 'error': f'{error:.1e}', 'ms': f'{sorted(times)[CALLS // 2]:.1f}',
            'verdict': 'ok' if error <= tolerance.most else f'WRONG: more than {tolerance.most:g}'}


def check_network(device):
    """A line about the network that comes with the package: does it give here what it gives by the plainest means?"""
    try:
        net = from_checkpoint(str(SHIPPED_WEIGHTS / NETWORK))
        lq = torch.rand(1, 3, *SIDES, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            truth = net.double()(lq.double())
            found = net.float().to(device)(lq.to(device))
    except Exception as failure:
        return f'on {device}: FAILED: {first_line(failure)}'
    error = (found.double().cpu() - truth).abs().max().item()
    # nan is not below it either.
    verdict = 'ok' if error <= NETWORK_TOLERANCE else f'WRONG: more than {NETWORK_TOLERANCE:g}'
    return f'on {device}: largest difference {error:.1e}, {verdict}'


def weights_lines():
    """Lines about weights of metrics and losses, which are read from disk."""
    urls = {f'LPIPS, net: {net}': url for net, (url, *_) in BACKBONES.items()} | {'FID and KID': INCEPTION_URL}
    for what, url in urls.items():
        try:
            yield f'{what}: {find_pretrained(url)}'
        except InputError as error:
            yield f'{what}: {str(error).partition(", or name")[0]}'


def main(arguments=None):
    """Runs the verb.

    Returns:
        int: 0, or 1 where something computes wrongly or fails.
    """
    argument_parser().parse_args(arguments)
    print('## Versions\n')
    print(f'python {platform.python_version()}, {platform.platform()}')
    found = [f'{package} {version(package) or "missing"}' for package in PACKAGES]
    print(', '.join([*found, f'OpenCV {cv2.__version__}']))
    print('\n## Devices\n')
    there = devices()
    descriptions = [described(device) for device in there]
    print('\n'.join(descriptions))
    if not torch.cuda.is_available():
        built = f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'
        print(f'no CUDA device (PyTorch is built {built}): everything runs on the CPU')
    heads, channels, side = LARGE
    print('\n## Operator: error against float64; time, forward and backward, of '
          f'{side}x{side} pixels, {heads} heads of {channels}\n')
    rows = [check_backend(backend, device, tolerance) for device in there
            for tolerance in TOLERANCES[device.type] for backend in BACKENDS]
    print(markdown_table(rows))
    print(f'\n## {NETWORK}: {SIDES[1]}x{SIDES[0]} pixels against float64\n')
    networks = [check_network(device) for device in there]
    print('\n'.join(networks))
    print('\n## Optional\n')
    for modules, (purpose, remedy) in OPTIONAL.items():
        missing = [module for module in modules if not find_spec(module)]
        found = f'{", ".join(missing)} missing, {remedy}' if missing else f'{", ".join(modules)} there'
        print(f'{purpose}: {found}')
    print('\n'.join(weights_lines()))
    verdicts = [row['verdict'] for row in rows] + descriptions + networks
    faults = [verdict for verdict in verdicts if 'FAILED' in verdict or 'WRONG' in verdict]
    print(f'\n{counted(len(faults), "fault")}' if faults else '\nno faults')
    return int(bool(faults))
