"""`basicsr export`: traces a network, writes the program, runs that and compares."""
import contextlib
import importlib
import warnings

import torch
from torch import nn

from diffrwkvir_arch.archs.diffir_arch import DiffIRS2
from diffrwkvir_arch.archs.diffir_restorer import PRIOR_DIM
from diffrwkvir_arch.errors import InputError, first_line
from diffrwkvir_arch.registration import import_users

from .arguments.export import argument_parser
from .comparison.methods import method_or_shipped
from .comparison.network import on_images
from .comparison.recognition import scale_of

# Of values in [0, 1]; a step of 8 bits is 4e-3.
TOLERANCE = 1e-3
NAMES = ['lq', 'mask']
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')


class Exported(nn.Module):
    """A Network of the toolbox as a module of tensors alone: lq (1, C, H, W) and, to inpaint, mask (1, 1, H, W)."""

    def __init__(self, network):
        super().__init__()
        self.net, self.network, self.scale = network.net, network, network.scale
        # DiffIR would draw it anew for every image; on a CPU `basicsr restore` and `basicsr compare` draw this.
        noise = torch.randn(1, PRIOR_DIM, generator=torch.Generator().manual_seed(0))
        self.register_buffer('noise', noise if isinstance(self.net, DiffIRS2) else None)

    def forward(self, lq, mask=None):
        joined = lq if mask is None else torch.cat([lq, mask], dim=1)
        more = () if self.noise is None else (self.noise, )
        return self.network.checked(on_images(self.net, *more, channels=self.network.channels), joined)


def trace_program(module, inputs):
    program = torch.export.export(module, inputs)
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)    # paths of this machine
    return program


def trace_onnx(module, inputs):
    # Without `optimize`, whose time grows with the square of a graph; ONNX Runtime optimizes what it loads.
    program = torch.onnx.export(module, inputs, dynamo=True, optimize=False, verbose=False, output_names=['restored'],
                                input_names=NAMES[:len(inputs)])
    program.model.metadata_props['scale'] = str(module.scale)
    for node in program.model.graph:
        node.metadata_props.clear()    # stack traces, more than half of the file
    return program


def run_program(path, inputs):
    return torch.export.load(path).module()(*inputs)


def run_onnx(path, inputs):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3    # errors; it warns of every constant that it does not fold
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    named = {put.name: x.numpy() for put, x in zip(session.get_inputs(), inputs)}
    return torch.from_numpy(session.run(['restored'], named)[0])


FORMATS = {'.onnx': (trace_onnx, torch.onnx.ONNXProgram.save, run_onnx),
           '.pt2': (trace_program, torch.export.save, run_program)}


def check(args):
    """Refuses what cannot be written, before the network is read."""
    suffix = args.output.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f'-o {args.output}: must end in {" or ".join(FORMATS)}')
    if args.output.is_dir() or not args.output.parent.is_dir():
        raise InputError(f'-o {args.output}: {"is a folder" if args.output.is_dir() else "its folder does not exist"}')
    if min(args.size) < 1:
        raise InputError(f'--size must be at least 1 1, got {" ".join(map(str, args.size))}')
    if suffix == '.onnx':
        missing = [name for name in PACKAGES if not can_import(name)]
        if missing:
            raise InputError(f"-o {args.output} needs {', '.join(missing)}: pip install 'diffrwkvir[onnx]'")


def can_import(package):
    with contextlib.suppress(ImportError):
        importlib.import_module(package)
        return True
    return False


@contextlib.contextmanager
def told(errors, what):
    """Raises InputError with `what` and the first line of one of these errors, or of its cause, in its place."""
    try:
        yield
    except errors as error:
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputError(f'{what}: {first_line(cause)}') from error


def largest_difference(restored, expected):
    """Of two images (1, 3, h, w); not a number counts as infinite."""
    return (restored - expected).abs().nan_to_num(nan=float('inf')).max().item()


def main(arguments=None):
    """Runs the verb.

    Raises:
        InputError: An argument cannot be used, or the network cannot be exported.
    """
    args = argument_parser().parse_args(arguments)
    check(args)
    import_users(args.imports)
    method = method_or_shipped(args.method, args.scale)
    args.method = args.method or method.option_file    # for messages
    if method.classical:
        raise InputError(f'-m {args.method}: there is no network to export')
    network = method.load(args.scale or method.scale(find=scale_of), 'cpu')
    if network.reads_gt:
        raise InputError(f'-m {args.method}: it reads its prior from the GT, which is not there when images are '
                         'restored; export the second stage')
    module = Exported(network).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.rand(1, network.channels, *args.size, generator=generator), )
    if network.needs_mask:
        inputs += ((torch.rand(1, 1, *args.size, generator=generator) > 0.5).float(), )
    trace, save, run = FORMATS[args.output.suffix.lower()]
    unfinished = args.output.with_name(f'.{args.output.stem}.unfinished{args.output.suffix.lower()}')
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            expected = module(*inputs)
            with told(Exception, f'-m {args.method}: {type(network.net).__name__} cannot be exported'):
                program = trace(module, inputs)
            # PyTorch's writer of archives has no error of its own for a full disk.
            with told((OSError, RuntimeError), f'-o {args.output}: cannot be written'):
                save(program, unfinished)
            difference = largest_difference(run(unfinished, inputs), expected)
        if difference > TOLERANCE:
            raise InputError(f'-m {args.method}: what was exported differs from the network by {difference:.1e} of the '
                             'range [0, 1], and was not kept')
        unfinished.replace(args.output)
    finally:
        unfinished.unlink(missing_ok=True)
    sizes = ', '.join(f'{name} {tuple(x.shape)}' for name, x in zip(NAMES, inputs))
    print(f'{args.output}: {sizes} -> restored {tuple(expected.shape)}; differs from the network by {difference:.1e} '
          'at most')
