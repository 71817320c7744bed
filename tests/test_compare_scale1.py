"""`basicsr compare` at scale 1: images with holes, with noise, and in pairs; what fits which; what is computed anew."""
import csv
import json
import os
import re

import cv2
import numpy as np
import pytest
import torch
import yaml
from compare_cases import DENOISING, DIFFUSING, INPAINTING, build, interrupted_at_the_fifth, write_method
from drawing import draw
from skimage.metrics import peak_signal_noise_ratio

from diffrwkvir_arch import cli
from diffrwkvir_arch.data.mask_presets import DrawnMasks
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.tools import compare, profile
from diffrwkvir_arch.tools import masks as masks_verb
from diffrwkvir_arch.tools.comparison import contest, methods, plots, sheets
from diffrwkvir_arch.tools.comparison.image_sets import parse_sets

pytestmark = pytest.mark.usefixtures('no_plots')
BOX = {'preset': 'box', 'seed': 1}
NOISE = {'type': 'gaussian_noise', 'sigma': 25}
METRICS = ['hole_psnr', 'hole_ssim', 'psnr_rgb', 'ssim_rgb']
HOLES = {'name': 'holes', 'type': 'InpaintingDataset', 'dataroot_gt': 'gt', 'mask': BOX}
FROZEN = {'name': 'frozen', 'type': 'InpaintingDataset', 'dataroot_gt': 'gt', 'dataroot_mask': 'thin/masks'}
NOISY = {'name': 'noisy', 'type': 'DegradationDataset', 'dataroot_gt': 'gt', 'degradation': NOISE, 'seed': 3}
IMAGES = ('00', '01', 'grey')


def write_sets(name, *datasets):
    """NAME.yml that holds datasets alone."""
    sections = {f'test_{number}': dataset for number, dataset in enumerate(datasets, 1)}
    with open(name, 'w', encoding='utf-8') as file:
        yaml.safe_dump({'scale': 1, 'datasets': sections}, file)


@pytest.fixture
def world(workdir):
    """gt/ with three images of odd sizes, one grey; thin/masks; sets and tiny networks for holes and for noise."""
    (workdir / 'gt').mkdir()
    for number, size in enumerate([(40, 52), (37, 45), (41, 38)]):
        picture = draw(*size, number)
        cv2.imwrite(f'gt/{IMAGES[number]}.png', picture if number < 2 else picture[..., 0])
    # LaMa's strokes are meant for larger images.
    masks_verb.main(['gt', '--preset', 'lama_thin_256', '--max-area', '0.95', '-o', 'thin'])
    write_sets('holes.yml', HOLES, FROZEN)
    write_sets('noisy.yml', NOISY)
    write_method(workdir, 'painter', INPAINTING, scale=1)
    write_method(workdir, 'denoiser', DENOISING, scale=1)
    return workdir


def run(*arguments, metrics=METRICS):
    return compare.main([*map(str, arguments), '-o', 'out', '--metrics', *metrics])


def rows_by_key():
    with open('out/results.csv', encoding='utf-8') as file:
        return {(row['method'], row['set'], row['image']): row for row in csv.DictReader(file)}


def means():
    with open('out/results.json', encoding='utf-8') as file:
        return {(mean['method'], mean['set']): mean for mean in json.load(file)['means']}


def mask_of(set_name, image, shape):
    """True in the hole, found without the tool."""
    if set_name == 'frozen':
        return cv2.imread(f'thin/masks/{image}.png', cv2.IMREAD_GRAYSCALE) == 255
    return DrawnMasks('mask', **BOX).of_stem(image, *shape) == 1


ALL = ['--methods', 'telea', 'navier-stokes', 'painter.yml', '--sets', 'holes.yml']


