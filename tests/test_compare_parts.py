"""The parts of `basicsr compare`: contact sheets, tiles, and how a checkpoint finds its network."""
import os
import sys

import cv2
import numpy as np
import pytest
import torch
import yaml
from compare_cases import DIFFUSING, EDSR, SCALE, build, write_method
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tiling import restore_tiled
from diffrwkvir_arch.tools import compare, pictures
from diffrwkvir_arch.tools.comparison import methods, plots, recognition, sheets
from diffrwkvir_arch.tools.comparison.contest import Results, Settings, write_image
from diffrwkvir_arch.tools.comparison.image_sets import digest, parse_sets
from diffrwkvir_arch.tools.networks import by_option_file


@pytest.fixture
def world(workdir):
    """A folder with the option files and weights of two networks; it is the current one."""
    write_method(workdir, 'one', EDSR, seed=1)
    write_method(workdir, 'two', DIFFUSING, seed=2)
    return workdir


@pytest.mark.parametrize('floor', ['bicubic', 'lq', 'telea', 'navier-stokes'])
def test_the_contact_sheet_takes_the_crop_where_networks_differ(floor):
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    other = image.copy()
    other[30:50, 70:90] ^= 64
    # What is no network differs from both, elsewhere and more.
    simple = image.copy()
    simple[:20, :20] ^= 255
    images = {floor: simple, 'a': image, 'b': other}
    assert sheets.contested_crop(images, 20) == (64., 30, 70, 20)
    assert sheets.contested_crop({floor: simple, 'a': image}, 20)[1:3] == (0, 0)
    assert sheets.contested_crop({'a': image[:9, :40], 'b': other[:9, :40]}, 64) == (0., 0, 0, 9)


@pytest.fixture
def contested_set(world):
    """Three images of one set, of which two methods make the same, something slightly and something very different."""
    rng = np.random.default_rng(0)
    (world / 'GT').mkdir()
    settings = Settings(SCALE, torch.device('cpu'), {}, world, (8, 8), None, 0, 1, False)
    results = Results(costs={'a': {}, 'b': {}})
    for name, step in (('same', 0), ('very', 128), ('slightly', 3)):
        gt = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
        cv2.imwrite(f'GT/{name}.png', gt)
        for method in ('a', 'b'):
            restored = gt.copy()
            if method == 'b':
                restored[:32, :32] ^= step
            write_image(settings.restored_path('set', method, name), restored)
            results.rows.append({'method': method, 'set': 'set', 'image': name, 'restored': digest(restored),
                                 'scores': {'psnr_y': 30.}})
    return parse_sets('set=GT', SCALE)[0], settings, results


def test_the_contact_sheet_shows_the_most_contested_images_with_their_errors(contested_set):
    image_set, settings, results = contested_set
    assert sheets.write_sheet(results, ['a', 'b', 'absent'], image_set, settings, 2) == ['very', 'slightly']
    sheet = cv2.imread('set.png')
    gap, side = sheets.MARGIN, sheets.CROP * sheets.ZOOM
    whole = round(90 * side / 80)
    assert sheet.shape == (2 * (side + 2 * sheets.LABEL + gap), whole + 3 * gap + side + 2 * 2 * side, 3)
    # The first row: the GT's crop is what it says; a's map is black, b's is light at the top left, where it differs.
    top, left = sheets.LABEL, whole + gap
    gt = cv2.imread('GT/very.png')[:64, :64]
    assert np.array_equal(sheet[top:top + side:3, left:left + side:3], gt)
    maps = [sheet[top:top + side, start:start + side].mean(2)
            for start in (left + side + gap + side, left + 3 * side + 2 * gap + side)]
    assert maps[0].max() < 10 and maps[1][:90, :90].min() > 100 and maps[1][110:, 110:].max() < 10


def test_the_contact_sheet_does_without_images_that_are_gone_or_others_by_now(contested_set):
    image_set, settings, results = contested_set
    settings.restored_path('set', 'a', 'very').unlink()
    write_image(settings.restored_path('set', 'b', 'slightly'), np.zeros((80, 90, 3), np.uint8))
    assert sheets.write_sheet(results, ['a', 'b'], image_set, settings, 5) == ['same']


