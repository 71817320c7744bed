"""`basicsr profile`: FLOPs against counts by hand, memory against known blocks, and what it tells of networks."""
import csv

import pytest
import torch
import torch.nn.functional as F
import yaml
from basicsr.utils.registry import ARCH_REGISTRY
from state_evolution import state_evolution_2d
from state_evolution.flops import MMENGINE_HANDLES
from torch import nn

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import profile
from diffrwkvir_arch.tools.call_cost import peak_extra_bytes
from diffrwkvir_arch.tools.complexity import complexity, within

CPU = torch.device('cpu')
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
TINY = {'scale': 2, 'dim': 16, 'groups': 1, 'blocks': 1, 'head_dim': 8, 'prior_dim': 16, 'encoder_dim': 8, 'up_dim': 8}
# EDSR's 3x3 convolutions at 8x8 pixels: (in, out, pixels); head, one block of two, body, x2 upsampling, tail.
EDSR_CONVOLUTIONS = [(3, 8, 64), (8, 8, 64), (8, 8, 64), (8, 8, 64), (8, 32, 64), (8, 3, 256)]
EDSR_MACS = sum(9 * channels_in * channels_out * pixels for channels_in, channels_out, pixels in EDSR_CONVOLUTIONS)
EDSR_PARAMETERS = sum((9 * channels_in + 1) * channels_out for channels_in, channels_out, _ in EDSR_CONVOLUTIONS)