def test_opencvs_methods_and_a_network_fill_the_holes_and_nothing_else(world):
    assert run(*ALL, '--save-images') == 0
    found = rows_by_key()
    net = build(INPAINTING, 0)
    assert list(found) == [(method, *where) for method in ('telea', 'navier-stokes', 'painter')
                           for where in [(name, image) for name in ('holes', 'frozen') for image in IMAGES]]
    for (method, set_name, image), row in found.items():
        gt = cv2.imread(f'gt/{image}.png')
        hole = mask_of(set_name, image, gt.shape[:2])
        if method == 'painter':
            mask = torch.from_numpy(hole)[None, None].float()
            with torch.no_grad():
                output = net(torch.from_numpy(gt[..., ::-1].copy()).permute(2, 0, 1)[None] / 255, mask=mask)
            expected = (output[0].permute(1, 2, 0).numpy()[..., ::-1].clip(0, 1) * 255).round().astype(np.uint8)
        else:
            flag = cv2.INPAINT_TELEA if method == 'telea' else cv2.INPAINT_NS
            masked = np.where(hole[..., None], np.uint8(128), gt)
            expected = cv2.inpaint(masked, hole.astype(np.uint8), 3, flag)
        saved = cv2.imread(f'out/restored/{set_name}/{method}/{image}.png')
        assert np.array_equal(saved, expected)
        assert np.array_equal(saved[~hole], gt[~hole]) and (saved[hole] != gt[hole]).any(1).mean() > 0.5
        squared = (saved.astype(float) - gt)[hole]**2
        assert float(row['hole_psnr']) == pytest.approx(10 * np.log10(255**2 / squared.mean()), abs=1e-3)
        assert float(row['psnr_rgb']) == pytest.approx(peak_signal_noise_ratio(gt, saved), abs=1e-3)


def test_metrics_are_those_of_basicsr_test_on_the_same_file(world):
    pipeline = {'model_type': 'DiffRWKVIRS2Model', 'num_gpu': 0, 'val': {'save_img': False, 'metrics': {
        name: {'type': f'calculate_{name}', 'crop_border': 0} for name in ('hole_psnr', 'hole_ssim', 'psnr', 'ssim')}}}
    sections = {**pipeline, 'datasets': {'test_1': HOLES, 'test_2': FROZEN}}
    options = write_method(world, 'both', INPAINTING, 7, 1, sections)
    assert not cli.main(['test', '-opt', options])
    log = next((world / 'results/both').glob('*.log')).read_text(encoding='utf-8')
    by_test = [(name, float(value)) for name, value in re.findall(r'# (\w+): (\S+)', log)]
    assert len(by_test) == 2 * 4
    assert run('--methods', 'both.yml', '--sets', 'both.yml') == 0
    names = dict(zip(METRICS, ('hole_psnr', 'hole_ssim', 'psnr', 'ssim')))
    by_compare = [(names[metric], means()['both', set_name][metric]) for set_name in ('holes', 'frozen')
                  for metric in METRICS]
    for (name, value), (same, other) in zip(by_test, by_compare):
        assert name == same and value == pytest.approx(other, abs=1e-4)


def test_a_frozen_folder_needs_no_option_file_and_is_the_same_set(world, calls):
    assert run(*ALL) == 0
    calls.clear()
    assert run('--methods', 'telea', '--masks', '--sets', 'direct=gt:thin/masks') == 0
    assert not calls and means()['telea', 'direct']['hole_psnr'] > 0
    masks_verb.main(['gt', '--preset', 'box', '--seed', '1', '-o', 'boxes'])
    assert run('--methods', 'telea', '--masks', '--sets', 'gt:boxes/masks') == 0
    assert not calls
    # A mask by another name than its image's.
    for path in (world / 'thin/masks').iterdir():
        path.rename(path.with_name(f'{path.stem}_mask.png'))
    assert run('--methods', 'telea', '--masks', '--sets', 'gt:thin/masks') == 0
    assert not calls


@pytest.mark.parametrize('dataset, change, method', [
    (HOLES, {'mask': {'preset': 'box', 'seed': 2}}, 'telea'), (HOLES, {'mask': {'preset': 'centre'}}, 'telea'),
    (NOISY, {'seed': 4}, 'lq'), (NOISY, {'degradation': {'type': 'gaussian_noise', 'sigma': 15}}, 'lq')])
def test_other_masks_and_other_noise_are_another_set(world, calls, dataset, change, method):
    write_sets('sets.yml', dataset)
    for _ in range(2):
        assert run('--methods', method, '--sets', 'sets.yml') == 0
    assert calls == [(method, image) for image in IMAGES]
    write_sets('sets.yml', {**dataset, **change})
    assert run('--methods', method, '--sets', 'sets.yml') == 0
    assert len(calls) == 2 * len(IMAGES)