def test_of_many_methods_the_contact_sheet_takes_several_lines(contested_set):
    image_set, settings, results = contested_set
    for number in range(9):
        results.rows += [{**row, 'method': f'c{number}'} for row in results.rows if row['method'] == 'b']
        for name in image_set.names:
            write_image(settings.restored_path('set', f'c{number}', name),
                        cv2.imread(str(settings.restored_path('set', 'b', name))))
    assert sheets.write_sheet(results, ['a', 'b', *(f'c{i}' for i in range(9))], image_set, settings, 1) == ['very']
    sheet = cv2.imread('set.png')
    line = sheets.CROP * sheets.ZOOM + sheets.LABEL
    assert sheet.shape[1] <= sheets.WIDTH and sheet.shape[0] == sheets.LABEL + 2 * line + sheets.MARGIN
    # The last pair of crop and map, in the second line, is b's in the first.
    pairs = 2 * sheets.CROP * sheets.ZOOM + sheets.MARGIN
    first = sheet[sheets.LABEL:, round(90 * 192 / 80) + 192 + 2 * sheets.MARGIN:]
    crops = [row[:192, pairs * column:pairs * column + 384]
             for row in (first, sheet[sheets.LABEL + line:]) for column in range(5)]
    assert np.array_equal(crops[1], crops[9]) and not np.array_equal(crops[0], crops[9])


@pytest.mark.parametrize('name', ['short', 'EDSR_ablation_without_channel_attention_and_with_a_long_name_10'])
def test_a_name_that_is_too_long_for_its_crop_keeps_both_ends_and_its_score(name):
    shown = pictures.fitted(name, 200)
    assert cv2.getTextSize(shown, *pictures.FONT, 1)[0][0] <= 200
    assert shown == name or shown[:5] == name[:5] and '...' in shown and shown[-5:] == name[-5:] and len(shown) > 15


def test_plots_of_many_methods_with_long_names_can_be_read(world, monkeypatch):
    figures = {}
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda self, path, **_: figures.update({path.stem: self}))
    methods = [f'EDSR_ablation_without_channel_attention_{number}' for number in range(12)]
    results = Results(costs={method: {'parameters': 1000 * number} for number, method in enumerate(methods)})
    for number, method in enumerate(methods):
        # One has no PSNR.
        scores = {'psnr_y': 30 + number / 50 if number else None, 'ssim_y': 0.8 + number / 1e4, 'rmse': 10. * number}
        results.rows.append({'method': method, 'set': 'set', 'image': '1', 'scores': scores, 'ms': 1 + number})
    settings = Settings(SCALE, torch.device('cpu'), dict.fromkeys(['psnr_y', 'ssim_y', 'rmse']), world, (8, 8), None, 0,
                        1, False)
    (world / 'GT').mkdir()
    cv2.imwrite('GT/1.png', np.zeros((8, 8, 3), np.uint8))
    assert plots.write_plots(results, methods, parse_sets('set=GT', SCALE), settings) == ['scatter.png', 'bars_set.png']
    for figure in figures.values():
        figure.draw_without_rendering()
    bars = figures['bars_set']
    assert [text.get_text() for text in bars.axes[0].get_yticklabels()] == methods
    for axes, count in zip(bars.axes, (11, 12, 12)):
        texts = [text for text in axes.texts if text.get_text()]
        assert len(texts) == count and all(axes.bbox.containsx(text.get_window_extent().x1) for text in texts)
        assert axes.bbox.width > bars.bbox.width / 5
    scatter, (legend, ) = figures['scatter'].axes[0], figures['scatter'].legends
    assert [text.get_text() for text in scatter.texts] == [str(number) for number in range(2, 13)]
    assert legend.texts[10].get_text() == f'12  {methods[11]} (0.011 M)' and len(legend.texts) == 11
    box = legend.get_window_extent()
    assert box.x0 >= scatter.bbox.x1 and box.x1 <= figures['scatter'].bbox.x1 and scatter.bbox.width > 400


def test_without_matplotlib_one_line_says_so(world, monkeypatch):
    settings = Settings(SCALE, torch.device('cpu'), {}, world, (8, 8), None, 0, 1, False)
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    told = 'no plots: matplotlib is not installed (pip install matplotlib)'
    assert plots.write_plots(None, [], [], settings) == [told]


def test_tiles_of_a_pointwise_network_make_its_whole_image_again():
    image = torch.rand(1, 3, 23, 37)
    for tile, overlap in ((8, 3), (8, 0), (16, 15), (30, 4)):
        sizes = []

        def restore(piece):
            sizes.append(piece.shape[-2:])
            return piece.repeat_interleave(2, -1).repeat_interleave(2, -2)**2

        output = restore_tiled(restore, image, 2, tile, overlap)
        expected = image.repeat_interleave(2, -1).repeat_interleave(2, -2)**2
        assert torch.allclose(output, expected, atol=1e-6) and max(max(size) for size in sizes) <= tile
        assert len(sizes) > 1