@torch.library.custom_op('profile_test::twice', mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    scratch = x.new_zeros(2 ** 18)
    return 2 * x + scratch[0]


class Calls(nn.Module):
    """A network of no more than a function."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, lq):
        return self.function(self, lq)


def call(function):
    return Calls(lambda net, x: function(x))


@pytest.fixture
def registered(monkeypatch):
    """Registers a class for one test."""
    return lambda cls: monkeypatch.setitem(ARCH_REGISTRY._obj_map, cls.__name__, cls)


@pytest.fixture
def option_file(workdir):
    """Writes an option file that holds scale and network_g, no more; returns its name."""

    def write(network, name='tiny.yml', scale=2):
        (workdir / name).write_text(yaml.safe_dump({'scale': scale, 'network_g': network}))
        return name

    return write


def table(text):
    """The first Markdown table: network -> column -> cell."""
    lines = [line for line in text.splitlines() if line.startswith('|')]
    head, _, *rows = ([cell.strip() for cell in line.strip('|').split('|')] for line in lines)
    return {row[0]: dict(zip(head, row)) for row in rows}


# ----- FLOPs -----


def test_a_convolution_and_a_linear_layer_count_as_by_hand():
    conv, image = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), torch.rand(5, 4, 8, 10)
    assert within(complexity(conv, (image, )).flops) == 2 * 5 * (4 * 5) * 6 * (4 // 2) * 9
    linear, tokens = nn.Linear(7, 11), torch.rand(2, 3, 7)
    assert within(complexity(linear, (tokens, )).flops) == 2 * (2 * 3) * 7 * 11


def test_attention_counts_its_two_products():
    tokens = torch.rand(2, 3, 5, 4)
    found = complexity(call(lambda x: F.scaled_dot_product_attention(x, x, x)), (tokens, ))
    assert within(found.flops) == 2 * (2 * 3) * 2 * (5 * 5 * 4) and not found.uncounted
    assert within(complexity(call(lambda x: (x @ x.mT).softmax(-1) @ x), (tokens, )).flops) == within(found.flops)


@pytest.mark.parametrize('backend', ['recurrent', 'chunked'])
def test_state_evolution_counts_three_products_of_the_state_whatever_computes_it(backend):
    gate = torch.zeros(2, 12, 3)

    def scan(x):
        return state_evolution_2d(x, x, x[..., :4], gate, gate, 3, 4, directions=('forward', 'upward'), backend=backend)

    found = complexity(call(scan), (torch.rand(2, 12, 3, 5), ))
    assert within(found.flops) == 2 * 3 * (5 * 4) * (2 * 12 * 3) * 2
    assert not found.uncounted


def test_flops_belong_to_the_innermost_module_and_to_all_around_it():
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    net = Calls(lambda self, x: self.body(x) @ x, body=inner)
    found = complexity(net, (torch.rand(1, 3, 8, 8), ))
    layer, product = 2 * 64 * 12, 2 * 3 * 8 ** 3
    assert {path: count for path, count in found.flops.items() if count} == {
        'body.0': layer, 'body.2': layer, '': product}
    assert within(found.flops, 'body') == 2 * layer and within(found.flops) == 2 * layer + product
    assert sum(found.by_operator.values()) == within(found.flops)


def test_a_part_that_has_two_names_counts_once_in_parameters_and_as_often_as_it_runs_in_flops():
    layer = nn.Linear(8, 8, bias=False)
    found = complexity(Calls(lambda self, x: self.b(self.a(x)), a=layer, b=layer), (torch.rand(1, 8), ))
    assert found.parameters == {'a': 64} and within(found.flops, 'a') == within(found.flops) == 2 * 2 * 64


def test_operators_that_may_multiply_and_have_no_formula_are_named():
    found = complexity(call(lambda x: F.normalize(torch.mv(twice(x), x[0]), dim=0)), (torch.rand(4, 4), ))
    assert found.uncounted == {'profile_test.twice': 1, 'aten.mv': 1} and within(found.flops) == 0


def test_mmengine_counts_the_same_multiply_adds_of_products():
    analysis = pytest.importorskip('mmengine.analysis')
    net, lq = ARCH_REGISTRY.get('DiffRWKVIRS2')(**TINY).eval(), torch.rand(1, 3, 8, 8)
    analyzer = analysis.FlopAnalyzer(net, (lq, )).set_op_handle(**MMENGINE_HANDLES)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counts = analyzer.by_operator()
    # mmengine counts norms too, FlopCounterMode does not.
    products = sum(counts[name] for name in ('conv', 'linear', 'matmul', 'bmm', 'einsum', 'numba', 'chunked'))
    assert 2 * products == within(complexity(net, (lq, )).flops)


# ----- memory -----


def test_peak_memory_counts_what_is_alive_at_once():
    x = torch.rand(2 ** 16)
    with torch.no_grad():
        # Two blocks live while the second is made from the first, which is then dropped.
        assert peak_extra_bytes(lambda: x.exp().sin().cos(), CPU) == 2 * x.nbytes
        assert peak_extra_bytes(lambda: [x.exp(), x.sin(), x.cos()], CPU) == 3 * x.nbytes
        assert peak_extra_bytes(lambda: x.exp_(), CPU) == 0


def test_peak_memory_sees_into_custom_operators():
    assert 4 * 2 ** 18 <= peak_extra_bytes(lambda: twice(torch.ones(8)), CPU) < 4 * 2 ** 18 + 1024


# ----- the verb -----


def test_the_table_and_the_csv_hold_the_numbers_of_an_option_file(option_file, workdir, capsys):
    code = profile.main(['-opt', option_file(EDSR), '--input', '3', '8', '8', '--batch', '2', '--repeats', '2',
                         '--csv', 'out/all.csv', '--markdown', 'out/all.md'])
    printed = capsys.readouterr().out
    row = table(printed)['tiny']
    assert code == 0 and row['params M'] == f'{EDSR_PARAMETERS / 1e6:.4g}'
    assert row['MACs G'] == f'{2 * EDSR_MACS / 1e9:.4g}' and row['FLOPs G'] == f'{4 * EDSR_MACS / 1e9:.4g}'
    assert (workdir / 'out/all.md').read_text() == printed
    (numbers, ) = csv.DictReader((workdir / 'out/all.csv').open())
    assert int(numbers['parameters']) == EDSR_PARAMETERS and int(numbers['flops']) == 4 * EDSR_MACS
    assert float(numbers['macs']) == 2 * EDSR_MACS and numbers['batch'] == '2' and numbers['dtype'] == 'float32'
    net, images = ARCH_REGISTRY.get('EDSR')(3, 3, 8, 1, 2).eval(), torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert int(numbers['inference_peak_bytes']) == peak_extra_bytes(lambda: net(images), CPU)
    for named in ('2 x 3 x 8 x 8', 'float32', torch.__version__, f'{torch.get_num_threads()} threads', '1 MAC = 2'):
        assert named in printed


def test_a_stage_1_network_gets_a_gt_of_the_scale(registered, capsys):
    seen = []

    class NeedsGT(nn.Module):

        def __init__(self, upscale=3):
            super().__init__()

        def forward(self, lq, gt):
            seen.append((lq.shape, gt.shape))
            return gt

    registered(NeedsGT)
    assert profile.main(['NeedsGT', '--input', '3', '4', '5', '--no-latency']) == 0
    assert set(seen) == {((1, 3, 4, 5), (1, 3, 12, 15))}


def test_parameters_and_images_take_the_asked_dtype_and_names_may_follow_options(registered, option_file, capsys):
    seen = []

    class Sees(nn.Conv2d):

        def __init__(self):
            super().__init__(3, 3, 1)

        def forward(self, lq):
            seen.append((lq.dtype, self.weight.dtype))
            return super().forward(lq)

    registered(Sees)
    assert profile.main(['-opt', option_file(EDSR), '--input', '3', '8', '8', '--dtype', 'bfloat16', 'Sees',
                         '--no-latency']) == 0
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}
    assert '1 x 3 x 8 x 8 (B x C x H x W), bfloat16' in capsys.readouterr().out


def test_the_lq_of_a_network_with_windows_grows_to_whole_ones(registered, capsys):

    class Windows(nn.Module):

        def __init__(self, window_size=4):
            super().__init__()

        def forward(self, lq):
            return lq.unflatten(2, (-1, 4)).unflatten(4, (-1, 4))

    registered(Windows)
    assert profile.main(['Windows', '--input', '3', '8', '5', '--no-latency']) == 0
    assert '- Windows takes whole windows: its input is 1 x 3 x 8 x 8\n' in capsys.readouterr().out


def test_inference_is_measured_in_evaluation_mode_and_the_training_step_in_training_mode(registered, capsys):
    seen = []

    class Sees(nn.Conv2d):

        def __init__(self):
            super().__init__(3, 3, 1)

        def forward(self, lq):
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(lq)

    registered(Sees)
    assert profile.main(['Sees', '--input', '3', '8', '8', '--repeats', '2', '--train']) == 0
    calls = 3 + 2    # untimed and timed
    assert seen == [(False, False)] * (2 + calls) + [(True, True)] * (1 + calls)


def test_both_stages_are_measured_in_training_too_and_their_modules_add_up(option_file, capsys):
    files = [option_file({'type': f'DiffRWKVIR{stage}', **TINY}, f'{stage}.yml') for stage in ('S1', 'S2')]
    assert profile.main(['-opt', *files, '--input', '3', '8', '8', '--train', '--repeats', '1', '--modules', '1']) == 0
    printed = capsys.readouterr().out
    rows = table(printed)
    for stage in ('S1', 'S2'):
        net = ARCH_REGISTRY.get(f'DiffRWKVIR{stage}')(**TINY)
        assert rows[stage]['params M'] == f'{sum(p.numel() for p in net.parameters()) / 1e6:.4g}'
        # Gradients alone take as much as the parameters.
        assert float(rows[stage]['training MB']) > float(rows[stage]['inference MB']) and rows[stage]['training ms']
        part = next(line for line in printed.split(f'## {stage}\n')[1].splitlines() if line.startswith('| restorer'))
        size = sum(p.numel() for p in net.restorer.parameters())
        assert [cell.strip() for cell in part.split('|')][2:4] == ['Restorer', f'{size / 1e3:.4g} k']
    assert rows['S1']['inference ratio'] == rows['S1']['training ratio'] == '1.00'


def test_times_are_medians_of_turns_and_ratios_those_within_repetitions(option_file, monkeypatch, capsys):
    # Three untimed turns of both, then the first takes 10, 20, 60 and the second 30, 20, 180.
    times = iter([0] * 6 + [10, 30, 20, 20, 60, 180])
    monkeypatch.setattr(profile, 'milliseconds', lambda call, device: next(times))
    files = option_file(EDSR, 'a.yml'), option_file(EDSR, 'b.yml')
    profile.main(['-opt', *files, '--input', '3', '8', '8', '--repeats', '3'])
    rows = table(capsys.readouterr().out)
    assert rows['a']['inference ms'] == '20 (15 .. 40)' and rows['a']['inference ratio'] == '1.00'
    assert rows['b']['inference ms'] == '30 (25 .. 105)' and rows['b']['inference ratio'] == '3.00'


def test_a_network_that_fails_is_told_in_a_line_and_the_others_go_on(option_file, registered, capsys):

    class NeedsText(nn.Module):

        def forward(self, lq, text):
            return lq

    class Breaks(nn.Module):

        def forward(self, lq):
            raise RuntimeError('first line\nsecond line')

    registered(NeedsText)
    registered(Breaks)
    code = profile.main(['NeedsText', 'Breaks', '-opt', option_file(EDSR), '--input', '3', '8', '8', '--repeats', '1'])
    printed = capsys.readouterr().out
    assert code == 1 and list(table(printed)) == ['tiny'] and table(printed)['tiny']['inference ratio'] == '1.00'
    assert '- NeedsText: first call: its forward needs (lq, text); only an LQ, gt and mask can be given\n' in printed
    assert printed.endswith('- Breaks: first call: RuntimeError: first line\n')


def test_a_network_that_cannot_do_without_a_mask_gets_one(registered, capsys):

    class NeedsMask(nn.Module):

        def forward(self, lq, mask):
            return F.conv2d(lq * mask, lq.new_ones(3, 3, 1, 1))

    registered(NeedsMask)
    assert profile.main(['NeedsMask', '--input', '3', '8', '8', '--no-latency']) == 0
    printed = capsys.readouterr().out
    assert '- NeedsMask inpaints: its input comes with a mask' in printed
    assert '- NeedsMask, FLOPs: aten.convolution 1.152 k' in printed    # 2 * 64 * 9


def test_a_network_whose_defaults_cannot_be_built_names_the_shipped_option_file(capsys):
    # BasicSR's SwinIR asks for windows of 7 in images of 64.
    assert profile.main(['SwinIR', '--no-latency']) == 1
    failed = capsys.readouterr().out.splitlines()[-1]
    assert failed.startswith('- SwinIR: first call: cannot be built with its defaults: RuntimeError: shape')
    assert failed.endswith('; try -opt test_SwinIR_x4.yml')


def test_ctrl_c_leaves_what_was_measured(option_file, workdir, monkeypatch, capsys):
    calls = iter(range(100))

    def interrupted(call, device):
        if next(calls) == 2 * 3 + 3:
            raise KeyboardInterrupt
        return 7.

    monkeypatch.setattr(profile, 'milliseconds', interrupted)
    files = option_file(EDSR, 'a.yml'), option_file(EDSR, 'b.yml')
    with pytest.raises(KeyboardInterrupt):
        profile.main(['-opt', *files, '--input', '3', '8', '8', '--csv', 'all.csv'])
    assert table(capsys.readouterr().out)['b']['inference ms'] == '7 (7 .. 7)'
    assert [row['inference_repeats'] for row in csv.DictReader((workdir / 'all.csv').open())] == ['2', '1']


@pytest.mark.parametrize('arguments, named', [
    (['DiffRWKVIRS3'], "did you mean 'DiffRWKVIRS"),
    (['EDSR'], 'EDSR has no default for num_in_ch, num_out_ch'),
    (['-opt', 'nowhere.yml'], 'nowhere.yml does not exist'),
    ([], 'which network?'),
    (['SwinIR', '--input', '64', '64'], '--input needs 3 integers C H W, such as 3 64 64; got 64 64'),
    (['SwinIR', '--input', '3', '64', 'x'], 'got 3 64 x'),
    (['SwinIR', '--batch', '0'], '--batch must be at least 1, got 0'),
    (['SwinIR', '--device', 'gpu'], '--device must be auto, cpu, cuda or cuda:N, got gpu'),
    (['SwinIR', '--device', 'cuda:99'], '--device cuda:99: PyTorch sees'),
    (['SwinIR', '--csv', '.'], '--csv: cannot write .'),
])
def test_bad_input_is_refused_before_anything_is_measured(workdir, arguments, named):
    with pytest.raises(InputError) as error:
        profile.main(arguments)
    assert named in str(error.value) and '\n' not in str(error.value)


def test_a_misspelt_option_of_a_network_is_named_with_its_file(option_file):
    with pytest.raises(InputError, match=r"tiny\.yml: unknown option 'network_g\.num_faet' \(did you mean 'num_feat'"):
        profile.main(['-opt', option_file({**EDSR, 'num_faet': 8})])