def test_an_image_that_differs_in_its_mask_alone_is_another_sample(world):
    # As grey as holes are in the LQ, which then does not tell where they are.
    (world / 'flat').mkdir()
    cv2.imwrite('flat/a.tiff', np.full((16, 16, 3), 0.5, np.float32))
    samples = []
    for seed in (1, 2):
        write_sets('flat.yml', {**HOLES, 'dataroot_gt': 'flat', 'mask': {'preset': 'box', 'seed': seed}})
        samples.append(parse_sets('flat.yml', 1)[0].sample(0))
    assert torch.equal(samples[0].make_lq(), samples[1].make_lq())
    assert samples[0].fingerprint != samples[1].fingerprint


def test_an_interrupted_comparison_of_holes_goes_on(world, calls):
    with interrupted_at_the_fifth(calls, '4 of 18 results are done'):
        run(*ALL)
    assert run(*ALL) == 0
    assert len(calls) == 5 + 18 - 4 and len(rows_by_key()) == 18


def test_noise_is_what_the_dataset_adds_and_the_lq_as_it_is_is_the_floor(world, monkeypatch):
    seen = []
    restore = methods.Network.restore

    def watched(self, lq, *more):
        seen.append(lq)
        return restore(self, lq, *more)

    monkeypatch.setattr(methods.Network, 'restore', watched)
    assert run('--methods', 'lq', 'denoiser.yml', '--sets', 'noisy.yml', '--save-images') == 0
    dataset = parse_sets('noisy.yml', 1)[0].dataset
    noise = np.concatenate([(item['lq'] - item['gt']).numpy().ravel() for item in dataset])
    assert noise.std() * 255 == pytest.approx(25, rel=0.05)
    # The first call, a warm-up, is of the same image as the second.
    assert all(torch.equal(lq[0], dataset[index]['lq']) for index, lq in enumerate(seen[1:]))
    assert seen[1].min() < 0 and seen[1].max() > 1
    for index, image in enumerate(IMAGES):
        saved = cv2.imread(f'out/restored/noisy/lq/{image}.png')
        clipped = (dataset[index]['lq'].permute(1, 2, 0).numpy()[..., ::-1].clip(0, 1) * 255).round()
        assert np.array_equal(saved, clipped)
        expected = peak_signal_noise_ratio(cv2.imread(f'gt/{image}.png'), saved)
        assert float(rows_by_key()['lq', 'noisy', image]['psnr_rgb']) == pytest.approx(expected, abs=1e-3)


def test_tables_name_what_a_set_has_and_say_what_made_it(world):
    assert run('--methods', 'lq', 'telea', '--sets', 'noisy.yml', 'holes.yml') == 1
    text = (world / 'out/results.md').read_text(encoding='utf-8')
    noisy, holes = (part for part in text.split('## ') if part.startswith(('noisy', 'holes')))
    assert 'PSNR-RGB' in noisy and 'HOLE' not in noisy and 'noisy HOLE-PSNR' not in text
    assert 'degradation: {sigma: 25, type: gaussian_noise}' in noisy and 'seed: 3' in noisy
    assert holes.index('HOLE-PSNR') < holes.index('HOLE-SSIM') < holes.index('PSNR-RGB')
    assert 'mask: {preset: box, seed: 1}' in holes
    # Nobody asks for the hole's metrics where there is none.
    assert run('--methods', 'lq', '--sets', 'noisy.yml') == 0
    assert 'hole' not in (world / 'out/results.csv').read_text(encoding='utf-8')


def test_luma_is_measured_on_whole_images(world):
    assert run('--methods', 'lq', '--sets', 'noisy.yml', '--save-images', metrics=['psnr_y']) == 0
    luma = [cv2.imread(path).astype(float) @ [24.966, 128.553, 65.481] / 255 + 16
            for path in ('gt/00.png', 'out/restored/noisy/lq/00.png')]
    assert float(rows_by_key()['lq', 'noisy', '00']['psnr_y']) == pytest.approx(
        peak_signal_noise_ratio(*luma, data_range=255), abs=1e-3)