def test_tiles_share_the_prior_of_the_whole_image():
    network = methods.Network(net := build(DIFFUSING, 0), net, None, SCALE)
    seen, extract, restore = [], net.extract_prior, net.restore
    net.extract_prior = lambda lq: seen.append(tuple(lq.shape)) or extract(lq)
    priors = []
    net.restore = lambda lq, prior: priors.append(prior) or restore(lq, prior)
    with torch.no_grad():
        lq = torch.rand(1, 3, 20, 30)
        tiled = network.restore(lq, tile=16, overlap=4)
    assert seen == [(1, 3, 20, 30)] and len(priors) == 2 * 3 and all(prior is priors[0] for prior in priors)
    assert tiled.shape == (1, 3, 40, 60)


def test_a_network_that_draws_noise_gives_the_same_image_twice():
    net = torch.nn.Module()
    net.forward = lambda lq: torch.rand_like(lq)
    network = methods.Network(net, net, None, 1)
    lq = torch.zeros(1, 3, 4, 4)
    assert torch.equal(network.restore(lq), network.restore(lq))


def test_windows_are_padded_and_cropped():
    options = {'type': 'SwinIR', 'upscale': 2, 'img_size': 16, 'window_size': 8, 'img_range': 1., 'depths': [1],
               'embed_dim': 12, 'num_heads': [2], 'upsampler': 'pixelshuffledirect'}
    network = methods.Network(net := build(options, 0), net, 8, 2)
    with torch.no_grad():
        assert network.restore(torch.rand(1, 3, 13, 9)).shape == (1, 3, 26, 18)
    assert network.count(torch.rand(1, 3, 13, 9)) == network.count(torch.rand(1, 3, 16, 16))


@pytest.fixture
def shipped(world, monkeypatch):
    """Three option files in the place of the shipped ones, two of them for one network."""
    folder = world / 'shipped'
    folder.mkdir()
    for name, options in {'test_plain': EDSR, 'test_diffusing': DIFFUSING, 'train_diffusing': DIFFUSING}.items():
        (folder / f'{name}.yml').write_text(yaml.safe_dump({'scale': SCALE, 'network_g': options}), encoding='utf-8')
    monkeypatch.setattr(recognition, 'SHIPPED_OPTIONS', folder)
    return folder


def test_a_checkpoint_alone_is_recognised_by_its_shapes(shipped):
    net = build(DIFFUSING, 5)
    torch.save({'params': build(EDSR, 0).state_dict(), 'params_ema': net.state_dict()}, 'mine.pth')
    found = methods.parse_method('mine.pth').load(SCALE, torch.device('cpu'))
    assert found.note == 'network of test_diffusing.yml'
    lq = torch.rand(1, 3, 8, 9)
    with torch.no_grad():
        assert torch.equal(found.restore(lq), net(lq))


def test_the_scale_of_a_checkpoint_that_does_not_say_it_is_found(shipped):
    pytest.importorskip('spandrel')
    swinir = {'type': 'SwinIR', 'upscale': 4, 'img_size': 64, 'window_size': 8, 'img_range': 1., 'depths': [2, 2],
              'embed_dim': 12, 'num_heads': [2, 2], 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect'}
    for name, options, scale in (('official', swinir, 4), ('mine', DIFFUSING, SCALE)):
        torch.save(build(options, 0).state_dict(), f'{name}.pth')
        method = methods.parse_method(f'{name}.pth')
        assert method.scale(recognition.scale_of) == compare.scale_said([method], []) == scale
        assert method.scale(lambda path: 1) == 1
    torch.save({'iter': 5, 'optimizers': []}, 'training.state')
    torch.save(build({**EDSR, 'num_feat': 4}, 0).state_dict(), 'unknown.pth')
    for name, what in (('training.state', 'holds no state dict'), ('unknown.pth', 'no shipped option file has its')):
        method = methods.parse_method(name)
        for find in (lambda: method.scale(recognition.scale_of), lambda: compare.scale_said([method], [])):
            with pytest.raises(InputError, match=f'{name}:? {what}'):
                find()


def test_methods_that_do_not_enlarge_need_no_scale():
    assert [methods.parse_method(name).scale() for name in ('telea', 'navier-stokes', 'lq')] == [1, 1, 1]
    with pytest.raises(InputError, match='--scale is missing'):
        methods.parse_method('bicubic').scale()


def test_safetensors_are_recognised_as_other_checkpoints_are(shipped):
    save_file = pytest.importorskip('safetensors.torch').save_file
    net = build(DIFFUSING, 5)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, 'mine.safetensors')
    lq = torch.rand(1, 3, 8, 9)
    for text in ('mine.safetensors', 'two.yml:mine.safetensors'):
        found = methods.parse_method(text).load(SCALE, torch.device('cpu'))
        with torch.no_grad():
            assert torch.equal(found.restore(lq), net(lq))
    (shipped / 'bad.safetensors').write_bytes(b'no tensors')
    with pytest.raises(InputError, match='bad.safetensors is damaged or not a safetensors file'):
        methods.parse_method(str(shipped / 'bad.safetensors')).load(SCALE, torch.device('cpu'))


