"""`basicsr profile`: what it tells of networks, of their costs in inference and training, and of what fails."""
import csv

import pytest
import torch
import torch.nn.functional as F
import yaml
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import profile
from diffrwkvir_arch.tools.call_cost import peak_extra_bytes

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
TINY = {'scale': 2, 'dim': 16, 'groups': 1, 'blocks': 1, 'head_dim': 8, 'prior_dim': 16, 'encoder_dim': 8, 'up_dim': 8}
# EDSR's 3x3 convolutions at 8x8 pixels: (in, out, pixels); head, one block of two, body, x2 upsampling, tail.
EDSR_CONVOLUTIONS = [(3, 8, 64), (8, 8, 64), (8, 8, 64), (8, 8, 64), (8, 32, 64), (8, 3, 256)]
EDSR_MACS = sum(9 * channels_in * channels_out * pixels for channels_in, channels_out, pixels in EDSR_CONVOLUTIONS)
EDSR_PARAMETERS = sum((9 * channels_in + 1) * channels_out for channels_in, channels_out, _ in EDSR_CONVOLUTIONS)


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
        assert int(numbers['inference_peak_bytes']) == peak_extra_bytes(lambda: net(images), torch.device('cpu'))
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


def test_the_input_has_the_channels_of_the_networks(option_file, capsys):
    grey = option_file({**EDSR, 'num_in_ch': 1, 'num_out_ch': 1}, 'grey.yml')
    assert profile.main(['-opt', grey, '--no-latency']) == 0
    assert '- Input: 1 x 1 x 64 x 64 (' in capsys.readouterr().out
    with pytest.raises(InputError, match=r'profiled apart, and these are for 1 \(grey\), 3 \(tiny\)'):
        profile.main(['-opt', grey, option_file(EDSR), '--no-latency'])


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