def test_what_does_not_fit_a_set_is_refused_and_the_rest_goes_on(world, capsys):
    write_method(world, 'larger', DIFFUSING)
    arguments = ['--methods', 'bicubic', 'lq', 'telea', 'denoiser.yml', 'painter.yml', 'larger.yml',
                 '--sets', 'noisy.yml', 'holes.yml', '--scale', 1]
    assert run(*arguments) == 1
    failed = {line for line in capsys.readouterr().out.splitlines() if line.startswith('failed: ')}
    masked = '00: it takes no mask, and this set has masks'
    reason = {'telea': '', 'painter': ' (its network takes a mask, as DiffRWKVIR does where in_channels is '
                                      'out_channels + 1)'}
    assert failed == {
        'failed: bicubic: it enlarges, and --scale is 1; lq shows the LQ as it is',
        'failed: larger: it is made for scale 2, --scale is 1',
        *(f'failed: {name} on noisy: 00: it inpaints{why}, and this set has no masks' for name, why in reason.items()),
        *(f'failed: {method} on {name}: {masked}' for method in ('lq', 'denoiser') for name in ('holes', 'frozen'))}
    fits = {('noisy', 'lq'), ('noisy', 'denoiser')} | {(name, method) for name in ('holes', 'frozen')
                                                       for method in ('telea', 'painter')}
    assert {(name, method) for method, name, _ in rows_by_key()} == fits
    for name in ('noisy', 'holes', 'frozen'):
        assert cv2.imread(f'out/{name}.png') is not None


@pytest.mark.parametrize('method', ['lq', 'telea', 'navier-stokes'])
def test_methods_of_scale_1_refuse_other_scales(method):
    with pytest.raises(InputError, match='it is made for scale 1, --scale is 4'):
        methods.parse_method(method).load(4, torch.device('cpu'))


@pytest.mark.parametrize('arguments, message', [
    (['--masks', '--sets', 'gt:thin/masks', '--scale', '2'], '--masks: holes are filled at scale 1, --scale is 2'),
    (['--masks', '--sets', 'gt'], '--sets gt: at scale 1 a second folder is needed'),
    (['--masks', '--sets', 'gt:nowhere'], '--sets gt:nowhere: nowhere is not a folder'),
    (['--masks', '--sets', 'gt:one mask'], 'image without mask: 01.png, grey.png; names must agree'),
    (['--sets', 'noisy.yml', '--metrics', 'hole_psnr'], '--metrics: none of them can be measured here'),
])
def test_wrong_sets_are_told_in_one_line(world, arguments, message):
    (world / 'one mask').mkdir()
    os.rename('thin/masks/00.png', 'one mask/00.png')
    with pytest.raises(InputError) as error:
        compare.main(['--methods', 'telea', *arguments, '-o', 'out'])
    assert message in str(error.value) and '\n' not in str(error.value)


def test_pairs_of_folders_are_compared_at_scale_1(world):
    (world / 'blurred').mkdir()
    for image in IMAGES:
        cv2.imwrite(f'blurred/{image}.png', cv2.GaussianBlur(cv2.imread(f'gt/{image}.png'), (5, 5), 2))
    assert run('--methods', 'lq', 'denoiser.yml', '--scale', 1, '--sets', 'gopro=gt:blurred') == 0
    expected = [peak_signal_noise_ratio(cv2.imread(f'gt/{image}.png'), cv2.imread(f'blurred/{image}.png'))
                for image in IMAGES]
    assert means()['lq', 'gopro']['psnr_rgb'] == pytest.approx(np.mean(expected), abs=1e-6)


def test_the_contact_sheet_shows_the_holes_grey_beside_the_gt(world):
    assert run(*ALL, '--crops', 1, '--save-images') == 0
    sheet = cv2.imread('out/frozen.png')
    image = next(image for image in IMAGES if images_differ_most(image))
    gt = cv2.imread(f'gt/{image}.png')
    side, size = sheets.CROP * sheets.ZOOM, min(gt.shape[:2])
    left = round(gt.shape[1] * side / gt.shape[0]) + sheets.MARGIN
    holes, whole = (cv2.resize(sheet[sheets.LABEL:sheets.LABEL + side, start:start + side], (size, size),
                               interpolation=cv2.INTER_NEAREST) for start in (left, left + side + sheets.MARGIN))
    grey = (holes == 128).all(2)
    assert 0 < grey.mean() < 1 and np.array_equal(holes[~grey], whole[~grey])
    assert (whole == 128).all(2)[grey].mean() < 0.1    # a grey photograph may have some of its own


def images_differ_most(image):
    """Whether the three methods differ most on this image of the frozen set, as a contact sheet measures it."""
    spreads = {}
    for other in IMAGES:
        found = {method: cv2.imread(f'out/restored/frozen/{method}/{other}.png') for method in
                 ('telea', 'navier-stokes', 'painter')}
        spreads[other] = sheets.contested_crop(found, sheets.CROP)[0]
    return spreads[image] == max(spreads.values())