def test_a_checkpoint_that_fits_two_networks_is_not_guessed(shipped):
    (shipped / 'test_longer.yml').write_text(
        yaml.safe_dump({'scale': SCALE, 'network_g': {**DIFFUSING, 'scan': '1d'}}), encoding='utf-8')
    fits = r'two\.pth fits .*test_diffusing\.yml, test_longer\.yml.*OPTION_FILE:two\.pth'
    with pytest.raises(InputError, match=fits):
        methods.parse_method('two.pth').load(SCALE, torch.device('cpu'))


def test_shipped_networks_are_told_apart_by_their_weights():
    weights = by_option_file('options/test_SwinIR_x2.yml').build().state_dict()
    assert list(recognition.fitting_recipes(weights, 2)) == ['test_SwinIR_x2']
    assert not recognition.fitting_recipes({**weights, 'more': weights['conv_first.bias']}, 2)


def test_a_checkpoint_in_an_experiment_is_built_from_the_option_file_beside_it(world):
    (world / 'experiments/train_mine/models').mkdir(parents=True)
    os.replace('one.pth', 'experiments/train_mine/models/net_g_10.pth')
    os.replace('one.yml', 'experiments/train_mine/renamed.yml')
    method = methods.parse_method('experiments/train_mine/models/net_g_10.pth')
    assert method.label == 'mine'
    assert type(method.load(SCALE, torch.device('cpu')).net).__name__ == 'EDSR'


def test_of_what_a_training_made_the_ema_is_compared_whatever_its_start_was(world):
    (world / 'experiments/mine/models').mkdir(parents=True)
    weights = torch.load('one.pth')['params']
    ema = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({'params': weights, 'params_ema': ema}, 'experiments/mine/models/net_g_10.pth')
    options = yaml.safe_load((world / 'one.yml').read_text()) | {'train': {'total_iter': 10}}
    options['path'] = {'pretrain_network_g': 'start.pth', 'param_key_g': 'params'}
    (world / 'experiments/mine/mine.yml').write_text(yaml.safe_dump(options))
    weights = 'experiments/mine/models/net_g_10.pth'
    for text in (weights, f'experiments/mine/mine.yml:{weights}'):
        net = methods.parse_method(text).load(SCALE, torch.device('cpu')).net
        assert torch.equal(net.conv_first.weight, ema['conv_first.weight'])


def test_an_entry_of_any_name_is_read_where_the_option_file_says_it_and_told_where_not(world):
    torch.save({'epoch': 7, 'model': torch.load('one.pth')['params']}, 'elsewhere.pth')
    with pytest.raises(InputError, match=r'elsewhere\.pth holds no state dict \(it holds: epoch, model\); path'):
        methods.parse_method('one.yml:elsewhere.pth').load(SCALE, torch.device('cpu'))
    options = yaml.safe_load((world / 'one.yml').read_text())
    options['path']['param_key_g'] = 'model'
    (world / 'one.yml').write_text(yaml.safe_dump(options))
    net = methods.parse_method('one.yml:elsewhere.pth').load(SCALE, torch.device('cpu')).net
    assert torch.equal(net.conv_first.weight, torch.load('one.pth')['params']['conv_first.weight'])


def test_an_unknown_checkpoint_names_the_extra_that_may_know_it(world, monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    monkeypatch.setattr(recognition, 'SHIPPED_OPTIONS', world / 'nowhere')
    with pytest.raises(InputError, match=r"one\.pth: .*OPTION_FILE:.*pip install 'diffrwkvir\[peers\]'"):
        methods.parse_method('one.pth').load(SCALE, torch.device('cpu'))


def test_spandrel_reads_an_official_checkpoint(shipped):
    pytest.importorskip('spandrel')
    options = {'type': 'SwinIR', 'upscale': 2, 'img_size': 64, 'window_size': 8, 'img_range': 1., 'depths': [2, 2],
               'embed_dim': 12, 'num_heads': [2, 2], 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect'}
    net = build(options, 0)
    torch.save({'params': net.state_dict()}, 'official.pth')
    found = methods.parse_method('official.pth').load(2, torch.device('cpu'))
    assert found.note == 'SwinIR, by spandrel'
    lq = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert torch.allclose(found.restore(lq), net(lq).clamp(0, 1), atol=1e-5)