def test_scatter_plots_show_the_psnr_of_the_hole_where_there_is_one(world, monkeypatch):
    drawn = {}
    monkeypatch.setattr(compare, 'write_plots', plots.write_plots)
    monkeypatch.setattr(plots, 'scatter', lambda axes, name, entries, quality: drawn.update({name: quality}))
    write_sets('sets.yml', HOLES, NOISY)
    run('--methods', 'telea', 'lq', '--sets', 'sets.yml')
    assert drawn == {'holes': 'hole_psnr', 'noisy': 'psnr_rgb'}
    assert cv2.imread('out/bars_holes.png') is not None


def test_own_images_with_holes_need_no_ground_truth(world):
    own = {'name': 'own', 'type': 'InpaintingDataset', 'dataroot_lq': 'gt', 'dataroot_mask': 'thin/masks'}
    write_sets('own.yml', own)
    assert run('--methods', 'telea', 'painter.yml', '--sets', 'own.yml') == 0
    assert rows_by_key()['telea', 'own', '00']['hole_psnr'] == ''
    assert cv2.imread('out/own.png') is not None


def test_a_stage_1_network_that_inpaints_gets_gt_and_mask(world, capsys):
    write_method(world, 'first', {**INPAINTING, 'type': 'DiffRWKVIRS1'}, scale=1)
    assert run('--methods', 'first.yml', '--sets', 'holes.yml') == 0
    assert '| first (reads its prior from the GT) |' in capsys.readouterr().out


class Blackening(torch.nn.Module):
    """Makes holes black and known pixels darker; cannot do without a mask, as LaMa cannot."""

    def forward(self, image, mask):
        return 0.5 * image * (1 - mask)


def test_tiles_get_their_part_of_the_mask_and_known_pixels_stay_whatever_the_network_does(world):
    net = Blackening()
    network = methods.Network(net, net, 8, 1)
    assert network.needs_mask
    lq, mask = torch.rand(1, 3, 21, 34), (torch.rand(1, 1, 21, 34) < 0.5).float()
    for tile, overlap in ((None, 0), (8, 3), (16, 0)):
        restored = network.restore(lq, mask=mask, tile=tile, overlap=overlap)
        assert torch.allclose(restored, 0.5 * lq * (1 - mask), atol=1e-6)
    sample = parse_sets('holes.yml', 1)[0].sample(0)
    settings = contest.Settings(1, torch.device('cpu'), {}, world, (8, 8), 16, 4, 1, False)
    contestant = contest.Contestant(methods.parse_method('telea'), settings, None)
    contestant.restorer = network
    image, _ = contestant.measure(sample)
    assert np.array_equal(image[sample.mask == 0], sample.gt[sample.mask == 0]) and not image[sample.mask == 1].any()


def test_tiles_of_a_network_that_inpaints_share_a_prior_that_saw_the_whole_mask():
    network = methods.Network(net := build(INPAINTING, 0), net, None, 1)
    lq, mask = torch.rand(1, 3, 24, 32), (torch.rand(1, 1, 24, 32) < 0.5).float()
    with torch.no_grad():
        prior = net.extract_prior(lq, mask=mask)
        corner = net.restore(lq[..., :16, :16], prior, mask[..., :16, :16])
        tiled = network.restore(lq, mask=mask, tile=16)
    assert torch.allclose(tiled[..., :8, :16], corner[..., :8, :], atol=1e-6)


def test_costs_of_a_network_that_inpaints_are_counted_with_its_mask(world, capsys):
    assert run('--methods', 'painter.yml', 'telea', '--sets', 'holes.yml', '--input', 3, 16, 16) == 0
    with open('out/results.json', encoding='utf-8') as file:
        costs = {method['name']: method for method in json.load(file)['methods']}
    assert costs['painter']['parameters'] == sum(p.numel() for p in build(INPAINTING, 0).parameters())
    assert profile.main(['-opt', 'painter.yml', '--input', '3', '16', '16', '--no-latency', '--csv', 'cost.csv']) == 0
    with open('cost.csv', encoding='utf-8') as file:
        profiled = next(csv.DictReader(file))
    assert costs['painter']['flops'] == int(profiled['flops'])
    assert 'painter inpaints: its input comes with a mask' in capsys.readouterr().out
